"""Comparison of exported variants: difference of outputs, time, and the choice of one."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from timeit import repeat

import numpy as np
from numpy.typing import NDArray

from ..machine.status import with_progress

__all__ = ["fastest_within", "largest_difference", "pictures_timed", "speedups", "times_in_turns"]

# A turn is long enough that the clock and a short disturbance do not count.
_TURN_SECONDS = 0.02
# Beside such a call, filling the processor's caches again takes no time.
_LONG_SECONDS = 0.5
_FIRST_CALLS = 2  # in the first one kernels are chosen


def largest_difference(reference: NDArray[np.floating], logits: NDArray[np.floating]) -> float:
    """Return the largest difference of logits (N, K, ...); infinite where one is not finite.

    Raises:
        ValueError: shapes that differ, or no logits.
    """
    if reference.shape != logits.shape or reference.ndim < 2 or not reference.size:
        raise ValueError(f"logits of shapes {reference.shape} and {logits.shape} do not compare")
    if not np.isfinite(logits).all():
        return float("inf")
    return float(np.abs(reference.astype(np.float64) - logits).max())


def times_in_turns(
    calls: Mapping[str, Callable[[], object]], rounds: int
) -> dict[str, list[float]]:
    """Return the seconds of a call, by name, one value per round.

    All calls have their turn in every round, and each round another one begins, so that a busy
    moment of the machine affects all alike, which `torch.utils.benchmark` does not do. A turn is
    the median of as many calls as fit into some 20 ms, at least three, after one that does not
    count, since what ran before has filled the processor's caches. Of half a second or more it is
    a single call. Where this takes long, the time that is left is logged.
    """
    names = list(calls)
    often = {name: _calls_a_turn(_seconds(calls[name], _FIRST_CALLS)[-1]) for name in names}
    seconds: dict[str, list[float]] = {name: [] for name in names}
    for turn in with_progress(range(rounds), rounds, "rounds timed"):
        first = turn % len(names)
        for name in names[first:] + names[:first]:
            first_call, *others = _seconds(calls[name], often[name])
            seconds[name].append(statistics.median(others or [first_call]))
    return seconds


def pictures_timed(each: float, sizes: Sequence[int], rounds: int) -> int:
    """Return how many pictures a model answers while it is timed in turns.

    Args:
        each: seconds that it takes for one.
        sizes: numbers of pictures of a call, each of which is timed.
        rounds: as of `times_in_turns`.
    """
    return sum(size * (_FIRST_CALLS + rounds * _calls_a_turn(size * each)) for size in sizes)


def _calls_a_turn(seconds: float) -> int:
    """Return how many calls a turn takes, the one before those that count included."""
    if seconds >= _LONG_SECONDS:
        return 1
    return 1 + max(3, round(_TURN_SECONDS / max(seconds, 1e-6)))


def fastest_within(
    seconds: Mapping[str, float], equal: Mapping[str, float], least_equal: float, original: str
) -> str:
    """Return the name of the fastest of the original and the variants that agree with it.

    Args:
        seconds: of one call, by name.
        equal: share of equal labels of a variant, by name, of which it needs `least_equal`.
    """
    fitting = [name for name in seconds if equal.get(name, 0.0) >= least_equal]
    return min([original, *fitting], key=seconds.__getitem__)


def speedups(reference: Sequence[float], seconds: Sequence[float]) -> list[float]:
    """Return how many times faster than the reference each round is."""
    return [slow / fast for slow, fast in zip(reference, seconds, strict=True)]


def _seconds(call: Callable[[], object], often: int) -> list[float]:
    return repeat(call, timer=time.perf_counter, repeat=often, number=1)
