"""Which plan is taken, and which drop out."""

from __future__ import annotations

import math
import weakref
from collections.abc import Callable
from dataclasses import replace
from itertools import product
from time import sleep
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from src.data.loading.loaders import Batch
from src.training import training_plan
from src.training.inference_plan import fastest
from src.training.stepper import step_seconds
from src.training.task import ClassificationTask
from src.training.training_plan import (
    ChosenPlan,
    PlanTiming,
    Stepper,
    TrainingPlan,
    sensible_plans,
    time_plans,
)

CPU = torch.device("cpu")
SIMPLE = TrainingPlan("float32", "contiguous", False, 1)
OTHER = replace(SIMPLE, memory_format="channels_last")
FOUR = [
    TrainingPlan(p, f, False, 1)
    for p in ("float32", "bfloat16")
    for f in ("contiguous", "channels_last")
]
HALF_LAST = FOUR[3]


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
        {"mean": [0.5], "std": [0.3]},
        loss=nn.CrossEntropyLoss(),
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


def compared(
    plans: list[TrainingPlan],
    make: Callable[[TrainingPlan], ClassificationTask],
    batch: Batch,
    **overrides: Any,
) -> ChosenPlan:
    given = {"allowed": lambda plan: True, "total_steps": 100_000}
    return time_plans(plans, make, batch, **({"device": CPU} | given | overrides))


def test_a_plan_whose_gradient_is_another_one_is_not_taken(batch: Batch) -> None:
    wrongs = {"contiguous": 0.0, "channels_last": 3.0}
    choice = compared([SIMPLE, OTHER], lambda plan: task(wrongs[plan.memory_format]), batch)
    right, wrong = choice.timings
    assert math.isfinite(right.seconds) and right.reason is None
    assert wrong.seconds == math.inf and "too inaccurate for this network" in str(wrong.reason)
    assert choice.plan == SIMPLE


def test_a_plan_that_cannot_run_is_not_taken_unless_it_is_the_only_one(batch: Batch) -> None:
    wrongs = {"contiguous": 0.0, "channels_last": math.inf}

    def make(plan: TrainingPlan) -> ClassificationTask:
        return task(wrongs[plan.memory_format])

    choice = compared([SIMPLE, OTHER], make, batch)
    assert choice.timings[1].reason == "does not run here: no kernel for this"
    assert choice.plan == SIMPLE
    with pytest.raises(RuntimeError, match="no kernel"):
        compared([OTHER, SIMPLE], make, batch)


def alive(tasks: list[weakref.ref[ClassificationTask]]) -> int:
    return sum(one() is not None for one in tasks)


def test_without_memory_for_all_plans_at_once_the_usual_one_is_taken(
    batch: Batch, monkeypatch: pytest.MonkeyPatch
) -> None:
    tasks: list[weakref.ref[ClassificationTask]] = []

    def crowded(self: Net, images: Tensor) -> Tensor:
        if alive(tasks) > 1:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return self.layer(images.flatten(1))

    def make(plan: TrainingPlan) -> ClassificationTask:
        made = task()
        tasks.append(weakref.ref(made))
        return made

    monkeypatch.setattr(Net, "forward", crowded)
    choice = compared(FOUR, make, batch)
    assert choice == ChosenPlan(HALF_LAST), "it was to be the usual one, which fits alone"


def test_while_threads_are_compared_the_slower_plans_take_no_memory(batch: Batch) -> None:
    tasks: list[weakref.ref[ClassificationTask]] = []
    beside: dict[int, int] = {}

    def make(plan: TrainingPlan) -> ClassificationTask:
        beside[plan.threads] = alive(tasks)
        made = task()
        tasks.append(weakref.ref(made))
        return made

    compared([replace(plan, threads=2) for plan in FOUR], make, batch)
    assert len(tasks) == 5 and beside[1] == 1


class Clock:
    """Time that passes only in steps, by what `cost` says of a plan and a number of pictures."""

    def __init__(self, cost: Callable[[TrainingPlan, int], float]) -> None:
        self.now = 0.0
        self.cost = cost
        self.steps: list[tuple[TrainingPlan, int]] = []

    def make(self, plan: TrainingPlan) -> ClassificationTask:
        made = task()
        step = made.training_step

        def counted(batch: Batch, index: int) -> Tensor:
            self.now += self.cost(plan, len(batch.images))
            self.steps.append((plan, len(batch.images)))
            return step(batch, index)

        made.training_step = counted  # type: ignore[method-assign]
        return made


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Clock]:
    def installed(cost: Callable[[TrainingPlan, int], float]) -> Clock:
        made = Clock(cost)
        monkeypatch.setattr(training_plan.time, "perf_counter", lambda: made.now)
        monkeypatch.setattr(training_plan.time, "thread_time", lambda: made.now)
        return made

    return installed


@pytest.mark.parametrize("fast", FOUR, ids=str)
def test_the_fastest_is_taken(
    clock: Callable[..., Clock], batch: Batch, fast: TrainingPlan
) -> None:
    time = clock(lambda plan, pictures: (1 if plan == fast else 2) * pictures * 1e-4)
    choice = compared(FOUR, time.make, batch)
    assert choice.plan == fast
    assert {timing.plan for timing in choice.timings} == set(FOUR)


@pytest.mark.parametrize("interrupted", range(12))
def test_a_slow_moment_decides_nothing(
    clock: Callable[..., Clock], batch: Batch, interrupted: int
) -> None:
    def cost(plan: TrainingPlan, pictures: int) -> float:
        busy = interrupted <= len(time.steps) < interrupted + 6
        return (1 if plan == FOUR[2] else 2) * pictures * (1e-3 if busy else 1e-4)

    time = clock(cost)
    assert compared(FOUR, time.make, batch).plan == FOUR[2]


@pytest.mark.parametrize("picture", [1e-4, 1e-3, 1e-2, 1e-1, 1.0])
@pytest.mark.parametrize("total_steps", [1, 100, 10_000])
def test_measuring_costs_a_twentieth_of_the_training_or_a_second(
    clock: Callable[..., Clock], batch: Batch, picture: float, total_steps: int
) -> None:
    time = clock(lambda plan, pictures: pictures * picture)
    choice = compared(FOUR, time.make, batch, total_steps=total_steps)
    training = total_steps * 32 * picture
    # No plan can be had for less than the steps that tell how long the training takes and whether
    # half precision is sound: 4 of 16 pictures. One step may run past the end.
    least, step = 4 * 16 * picture, 32 * picture
    assert time.now <= max(min(max(1.0, 0.05 * training), 20.0) + step, least)
    if not choice.timings:
        assert choice.plan == HALF_LAST
    else:
        assert choice.plan == FOUR[0], "no other is faster"


@pytest.mark.parametrize("faster", [1.45, 3.0, 10.0])
@pytest.mark.parametrize("total_steps", [1_000, 5_000, 20_000])
def test_the_price_is_a_share_of_the_training_as_it_will_be(
    clock: Callable[..., Clock], batch: Batch, faster: float, total_steps: int
) -> None:
    """Not as long as it would be by the slowest plan, which is the first to be timed."""
    time = clock(lambda plan, pictures: pictures * 1e-3 / (faster if plan == HALF_LAST else 1))
    choice = compared(FOUR, time.make, batch, total_steps=total_steps)
    training, step = total_steps * 32 * 1e-3 / faster, 32 * 1e-3
    # What each plan has to be timed for in any case: of few pictures its gradient, of all steps.
    least = step * (4 / 2 + 1 + 3 * (3 + 1 / faster))
    assert choice.plan == HALF_LAST
    assert time.now <= max(0.05 * training, least) + step
    if faster > 1.5:
        assert len(time.steps) == 2 + 4 + 3 * 4, "more steps would change no choice"


def test_a_large_network_is_timed_on_a_part_of_the_batch(
    clock: Callable[..., Clock], batch: Batch
) -> None:
    time = clock(lambda plan, pictures: pictures * 0.01)
    choice = compared(FOUR, time.make, batch, total_steps=250)  # 80 s: 3.2 s, 20 steps of 16
    assert choice.timings and {t.pictures for t in choice.timings} == {16}
    choice = compared(FOUR, time.make, batch, total_steps=2000)
    assert {t.pictures for t in choice.timings} == {32}


def test_what_cannot_be_afforded_is_neither_begun_nor_announced(
    clock: Callable[..., Clock], batch: Batch, capsys: pytest.CaptureFixture[str]
) -> None:
    time = clock(lambda plan, pictures: float(pictures))
    choice = compared(FOUR, time.make, batch, total_steps=1)
    assert choice == ChosenPlan(HALF_LAST) and capsys.readouterr().out == ""
    assert {plan for plan, _ in time.steps} == {FOUR[0], HALF_LAST}


@pytest.mark.parametrize("seconds", [0.0, 1.0, 3.0, 10.0])
@pytest.mark.parametrize("picture", [1e-3, 1e-2, 1e-1])
def test_the_time_that_somebody_gives_is_kept(
    clock: Callable[..., Clock], batch: Batch, seconds: float, picture: float
) -> None:
    time = clock(lambda plan, pictures: pictures * picture)
    choice = compared(FOUR, time.make, batch, total_steps=100_000, seconds=seconds)
    # The steps that tell how long one takes: three of 16 pictures. One may run past the end.
    assert time.now <= max(seconds + 32 * picture, 3 * 16 * picture)
    if seconds == 0:
        assert choice == ChosenPlan(FOUR[0]), "another plan is not even looked at"


@pytest.mark.parametrize(
    ("deadline", "whole"), [(None, True), (1e9, True), (4.2, True), (3, False)]
)
def test_a_step_of_few_pictures_tells_what_larger_ones_would_take_too_long_for(
    clock: Callable[..., Clock], batch: Batch, deadline: float | None, whole: bool
) -> None:
    time = clock(lambda plan, pictures: pictures / 32)
    stepper = Stepper(time.make(SIMPLE), precision="float32", device=CPU, gradient_clip=None)
    assert step_seconds(stepper, batch, deadline) == (pytest.approx(1.0), whole)
    if deadline is not None:
        assert time.now <= max(deadline, 4 / 32) + 1e-6


@pytest.mark.parametrize(("first", "whole"), [(2.0, True), (9.0, False)])
def test_a_slow_first_step_is_not_taken_for_what_all_take(
    clock: Callable[..., Clock], batch: Batch, first: float, whole: bool
) -> None:
    """Of few pictures, while libraries prepare; where it lasts past the deadline, it must do."""
    slow = iter([first])
    time = clock(lambda plan, pictures: next(slow, pictures / 32))
    stepper = Stepper(time.make(SIMPLE), precision="float32", device=CPU, gradient_clip=None)
    seconds, all_timed = step_seconds(stepper, batch, 7.0)
    assert all_timed is whole and seconds == pytest.approx(1.0 if whole else first * 8)


def test_without_time_half_precision_is_taken_only_where_it_is_sound(batch: Batch) -> None:
    wrongs = {"float32": 0.0, "bfloat16": 3.0}
    slow = {"total_steps": 1}

    def make(plan: TrainingPlan) -> ClassificationTask:
        made = task(wrongs[plan.precision])
        forward = made.training_step
        made.training_step = lambda *given: (sleep(0.2), forward(*given))[1]  # type: ignore[method-assign]
        return made

    choice = compared(FOUR, make, batch, **slow)
    assert choice.timings == () and choice.plan == replace(SIMPLE, memory_format="channels_last")
    assert "bfloat16, channels_last is too inaccurate" in str(choice.reason)


def test_what_is_measured_is_announced_before(
    clock: Callable[..., Clock], batch: Batch, monkeypatch: pytest.MonkeyPatch
) -> None:
    time = clock(lambda plan, pictures: pictures * 0.01)
    said: list[tuple[str, set[TrainingPlan]]] = []
    monkeypatch.setattr(
        "builtins.print", lambda text: said.append((text, {plan for plan, _ in time.steps}))
    )
    compared(FOUR, time.make, batch)
    ((text, seen),) = said
    assert text == "runtime: measuring the fastest settings, about 20 s"
    assert seen == {FOUR[0]}, "only the step that tells how long it takes"


@pytest.mark.parametrize(
    ("most", "costs", "expected"),
    [
        (9, {4: 1.0, 2: 2.0, 1: 3.0}, 4),
        (9, {4: 3.0, 2: 1.0, 1: 2.0}, 2),
        (9, {4: 1.0, 2: 1.04, 1: 1.2}, 2),  # hardly slower, and half the cores
        (2, {4: 3.0, 2: 1.0, 1: 2.0}, 2),
        (1, {4: 3.0, 2: 1.0, 1: 2.0}, 1),
        (0, {4: 3.0, 2: 1.0, 1: 2.0}, 4),
    ],
)
def test_the_number_of_threads_is_measured_where_that_is_allowed(
    clock: Callable[..., Clock], batch: Batch, most: int, costs: dict[int, float], expected: int
) -> None:
    time = clock(lambda plan, pictures: costs[plan.threads] * pictures * 1e-4)
    four = replace(SIMPLE, threads=4)
    choice = compared([four], time.make, batch, allowed=lambda plan: plan.threads <= most)
    assert choice.plan.threads == expected


@pytest.mark.parametrize(
    ("total_steps", "faster", "taken", "reason"),
    [
        (100_000, 2.0, True, None),  # 4,000 s of training, 2,000 of them saved
        (1_000, 2.0, False, "untried"),  # 40 s
        (100_000, 1.02, False, None),  # saves 78 s, for 30 s of compiling: too little to tell
        (100_000, 0.5, False, "does not pay: compiling takes 30 s and gains 0 s"),
    ],
)
def test_compiling_is_tried_on_a_gpu_where_the_training_pays_for_it(
    monkeypatch: pytest.MonkeyPatch,
    clock: Callable[..., Clock],
    batch: Batch,
    total_steps: int,
    faster: float,
    taken: bool,
    reason: str | None,
) -> None:
    time = clock(lambda plan, pictures: 0.04 / (faster if plan.compile else 1))

    def compiled(module: nn.Module) -> None:
        time.now += 30 - 0.04 / faster  # the rest is its first step

    def on_cpu(made: ClassificationTask, **options: Any) -> Stepper:
        return Stepper(made, **(options | {"device": CPU}))

    monkeypatch.setattr(nn.Module, "compile", compiled)
    monkeypatch.setattr(training_plan, "Stepper", on_cpu)
    choice = compared(
        [SIMPLE, OTHER], time.make, batch, device=torch.device("cuda"), total_steps=total_steps
    )
    assert choice.plan == replace(SIMPLE, compile=taken)
    tried = [timing for timing in choice.timings if timing.plan.compile]
    assert [timing.reason for timing in tried] == ([] if reason == "untried" else [reason])


def test_a_later_plan_must_be_clearly_faster() -> None:
    for seconds, best in ((0.97, SIMPLE), (0.9, OTHER), (math.inf, SIMPLE)):
        assert fastest({SIMPLE: 1.0, OTHER: seconds}) == best


@pytest.mark.parametrize(("has_bfloat16", "convolves"), list(product((False, True), (False, True))))
def test_sensible_plans(
    monkeypatch: pytest.MonkeyPatch, has_bfloat16: bool, convolves: bool
) -> None:
    monkeypatch.setattr("src.machine.hardware.has_bfloat16", lambda device: has_bfloat16)
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
    for timing in (
        PlanTiming(SIMPLE, 0.5, 16),
        PlanTiming(SIMPLE, math.inf, 16, "does not run here: so"),
    ):
        assert PlanTiming.from_plain(timing.plain()) == timing
