from __future__ import annotations

import copy
import itertools
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from src.training import cost
from src.training.cost import (
    count_flops,
    latency_ms,
    measure_cost,
    num_parameters,
    throughput,
    timed,
)

SHAPE = (1, 8, 8)


class Rows(nn.Module):
    """The picture as a sequence of rows."""

    def __init__(self, layer: nn.Module, width: int) -> None:
        super().__init__()
        self.layer = layer
        self.head = nn.Linear(width, 3)

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.layer(images[:, 0])[0][:, -1])


class Restless(nn.Module):
    """Changes whatever a module may change in a forward pass, even in evaluation mode."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 4, 3)
        self.norm = nn.BatchNorm2d(4)
        self.frozen = nn.BatchNorm2d(4).eval()
        self.head = nn.Linear(4, 3)
        self.register_buffer("calls", torch.zeros(()))
        self.register_buffer("last", torch.zeros(1))
        self.cache: Tensor | None = None

    def forward(self, images: Tensor) -> Tensor:
        self.calls += 1
        self.last = images.mean().reshape(1)
        self.cache = images
        features = nn.functional.dropout(self.frozen(self.norm(self.conv(images))), 0.5, True)
        return self.head(features.mean((2, 3)))


class Sleeper(nn.Module):
    """Takes a known time a picture, in the forward pass alone, by a clock that nothing else moves.

    On a busy machine a real sleep may be many times as long.
    """

    def __init__(self, seconds: float, monkeypatch: pytest.MonkeyPatch) -> None:
        super().__init__()
        self.head = nn.Linear(64, 2)
        self.seconds = seconds
        self.now = 0.0
        self.batches: list[int] = []
        monkeypatch.setattr(cost, "time", SimpleNamespace(perf_counter=lambda: self.now))

    def __deepcopy__(self, memo: dict[int, object]) -> Sleeper:
        return self  # so that the test sees the batches

    def forward(self, images: Tensor) -> Tensor:
        self.batches.append(len(images))
        self.now += self.seconds * len(images)
        return self.head(images.flatten(1))


def mlp() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 5), nn.ReLU(), nn.Linear(5, 3))


def test_a_network_measured_whole(tmp_path: Path) -> None:
    checkpoint = tmp_path / "last.ckpt"
    checkpoint.write_bytes(bytes(1500))
    measured = measure_cost(mlp(), SHAPE, batch_size=64, checkpoint=checkpoint)
    assert measured["parameters"] == 64 * 5 + 5 + 5 * 3 + 3
    assert measured["flops"] == 2 * (64 * 5 + 5 * 3)
    assert measured["checkpoint_mb"] == 0.0015
    assert 0 < measured["latency_ms"] < 100
    assert measured["throughput"] > 10
    assert 10 < measured["peak_memory_mb"] < 100_000
    assert len(measured.keys() - {"latency_others"}) == 6


def test_shared_parameters_count_once() -> None:
    network = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    network[1].weight = network[0].weight
    assert num_parameters(network) == 16 + 4 + 4


@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("num_layers", [1, 2])
@pytest.mark.parametrize(("kind", "gates"), [(nn.RNN, 1), (nn.GRU, 3), (nn.LSTM, 4)])
def test_flops_of_recurrent_layers(
    kind: type[nn.RNNBase], gates: int, num_layers: int, bidirectional: bool
) -> None:
    """torch's counter alone misses the CPU's LSTM kernel altogether."""
    hidden, directions = 6, 1 + bidirectional
    layer = kind(8, hidden, num_layers, batch_first=True, bidirectional=bidirectional)
    inputs = [8] + [hidden * directions] * (num_layers - 1)
    products = sum(8 * directions * gates * hidden * (size + hidden) for size in inputs)
    network = Rows(layer, hidden * directions)
    assert count_flops(network, SHAPE) == 2 * (products + hidden * directions * 3)


def test_flops_of_a_transformer_layer_in_spite_of_its_fast_path() -> None:
    class Attention(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)

        def forward(self, images: Tensor) -> Tensor:
            return self.layer(images[:, 0])

    tokens, width, mlp_width = 8, 8, 16
    projections = tokens * width * (3 * width + width)
    attention = 2 * tokens * tokens * width
    assert count_flops(Attention(), SHAPE) == 2 * (
        projections + attention + 2 * tokens * width * mlp_width
    )


def test_flops_of_a_convolution() -> None:
    network = nn.Sequential(nn.Conv2d(3, 8, 3, stride=2, padding=1), nn.BatchNorm2d(8), nn.ReLU())
    assert count_flops(network, (3, 8, 8)) == 2 * 8 * 3 * 9 * 4 * 4


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_other_precisions_are_measured_as_they_are(dtype: torch.dtype) -> None:
    network = mlp().to(dtype)
    assert count_flops(network, SHAPE) == count_flops(mlp(), SHAPE)
    assert latency_ms(network, SHAPE) > 0


@pytest.mark.parametrize("training", [False, True])
def test_measuring_changes_nothing(training: bool) -> None:
    network = Restless()
    network.train(training)
    network.frozen.eval()
    before, modes = copy.deepcopy(network.state_dict()), [m.training for m in network.modules()]
    buffers = dict(network.named_buffers())
    parameters = dict(network.named_parameters())
    random_state = torch.get_rng_state()

    assert "checkpoint_mb" not in measure_cost(network, SHAPE, batch_size=2)

    assert [m.training for m in network.modules()] == modes
    assert network.cache is None
    assert torch.equal(torch.get_rng_state(), random_state)
    assert all(dict(network.named_buffers())[name] is buffer for name, buffer in buffers.items())
    assert all(dict(network.named_parameters())[name] is p for name, p in parameters.items())
    assert all(torch.equal(network.state_dict()[name], value) for name, value in before.items())
    network(torch.rand(2, *SHAPE)).sum().backward()  # nothing of inference mode clings to it
    assert network.conv.weight.grad is not None


def test_latency_is_the_median_time_of_one_picture(monkeypatch: pytest.MonkeyPatch) -> None:
    network = Sleeper(0.005, monkeypatch)
    assert latency_ms(network, SHAPE) == pytest.approx(5)
    assert set(network.batches) == {1}


class Load:
    """Stands in for `CpuLoad`: the cores that others use in one measurement after another."""

    def __init__(self, others: Iterator[float]) -> None:
        self._others = others

    def __call__(self) -> Load:
        return self

    def __enter__(self) -> Load:
        self.others = next(self._others)
        return self

    def __exit__(self, *_: object) -> None: ...


@pytest.mark.parametrize(
    ("loads", "expected", "marked"),
    [
        ([0.1, 9.0], 0.012, 0.0),  # an idle machine: once, and no mark
        ([9.0, 0.0, 9.0], 0.010, 0.0),  # busy at first: the least of both counts
        ([9.0, 8.0, 7.0, 0.0], 0.004, 7.0),  # busy to the end
    ],
)
def test_a_measurement_beside_other_programs_is_repeated(
    monkeypatch: pytest.MonkeyPatch, loads: list[float], expected: float, marked: float
) -> None:
    monkeypatch.setattr(cost, "CpuLoad", Load(iter(loads)))
    monkeypatch.setattr(cost, "available_cores", torch.get_num_threads)
    # Three calls warm up; then 200 of 12 ms, 200 of 10 ms and 200 of 4 ms.
    seconds = iter([0.012] * 3 + [0.012] * 200 + [0.010] * 200 + [0.004] * 200)
    found = timed(lambda: next(seconds), budget=1000.0)
    assert (found.seconds, found.others) == (expected, marked)


def test_a_program_that_interrupts_most_calls_does_not_decide() -> None:
    """Of ten rounds nine are interrupted in most calls, by 600 ms each time."""
    chance = np.random.default_rng(0)
    calls = itertools.count()

    def once() -> float:
        interrupted = next(calls) // 10 % 10 != 7 and chance.random() < 0.8
        return 0.002 + (0.6 if interrupted else 1e-4 * chance.random())

    assert timed(once, budget=1000.0, attempts=1).seconds < 0.0022


def test_throughput_is_pictures_and_not_batches_a_second(monkeypatch: pytest.MonkeyPatch) -> None:
    network = Sleeper(0.001, monkeypatch)
    assert throughput(network, SHAPE, batch_size=32) == pytest.approx(1000)
    assert network.batches[-1] == 32


def test_a_slow_network_is_not_kept_at_it_for_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cost, "_BUDGET_SECONDS", 0.05)
    network = Sleeper(0.026, monkeypatch)
    rate = throughput(network, SHAPE, batch_size=128)
    assert network.now < 1, "at 128 a single batch takes over three seconds"
    assert network.batches[-1] == 2 and rate == pytest.approx(1 / 0.026)


@pytest.mark.parametrize("shape", [(0, 8, 8), (1, -1, 8)])
def test_refuses_shapes_without_content(shape: tuple[int, int, int]) -> None:
    with pytest.raises(ValueError, match="must be at least 1"):
        measure_cost(mlp(), shape)


def test_refuses_empty_batches() -> None:
    with pytest.raises(ValueError, match="batch size 0"):
        throughput(mlp(), SHAPE, batch_size=0)
