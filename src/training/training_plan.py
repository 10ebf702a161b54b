"""The choice of the fastest arithmetic for a training, by timing a few steps of each plan.

None is fastest everywhere, so the sensible plans take turns on the user's own network and pictures;
one whose gradient differs too much from that of single precision is excluded.

`torch.utils.benchmark` is not used, as it times one statement after another by the wall clock;
here plans take turns within a deadline, and one thread's processor time counts.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from ..data.loading.loaders import Batch
from ..machine.hardware import precisions
from .inference import memory_formats
from .inference_plan import InferencePlan, fastest, usual
from .stepper import Stepper, first_pictures

if TYPE_CHECKING:  # Lightning takes seconds to import
    from .task import ClassificationTask

__all__ = [
    "ChosenPlan",
    "PlanTiming",
    "TrainingPlan",
    "sensible_plans",
    "threads_text",
    "time_plans",
]

# Of the training that the comparison serves, which is to cost a twentieth at most. The least is no
# more than that of the imports alone, however short the training.
_SHARE_OF_TRAINING, _LEAST_ALLOWANCE, _MOST_ALLOWANCE = 0.04, 0.4, 20.0
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
# What fewer threads may cost: they leave cores to others and depend less on them.
_FEWER_THREADS = 1.05
# Directions this close to single precision's are far closer than those of two batches are.
_LEAST_COSINE = 0.95
_MOST_LOSS_CHANGE = 0.05
# About what compiling takes on a GPU; a training in which it is a small share has it tried.
_COMPILE_SECONDS, _COMPILING = 60.0, 0.05

MakeTask = Callable[["TrainingPlan"], "ClassificationTask"]


@dataclass(frozen=True)
class TrainingPlan(InferencePlan):
    """The arithmetic of a training; the fields are those of the runtime settings."""

    compile: bool
    threads: int

    def __str__(self) -> str:
        return super().__str__() + ", compiled" * self.compile


@dataclass(frozen=True)
class PlanTiming:
    """The time of a plan.

    Attributes:
        seconds: of its fastest step; infinite where it could not run or is not accurate. On one
            thread of a CPU, processor time of the thread.
        pictures: of one such step.
        reason: why the plan is excluded, or None.
    """

    plan: TrainingPlan
    seconds: float
    pictures: int
    reason: str | None = None

    @property
    def images_per_second(self) -> float:
        return self.pictures / self.seconds

    def plain(self) -> dict[str, Any]:
        """Return plain values for JSON; `seconds` is None where the plan is excluded."""
        seconds = self.seconds if math.isfinite(self.seconds) else None
        own = {"seconds": seconds, "pictures": self.pictures, "reason": self.reason}
        return asdict(self.plan) | own

    @classmethod
    def from_plain(cls, plain: dict[str, Any]) -> PlanTiming:
        plan = TrainingPlan(**{name: plain[name] for name in TrainingPlan.__dataclass_fields__})
        seconds = math.inf if plain["seconds"] is None else float(plain["seconds"])
        return cls(plan, seconds, int(plain["pictures"]), plain["reason"])

    def text(self, chosen: TrainingPlan) -> str:
        """Name the plan, unless it is the chosen one, and its speed or why it is excluded."""
        rate = f"{self.images_per_second:,.0f} images/s"
        if self.plan == chosen:
            return rate
        same = self.plan.threads == chosen.threads
        threads = "" if same else f", {threads_text(self.plan.threads)}"
        return f"{self.plan}{threads} {self.reason or rate}"


@dataclass(frozen=True)
class ChosenPlan:
    """The chosen plan, the timings of those compared, and why the usual one is excluded, if it is.

    Nothing is timed where that would have taken too long.
    """

    plan: TrainingPlan
    timings: tuple[PlanTiming, ...] = ()
    reason: str | None = None

    def plain(self) -> dict[str, Any]:
        """Return plain values for JSON, of which `from_plain` makes the choice again."""
        timings = [timing.plain() for timing in self.timings]
        return {"plan": asdict(self.plan), "timings": timings, "reason": self.reason}

    @classmethod
    def from_plain(cls, plain: dict[str, Any]) -> ChosenPlan:
        timings = tuple(map(PlanTiming.from_plain, plain["timings"]))
        return cls(TrainingPlan(**plain["plan"]), timings, plain["reason"])

    def text(self, *, on_cpu: bool) -> str:
        """Describe the chosen plan and the measured speeds in a line."""
        threads = f", {threads_text(self.plan.threads)}" if on_cpu else ""
        ordered = sorted(self.timings, key=lambda timing: timing.plan != self.plan)
        speeds = [timing.text(self.plan) for timing in ordered]
        if not speeds:
            speeds = ["not measured, which would take too long for this training"]
            speeds += filter(None, [self.reason])
        return f"{self.plan}{threads} ({'; '.join(speeds)})"


def threads_text(count: int) -> str:
    """Return a number of threads, as in "2 threads"."""
    return f"{count} thread{'s' * (count > 1)}"


def sensible_plans(network: nn.Module, device: torch.device, *, threads: int) -> list[TrainingPlan]:
    """Return the plans to compare, the simplest first."""
    formats = memory_formats(network)
    return [TrainingPlan(p, f, False, threads) for p in precisions(device) for f in formats]


def time_plans(
    plans: Sequence[TrainingPlan],
    make_task: MakeTask,
    batch: Batch,
    *,
    device: torch.device,
    allowed: Callable[[TrainingPlan], bool],
    gradient_clip: float | None = None,
    total_steps: int,
    seconds: float | None = None,
) -> ChosenPlan:
    """Time the plans, whose steps take turns so that a busy moment affects all alike.

    A first step of few pictures (on a GPU, which few do not keep busy, of the whole batch)
    estimates the duration of the training. The comparison may cost 4 % of that, within 0.4 and
    twenty seconds, and uses as many pictures of the batch as fit; where it would cost more, the
    usual plan is taken. Once each plan has taken some steps, the fastest of them tells the duration
    of the training, and the comparison ends where no other is near. The number of threads is
    chosen for the fastest plan alone. On a GPU compiling is tried for it where that takes a
    twentieth of the training at most, and taken where the training gains more than compiling took.

    Args:
        plans: the first is the reference of the others.
        make_task: builds the task for a plan, with the same weights every time.
        batch: a training batch on the CPU.
        allowed: which further plans may be tried.
        total_steps: steps that the training would take.
        seconds: that the comparison may take at most; None for no further limit. Where the first
            step alone takes half of it, the reference is taken.
    """
    on_cpu = device.type == "cpu"
    threads = plans[0].threads if on_cpu else 1
    halves = [threads >> shift for shift in range(1, threads.bit_length())]
    further = [n for n in halves if allowed(replace(plans[0], threads=n))]
    if len(plans) == 1 and not further:
        return ChosenPlan(plans[0])
    began = time.perf_counter()
    limit = math.inf if seconds is None else seconds
    few = first_pictures(batch, _LEAST_PICTURES) if on_cpu else batch
    comparison = _TimedSteps(make_task, few, device, gradient_clip)
    first = comparison.first_step(plans[0])
    if 2 * (time.perf_counter() - began) > limit:  # another plan is not even looked at
        return ChosenPlan(plans[0])
    if not on_cpu:  # the training would have loaded libraries and kernels as well
        began = time.perf_counter()
    whole = first * len(batch.images) / len(few.images)

    def share_of(steps: float) -> float:
        """Return the seconds that may be spent on a training whose steps take so many."""
        return min(_MOST_ALLOWANCE, max(_LEAST_ALLOWANCE, _SHARE_OF_TRAINING * steps), limit)

    allowance = share_of(total_steps * whole)
    # The first plan has its gradient by now.
    left, few_pictures = began + allowance - time.perf_counter(), len(few.images)
    least = (_LEAST_PASSES * (len(plans) + len(further)) - 1) * first
    if least > left:
        return comparison.usual(plans)
    comparison.batch = _as_many_as_fit(batch, few_pictures, least, left)
    most = least * len(comparison.batch.images) / few_pictures * _MOST_ROUNDS / _LEAST_ROUNDS
    print(f"runtime: measuring the fastest settings, about {math.ceil(min(allowance, most))} s")
    deadline = began + allowance
    steps = total_steps * len(batch.images) / len(comparison.batch.images)
    timings = comparison.race(plans, deadline, lambda step: began + share_of(steps * step))
    if timings is None:
        return comparison.usual(plans)
    best = _fastest(timings)
    again = None
    compiled = replace(best.plan, compile=True)
    if further:
        fewer = (replace(best.plan, threads=n) for n in further)
        again = comparison.race([best.plan, *filter(allowed, fewer)], deadline)
    elif not on_cpu and allowed(compiled) and _COMPILING * total_steps * whole >= _COMPILE_SECONDS:
        again = comparison.race_compiled(best.plan, compiled, total_steps)
    if again is not None:
        timings = [timing for timing in timings if timing.plan != best.plan] + again
        best = _fewest_threads(again) if further else _fastest(again)
    return ChosenPlan(best.plan, tuple(timings))


def _as_many_as_fit(batch: Batch, few: int, seconds: float, left: float) -> Batch:
    """Return as many pictures of a batch, halved until they fit, as there is time to compare by.

    Args:
        few: the fewest pictures, which take so many `seconds`.
        left: seconds that there are.
    """
    size = len(batch.images)
    while size > few and seconds * size / few > left:
        size //= 2
    return first_pictures(batch, max(size, few))


def _fastest(timings: Iterable[PlanTiming]) -> PlanTiming:
    return fastest({timing: timing.seconds for timing in timings})


def _fewest_threads(timings: Sequence[PlanTiming]) -> PlanTiming:
    """Return the timing with the fewest threads that is hardly slower than the fastest."""
    least = min(timing.seconds for timing in timings)
    near = (timing for timing in timings if timing.seconds <= _FEWER_THREADS * least)
    return min(near, key=lambda timing: timing.plan.threads)


class _TimedSteps:
    """Steppers of the plans, and the gradient that all of them must approximate."""

    def __init__(
        self, make_task: MakeTask, batch: Batch, device: torch.device, gradient_clip: float | None
    ) -> None:
        self.batch = batch
        self._few = batch  # whose gradient is compared
        self._make_task = make_task
        self._device = device
        self._clip = gradient_clip
        self._reference: tuple[float, Tensor] | None = None
        self._steppers: dict[TrainingPlan, Stepper] = {}

    def first_step(self, plan: TrainingPlan) -> float:
        """Return the seconds of a step of the simplest plan, the reference of the others."""
        stepper = self._started(plan)
        seconds = stepper.timed(self.batch)
        if seconds > _LONG_STEP and self._device.type == "cpu":
            return seconds
        return min(seconds, stepper.timed(self.batch))

    def usual(self, plans: Sequence[TrainingPlan]) -> ChosenPlan:
        """Return the usually fastest plan, if its gradient is accurate, without timing."""
        plan = usual(plans)
        self._keep(plan)
        try:
            self._started(plan)
        except _Unsound as unsound:
            single = [p for p in plans if p.precision == "float32"]
            return ChosenPlan(usual(single or plans[:1]), reason=f"{plan} {unsound}")
        return ChosenPlan(plan)

    def race(
        self,
        plans: Sequence[TrainingPlan],
        deadline: float,
        earlier: Callable[[float], float] = lambda step: math.inf,
    ) -> list[PlanTiming] | None:
        """Return timings of the plans, in their order; much slower ones are timed in fewer rounds.

        The seconds of the fastest step may move the deadline to an `earlier` time.
        None where the deadline passed before each plan had taken enough steps, and where there is
        no memory for the networks of all of them at once. The fastest one's is kept.
        """
        try:
            timings = self._timed(plans, deadline, earlier)
        except (torch.OutOfMemoryError, _NoMemory):
            return None
        if timings is not None:
            self._keep(_fastest(timings).plan)
        return timings

    def _timed(
        self, plans: Sequence[TrainingPlan], deadline: float, earlier: Callable[[float], float]
    ) -> list[PlanTiming] | None:
        reasons = self._unsound(plans, deadline)
        if reasons is None:
            return None
        seconds = {plan: math.inf for plan in plans if plan not in reasons}
        for turn in range(_MOST_ROUNDS):
            near = dict(seconds)
            if turn >= _LEAST_ROUNDS:
                best = min(seconds.values())
                near = {p: so_far for p, so_far in seconds.items() if so_far <= _HOPELESS * best}
                deadline = min(deadline, earlier(best))
                if len(near) < 2:  # more steps would change its speed alone
                    break
            for plan, so_far in near.items():
                if time.perf_counter() > deadline:
                    if turn < _LEAST_ROUNDS:
                        return None
                    break
                torch.set_num_threads(plan.threads)
                seconds[plan] = min(so_far, self._steppers[plan].timed(self.batch))
        count = len(self.batch.images)
        return [PlanTiming(p, seconds.get(p, math.inf), count, reasons.get(p)) for p in plans]

    def _unsound(
        self, plans: Sequence[TrainingPlan], deadline: float
    ) -> dict[TrainingPlan, str] | None:
        """Start the plans; return why some may not be taken, None where the time is up before."""
        reasons: dict[TrainingPlan, str] = {}
        for plan in plans:
            if time.perf_counter() > deadline:
                return None
            try:
                self._started(plan)
            except _NoMemory:
                raise
            except _Unsound as unsound:
                reasons[plan] = str(unsound)
        return reasons

    def race_compiled(
        self, plain: TrainingPlan, compiled: TrainingPlan, total_steps: int
    ) -> list[PlanTiming] | None:
        """Return timings of a plan and of the same compiled, excluded where that does not pay."""
        began = time.perf_counter()
        with suppress(_Unsound):  # the race meets it again, and keeps the reason
            self._started(compiled)
        took = time.perf_counter() - began
        found = self.race([plain, compiled], time.perf_counter() + _MOST_ALLOWANCE)
        if found is None or found[1].reason is not None:
            return found
        gained = total_steps * (found[0].seconds - found[1].seconds)
        if gained <= took:
            reason = f"does not pay: compiling takes {took:.0f} s and gains {max(gained, 0):.0f} s"
            found[1] = replace(found[1], seconds=math.inf, reason=reason)
        return found

    def _keep(self, plan: TrainingPlan) -> None:
        """Let go of the networks, averages and moments of all other plans."""
        self._steppers = {p: stepper for p, stepper in self._steppers.items() if p == plan}

    def _started(self, plan: TrainingPlan) -> Stepper:
        """Return a stepper whose gradient approximates that of single precision."""
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
            if self._reference is None:  # the simplest plan fails, so the training would too
                raise
            kind = _NoMemory if isinstance(error, torch.OutOfMemoryError) else _Unsound
            raise kind(f"does not run here: {str(error).splitlines()[0]}") from error
        if self._reference is None:
            self._reference = loss, gradient
        else:
            _require_sound(loss, gradient, *self._reference)
        self._steppers[plan] = stepper
        return stepper


class _Unsound(Exception):
    """A plan does not compute what single precision computes; the message follows the plan."""


class _NoMemory(_Unsound):
    """There is no memory for a plan beside those that have started."""


def _require_sound(loss: float, gradient: Tensor, right_loss: float, right: Tensor) -> None:
    cosine = float(nn.functional.cosine_similarity(gradient, right, dim=0))
    if not (math.isfinite(loss) and cosine >= _LEAST_COSINE):  # NaN compares false
        raise _Unsound(
            "is too inaccurate for this network, which would learn otherwise "
            f"(its steps agree with float32 to {cosine:.2f}, at least {_LEAST_COSINE} is needed)"
        )
    if abs(loss - right_loss) > _MOST_LOSS_CHANGE * abs(right_loss):
        raise _Unsound(
            f"is too inaccurate for this network: its loss is {loss:.4f}, in float32 it is "
            f"{right_loss:.4f}"
        )
