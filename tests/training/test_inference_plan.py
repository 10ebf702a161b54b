"""Which way of a forward pass is taken, kept and refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from src.features import feature_table
from src.training import inference_plan as module
from src.training.inference_plan import InferencePlan, forward, inference_plan

CPU = torch.device("cpu")
SHAPE = (3, 8, 8)
SAFE = InferencePlan("float32", "channels_last")
HALF = InferencePlan("bfloat16", "channels_last")


class Net(nn.Module):
    """One convolution, with what half precision does to it."""

    def __init__(self, in_half: Callable[[Tensor], Tensor] = lambda outputs: outputs) -> None:
        super().__init__()
        self.layer = nn.Conv2d(3, 4, 3)
        self.in_half = in_half
        self.passes = 0

    def forward(self, images: Tensor) -> Tensor:
        self.passes += 1
        outputs = self.layer(images)
        return self.in_half(outputs) if torch.is_autocast_enabled("cpu") else outputs

    def __deepcopy__(self, memo: object) -> Net:
        return self  # so that passes are counted


class Sizes(Net):
    """Notes how many pictures each pass gets; more than `most` do not fit into memory."""

    def __init__(self, most: int = 1000) -> None:
        super().__init__()
        self.most, self.sizes = most, list[int]()

    def __repr__(self) -> str:  # by which plans are kept: the same for all
        return "Sizes"

    def forward(self, images: Tensor) -> Tensor:
        self.sizes.append(len(images))
        if len(images) > self.most:
            raise torch.OutOfMemoryError("no room")
        return super().forward(images)


class Clock:
    """Time that passes only in forward passes: what `costs` says of the plan."""

    def __init__(self, costs: dict[InferencePlan, float]) -> None:
        self.now = 0.0
        self.costs = costs

    def forward(self, network: nn.Module, images: Tensor, plan: InferencePlan) -> Tensor:
        self.now += self.costs.get(plan, 1.0)
        return forward(network, images, plan)


@pytest.fixture(autouse=True)
def circumstances(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BAKEOFF_CACHE", str(tmp_path))
    monkeypatch.setattr("src.machine.hardware.has_bfloat16", lambda device: True)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Callable[[dict[InferencePlan, float]], Clock]:
    def installed(costs: dict[InferencePlan, float]) -> Clock:
        clock = Clock(costs)
        monkeypatch.setattr(module, "forward", clock.forward)
        monkeypatch.setattr(module.time, "perf_counter", lambda: clock.now)
        monkeypatch.setattr(module.time, "thread_time", lambda: clock.now)
        return clock

    return installed


ALL = [
    InferencePlan(p, f) for p in ("float32", "bfloat16") for f in ("channels_last", "contiguous")
]


@pytest.mark.parametrize("fast", ALL, ids=str)
def test_the_fastest_is_taken(clock: object, fast: InferencePlan) -> None:
    clock(dict.fromkeys(ALL, 0.01) | {fast: 0.005})  # type: ignore[operator]
    assert inference_plan(Net(), SHAPE, CPU) == fast


def fails(outputs: Tensor) -> Tensor:
    raise RuntimeError("no kernel for this")


@pytest.mark.parametrize(
    "in_half", [fails, torch.neg, lambda outputs: outputs * torch.nan, lambda o: o + 0.1 * o.std()]
)
def test_what_is_not_sound_is_not_taken(clock: object, in_half: Callable[[Tensor], Tensor]) -> None:
    clock({plan: 0.001 if plan.precision == "bfloat16" else 0.01 for plan in ALL})  # type: ignore[operator]
    assert inference_plan(Net(in_half), SHAPE, CPU).precision == "float32"


def test_it_is_measured_once_for_a_network_and_a_size() -> None:
    network = Net()
    first = inference_plan(network, SHAPE, CPU)
    passes = network.passes
    assert passes > 0
    assert inference_plan(network, SHAPE, CPU) == first and network.passes == passes
    inference_plan(network, (3, 9, 9), CPU)
    assert network.passes > passes
    other = Net()
    other.layer = nn.Conv2d(3, 5, 3)
    inference_plan(other, SHAPE, CPU)
    assert other.passes > 0


@pytest.mark.parametrize(("in_half", "expected"), [(torch.clone, HALF), (torch.neg, SAFE)])
def test_a_slow_network_gets_the_usual_plan_until_the_machine_is_idle(
    clock: object,
    in_half: Callable[[Tensor], Tensor],
    expected: InferencePlan,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    time = clock(dict.fromkeys(ALL, 1.0))  # type: ignore[operator]
    network = Net(in_half)
    assert inference_plan(network, SHAPE, CPU) == expected
    assert network.passes <= 4 and time.now <= 4
    passes = network.passes
    monkeypatch.setattr(module, "is_idle", lambda: False)
    assert inference_plan(network, SHAPE, CPU) == expected and network.passes == passes
    monkeypatch.setattr(module, "is_idle", lambda: True)
    inference_plan(network, SHAPE, CPU)
    assert network.passes > passes


def test_the_network_and_the_threads_stay_as_they_were() -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Dropout()).train()
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    threads = torch.get_num_threads()
    inference_plan(network, SHAPE, CPU)
    assert network.training and torch.get_num_threads() == threads
    assert network[0].weight.is_contiguous()
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())


def test_a_forward_pass_is_the_networks() -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, 2)).eval()
    images = torch.randn(2, *SHAPE)
    for plan in ALL:
        outputs = forward(network, images, plan)
        close = 1e-5 if plan.precision == "float32" else 0.05
        assert outputs.dtype == torch.float32
        torch.testing.assert_close(outputs, network(images).detach(), rtol=close, atol=close)


def test_one_plan_needs_no_measurement(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("src.machine.hardware.has_bfloat16", lambda device: False)
    network = nn.Sequential(nn.Flatten(), nn.Linear(5, 2))  # would fail on such pictures
    assert inference_plan(network, SHAPE, CPU) == InferencePlan("float32", "contiguous")


def test_a_gpu_is_timed_with_as_many_pictures_as_it_gets_at_once(
    clock: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert module.PICTURES_ON_GPU == feature_table._AT_ONCE
    assert module._at_once(torch.device("cuda:0")) == module.PICTURES_ON_GPU
    clock(dict.fromkeys(ALL, 0.0001))  # type: ignore[operator]
    on_cpu, on_gpu = Sizes(), Sizes()
    inference_plan(on_cpu, SHAPE, CPU)
    assert set(on_cpu.sizes) == {2, 16}
    monkeypatch.setattr(module, "_at_once", lambda device: module.PICTURES_ON_GPU)
    inference_plan(on_gpu, SHAPE, CPU)
    assert set(on_gpu.sizes) == {128}, "and what was measured with few is not read"


def test_a_gpu_whose_memory_takes_fewer_is_timed_with_fewer(
    clock: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock(dict.fromkeys(ALL, 0.0001) | {HALF: 0.00005})  # type: ignore[operator]
    monkeypatch.setattr(module, "_at_once", lambda device: module.PICTURES_ON_GPU)
    network = Sizes(most=40)
    assert inference_plan(network, SHAPE, CPU) == HALF
    assert set(network.sizes) == {128, 64, 32}
    with pytest.raises(torch.OutOfMemoryError):
        inference_plan(Sizes(most=1), (3, 9, 9), CPU)
