"""Passes that are timed one launch after another; graphs are captured on a GPU alone."""

from __future__ import annotations

import math
import re
from pathlib import Path

import pytest
import torch
from torch import nn

from benchmarks.gpu.launches import NETWORKS, Network, graphs, largest_difference, launches

CPU = torch.device("cpu")


def test_passes_are_counted_and_timed(tmp_path: Path) -> None:
    networks = [Network("cnn", 8, 4)]
    graphs, counted = launches(CPU, tmp_path, networks=networks, kinds=frozenset({"cpu_op"}))
    assert graphs.met is None and graphs.measured == "skipped: no CUDA"
    assert graphs.bar == "differ by at most 0.02", "equal passes have equal gradients"
    assert int(counted.measured.partition(" ")[0]) > 20


def test_graphs_are_timed_and_compared() -> None:
    one = Network("cnn", 8, 4)
    parts = one.made().train(), torch.randn(4, 3, 8, 8), torch.arange(4)

    def right(network: nn.Module, images: torch.Tensor) -> nn.Module:
        network(images)  # which changes its batch statistics, as capturing does
        return network

    def wrong(network: nn.Module, images: torch.Tensor) -> nn.Module:
        network.register_forward_hook(lambda module, inputs, logits: 1.1 * logits)
        return network

    def refused(network: nn.Module, images: torch.Tensor) -> nn.Module:
        raise RuntimeError("operation not permitted when stream is capturing\nmore")

    row = graphs(one, *parts, 2, 2, right)
    assert row.met and "differ by 0.0e+00" in row.measured, row.measured
    assert re.match(r"[\d.]+x \([\d.]+ to [\d.]+\) as fast: [\d,]+ against", row.measured)
    assert graphs(one, *parts, 2, 2, wrong).met is False
    row = graphs(one, *parts, 2, 2, refused)
    assert row.met is False and row.measured.endswith("stream is capturing")


def test_every_network_is_made_and_takes_its_pictures() -> None:
    for one in NETWORKS:
        with torch.device("meta") if one.side > 32 else torch.device("cpu"):
            network = one.made().eval()
            assert network(torch.zeros(1, 3, one.side, one.side)).shape == (1, 10)


def test_the_difference_is_by_each_tensors_largest_number() -> None:
    one, other = torch.tensor([1.0, -4.0]), torch.tensor([0.001, 0.002])
    assert largest_difference([one, other], [one, other]) == 0
    assert largest_difference([one + 1, other], [one, other]) == pytest.approx(0.25)
    assert largest_difference([one, other * 2], [one, other]) == pytest.approx(1)
    assert largest_difference([one, other * math.nan], [one, other]) == math.inf
    assert largest_difference([one], [one, other]) == math.inf
