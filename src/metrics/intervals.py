"""Confidence intervals of shares."""

from __future__ import annotations

import math
from statistics import NormalDist

__all__ = ["wilson_interval"]


def wilson_interval(successes: int, trials: int, confidence: float = 0.95) -> tuple[float, float]:
    """Compute the score interval of a proportion.

    Wilson, "Probable Inference, the Law of Succession, and Statistical Inference", JASA 1927,
    without continuity correction. Unlike the normal interval it stays within [0, 1] and keeps its
    coverage for shares near 0 and 1, as accuracies often are.

    Args:
        successes: number within 0 and `trials`.
        trials: number, at least 1, of independent trials.
        confidence: coverage, within 0 and 1, both excluded.

    Raises:
        ValueError: a number of successes or trials outside of these.
    """
    if not 0 <= successes <= trials or trials < 1:
        raise ValueError(f"{successes} successes of {trials} trials have no interval.")
    z = NormalDist().inv_cdf((1 + confidence) / 2)
    share = successes / trials
    shrink = 1 + z**2 / trials
    centre = (share + z**2 / (2 * trials)) / shrink
    half = z / shrink * math.sqrt(share * (1 - share) / trials + z**2 / (4 * trials**2))
    # At both ends the bound is exact on paper and off by a rounding error in floating point.
    low = 0.0 if successes == 0 else max(0.0, centre - half)
    high = 1.0 if successes == trials else min(1.0, centre + half)
    return low, high
