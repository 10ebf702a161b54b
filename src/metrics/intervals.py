"""Confidence intervals of shares."""

from __future__ import annotations

import math
from statistics import NormalDist

__all__ = ["NORMAL_QUANTILE", "score_interval", "wilson_interval"]

# Of a 95 % interval.
NORMAL_QUANTILE = NormalDist().inv_cdf(0.975)


def wilson_interval(successes: int, trials: int) -> tuple[float, float]:
    """Compute the 95 % score interval of a proportion.

    Wilson, "Probable Inference, the Law of Succession, and Statistical Inference", JASA 1927,
    without continuity correction. Unlike the normal interval it stays within [0, 1] and keeps its
    coverage for shares near 0 and 1, as accuracies often are.

    Args:
        successes: number within 0 and `trials`.
        trials: number, at least 1, of independent trials.

    Raises:
        ValueError: a number of successes or trials outside of these.
    """
    if not 0 <= successes <= trials or trials < 1:
        raise ValueError(f"{successes} successes of {trials} trials have no interval.")
    return score_interval(successes / trials, trials, NORMAL_QUANTILE)


def score_interval(share: float, trials: float, quantile: float) -> tuple[float, float]:
    """Compute the shares that have `share` within `quantile` of their standard errors.

    Args:
        share: in [0, 1].
        trials: above 0, and not necessarily a whole number.
        quantile: of the standardised error.
    """
    shrink = 1 + quantile**2 / trials
    centre = (share + quantile**2 / (2 * trials)) / shrink
    spread = share * (1 - share) / trials + quantile**2 / (4 * trials**2)
    half = quantile / shrink * math.sqrt(spread)
    # At both ends the bound is exact on paper and off by a rounding error in floating point.
    return min(share, max(0.0, centre - half)), max(share, min(1.0, centre + half))
