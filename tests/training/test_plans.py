"""Which plan is taken, and which drop out."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import product

import pytest
import torch
from torch import Tensor, nn

from src.data.loaders import Batch
from src.training import plans
from src.training.plans import Plan, Stepper, Timing, fastest, sensible_plans, time_plans
from src.training.task import ClassificationTask

CPU = torch.device("cpu")
SIMPLE = Plan("float32", "contiguous", False, 1)


class Net(nn.Module):
    """Linear, with a choice of what it does to its gradient."""

    def __init__(self, wrong: float = 0.0) -> None:
        super().__init__()
        self.layer = nn.Linear(64, 3)
        self.wrong = wrong

    def forward(self, images: Tensor) -> Tensor:
        x = images.flatten(1)
        if self.wrong == math.inf:
            raise RuntimeError("no kernel for this")
        return self.layer(x + self.wrong * x.flip(1))


def task(wrong: float = 0.0, lr: float = 0.1) -> ClassificationTask:
    torch.manual_seed(0)
    return ClassificationTask(
        Net(wrong),
        loss=nn.CrossEntropyLoss(),
        mean=[0.5],
        std=[0.3],
        augment=None,
        make_optimizer=lambda network: torch.optim.SGD(network.parameters(), lr=lr),
        make_schedule=lambda total: lambda step: 1.0,
        seed=0,
        memory_format=torch.contiguous_format,
    )


@pytest.fixture
def batch() -> Batch:
    generator = torch.Generator().manual_seed(1)
    images = torch.randint(0, 256, (32, 1, 8, 8), dtype=torch.uint8, generator=generator)
    return Batch(images, torch.arange(32) % 3, torch.arange(32), 0)


@pytest.fixture(autouse=True)
def threads() -> object:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def test_a_steppers_gradient_is_that_of_the_loss_and_leaves_the_weights(batch: Batch) -> None:
    stepper = Stepper(task(), precision="float32", device=CPU, gradient_clip=None)
    before = [p.clone() for p in stepper.task.network.parameters()]
    loss, gradient = stepper.gradient(batch)
    x = ((batch.images / 255 - 0.5) / 0.3).flatten(1).double()
    weight, bias = (p.detach().double() for p in stepper.task.network.parameters())
    probs = torch.softmax(x @ weight.T + bias, 1)
    errors = (probs - nn.functional.one_hot(batch.targets, 3)) / 32
    torch.testing.assert_close(gradient[:-3], (errors.T @ x).flatten(), rtol=1e-4, atol=1e-6)
    assert loss == pytest.approx(
        float(-probs.log()[torch.arange(32), batch.targets].mean()), rel=1e-5
    )
    for old, new in zip(before, stepper.task.network.parameters()):
        assert torch.equal(old, new)


def test_a_step_is_the_optimizers_and_heeds_the_clip(batch: Batch) -> None:
    free = Stepper(task(), precision="float32", device=CPU, gradient_clip=None)
    clipped = Stepper(task(), precision="float32", device=CPU, gradient_clip=1e-3)
    start = torch.cat([p.detach().flatten() for p in free.task.network.parameters()])
    _, gradient = free.gradient(batch)
    for stepper, length in ((free, float(gradient.norm())), (clipped, 1e-3)):
        stepper.step(batch)
        now = torch.cat([p.detach().flatten() for p in stepper.task.network.parameters()])
        assert float((now - start).norm()) == pytest.approx(0.1 * length, rel=1e-3)


def test_a_plan_whose_gradient_is_another_one_is_not_taken(batch: Batch) -> None:
    wrongs = {"contiguous": 0.0, "channels_last": 3.0}
    timings = time_plans(
        [SIMPLE, replace(SIMPLE, memory_format="channels_last")],
        lambda plan: task(wrongs[plan.memory_format]),
        batch,
        device=CPU,
        allowed=lambda plan: True,
    )
    assert math.isfinite(timings[0].seconds) and timings[0].reason is None
    assert timings[1].seconds == math.inf and "gradient" in str(timings[1].reason)
    assert fastest(timings).plan == SIMPLE


def test_a_plan_that_cannot_run_is_not_taken_unless_it_is_the_only_one(batch: Batch) -> None:
    wrongs = {"contiguous": 0.0, "channels_last": math.inf}
    broken = replace(SIMPLE, memory_format="channels_last")

    def make(plan: Plan) -> ClassificationTask:
        return task(wrongs[plan.memory_format])

    timings = time_plans([SIMPLE, broken], make, batch, device=CPU, allowed=lambda plan: True)
    assert timings[1].reason == "failed: no kernel for this"
    with pytest.raises(RuntimeError, match="no kernel"):
        time_plans([broken], make, batch, device=CPU, allowed=lambda plan: True)


def test_fewer_threads_are_tried_for_the_fastest_where_that_is_allowed(batch: Batch) -> None:
    four = replace(SIMPLE, threads=4)
    for most, expected in ((9, [4, 2, 1]), (1, [4, 1]), (0, [4])):
        timings = time_plans(
            [four],
            lambda plan: task(),
            batch,
            device=CPU,
            allowed=lambda plan, most=most: plan.threads <= most,
        )
        assert [t.plan.threads for t in timings] == expected


def test_a_later_plan_must_be_clearly_faster() -> None:
    formats = ("contiguous", "channels_last")
    first, second = (Timing(replace(SIMPLE, memory_format=f), 1.0) for f in formats)
    assert fastest([first, replace(second, seconds=0.97)]) == first
    assert fastest([first, replace(second, seconds=0.9)]).plan == second.plan
    assert fastest([first, replace(second, seconds=math.inf)]) == first


@pytest.mark.parametrize(("has_bfloat16", "convolves"), list(product((False, True), (False, True))))
def test_sensible_plans(
    monkeypatch: pytest.MonkeyPatch, has_bfloat16: bool, convolves: bool
) -> None:
    monkeypatch.setattr(plans, "has_bfloat16", lambda device: has_bfloat16)
    network = nn.Conv2d(1, 1, 3) if convolves else nn.Linear(1, 1)
    found = sensible_plans(network, CPU, threads=2)
    assert {p.precision for p in found} == {"float32"} | ({"bfloat16"} if has_bfloat16 else set())
    layouts = {"contiguous", "channels_last"} if convolves else {"contiguous"}
    assert {p.memory_format for p in found} == layouts
    assert found[0].precision == "float32" and all(p.threads == 2 for p in found)
    # A GPU without bfloat16 takes float16, a CPU does not.
    gpu = {p.precision for p in sensible_plans(network, torch.device("cuda"), threads=2)}
    assert gpu == {"float32", "bfloat16" if has_bfloat16 else "float16"}


def test_timings_survive_json() -> None:
    for timing in (Timing(SIMPLE, 0.5), Timing(SIMPLE, math.inf, "failed: so")):
        assert Timing.from_plain(timing.plain()) == timing
