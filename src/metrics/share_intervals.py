"""Confidence intervals of shares, and how well a variance is known."""

from __future__ import annotations

import math
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "NORMAL_QUANTILE",
    "group_numbers",
    "influence_errors",
    "influence_interval",
    "score_interval",
    "variance_freedom",
    "wilson_interval",
]

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


def group_numbers(
    pictures: int, groups: NDArray[np.integer[Any]] | None
) -> tuple[NDArray[np.integer[Any]], float]:
    """Return (N,) the number of each picture's group, and the degrees of freedom of an error.

    Those are infinite where each picture stands for itself.
    """
    if groups is None:
        return np.arange(pictures), math.inf
    known, codes = np.unique(groups, return_inverse=True)
    return codes, len(known) - 1.0


def influence_errors(
    moves: NDArray[np.float64], codes: NDArray[np.integer[Any]]
) -> NDArray[np.float64]:
    """Return (M,) standard errors of figures that each picture moves by (N, M) / N.

    NaN of a single group, which `codes` (N,) number.
    """
    pictures, count = len(moves), int(codes.max()) + 1
    if count < 2:
        return np.full(moves.shape[1], np.nan)
    totals = np.zeros((count, moves.shape[1]))
    np.add.at(totals, codes, moves / pictures)
    # Unbiased as for groups drawn at random, with N in the place of N - 1 as Wilson has it.
    scale = count / (count - 1) * (pictures - 1) / pictures
    return np.sqrt(scale * np.square(totals).sum(axis=0))


def influence_interval(
    share: float, error: float, freedom: float, groups: int
) -> tuple[float, float]:
    """Return Wilson's interval with the trials that would have this standard error.

    Korn and Graubard, Survey Methodology 1998, with Student's quantile where groups are few.

    Args:
        share: in [0, 1].
        error: its standard error.
        freedom: degrees of freedom of the error.
        groups: that are independent.
    """
    if math.isnan(share) or math.isnan(error):
        return math.nan, math.nan
    # Where all is right, or all wrong, no variance shows: each group counts as one answer.
    trials = max(share * (1 - share) / error**2, 1e-6) if error > 0 else float(groups)
    reach = NORMAL_QUANTILE
    if math.isfinite(freedom):
        from scipy.special import stdtrit  # takes a moment to import

        reach = float(stdtrit(freedom, 0.975))
    return score_interval(share, trials, reach)
