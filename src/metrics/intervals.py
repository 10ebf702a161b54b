"""Confidence intervals of shares, and how well a variance is known."""

from __future__ import annotations

import math
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["NORMAL_QUANTILE", "score_interval", "variance_freedom", "wilson_interval"]

# Of a 95 % interval.
NORMAL_QUANTILE = NormalDist().inv_cdf(0.975)
# Rounding errors, of what varies.
_ROUNDING = 1e-12


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


def variance_freedom(influence: NDArray[np.floating[Any]]) -> float:
    """Return the degrees of freedom of the mean of C estimated variances, at least 1.

    Such that a multiple of chi-square with as many varies as the estimates do, by the fourth
    moments (Pan & Wall, "Small-Sample Adjustments in Using the Sandwich Variance Estimator in
    Generalized Estimating Equations", Statistics in Medicine 2002): about G for normal numbers, and
    few where few groups move the figure.

    Args:
        influence: (C, G) by how much each group moves each figure.
    """
    squares = influence.astype(np.float64) ** 2
    variance = squares.sum(axis=1)
    varies = float((squares**2).sum() - (variance**2).sum() / influence.shape[1])
    known = 2 * float((variance**2).sum())
    return max(1.0, known / varies) if varies > _ROUNDING * known else math.inf
