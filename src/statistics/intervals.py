"""Confidence intervals of a candidate and of a pair that were chosen independently of the results.

For the winner, which was chosen by its result, see `winner`.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr, ndtri, stdtrit

from src.records.comparison import Interval
from src.statistics.evidence import Evidence
from src.statistics.roots import root
from src.statistics.seed_effects import Belief, pair_effects

__all__ = [
    "accuracy_interval",
    "difference_interval",
    "effective_pictures",
    "score",
    "student_quantile",
]

Floats = NDArray[np.float64]

# Chosen on fields like those of `benchmarks/selection.py`, of other draws.
_BELIEF = Belief(median=0.5, unlike=2.5)


def accuracy_interval(evidence: Evidence, candidate: int, confidence: float = 0.95) -> Interval:
    """Return the confidence interval of a candidate's true accuracy.

    The score interval with as many pictures as would, independently answered, give the measured
    variance (Korn & Graubard, "Confidence Intervals for Proportions with Small Expected Number of
    Positive Counts Estimated from Survey Data", Survey Methodology 1998, who do it with another
    exact interval). With single trainings and nothing known of seeds it is Wilson's.
    """
    quantile = _quantile(evidence.freedom[candidate], confidence)
    share = float(evidence.accuracy[candidate])
    seeds = evidence.seed_variance[candidate]
    return score(share, float(effective_pictures(evidence, candidate, seeds)), quantile)


def difference_interval(
    evidence: Evidence, first: int, second: int, confidence: float = 0.95
) -> Interval:
    """Return the confidence interval of the true accuracy of `first` minus that of `second`.

    The error is a mean of normal laws, over all that the seeds of both might do (`seed_effects`).
    With single trainings and nothing known of seeds it is Bonett & Price's (see `Evidence`).
    """
    middle = float(evidence.difference[second, first])
    passed = (1 - _checked(confidence)) / 2
    spread, weights = _spread_of_difference(evidence, first, second)
    quantile = float(-ndtri(passed))
    low, high = 0.999 * quantile * spread.min(), 1.001 * quantile * spread.max()
    half = root(lambda half: float(np.vdot(weights, ndtr(-half / spread))) - passed, low, high)
    return Interval(max(-1.0, middle - half), min(1.0, middle + half))


def _spread_of_difference(evidence: Evidence, first: int, second: int) -> tuple[Floats, Floats]:
    """Return possible standard deviations of the error, and the probability of each."""
    variance = float(evidence.difference_variance[second, first])
    if evidence.seeds is None:
        return np.sqrt([variance]), np.ones(1)
    chosen = [first, second]
    pictures = max(0.0, variance - float(evidence.seed_variance[chosen].sum()))
    one, other, weights = pair_effects(evidence.seeds, first, second, _BELIEF)
    one, other = one / evidence.repeats[first], other / evidence.repeats[second]
    return np.sqrt(pictures + one[:, None] + other), weights


def effective_pictures(evidence: Evidence, candidate: int, seed_variance: Floats) -> Floats:
    """Return the number of pictures that would, predicted once, give the measured variance.

    Args:
        evidence: of the candidates.
        candidate: index of the one.
        seed_variance: of its accuracy, of any shape, which is that of the result.
    """
    count, share = evidence.pictures, float(evidence.accuracy[candidate])
    # An unbiased variance divides by N - 1; Wilson's has N, and N is what single trainings have.
    variance = (evidence.picture_variance[candidate] + seed_variance) * (count - 1) / count
    # All right or all wrong shows no variance. Half an answer short of that does.
    inside = min(max(share, 0.5 / count), 1 - 0.5 / count)
    bernoulli = inside * (1 - inside)
    if inside != share:
        variance = bernoulli / count + seed_variance
    return bernoulli / variance


def score(share: float, trials: float, quantile: float) -> Interval:
    """Return the score interval: shares within `quantile` of their standard errors of `share`.

    Wilson 1927, with trials that need not be a whole number.
    """
    shrink = 1 + quantile**2 / trials
    centre = (share + quantile**2 / (2 * trials)) / shrink
    spread = share * (1 - share) / trials + quantile**2 / (4 * trials**2)
    half = quantile / shrink * math.sqrt(spread)
    return Interval(max(0.0, centre - half), min(1.0, centre + half))


def _quantile(freedom: float, confidence: float) -> float:
    return student_quantile((1 + _checked(confidence)) / 2, freedom)


def _checked(confidence: float) -> float:
    if not 0 < confidence < 1:
        raise ValueError(f"confidence is {confidence}: it must be above 0 and below 1.")
    return confidence


def student_quantile(share: float, freedom: float) -> float:
    """Return a quantile of Student's law, and of the normal law if `freedom` is infinite."""
    return float(stdtrit(freedom, share) if math.isfinite(freedom) else ndtri(share))
