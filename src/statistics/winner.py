"""The true accuracy of the candidate with the highest measured accuracy.

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

The paper takes the variances as known. Of seeds they are not: where seeds move accuracies by a
point and more, and some candidates' more than others', the winner tends to be one whose seeds look
steadier than they are. The law here is therefore a mean over all that its seeds might do, each as
probable as the repeats make it (`seed_effects`) and as likely to have won. In the cut off law that
is one step: the mean is taken above and below the line of the fraction, and not of fractions.
Such a mean need not fall as the truth rises, so the interval reaches to the outermost truth that
is probable enough (`benchmarks/selection.py` measures how often intervals hold).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr, ndtri

from src.records.comparison import Interval
from src.statistics.evidence import Evidence
from src.statistics.intervals import effective_pictures, score
from src.statistics.resampling import Errors
from src.statistics.roots import root
from src.statistics.seed_effects import Belief, seed_effects

__all__ = ["Winner", "winner_bias", "winners_accuracy"]

Floats = NDArray[np.float64]

# Of the allowed error, the share that goes to the simultaneous interval: the paper's choice.
_SIMULTANEOUS = 0.1
# Chosen on fields like those of `benchmarks/selection.py`, of other draws. A wider one, such as a
# difference needs, makes intervals longer that reach to the outermost truth anyway.
_BELIEF = Belief(median=0.1, unlike=1.5)
_EDGE = 1e-12
_LEVEL = 1e-7
# So many truths are tried before the ends of an interval are looked for between two of them.
_LOOKS = 49


@dataclass(frozen=True)
class Winner:
    """The winner's accuracy, corrected for the selection.

    Attributes:
        candidate: its index.
        measured: its accuracy as measured, biased upwards by the selection.
        accuracy: corrected by `winner_bias`.
        interval: of the true accuracy, corrected.
    """

    candidate: int
    measured: float
    accuracy: float
    interval: Interval


def winners_accuracy(
    evidence: Evidence, winner: int, errors: Errors, confidence: float = 0.95
) -> Winner:
    """Return the true accuracy of the candidate that came first, with its hybrid interval.

    Each of the normal laws that are averaged has the variance that each supposed accuracy would
    have, p (1 - p) over an effective number of pictures, so that with nothing to correct and
    nothing unsure the interval is Wilson's.

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
    of_seeds, weights = _seed_variances(evidence, winner)
    lowest, highest = _winning_range(evidence, winner, evidence.picture_variance[winner] + of_seeds)
    trials = effective_pictures(evidence, winner, of_seeds)
    typical = float(1 / (weights @ (1 / trials)))
    bound = _simultaneous_quantile(evidence, errors, 1 - _SIMULTANEOUS * alpha)
    bound = _as_rare(bound, np.sqrt(typical / trials), weights)
    allowed = score(measured, typical, bound)

    def exceeded(truth: float) -> float:
        """Probability of a winner's accuracy up to the measured one, if `truth` is the truth."""
        # At 0 and 1 themselves nothing varies, but short of them the law has a limit.
        truth = min(max(truth, _EDGE), 1 - _EDGE)
        scale = np.sqrt(truth * (1 - truth) / trials)
        reach = bound * np.sqrt(truth * (1 - truth) / typical)
        low = (np.maximum(lowest, truth - reach) - truth) / scale
        high = (np.minimum(highest, truth + reach) - truth) / scale
        here = np.clip((measured - truth) / scale, low, high)
        below, span = weights @ (ndtr(here) - ndtr(low)), weights @ (ndtr(high) - ndtr(low))
        return float(below / span) if span > 0 else float(measured > truth)

    tail = alpha * (1 - _SIMULTANEOUS) / (1 - _SIMULTANEOUS * alpha) / 2
    truths = np.linspace(allowed.low, allowed.high, _LOOKS)
    shares = np.array([exceeded(float(truth)) for truth in truths])
    high = _last_above(exceeded, tail, truths, shares)
    # From the other end, what is not too much any more is what begins to be little enough.
    low = -_last_above(lambda truth: 1 - exceeded(-truth), tail, -truths[::-1], 1 - shares[::-1])
    accuracy = min(max(measured - winner_bias(evidence, errors), low), high)
    return Winner(winner, measured, accuracy, Interval(low, high))


def winner_bias(evidence: Evidence, errors: Errors) -> float:
    """Return the mean error of the candidate that comes first, at least 0: the winner's curse.

    Fields are drawn around supposed true accuracies, and the first of each is as much too
    good as its error. The supposed ones are the measured ones drawn together, because errors have
    spread these apart: to the spread that is left when the errors' own is taken off (Louis,
    "Estimating a Population of Parameter Values Using Bayes and Empirical Bayes Methods", JASA
    1984). Among equals that is no spread at all, and far ahead there is nothing to correct.

    The median given that this one won, as Andrews, Kitagawa & McCloskey have it, is off by several
    points near ties: in `benchmarks/selection.py` it errs by more than the measured accuracy does,
    and this by a third less.

    Args:
        evidence: of C candidates.
        errors: resampled from `evidence`.
    """
    measured, drawn = evidence.accuracy, errors.drawn
    apart = measured - measured.mean()
    spread = float((apart**2).mean())
    if spread > 0:
        by_error = float(((drawn - drawn.mean(axis=0)) ** 2).mean(dtype=np.float64))
        apart = apart * np.sqrt(max(0.0, 1 - by_error / spread))
    first = (apart[:, None] + drawn).argmax(axis=0)
    return max(0.0, float(drawn[first, np.arange(drawn.shape[1])].mean(dtype=np.float64)))


def _seed_variances(evidence: Evidence, winner: int) -> tuple[Floats, Floats]:
    """(G,) variances that the seeds might add to the winner's accuracy, (G,) how probable each."""
    if evidence.seeds is None:
        return np.zeros(1), np.ones(1)
    variances, weights = seed_effects(evidence.seeds, winner, _BELIEF)
    return variances / evidence.repeats[winner], weights


def _winning_range(
    evidence: Evidence, winner: int, variance: Floats | None = None
) -> tuple[Floats, Floats]:
    """Between which accuracies the winner wins, given all that is independent of its own.

    What another candidate scored is split into a part that goes with the winner's accuracy and one
    that is independent of it, which is kept as it is. The split depends on the `variance` that the
    winner's accuracy is supposed to have, of any shape, which is that of both results.
    """
    covariance, measured = evidence.covariance(winner), float(evidence.accuracy[winner])
    own = np.asarray(evidence.variance[winner] if variance is None else variance)
    # Where it does not vary there is nothing to split, and it wins wherever it is.
    own = np.where(own > 0, own, np.nan)
    others = np.arange(len(covariance)) != winner
    gaps = np.maximum(measured - evidence.accuracy, 0.0)
    # Shares of repeats are rounded, so level candidates may lie a hair apart.
    for rival in np.flatnonzero(others & (gaps < _LEVEL)):
        gaps[rival] = _lead(evidence, winner, int(rival))
    with np.errstate(divide="ignore", invalid="ignore"):
        slope = np.divide.outer(covariance[others], own)
        losing = measured - np.expand_dims(gaps[others], tuple(range(1, slope.ndim))) / (1 - slope)
    lowest = np.where(slope < 1 - 1e-9, losing, -np.inf).max(axis=0, initial=-np.inf)
    highest = np.where(slope > 1 + 1e-9, losing, np.inf).min(axis=0, initial=np.inf)
    return lowest, highest


def _lead(evidence: Evidence, winner: int, rival: int) -> float:
    """Return the winner's lead over a candidate that is level with it, within a step of accuracy.

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
    sure = 2 * ndtr(saved.mean() / np.sqrt(unexplained / evidence.pictures)) - 1
    return step * float(1 - np.sqrt(1 - max(0.0, sure)))


def _simultaneous_quantile(evidence: Evidence, errors: Errors, confidence: float) -> float:
    """Return the standard errors that contain the errors of all candidates simultaneously."""
    # Never less than what one candidate alone would need.
    alone = float(ndtri((1 + confidence) / 2))
    error = np.sqrt(evidence.variance)
    moving = error > 0
    if not moving.any():
        return alone
    standard = errors.drawn[moving] / error[moving, None].astype(np.float32)
    largest = np.abs(standard, out=standard).max(axis=0)
    return max(alone, float(np.quantile(largest, confidence, method="higher")))


def _as_rare(bound: float, scales: Floats, weights: Floats) -> float:
    """Return the bound that an error of uncertain scale exceeds as rarely as a normal one `bound`.

    Beran, "Balanced Simultaneous Confidence Sets", JASA 1988: each candidate's interval has the
    same share of the error, however its own law looks.
    """
    passed = ndtr(-bound)
    low, high = 0.999 * bound * scales.min(), 1.001 * bound * scales.max()
    return root(lambda one: weights @ ndtr(-one / scales) - passed, low, high)


def _last_above(
    share: Callable[[float], float], level: float, truths: Floats, shares: Floats
) -> float:
    """The last truth for which `share` is at least `level`.

    A mean of falling laws that are cut off at different places need not fall everywhere. No truth
    that is as probable as the level may be left out, so the outermost crossing is the end.

    Args:
        share: of a truth.
        level: within 0 and 1.
        truths: ascending, where to look.
        shares: of these.
    """
    enough = np.flatnonzero(shares >= level)
    if not len(enough):
        return float(truths[0])
    last = int(enough[-1])
    if last == len(truths) - 1 or shares[last] == level:
        return float(truths[last])
    return root(lambda truth: share(truth) - level, float(truths[last]), float(truths[last + 1]))
