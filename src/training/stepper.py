"""Training steps without Lightning: to time a plan, or to test a range of learning rates."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from ..data.loading.loaders import Batch
from ..models.arithmetic import autocast
from .cost import wait_for

if TYPE_CHECKING:  # Lightning takes seconds to import
    from .task import ClassificationTask

__all__ = ["RangeTest", "Stepper", "first_pictures", "range_test", "step_seconds"]

_TIMED_STEPS = 3
# Number of pictures of a step by which larger ones are estimated if time is short.
_FEW_PICTURES = 4
_LOWEST, _HIGHEST = 1e-6, 10.0
# Number of steps of the whole range, 12 for each factor of ten.
_STEPS = 84
# Bias-corrected exponential average of the loss, as each batch's own is noisy.
_SMOOTHING = 0.9
# Above this multiple of the smallest loss, and above the first one, the rate is far too high.
_DIVERGED = 3.0
# The loss turns upwards where the rate is already too high: stay well below that.
_SAFETY = 10.0


class Stepper:
    """Training steps of a task, computed as Lightning does; the task is trained by them.

    Args:
        precision: see `autocast`.
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
        self.task.set_modes()
        self.optimizer = task.make_optimizer(task.network)
        self._precision = precision
        self._device = device
        self._clip = gradient_clip
        self._scaler = torch.amp.GradScaler(device.type, enabled=precision == "float16")

    def gradient(self, batch: Batch) -> tuple[float, Tensor]:
        """Return loss and gradient (P,) of a batch; no weight is changed."""
        loss = self._backward(batch)
        parts = [p.grad.flatten() for p in self.task.network.parameters() if p.grad is not None]
        flat = torch.cat(parts).cpu().double() / self._scaler.get_scale()
        self.optimizer.zero_grad(set_to_none=True)
        return float(loss), flat

    def step(self, *batches: Batch) -> Tensor:
        """Make one step of the optimizer and return the mean loss, a scalar on the device."""
        losses = [self._backward(batch, 1 / len(batches)) for batch in batches]
        self._scaler.unscale_(self.optimizer)
        if self._clip is not None:
            nn.utils.clip_grad_norm_(self.task.network.parameters(), self._clip)
        self._scaler.step(self.optimizer)
        self._scaler.update()
        self.optimizer.zero_grad(set_to_none=True)
        return torch.stack(losses).mean()

    def timed(self, batch: Batch) -> float:
        """Return the seconds of one step, to its end on the device.

        On one thread of a CPU, processor time of that thread, which other programs do not change.
        """
        alone = self._device.type == "cpu" and torch.get_num_threads() == 1
        clock = time.thread_time if alone else time.perf_counter
        began = clock()
        self.step(batch)
        wait_for(self._device)
        return clock() - began

    def _backward(self, batch: Batch, share: float = 1.0) -> Tensor:
        images, targets, ids, step = batch
        device = self._device
        batch = Batch(images.to(device), targets.to(device), ids.to(device), step)
        with autocast(device, self._precision):
            loss = self.task.training_step(batch, step)
        self._scaler.scale(share * loss).backward()
        return loss.detach()


def first_pictures(batch: Batch, count: int) -> Batch:
    """Return the first pictures of a batch."""
    images, targets, ids, step = batch
    return Batch(images[:count], targets[:count], ids[:count], step)


def step_seconds(stepper: Stepper, batch: Batch, deadline: float | None) -> tuple[float, bool]:
    """Return the seconds of a training step, and whether steps of the whole batch were timed.

    With a deadline a step of a few pictures comes first. If it shows that steps of the whole batch
    would not end in time, their estimate is returned.

    Args:
        stepper: of a fresh task, which is trained by the steps.
        batch: a training batch.
        deadline: on `time.perf_counter`; None for no limit.
    """
    if deadline is not None:
        few = first_pictures(batch, _FEW_PICTURES)
        ratio = len(batch.images) / len(few.images)
        for _ in range(2):  # the first step is a warm-up
            began = time.perf_counter()
            seconds = ratio * stepper.timed(few)
            now = time.perf_counter()  # other programs may have had most of this time
            ended = now + (1 + _TIMED_STEPS) * ratio * (now - began)
            if ended <= deadline or now > deadline:
                break
        if ended > deadline:
            return seconds, False
    stepper.step(batch)
    return min(stepper.timed(batch) for _ in range(_TIMED_STEPS)), True


@dataclass(frozen=True)
class RangeTest:
    """Growing learning rates of a range test, and the smoothed loss after a step with each.

    Attributes:
        given: the rate that the optimizer began with.
        suggestion: a tenth of the rate with the lowest loss, a peak rate for a training.
    """

    rates: tuple[float, ...]
    losses: tuple[float, ...]
    given: float
    suggestion: float


def range_test(stepper: Stepper, batches: Iterable[Batch], accumulate: int = 1) -> RangeTest:
    """Train on `batches` with a growing learning rate until the loss diverges.

    Smith, "Cyclical Learning Rates for Training Neural Networks", WACV 2017.

    Args:
        stepper: of a fresh task, which is not to be used afterwards. Rates of its optimizer's
            groups keep their proportions; the rates of the result are those of the greatest.
        batches: for `_STEPS` steps, or as many as there are.
        accumulate: batches a step.

    Raises:
        ValueError: the loss never fell, so there is no rate to suggest.
    """
    groups = stepper.optimizer.param_groups
    greatest = max(group["lr"] for group in groups)
    shares = [group["lr"] / greatest for group in groups]
    rates: list[float] = []
    losses: list[float] = []
    average = 0.0
    for step, taken in zip(range(_STEPS), zip(*[iter(batches)] * accumulate)):
        rate = _LOWEST * (_HIGHEST / _LOWEST) ** (step / (_STEPS - 1))
        for group, share in zip(groups, shares):
            group["lr"] = rate * share
        average = _SMOOTHING * average + (1 - _SMOOTHING) * float(stepper.step(*taken))
        smoothed = average / (1 - _SMOOTHING ** (step + 1))
        if not math.isfinite(smoothed):
            break
        rates.append(rate)
        losses.append(smoothed)
        if smoothed > _DIVERGED * max(min(losses), losses[0] / _DIVERGED):
            break
    lowest = min(range(len(losses)), key=losses.__getitem__, default=0)
    if lowest == 0:
        raise ValueError("the loss rose from the first step on, whatever the rate")
    suggestion = float(f"{rates[lowest] / _SAFETY:.1e}")  # the test is no more precise than that
    return RangeTest(tuple(rates), tuple(losses), greatest, suggestion)
