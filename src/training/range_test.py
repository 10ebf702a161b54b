"""The learning-rate range test (Smith, "Cyclical Learning Rates for Training Neural Networks",
WACV 2017): train while the rate grows from nearly nothing, and watch where the loss turns.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from src.data.loading.loaders import Batch
from src.training.plans import Stepper

__all__ = ["RangeTest", "range_test"]

_LOWEST, _HIGHEST = 1e-6, 10.0
# Steps of the whole range: 12 for each factor of ten.
_STEPS = 84
# Bias-corrected exponential average of the loss, as each batch's own is noisy.
_SMOOTHING = 0.9
# Past this multiple of the smallest loss, or of the first one, the rate is far too high.
_DIVERGED = 3.0
# The loss turns upwards where the rate is already too high: stay well below that.
_SAFETY = 10.0


@dataclass(frozen=True)
class RangeTest:
    """What a range test saw.

    Attributes:
        rates: learning rate of each step, growing.
        losses: smoothed loss after each.
        given: the rate that the optimizer came with.
        suggestion: a tenth of the rate with the lowest loss, a peak rate for a training.
    """

    rates: tuple[float, ...]
    losses: tuple[float, ...]
    given: float
    suggestion: float


def range_test(stepper: Stepper, batches: Iterable[Batch]) -> RangeTest:
    """Train on `batches` with a growing rate until the loss diverges.

    Args:
        stepper: a fresh task; it is spoiled by this. Rates of its optimizer's groups keep their
            proportions, the greatest is the one that is meant.
        batches: at least `_STEPS` of them, or as many as there are.

    Raises:
        ValueError: the loss never fell, so no rate can be told.
    """
    groups = stepper.optimizer.param_groups
    greatest = max(group["lr"] for group in groups)
    shares = [group["lr"] / greatest for group in groups]
    rates: list[float] = []
    losses: list[float] = []
    average = 0.0
    for step, batch in zip(range(_STEPS), batches):
        rate = _LOWEST * (_HIGHEST / _LOWEST) ** (step / (_STEPS - 1))
        for group, share in zip(groups, shares):
            group["lr"] = rate * share
        average = _SMOOTHING * average + (1 - _SMOOTHING) * float(stepper.step(batch))
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
    return RangeTest(tuple(rates), tuple(losses), greatest, _rounded(rates[lowest] / _SAFETY))


def _rounded(rate: float) -> float:
    """Two digits: more would claim a precision that the test has not."""
    return float(f"{rate:.1e}")
