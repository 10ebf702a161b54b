"""Learning-rate schedules: pure functions of the share of training steps done.

A factory below takes the number of optimizer steps and returns step -> factor for
`torch.optim.lr_scheduler.LambdaLR`, which multiplies every group's own rate by it. The factor is a
function of the step alone, so a resumed training continues on the same curve. Step 0 is the start
of the curve and step `total_steps - 1` its end; steps past the end stay there.
"""

from __future__ import annotations

import math
from collections.abc import Callable

__all__ = ["Schedule", "constant", "cosine", "linear", "one_cycle", "warm_up_and_decay"]

Schedule = Callable[[int], float]
Easing = Callable[[float], float]


def _straight(x: float) -> float:
    return x


def _half_cosine(x: float) -> float:
    """Return a half cosine from 0 to 1, flat at both ends."""
    return (1 - math.cos(math.pi * x)) / 2


def warm_up_and_decay(
    progress: float,
    *,
    warmup_fraction: float,
    start: float,
    final: float,
    rise: Easing,
    fall: Easing,
) -> float:
    """Return the factor of the learning rate: from `start` up to 1, then down to `final`.

    Args:
        progress: share of the training done, in [0, 1].
        warmup_fraction: share at which the factor is 1, in [0, 1); 0 starts at the peak.
        start, final: factors at progress 0 and 1, in (0, 1].
        rise, fall: monotone maps of [0, 1] onto itself, the shapes of the two parts.

    Returns:
        A factor in (0, 1].
    """
    if progress < warmup_fraction:
        return start + (1 - start) * rise(progress / warmup_fraction)
    return 1 - (1 - final) * fall((progress - warmup_fraction) / (1 - warmup_fraction))


def one_cycle(
    total_steps: int, *, warmup_fraction: float, start_divisor: float, final_divisor: float
) -> Schedule:
    """Return a schedule up and down along half cosines (Smith & Topin 2018, with cosine annealing).

    Both divisors refer to the peak; `OneCycleLR` of torch divides its final rate by the product of
    the two. Momentum is left alone.

    Args:
        total_steps: optimizer steps of the whole training, at least 1.
        warmup_fraction: share of them on the way up, in [0, 1).
        start_divisor, final_divisor: peak over first and over last factor, at least 1.

    Raises:
        ValueError: a value out of its range.
    """
    return _curve(
        total_steps, warmup_fraction, start_divisor, final_divisor, _half_cosine, _half_cosine
    )


def cosine(
    total_steps: int, *, warmup_fraction: float, start_divisor: float, final_divisor: float
) -> Schedule:
    """Return linear warm-up, then half-cosine decay (Loshchilov & Hutter 2017, no restarts).

    Arguments and errors as in `one_cycle`.
    """
    return _curve(
        total_steps, warmup_fraction, start_divisor, final_divisor, _straight, _half_cosine
    )


def linear(
    total_steps: int, *, warmup_fraction: float, start_divisor: float, final_divisor: float
) -> Schedule:
    """Return linear warm-up, then linear decay. Arguments and errors as in `one_cycle`."""
    return _curve(total_steps, warmup_fraction, start_divisor, final_divisor, _straight, _straight)


def constant(total_steps: int) -> Schedule:
    """Return the schedule with factor 1 at every step."""
    _require_steps(total_steps)
    return lambda step: 1.0


def _curve(
    total_steps: int,
    warmup_fraction: float,
    start_divisor: float,
    final_divisor: float,
    rise: Easing,
    fall: Easing,
) -> Schedule:
    _require_steps(total_steps)
    if not 0 <= warmup_fraction < 1:
        raise ValueError(f"warmup_fraction is {warmup_fraction}: it must be in [0, 1).")
    for name, divisor in (("start_divisor", start_divisor), ("final_divisor", final_divisor)):
        if not 1 <= divisor < math.inf:
            raise ValueError(f"{name} is {divisor}: it must be at least 1.")
    last = max(1, total_steps - 1)

    def factor(step: int) -> float:
        return warm_up_and_decay(
            min(step, last) / last,
            warmup_fraction=warmup_fraction,
            start=1 / start_divisor,
            final=1 / final_divisor,
            rise=rise,
            fall=fall,
        )

    return factor


def _require_steps(total_steps: int) -> None:
    if total_steps < 1:
        raise ValueError(f"total_steps is {total_steps}: it must be at least 1.")
