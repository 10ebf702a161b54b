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

What the law does not know is how unsure the variances are. Where seeds move accuracies by a point
and more, and some candidates' more than others', the winner tends to be one whose seeds are thought
steadier than they are, and its interval holds the truth less often than it says
(`benchmarks/selection.py` measures how often).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.optimize import brentq
from scipy.stats import norm

from src.selection.evidence import Evidence
from src.selection.intervals import Interval, effective_pictures, score, student_quantile
from src.selection.resampling import Errors

__all__ = ["Winner", "winners_accuracy"]

# Of the allowed error, the share that goes to the simultaneous interval: the paper's choice.
_SIMULTANEOUS = 0.1
_EDGE = 1e-12
_LEVEL = 1e-7


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
        winner: index of the one with the highest accuracy, and of level ones the lowest log-loss.
        errors: resampled from `evidence`.
        confidence: within 0 and 1.

    Raises:
        ValueError: another candidate has a higher accuracy, or no such confidence.
    """
    if not 0 < confidence < 1:
        raise ValueError(f"confidence is {confidence}: it must be above 0 and below 1.")
    measured = float(evidence.accuracy[winner])
    if measured < evidence.accuracy.max() - _LEVEL:
        raise ValueError(f"Candidate {winner} did not win: another has a higher accuracy.")
    alpha = 1 - confidence
    freedom = float(evidence.freedom[winner])
    widened = student_quantile(1 - alpha / 2, freedom) / float(norm.isf(alpha / 2))
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

    What another candidate scored is split into a part that goes with the winner's accuracy and one
    that is independent of it, which is kept as it is.
    """
    covariance = evidence.covariance(winner)
    own, measured = covariance[winner], float(evidence.accuracy[winner])
    if own <= 0:
        return -np.inf, np.inf
    others = np.arange(len(covariance)) != winner
    slope = covariance[others] / own
    gaps = np.maximum(measured - evidence.accuracy, 0.0)
    # Shares of repeats are rounded, so level candidates may lie a hair apart.
    for rival in np.flatnonzero(others & (gaps < _LEVEL)):
        gaps[rival] = _lead(evidence, winner, int(rival))
    rest = (measured - gaps)[others] - slope * measured
    with np.errstate(divide="ignore", invalid="ignore"):
        losing = rest / (1 - slope)
    lowest = losing[slope < 1 - 1e-9].max(initial=-np.inf)
    highest = losing[slope > 1 + 1e-9].min(initial=np.inf)
    return float(lowest), float(highest)


def _lead(evidence: Evidence, winner: int, rival: int) -> float:
    """By how much the winner leads one who is level with it, within a step of the accuracy.

    Accuracies come in steps and the law does not. If it is taken at a step, level candidates make
    the interval too long or too short: Stevens, "Fiducial Limits of the Parameter of a
    Discontinuous Distribution", Biometrika 1950, spreads each step out by a random number. Level
    candidates are ranked by their log-loss, so that does it here: how sure its lead is, of what
    the answers alone do not explain, is the number, and nothing is left to chance. The lead of one
    over the other within a step then is that of two numbers spread over it, the first the larger.
    """
    step = 1 / (evidence.pictures * float(evidence.repeats[winner]))
    saved = (evidence.losses[rival] - evidence.losses[winner]).astype(np.float64)
    apart = (evidence.right[winner] - evidence.right[rival]).astype(np.float64)
    unexplained = float(saved.var())
    if apart.any():
        unexplained -= float(np.mean(apart * saved) ** 2 / np.mean(apart**2))
    if unexplained <= 0:
        return step
    sure = 2 * norm.cdf(saved.mean() / np.sqrt(unexplained / evidence.pictures)) - 1
    return step * float(1 - np.sqrt(1 - max(0.0, sure)))


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
    alone = student_quantile((1 + confidence) / 2, float(evidence.freedom[winner]))
    return max(alone, float(np.quantile(largest, confidence, method="higher")))


def _crossing(share: Callable[[float], float], level: float, allowed: Interval) -> float:
    """Where the falling function `share` passes `level`, or the end it does not leave."""
    if share(allowed.low) <= level:
        return allowed.low
    if share(allowed.high) >= level:
        return allowed.high
    return float(brentq(lambda truth: share(truth) - level, allowed.low, allowed.high, xtol=1e-7))
