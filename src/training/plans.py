"""Which arithmetic trains a network fastest on this machine: a few real steps of each plan tell.

A plan is a way to compute the same training: number format, memory layout, compiled or not, CPU
threads. None is fastest everywhere, so the sensible ones take turns on the user's own network and
pictures; a plan whose gradient leaves that of single precision is not sound and drops out.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from src.data.loaders import Batch
from src.training.hardware import has_bfloat16
from src.training.inference import autocast
from src.training.task import ClassificationTask

__all__ = ["Plan", "Stepper", "Timing", "fastest", "sensible_plans", "time_plans"]

_BUDGET_SECONDS = 3.0
_LEAST_ROUNDS, _MOST_ROUNDS = 3, 15
# A plan this much slower than the fastest in its first timed step needs no more of them.
_HOPELESS = 1.5
# What a plan must gain before it replaces a simpler one: less is noise.
_WORTHWHILE = 0.95
# Directions this close to single precision's are far closer than those of two batches are.
_LEAST_COSINE = 0.95
_MOST_LOSS_CHANGE = 0.05
# Compiling takes some minute, which a shorter training does not earn back.
_LONG_RUN_SECONDS = 600.0

MakeTask = Callable[["Plan"], ClassificationTask]


@dataclass(frozen=True)
class Plan:
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
        seconds: the fastest of its steps; infinite where it could not run or is not sound.
        reason: why it is out, or None.
    """

    plan: Plan
    seconds: float
    reason: str | None = None

    def plain(self) -> dict[str, Any]:
        """For JSON; `seconds` is None where the plan is out."""
        return {
            **asdict(self.plan),
            "seconds": self.seconds if math.isfinite(self.seconds) else None,
            "reason": self.reason,
        }

    @classmethod
    def from_plain(cls, plain: dict[str, Any]) -> Timing:
        plan = Plan(**{name: plain[name] for name in Plan.__dataclass_fields__})
        seconds = math.inf if plain["seconds"] is None else float(plain["seconds"])
        return cls(plan, seconds, plain["reason"])


class Stepper:
    """Training steps as Lightning takes them, without Lightning: to time them, or to try rates.

    Args:
        task: is trained; hand over one that nobody needs.
        precision: see `autocast`.
        device: where to.
        gradient_clip: largest norm of the gradient, or None.
    """

    def __init__(
        self,
        task: ClassificationTask,
        *,
        precision: str,
        device: torch.device,
        gradient_clip: float | None,
    ) -> None:
        self.task = task.to(device).train()
        self.optimizer = task.make_optimizer(task.network)
        self._precision = precision
        self._device = device
        self._clip = gradient_clip
        self._scaler = torch.amp.GradScaler(device.type, enabled=precision == "float16")

    def gradient(self, batch: Batch) -> tuple[float, Tensor]:
        """Loss and gradient (P,) of a batch; changes no weight."""
        loss = self._backward(batch)
        parts = [p.grad.flatten() for p in self.task.network.parameters() if p.grad is not None]
        flat = torch.cat(parts).double() / self._scaler.get_scale()
        self.optimizer.zero_grad(set_to_none=True)
        return float(loss), flat

    def step(self, batch: Batch) -> Tensor:
        """One step of the optimizer; the loss, a scalar on the device."""
        loss = self._backward(batch)
        self._scaler.unscale_(self.optimizer)
        if self._clip is not None:
            nn.utils.clip_grad_norm_(self.task.network.parameters(), self._clip)
        self._scaler.step(self.optimizer)
        self._scaler.update()
        self.optimizer.zero_grad(set_to_none=True)
        return loss

    def timed(self, batch: Batch) -> float:
        """Seconds of one step, to its end on the device."""
        began = time.perf_counter()
        self.step(batch)
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)
        return time.perf_counter() - began

    def _backward(self, batch: Batch) -> Tensor:
        with autocast(self._device, self._precision):
            loss = self.task.training_step(_moved(batch, self._device), batch.step)
        self._scaler.scale(loss).backward()
        return loss.detach()


def sensible_plans(network: nn.Module, device: torch.device, *, threads: int) -> list[Plan]:
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
    return [Plan(p, f, False, threads) for p in precisions for f in formats]


def time_plans(
    plans: Sequence[Plan],
    make_task: MakeTask,
    batch: Batch,
    *,
    device: torch.device,
    allowed: Callable[[Plan], bool],
    gradient_clip: float | None = None,
    total_steps: int = 0,
) -> list[Timing]:
    """Time the plans, whose steps take turns so that a busy moment hits all alike.

    The number of threads is chosen for the fastest plan alone, and compiling is tried for it on a
    GPU where `total_steps` would take long enough to pay for it.

    Args:
        plans: what to time; the first is what the others are compared with.
        make_task: builds the task for a plan, with the same weights every time.
        batch: a training batch on the CPU.
        device: where to train.
        allowed: which further plans may be tried.
        gradient_clip: as in the training.
        total_steps: steps that the training would take.
    """
    trials = _Trials(make_task, batch, device, gradient_clip)
    timings = trials.race(plans)
    best = fastest(timings)
    further: list[Plan] = []
    if device.type == "cpu":
        further = [replace(best.plan, threads=n) for n in _halves(best.plan.threads)[1:]]
    elif total_steps * best.seconds > _LONG_RUN_SECONDS:
        further = [replace(best.plan, compile=True)]
    return timings + trials.race([plan for plan in further if allowed(plan)], best)


def fastest(timings: Iterable[Timing]) -> Timing:
    """The plan to take: an earlier, simpler one unless a later one is clearly faster."""
    best, *others = timings
    for other in others:
        if other.seconds < _WORTHWHILE * best.seconds:
            best = other
    return best


class _Trials:
    """Steppers that take turns, and the gradient that all of them must come near."""

    def __init__(
        self,
        make_task: MakeTask,
        batch: Batch,
        device: torch.device,
        gradient_clip: float | None,
    ) -> None:
        self._make_task = make_task
        self._batch = batch
        self._device = device
        self._clip = gradient_clip
        self._reference: tuple[float, Tensor] | None = None

    def race(self, plans: Sequence[Plan], against: Timing | None = None) -> list[Timing]:
        """Timings of the plans, in their order; slow ones drop out once `against` is far ahead."""
        seconds: dict[Plan, float] = {}
        reasons: dict[Plan, str] = {}
        steppers: dict[Plan, Stepper] = {}
        best = math.inf if against is None else against.seconds
        for plan in plans:
            try:
                stepper = self._started(plan)
            except _Unsound as unsound:
                reasons[plan] = str(unsound)
                continue
            seconds[plan] = stepper.timed(self._batch)
            steppers[plan] = stepper
            best = min(best, seconds[plan])
        deadline = time.perf_counter() + _BUDGET_SECONDS
        for turn in range(_MOST_ROUNDS):
            if turn >= _LEAST_ROUNDS and time.perf_counter() > deadline:
                break
            for plan, stepper in steppers.items():
                if seconds[plan] > _HOPELESS * best:
                    continue
                torch.set_num_threads(plan.threads)
                seconds[plan] = min(seconds[plan], stepper.timed(self._batch))
                best = min(best, seconds[plan])
        return [Timing(p, seconds.get(p, math.inf), reasons.get(p)) for p in plans]

    def _started(self, plan: Plan) -> Stepper:
        """A stepper past its first step, in which kernels are chosen; its gradient is checked."""
        torch.set_num_threads(plan.threads)
        task = self._make_task(plan)
        if plan.compile:
            task.network.compile()
        stepper = Stepper(
            task, precision=plan.precision, device=self._device, gradient_clip=self._clip
        )
        try:
            loss, gradient = stepper.gradient(self._batch)
            stepper.step(self._batch)
        except RuntimeError as error:
            if self._reference is None:  # the simplest plan fails: so will the training, and say it
                raise
            raise _Unsound(f"failed: {str(error).splitlines()[0]}") from error
        if self._reference is None:
            self._reference = loss, gradient
        else:
            _require_sound(loss, gradient, *self._reference)
        return stepper


class _Unsound(Exception):
    """A plan does not compute what single precision computes."""


def _require_sound(loss: float, gradient: Tensor, right_loss: float, right: Tensor) -> None:
    cosine = float(nn.functional.cosine_similarity(gradient, right, dim=0))
    if not (math.isfinite(loss) and cosine >= _LEAST_COSINE):  # NaN compares false
        raise _Unsound(f"its gradient leaves single precision's (cosine {cosine:.3f})")
    if abs(loss - right_loss) > _MOST_LOSS_CHANGE * abs(right_loss):
        raise _Unsound(f"its loss is {loss:.4f}, not {right_loss:.4f}")


def _moved(batch: Batch, device: torch.device) -> Batch:
    images, targets, ids, step = batch
    return Batch(images.to(device), targets.to(device), ids.to(device), step)


def _halves(count: int) -> list[int]:
    return [count >> shift for shift in range(count.bit_length())]
