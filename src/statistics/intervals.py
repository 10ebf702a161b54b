"""Confidence intervals of figures, one or all of them at once, and of a difference."""

from __future__ import annotations

import math

import numpy as np

from ..machine.arrays import BoolArray, Float32Array, Int64Array
from ..metrics.share_intervals import score_interval
from ..records.comparison import Interval
from ..records.run import Predictions
from .candidates import Candidate, Measure, Scale
from .evidence import Evidence, normal_quantile, student_quantile
from .resampling import Errors

__all__ = [
    "bounded_interval",
    "difference_interval",
    "figure_interval",
    "measure_interval",
    "scaled_interval",
    "scores_interval",
    "share_interval",
    "simultaneous_quantile",
]


def figure_interval(evidence: Evidence, candidate: int, quantile: float) -> Interval:
    """Return the confidence interval of a candidate's true figure; it holds the measured one.

    Of a share it is the score interval with as many pictures as would, independently answered, give
    the measured variance (Korn & Graubard, "Confidence Intervals for Proportions with Small
    Expected Number of Positive Counts Estimated from Survey Data", Survey Methodology 1998, who do
    it with another exact interval). With single trainings on independent pictures it is Wilson's.
    Of other figures between two ends, such as kappa, it is that of their place between the ends. Of
    figures without ends it is Student's.

    Args:
        evidence: of the candidates.
        candidate: index of the one.
        quantile: of the normal law; Student's quantile that is as rare is taken.
    """
    figure = float(evidence.figure[candidate])
    reach = student_quantile(quantile, float(evidence.freedom[candidate]))
    lowest = evidence.lowest
    if lowest is None:
        half = reach * math.sqrt(evidence.variance[candidate])
        return Interval(figure - half, figure + half)
    width = 1 - lowest
    share = min(max((figure - lowest) / width, 0.0), 1.0)
    trials = _effective_pictures(evidence, candidate, share, width)
    low, high = (lowest + width * end for end in score_interval(share, trials, reach))
    return Interval(min(figure, low), max(figure, high))


def simultaneous_quantile(errors: Errors, confidence: float = 0.95) -> float:
    """Return the normal quantile that no standardised error exceeds, with this confidence.

    So the interval of whichever candidate is picked holds with that confidence, however it was
    picked: as the first, as the cheapest of the tied, or by hand.

    Each candidate gets the same share of the error (Beran, "Balanced Simultaneous Confidence Sets",
    JASA 1988), and how the errors go together is that of their joint normal law: less is needed
    than by counting candidates (Bonferroni, Sidak), as far as they err on the same pictures.

    Raises:
        ValueError: confidence is not within 0 and 1.
    """
    # Never less than what one candidate alone would need.
    alone = normal_quantile(confidence)
    largest = np.maximum(errors.standard.max(axis=0), -errors.standard.min(axis=0))
    return max(alone, float(np.quantile(largest, confidence, method="higher")))


def share_interval(right: BoolArray, groups: Int64Array | None = None) -> Interval | None:
    """Return the 95 % interval of the share of right answers, of one candidate alone.

    None of fewer than two pictures, or groups: nothing is known of others.

    Wilson's for a single training where each picture is a group of its own.

    Args:
        right: (N,) bool, or (R, N) of repeats.
        groups: (N,) of the pictures, or None.

    Raises:
        ValueError: the groups do not fit.
    """
    right = np.atleast_2d(right)
    if _independent(right.shape[1], groups) < 2:
        return None
    alone = Candidate(
        name="",
        run_ids=("",) * len(right),
        right=right,
        log_losses=np.zeros(len(right)),
    )
    return figure_interval(Evidence.of([alone], groups), 0, normal_quantile(0.95))


def measure_interval(predictions: Predictions, measure: Measure) -> Interval:
    """Return `scores_interval` of predictions of a part by a measure of their kind of targets.

    Raises:
        ValueError: as `Measure.scores`.
    """
    kind, groups = predictions.kind_of_targets, predictions.groups
    probs, targets = kind.checked(predictions.probs, predictions.targets)
    scores = measure.scores(probs, predictions.decided, targets, kind, groups)
    return scores_interval(scores, groups, Scale(measure.name, ends=measure.ends))


def scores_interval(scores: Float32Array, groups: Int64Array | None, scale: Scale) -> Interval:
    """Return the 95 % interval of the figure of one candidate alone, which was trained once.

    Of one picture, or one group, it reaches from end to end.

    Args:
        scores: (N,) of the pictures, higher for better.
        groups: (N,) of the pictures, or None.
        scale: of the figure.

    Raises:
        ValueError: the groups do not fit.
    """
    if _independent(len(scores), groups) < 2:
        return Interval(*scale.ends)
    alone = Candidate(
        name="",
        run_ids=("",),
        right=np.zeros((1, len(scores)), np.bool_),
        log_losses=np.zeros(1),
        scores=scores[None],
    )
    evidence = Evidence.of([alone], groups, lowest=scale.lowest)
    return scaled_interval(evidence, 0, normal_quantile(0.95), scale)


def _independent(pictures: int, groups: Int64Array | None) -> int:
    return pictures if groups is None else len(np.unique(groups))


def bounded_interval(
    evidence: Evidence, candidate: int, quantile: float, ends: tuple[float, float]
) -> Interval:
    """Return the interval of a candidate's true figure, which lies between two ends.

    Of a mean without ends of its own, such as a cost, it is the score interval of its place between
    them, as of other figures, and for its place no candidate varies less than the field does: who
    has no dear mistake by luck seems to vary the least. Where all answers of all candidates have
    the same figure, others may still come, as often as the score interval of a share allows where
    none of so many is one.

    Args:
        evidence, candidate, quantile: as of `figure_interval`.
        ends: the least and the greatest figure that there can be, or infinite.
    """
    found = figure_interval(evidence, candidate, quantile)
    low, high = ends
    width = high - low
    if evidence.lowest is None and math.isfinite(width) and width > 0:
        figure = min(max(float(evidence.figure[candidate]), low), high)
        shares = (np.clip(evidence.figure, low, high) - low) / width
        bernoulli, variance = shares * (1 - shares) * width**2, evidence.variance
        if variance.sum() > 0 and bernoulli.sum() > 0:
            trials = float(bernoulli.sum() / variance.sum())
            if variance[candidate] > 0 and bernoulli[candidate] > 0:
                trials = min(trials, float(bernoulli[candidate] / variance[candidate]))
            reach = student_quantile(quantile, float(evidence.freedom[candidate]))
            both = score_interval(float(shares[candidate]), trials, reach)
            found = Interval(*(low + width * end for end in both))
        else:
            unseen = score_interval(0.0, evidence.groups.effective, quantile)[1]
            found = Interval(figure - unseen * (figure - low), figure + unseen * (high - figure))
    return Interval(min(max(found.low, low), high), min(max(found.high, low), high))


def scaled_interval(evidence: Evidence, candidate: int, quantile: float, scale: Scale) -> Interval:
    """Return the interval of a candidate's true figure, within the ends of the scale.

    The evidence is of scores, which are higher for better, as figures need not be.

    Args:
        evidence, candidate, quantile: as of `figure_interval`.
        scale: of the figures.
    """
    low, high = scale.ends
    if scale.sign > 0:
        return bounded_interval(evidence, candidate, quantile, (low, high))
    found = bounded_interval(evidence, candidate, quantile, (-high, -low))
    return Interval(-found.high, -found.low)


def difference_interval(
    evidence: Evidence, first: int, second: int, confidence: float = 0.95
) -> Interval:
    """Return the confidence interval of the true figure of `first` minus that of `second`.

    For two that were named in advance. With single trainings on independent pictures it is Bonett
    & Price's (see `Evidence`), otherwise Student's with the freedom that groups and seeds leave.

    Raises:
        ValueError: confidence is not within 0 and 1.
    """
    middle = float(evidence.difference[second, first])
    error = math.sqrt(evidence.difference_variance[second, first])
    freedom = evidence.difference_freedom(first, second)
    half = student_quantile(normal_quantile(confidence), freedom) * error
    most = math.inf if evidence.lowest is None else 1 - evidence.lowest
    return Interval(max(-most, middle - half), min(most, middle + half))


def _effective_pictures(evidence: Evidence, candidate: int, share: float, width: float) -> float:
    """Return the number of pictures that would, predicted once, give the measured variance.

    Args:
        share: the figure's place between its ends, in [0, 1].
        width: from end to end.
    """
    count = evidence.pictures
    # All right or all wrong shows no variance. Half an answer short of that does.
    inside = min(max(share, 0.5 / count), 1 - 0.5 / count)
    bernoulli = inside * (1 - inside)
    # An unbiased variance divides by N - 1; Wilson's has N, and N is what single trainings have.
    of_pictures = float(evidence.picture_variance[candidate]) * (count - 1) / count / width**2
    of_seeds = float(evidence.seed_variance[candidate]) / width**2
    # Nor do repeats that are right on as many pictures, and each picture right as often.
    if inside != share or of_pictures + of_seeds <= 0:
        of_pictures = bernoulli / count * evidence.design_effect
    return bernoulli / (of_pictures + of_seeds)
