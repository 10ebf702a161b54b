"""The accuracy of the one that was picked for its accuracy.

The largest of many measured accuracies is, on the average, too large: the winner's curse. How much
depends on how close the others came, and on how far their errors go together with the winner's.

Andrews, Kitagawa & McCloskey, "Inference on Winners", Quarterly Journal of Economics 2024, derive
intervals that hold for the picked one. Given that a candidate won, its accuracy follows a normal
law cut off where it would have lost; inverting that law gives intervals that are exact and, near
ties, very long. Their hybrid also demands that the truth lies within a simultaneous interval for
all candidates, at a tenth of the error; it is exact but for that tenth (coverage between 95 and
95.5 %), never much longer than the simultaneous interval, and the usual one when the winner stands
alone. The bootstrap correction of Tsamardinos, Greasidou & Borboudakis, "Bootstrapping the
Out-of-sample Predictions for Efficient and Accurate Cross-validation", Machine Learning 2018, is
simpler, but its interval is for the figure of a procedure and not for the picked candidate, and it
takes no account of seeds.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.optimize import brentq
from scipy.stats import norm
from scipy.stats import t as student

from src.selection.evidence import Evidence
from src.selection.intervals import Interval, effective_pictures, score
from src.selection.resampling import Errors

__all__ = ["Winner", "winners_accuracy"]

# Of the allowed error, the share that goes to the simultaneous interval: the paper's choice.
_SIMULTANEOUS = 0.1
_EDGE = 1e-12


@dataclass(frozen=True)
class Winner:
    """What can be said of the winner.

    Attributes:
        candidate: its index.
        measured: its accuracy as measured, too good for having been picked.
        accuracy: corrected: as often above the truth as below it.
        interval: of the true accuracy, corrected.
    """

    candidate: int
    measured: float
    accuracy: float
    interval: Interval


def winners_accuracy(
    evidence: Evidence, winner: int, errors: Errors, confidence: float = 0.95
) -> Winner:
    """The hybrid estimate and interval of the true accuracy of the candidate that came first.

    The normal law has the variance that each supposed accuracy would have, p (1 - p) over the
    effective number of pictures, so that with nothing to correct the interval is Wilson's.
    Where the variance of seeds is unsure, it is widened as Student's law is against the normal.

    Args:
        evidence: of C candidates.
        winner: index of the one with the highest accuracy.
        errors: resampled from `evidence`.
        confidence: within 0 and 1.

    Raises:
        ValueError: another candidate has a higher accuracy, or no such confidence.
    """
    if not 0 < confidence < 1:
        raise ValueError(f"confidence is {confidence}: it must be above 0 and below 1.")
    measured = float(evidence.accuracy[winner])
    # Shares of repeats are rounded, so level candidates may lie a hair apart.
    if measured < evidence.accuracy.max() - 1e-7:
        raise ValueError(f"Candidate {winner} did not win: another has a higher accuracy.")
    alpha = 1 - confidence
    freedom = float(evidence.freedom[winner])
    widened = float(student.isf(alpha / 2, freedom) / norm.isf(alpha / 2))
    trials = effective_pictures(evidence, winner) / widened**2
    bound = _simultaneous_quantile(evidence, winner, errors, 1 - _SIMULTANEOUS * alpha) / widened
    allowed = score(measured, trials, bound)
    lowest, highest = _winning_range(evidence, winner)

    def exceeded(truth: float) -> float:
        """Probability of a winner's accuracy up to the measured one, if `truth` is the truth."""
        # At 0 and 1 themselves nothing varies, but short of them the law has a limit.
        truth = min(max(truth, _EDGE), 1 - _EDGE)
        scale = float(np.sqrt(truth * (1 - truth) / trials))
        low = max((lowest - truth) / scale, -bound)
        high = min((highest - truth) / scale, bound)
        here = min(max((measured - truth) / scale, low), high)
        below, span = norm.cdf(here) - norm.cdf(low), norm.cdf(high) - norm.cdf(low)
        return float(below / span) if span > 0 else float(here >= high)

    tail = alpha * (1 - _SIMULTANEOUS) / (1 - _SIMULTANEOUS * alpha) / 2
    interval = Interval(_crossing(exceeded, 1 - tail, allowed), _crossing(exceeded, tail, allowed))
    return Winner(winner, measured, _crossing(exceeded, 0.5, allowed), interval)


def _winning_range(evidence: Evidence, winner: int) -> tuple[float, float]:
    """Between which accuracies the winner wins, given all that is independent of its own.

    Equation (5) of the paper. What another candidate scored is split into a part that goes with
    the winner's accuracy and one that is independent of it.
    """
    covariance = evidence.covariance(winner)
    own, measured = covariance[winner], float(evidence.accuracy[winner])
    if own <= 0:
        return -np.inf, np.inf
    slope = np.delete(covariance, winner) / own
    # Accuracies come in steps, and level with another is half a step ahead of losing to it.
    half_step = 0.5 / (evidence.pictures * evidence.repeats[winner])
    rest = np.delete(evidence.accuracy, winner) - slope * measured - half_step
    with np.errstate(divide="ignore", invalid="ignore"):
        losing = rest / (1 - slope)
    lowest = losing[slope < 1 - 1e-9].max(initial=-np.inf)
    highest = losing[slope > 1 + 1e-9].min(initial=np.inf)
    return float(lowest), float(highest)


def _simultaneous_quantile(
    evidence: Evidence, winner: int, errors: Errors, confidence: float
) -> float:
    """So many standard errors hold every candidate's error at once."""
    error = np.sqrt(evidence.variance)
    moving = error > 0
    if not moving.any():
        return float(norm.isf((1 - confidence) / 2))
    standard = errors.drawn[moving] / error[moving, None].astype(np.float32)
    largest = np.abs(standard, out=standard).max(axis=0)
    largest = largest * errors.student(float(evidence.freedom[winner]))
    # Never less than what one candidate alone would need.
    alone = float(student.isf((1 - confidence) / 2, evidence.freedom[winner]))
    return max(alone, float(np.quantile(largest, confidence, method="higher")))


def _crossing(share: Callable[[float], float], level: float, allowed: Interval) -> float:
    """Where the falling function `share` passes `level`, or the end it does not leave."""
    if share(allowed.low) <= level:
        return allowed.low
    if share(allowed.high) >= level:
        return allowed.high
    return float(brentq(lambda truth: share(truth) - level, allowed.low, allowed.high, xtol=1e-7))
