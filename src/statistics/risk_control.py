"""Selective classification: answering only where at most a stated share of the answers is wrong.

A picture is answered where the highest probability reaches a threshold. The threshold is the lowest
one for which calibration pictures, which neither trained nor chose the model, show with a stated
confidence that the error among answers is at most what was promised (Geifman & El-Yaniv, "Selective
classification for deep neural networks", NeurIPS 2017; Angelopoulos, Bates, Candès, Jordan & Lei,
"Learn then test", AoAS 2025).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from ..machine.arrays import Float64Array, Int64Array

__all__ = [
    "CONFIDENCE",
    "AnsweringRule",
    "RiskCoverage",
    "answering_rule",
    "fewest_answers",
    "risk_coverage",
]

# With which a promised error holds.
CONFIDENCE = 0.95


@dataclass(frozen=True)
class AnsweringRule:
    """A rule for which pictures are answered, and what it did on the calibration pictures.

    Attributes:
        threshold: pictures are answered whose highest probability reaches it.
        answered: calibration pictures that are.
        wrong: of these.
        pictures: all calibration pictures.
    """

    threshold: float
    answered: int
    wrong: int
    pictures: int

    @property
    def share(self) -> float:
        """The share of calibration pictures that is answered, in (0, 1]."""
        return self.answered / self.pictures


def answering_rule(
    confidences: ArrayLike,
    correct: ArrayLike,
    max_error: float,
    *,
    candidates: int = 1,
) -> AnsweringRule | None:
    """Return the rule that answers most pictures with at most `max_error` of the answers wrong.

    With at least the probability `CONFIDENCE` over the calibration pictures, the error among the
    answers to new pictures, drawn as these were, is at most `max_error`.

    Thresholds are tested from the highest downwards. Given the k-th highest confidence, the answers
    above it are independent, and the number of wrong ones is binomial; so each threshold has an
    exact test, and testing goes on until one fails (fixed-sequence testing). One early mistake must
    not end it, so there are several sequences that begin at k0, 2 k0, 4 k0 ... answers and share
    the allowed probability of failure. The argument takes the error among answers to grow, or stay,
    where the threshold falls.

    Args:
        confidences: (n,) in [0, 1], the highest probability of each calibration picture; one
            picture of a group.
        correct: (n,) bool, whether its class is the true one.
        max_error: in (0, 1).
        candidates: models of which one was chosen by these pictures; the probability of failure is
            divided by it (Bonferroni).

    Returns:
        None where no threshold keeps the promise.

    Raises:
        ValueError: lengths differ, or an argument is out of range.
    """
    if not 0 < max_error < 1:
        raise ValueError(f"max_error is {max_error:g}: it must be between 0 and 1.")
    if candidates < 1:
        raise ValueError(f"candidates is {candidates}: it must be at least 1.")
    thresholds, answered, wrong = _steps(confidences, correct)
    pictures = int(answered[-1]) if len(answered) else 0
    allowed = (1 - CONFIDENCE) / candidates
    starts = _starts(pictures, max_error, allowed)
    if not starts:
        return None
    passes = _binomial_tail(wrong, answered, max_error) <= allowed / len(starts)
    last = -1
    for start in starts:
        at = int(np.searchsorted(answered, start))
        while at < len(passes) and passes[at]:
            last = max(last, at)
            at += 1
    if last < 0:
        return None
    return AnsweringRule(float(thresholds[last]), int(answered[last]), int(wrong[last]), pictures)


def fewest_answers(max_error: float, candidates: int = 1) -> int:
    """Return the least number of right answers, none wrong, that shows an error of `max_error`."""
    return _fewest(max_error, (1 - CONFIDENCE) / candidates)


@dataclass(frozen=True, eq=False)
class RiskCoverage:
    """The error among answers at each share of pictures answered, the surest first.

    Attributes:
        shares: (m,) in (0, 1], ascending, of pictures answered.
        errors: (m,) in [0, 1], of these answers wrong.
        thresholds: (m,), the confidence that is reached.
    """

    shares: Float64Array
    errors: Float64Array
    thresholds: Float64Array


def risk_coverage(confidences: ArrayLike, correct: ArrayLike) -> RiskCoverage:
    """Return the risk-coverage curve; pictures of equal confidence are answered together.

    El-Yaniv & Wiener, "On the foundations of noise-free selective classification", JMLR 2010.

    Args:
        confidences: (n,), n at least 1.
        correct: (n,) bool.

    Raises:
        ValueError: lengths differ, or there are none.
    """
    thresholds, answered, wrong = _steps(confidences, correct)
    if not len(answered):
        raise ValueError("There are no pictures.")
    return RiskCoverage(answered / answered[-1], wrong / answered, thresholds)


def _steps(
    confidences: ArrayLike, correct: ArrayLike
) -> tuple[Float64Array, Int64Array, Int64Array]:
    """Return distinct confidences, descending, with the answers and mistakes from each upwards."""
    values, right = np.asarray(confidences, np.float64), np.asarray(correct, bool)
    if values.shape != right.shape or values.ndim != 1:
        raise ValueError(f"There are confidences {values.shape} for answers {right.shape}.")
    order = np.argsort(-values, kind="stable")
    values, mistakes = values[order], np.cumsum(~right[order])
    ends = np.flatnonzero(np.append(values[1:] != values[:-1], True)[: len(values)])
    return values[ends], ends.astype(np.int64) + 1, mistakes[ends].astype(np.int64)


def _starts(pictures: int, max_error: float, allowed: float) -> list[int]:
    """Return the numbers of answers at which the sequences of tests begin."""
    starts: list[int] = []
    for sequences in range(1, pictures + 1):
        first = _fewest(max_error, allowed / sequences)
        found = [first << doubling for doubling in range(sequences)]
        if found[-1] > pictures:
            return starts
        starts = found
    return starts


def _fewest(max_error: float, allowed: float) -> int:
    return math.ceil(math.log(allowed) / math.log1p(-max_error))


def _binomial_tail(wrong: Int64Array, answered: Int64Array, max_error: float) -> Float64Array:
    """Return the probability of at most so many wrong answers, if each is with `max_error`."""
    from scipy.special import bdtr

    tail: Float64Array = bdtr(wrong, answered, max_error)
    return tail
