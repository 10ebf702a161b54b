"""Which arithmetic trains a network fastest on this machine: a few real steps of each plan decide.

A plan is a way to compute the same training: number format, memory layout, compiled or not, CPU
threads. None is fastest everywhere, so the sensible ones take turns on the user's own network and
pictures; a plan whose gradient leaves that of single precision is not sound and drops out. The
comparison may cost a small part of the training that it serves and no more: where even a few steps
of each plan would, the usual plan is taken without one.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from src.data.loading.loaders import Batch
from src.machine.hardware import has_bfloat16
from src.training.stepper import Stepper
from src.training.task import ClassificationTask

__all__ = ["Choice", "Timing", "TrainingPlan", "fastest", "sensible_plans", "time_plans"]

# Of the training that the comparison serves; one second is no wait, however short the training.
_SHARE, _LEAST_ALLOWANCE, _MOST_ALLOWANCE = 0.05, 1.0, 20.0
# In the first round kernels are chosen and the optimizer's state is made.
_LEAST_ROUNDS, _MOST_ROUNDS = 3, 15
# With the one that checks the gradient.
_LEAST_PASSES = 1 + _LEAST_ROUNDS
# With fewer pictures, batch statistics and rounding hide whether a gradient is right.
_LEAST_PICTURES = 16
# A first step shorter than this is repeated: most of it was preparation.
_LONG_STEP = 0.5
# A plan this much slower than the fastest in its first timed steps needs no more of them.
_HOPELESS = 1.5
# What a plan must gain before it replaces a simpler one: less is noise.
_WORTHWHILE = 0.95
# What fewer threads may cost: they leave cores to others and depend less on them.
_FEWER_THREADS = 1.05
# Directions this close to single precision's are far closer than those of two batches are.
_LEAST_COSINE = 0.95
_MOST_LOSS_CHANGE = 0.05
# About what compiling takes on a GPU.
_COMPILE_SECONDS = 60.0

MakeTask = Callable[["TrainingPlan"], ClassificationTask]


@dataclass(frozen=True)
class TrainingPlan:
    """How a training computes; the fields are those of the runtime settings."""

    precision: str
    memory_format: str
    compile: bool
    threads: int

    def __str__(self) -> str:
        words = [self.precision, self.memory_format]
        return ", ".join(words + ["compiled"] * self.compile)


@dataclass(frozen=True)
class Timing:
    """What timing a plan gave.

    Attributes:
        seconds: the fastest of its steps; infinite where it could not run or is not sound. On one
            thread of a CPU, seconds of the thread and not of the clock.
        pictures: of one such step.
        reason: why it is out, or None.
    """

    plan: TrainingPlan
    seconds: float
    pictures: int
    reason: str | None = None

    @property
    def images_per_second(self) -> float:
        return self.pictures / self.seconds

    def plain(self) -> dict[str, Any]:
        """For JSON; `seconds` is None where the plan is out."""
        return {
            **asdict(self.plan),
            "seconds": self.seconds if math.isfinite(self.seconds) else None,
            "pictures": self.pictures,
            "reason": self.reason,
        }

    @classmethod
    def from_plain(cls, plain: dict[str, Any]) -> Timing:
        plan = TrainingPlan(**{name: plain[name] for name in TrainingPlan.__dataclass_fields__})
        seconds = math.inf if plain["seconds"] is None else float(plain["seconds"])
        return cls(plan, seconds, int(plain["pictures"]), plain["reason"])


@dataclass(frozen=True)
class Choice:
    """The plan to take.

    Attributes:
        timings: of the plans that were compared; empty where that would have taken too long.
        reason: why a plan that is usually faster is out where nothing was timed, or None.
    """

    plan: TrainingPlan
    timings: tuple[Timing, ...] = ()
    reason: str | None = None


def sensible_plans(network: nn.Module, device: torch.device, *, threads: int) -> list[TrainingPlan]:
    """What to try, the simplest first.

    Half precision is tried where the hardware has it: emulated, it is slow. The memory layout is
    of no consequence to a network without convolutions.
    """
    precisions = ["float32"]
    if has_bfloat16(device):
        precisions.append("bfloat16")
    elif device.type == "cuda":
        precisions.append("float16")
    convolves = any(isinstance(module, nn.Conv2d) for module in network.modules())
    formats = ["channels_last", "contiguous"] if convolves else ["contiguous"]
    return [TrainingPlan(p, f, False, threads) for p in precisions for f in formats]


def time_plans(
    plans: Sequence[TrainingPlan],
    make_task: MakeTask,
    batch: Batch,
    *,
    device: torch.device,
    allowed: Callable[[TrainingPlan], bool],
    gradient_clip: float | None = None,
    total_steps: int,
    announce: Callable[[str], None] = print,
) -> Choice:
    """Time the plans, whose steps take turns so that a busy moment hits all alike.

    A first step of few pictures tells how long the training will take. The comparison may cost a
    twentieth of that, within one second and twenty, and uses as many pictures of the batch as fit;
    where it would cost more, `usual_plan` is taken. The number of threads is chosen for the
    fastest plan alone, and compiling is tried for it on a GPU where the allowance pays for it.

    Args:
        plans: what to time; the first is what the others are compared with.
        make_task: builds the task for a plan, with the same weights every time.
        batch: a training batch on the CPU.
        device: where to train.
        allowed: which further plans may be tried.
        gradient_clip: as in the training.
        total_steps: steps that the training would take.
        announce: is told what is measured and about how long that takes, before it begins.
    """
    halves = [n for n in _halves(plans[0].threads)[1:] if device.type == "cpu"]
    further = [n for n in halves if allowed(replace(plans[0], threads=n))]
    if len(plans) == 1 and not further:
        return Choice(plans[0])
    began = time.perf_counter()
    few = _part(batch, _LEAST_PICTURES)
    trials = _Trials(make_task, few, device, gradient_clip)
    first = trials.first_step(plans[0])
    whole = first * len(batch.images) / len(few.images)
    allowance = min(_MOST_ALLOWANCE, max(_LEAST_ALLOWANCE, _SHARE * total_steps * whole))
    least = _LEAST_PASSES * (len(plans) + len(further)) * first
    if least > allowance:
        return trials.usual(plans)
    size = len(batch.images)
    while size > len(few.images) and least * size / len(few.images) > allowance:
        size //= 2
    trials.batch = _part(batch, max(size, len(few.images)))
    most = least * len(trials.batch.images) / len(few.images) * _MOST_ROUNDS / _LEAST_ROUNDS
    seconds = math.ceil(min(allowance, most))
    announce(f"runtime: measuring the fastest settings, about {seconds} s")
    deadline = began + allowance
    timings = trials.race(plans, deadline)
    if timings is None:
        return trials.usual(plans)
    best = fastest(timings)
    others = [replace(best.plan, threads=n) for n in further]
    if device.type == "cuda" and allowance >= _COMPILE_SECONDS:
        others = [replace(best.plan, compile=True)]
    again = trials.race([best.plan, *filter(allowed, others)], deadline) if others else None
    if again is not None:
        timings = [timing for timing in timings if timing.plan != best.plan] + again
        best = _fewest_threads(again) if further else fastest(again)
    return Choice(best.plan, tuple(timings))


def usual_plan(plans: Sequence[TrainingPlan]) -> TrainingPlan:
    """What is usually the fastest of the sensible plans: half precision, channels last."""
    return min(plans, key=lambda p: (p.precision == "float32", p.memory_format != "channels_last"))


def fastest(timings: Iterable[Timing]) -> Timing:
    """The plan to take: an earlier, simpler one unless a later one is clearly faster."""
    best, *others = timings
    for other in others:
        if other.seconds < _WORTHWHILE * best.seconds:
            best = other
    return best


def _fewest_threads(timings: Iterable[Timing]) -> Timing:
    """The timing with the fewest threads that is hardly slower than the fastest."""
    timings = list(timings)
    least = min(timing.seconds for timing in timings)
    return min(
        (timing for timing in timings if timing.seconds <= _FEWER_THREADS * least),
        key=lambda timing: timing.plan.threads,
    )


class _Trials:
    """Steppers that take turns, and the gradient that all of them must come near.

    Attributes:
        batch: of the timed steps.
    """

    def __init__(
        self,
        make_task: MakeTask,
        batch: Batch,
        device: torch.device,
        gradient_clip: float | None,
    ) -> None:
        self.batch = batch
        self._few = batch  # whose gradient is compared
        self._make_task = make_task
        self._device = device
        self._clip = gradient_clip
        self._reference: tuple[float, Tensor] | None = None
        self._steppers: dict[TrainingPlan, Stepper] = {}

    def first_step(self, plan: TrainingPlan) -> float:
        """Seconds of a step of the simplest plan, which becomes the reference of the others."""
        stepper = self._started(plan)
        seconds = stepper.timed(self.batch)
        return seconds if seconds > _LONG_STEP else min(seconds, stepper.timed(self.batch))

    def usual(self, plans: Sequence[TrainingPlan]) -> Choice:
        """The plan that is usually the fastest, where its gradient is sound; nothing is timed."""
        plan = usual_plan(plans)
        try:
            self._started(plan)
        except _Unsound as unsound:
            single = [p for p in plans if p.precision == "float32"]
            return Choice(usual_plan(single or plans[:1]), reason=f"{plan} {unsound}")
        return Choice(plan)

    def race(self, plans: Sequence[TrainingPlan], deadline: float) -> list[Timing] | None:
        """Timings of the plans, in their order; slow ones drop out once another is far ahead.

        Args:
            plans: take turns.
            deadline: of `time.perf_counter`.

        Returns:
            None where the deadline passed before each plan had taken enough steps.
        """
        seconds: dict[TrainingPlan, float] = {}
        reasons: dict[TrainingPlan, str] = {}
        for plan in plans:
            if time.perf_counter() > deadline:
                return None
            try:
                self._started(plan)
                seconds[plan] = math.inf
            except _Unsound as unsound:
                reasons[plan] = str(unsound)
        for turn in range(_MOST_ROUNDS):
            best = min(seconds.values())
            for plan, so_far in seconds.items():
                if turn >= _LEAST_ROUNDS and so_far > _HOPELESS * best:
                    continue
                if time.perf_counter() > deadline:
                    if turn < _LEAST_ROUNDS:
                        return None
                    break
                torch.set_num_threads(plan.threads)
                seconds[plan] = min(so_far, self._steppers[plan].timed(self.batch))
        count = len(self.batch.images)
        return [Timing(p, seconds.get(p, math.inf), count, reasons.get(p)) for p in plans]

    def _started(self, plan: TrainingPlan) -> Stepper:
        """A stepper whose gradient is that of single precision, nearly."""
        torch.set_num_threads(plan.threads)
        if plan in self._steppers:
            return self._steppers[plan]
        task = self._make_task(plan)
        if plan.compile:
            task.network.compile()
        stepper = Stepper(
            task, precision=plan.precision, device=self._device, gradient_clip=self._clip
        )
        try:
            loss, gradient = stepper.gradient(self._few)
        except RuntimeError as error:
            if self._reference is None:  # the simplest plan fails: so will the training, and say it
                raise
            raise _Unsound(f"does not run here: {str(error).splitlines()[0]}") from error
        if self._reference is None:
            self._reference = loss, gradient
        else:
            _require_sound(loss, gradient, *self._reference)
        self._steppers[plan] = stepper
        return stepper


class _Unsound(Exception):
    """Why a plan does not compute what single precision computes; follows the plan's name."""


def _require_sound(loss: float, gradient: Tensor, right_loss: float, right: Tensor) -> None:
    cosine = float(nn.functional.cosine_similarity(gradient, right, dim=0))
    if not (math.isfinite(loss) and cosine >= _LEAST_COSINE):  # NaN compares false
        raise _Unsound(
            "is too inaccurate for this network: rounding changes the direction of its gradient "
            f"(similarity to float32 {cosine:.2f}, at least {_LEAST_COSINE} is needed)"
        )
    if abs(loss - right_loss) > _MOST_LOSS_CHANGE * abs(right_loss):
        raise _Unsound(
            f"is too inaccurate for this network: its loss is {loss:.4f}, in float32 it is "
            f"{right_loss:.4f}"
        )


def _part(batch: Batch, count: int) -> Batch:
    """The first pictures of a batch."""
    images, targets, ids, step = batch
    return Batch(images[:count], targets[:count], ids[:count], step)


def _halves(count: int) -> list[int]:
    return [count >> shift for shift in range(count.bit_length())]
