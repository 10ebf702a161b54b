"""Learning-rate schedules: pure functions of the share of training steps done.

A factory takes the number of optimizer steps, at least 1, and returns step -> factor for
`torch.optim.lr_scheduler.LambdaLR`, which multiplies every group's own rate by it. The factor is a
function of the step alone, so a resumed training continues on the same curve. Step 0 is the start
of the curve and step `total_steps - 1` its end; steps past the end stay there.

The shape of a curve is given by `warmup_fraction`, the share of the steps on the way up, in [0, 1),
and by `start_divisor` and `final_divisor`, the peak over the first and over the last factor, at
least 1. (`OneCycleLR` of torch divides its final rate by the product of the two.)
"""

from __future__ import annotations

import math
from collections.abc import Callable

__all__ = ["Schedule", "constant", "cosine", "linear", "one_cycle"]

Schedule = Callable[[int], float]
Easing = Callable[[float], float]


def one_cycle(total_steps: int, **shape: float) -> Schedule:
    """Return a schedule up and down along half cosines (Smith & Topin 2018, with cosine annealing).

    Momentum is left alone.
    """
    return _curve(total_steps, _half_cosine, _half_cosine, **shape)


def cosine(total_steps: int, **shape: float) -> Schedule:
    """Return linear warm-up, then half-cosine decay (Loshchilov & Hutter 2017, no restarts)."""
    return _curve(total_steps, _straight, _half_cosine, **shape)


def linear(total_steps: int, **shape: float) -> Schedule:
    """Return linear warm-up, then linear decay."""
    return _curve(total_steps, _straight, _straight, **shape)


def constant(total_steps: int) -> Schedule:
    """Return the schedule with factor 1 at every step."""
    return lambda step: 1.0


def _straight(x: float) -> float:
    return x


def _half_cosine(x: float) -> float:
    """Return a half cosine from 0 to 1, flat at both ends."""
    return (1 - math.cos(math.pi * x)) / 2


def _curve(
    total_steps: int,
    rise: Easing,
    fall: Easing,
    *,
    warmup_fraction: float,
    start_divisor: float,
    final_divisor: float,
) -> Schedule:
    """Return a schedule up to 1 and down; `rise` and `fall` map [0, 1] onto itself."""
    start, final = 1 / start_divisor, 1 / final_divisor
    last = max(1, total_steps - 1)

    def factor(step: int) -> float:
        progress = min(step, last) / last
        if progress < warmup_fraction:
            return start + (1 - start) * rise(progress / warmup_fraction)
        return 1 - (1 - final) * fall((progress - warmup_fraction) / (1 - warmup_fraction))

    return factor
