"""A training step on a GPU, with tensors that have a device and no data."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode

from benchmarks.gpu.dispatches import Operations
from src.config.compose import read_run_settings
from src.data.loading.loaders import BatchLoader, BatchOrder
from src.runs import build
from tests.fake_tensors import forget_constants

GPU = torch.device("cuda")


def to_gpu(network: nn.Module) -> None:
    """Replace parameters and buffers by tensors of the same shapes that are said to lie there."""
    for module in network.modules():
        for name, one in module.named_parameters(recurse=False):
            there = torch.empty_strided(one.shape, one.stride(), dtype=one.dtype, device=GPU)
            module.register_parameter(name, nn.Parameter(there, one.requires_grad))
        for name, one in module.named_buffers(recurse=False):
            setattr(module, name, torch.empty(one.shape, dtype=one.dtype, device=GPU))


@pytest.fixture(autouse=True)
def sgd_without_data() -> Iterator[None]:
    """torch 2.11 knows of no fused SGD for tensors without data; it returns nothing."""
    library = torch.library.Library("aten", "IMPL")
    library.impl("_fused_sgd_", lambda *given, **settings: None, "Meta")
    yield
    library._destroy()


# To launch an operation costs 20 to 50 us on a GPU, so a step of small pictures takes as long as it
# has operations. The bounds are a twentieth above the numbers that they were written for: what a
# step gains by more operations has to be worth them, and is to be said where a bound is raised.
# Those of the network and of Muon's matrices count here, though real devices launch them as graphs,
# for which Muon pads no matrices any more to take fewer.
@pytest.mark.parametrize(
    ("overrides", "most"),
    [
        (["recipe=speedrun"], 175),
        (["model=cnn"], 334),
        (["model=cnn", "augment=strong"], 436),
        (["model=vit", "augment=photo"], 637),
    ],
)
def test_a_step_mixes_no_devices_waits_for_nothing_and_launches_little(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, overrides: list[str], most: int
) -> None:
    """Without the backward pass, which needs a real device: what asks for a value raises."""
    overrides = [
        *overrides,
        "data=digits",
        "data.image_size=32",
        "data.channels=3",
        "runtime=float32",
    ]
    settings = read_run_settings([*overrides, f"data.cache_dir={tmp_path}"])
    task = build.build_task(settings, build.build_data(settings))
    monkeypatch.setattr(torch.cuda, "default_generators", (torch.Generator(),))
    forget_constants()
    with FakeTensorMode():
        to_gpu(task)
        images = torch.empty(64, 3, 32, 32, dtype=torch.uint8, device=GPU)
        loader = BatchLoader(
            images, np.arange(64) % 10, BatchOrder(np.arange(64), batch_size=16, training=True)
        )
        optimizer = task.make_optimizer(task.network)
        task.network.train()
        for batch in loader:
            with Operations() as forward:
                loss = task.training_step(batch, batch.step)
            for parameter in task.network.parameters():
                if parameter.requires_grad:
                    parameter.grad = torch.empty_like(parameter)
            nn.utils.clip_grad_norm_(task.network.parameters(), 1.0)
            with Operations() as update:
                optimizer.step()
                optimizer.zero_grad()
                if task.average is not None:
                    task.average.update(task.network)
            assert loss.device.type == "cuda"
        counts = [each.counts.total() for each in (forward, update)]
        assert sum(counts) <= most, counts
        assert task.totals["train"].samples == 64
    forget_constants()
