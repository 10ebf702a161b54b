"""Multiple comparisons with the best: the candidates tied with it."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from ..machine.arrays import BoolArray, Float64Array
from .evidence import Evidence, normal_quantile, student_quantile
from .resampling import Errors

__all__ = ["BestComparison", "compare_with_best", "control_quantile"]


# A candidate so far behind that even Bonferroni's bound at a tenth of the level leaves it out
# needs no closer look, which spares most of a large field.
_CLEARLY_BEHIND = 0.1
# Candidates worked on at a time: with 1,000 draws they stay in a core's own cache.
_BLOCK_CANDIDATES = 128


@dataclass(frozen=True, eq=False)
class BestComparison:
    """The outcome of multiple comparisons with the best, for C candidates.

    Attributes:
        tied: (C,) bool, those statistically tied with the best. The best is among them
            with the confidence asked for.
        lowest, highest: (C,) within which each true figure minus that of the best of the others
            lies, all of them at once with that confidence; 0 where it lies on one side.
    """

    tied: BoolArray
    lowest: Float64Array
    highest: Float64Array


def compare_with_best(
    evidence: Evidence,
    errors: Errors,
    confidence: float = 0.95,
    left_out: BoolArray | None = None,
) -> BestComparison:
    """Constrained multiple comparisons with the best, on paired answers.

    Hsu, "Constrained Simultaneous Confidence Intervals for Multiple Comparisons with the Best",
    Annals of Statistics 1984: each candidate is held against all others as Dunnett holds them
    against a control, and is left out if one of them is better beyond the control's critical
    value. How the candidates' errors go together is in the critical values, which a correction by
    counting (Bonferroni's) would not know. As only the truly best must be kept, no further
    correction for the number of candidates is due (Hsu 1981).

    Half of the error is allowed, as in a test with two sides: of two equal candidates either may be
    the one that is left out, and they are to be told apart no more often than the level says. Of
    two candidates it is the test by `intervals.difference_interval`.

    Args:
        evidence, errors: of C candidates.
        confidence: within 0 and 1.
        left_out: (C,) bool, those that an earlier look left out: they are not tied, and exclude
            no other; None for none.

    Raises:
        ValueError: confidence is not within 0 and 1.
    """
    alone = normal_quantile(confidence)
    count = len(evidence.scores)
    if count == 1:
        return BestComparison(np.ones(1, np.bool_), np.zeros(1), np.zeros(1))
    inside = np.ones(count, np.bool_) if left_out is None else ~left_out
    tied, highest = inside.copy(), np.zeros(count)
    reach = np.full((count, count), -np.inf)
    hopeless = normal_quantile(1 - _CLEARLY_BEHIND * (1 - confidence) / (count - 1))
    for control in np.flatnonzero(inside).tolist():
        ahead = evidence.difference[control]
        error = np.sqrt(evidence.difference_variance[control])
        others = inside & (np.arange(count) != control)
        alone_left = not others.any()
        if alone_left:  # held against those that an earlier look left out
            others = np.arange(count) != control
        rival = int(np.argmax(np.where(others, ahead / error, -np.inf)))
        freedom = evidence.difference_freedom(rival, control)
        clearly = student_quantile(max(hopeless, alone), freedom)
        if ahead[rival] / error[rival] > clearly and not alone_left:
            tied[control] = False
            continue
        critical = student_quantile(control_quantile(evidence, errors, control, alone), freedom)
        reach[control] = ahead - critical * error
        margin = float((critical * error - ahead)[others].min())
        tied[control], highest[control] = margin >= 0 or alone_left, max(0.0, margin)
    lowest = np.zeros(count)
    for candidate in range(count):
        rivals = tied.copy()
        rivals[candidate] = False
        if rivals.any():
            lowest[candidate] = min(0.0, float(reach[rivals, candidate].min()))
    return BestComparison(tied, lowest, highest)


def control_quantile(evidence: Evidence, errors: Errors, control: int, alone: float) -> float:
    """Return the normal quantile that no rival's error against the control's exceeds by chance.

    Args:
        evidence, errors: of the candidates.
        control: index of the one.
        alone: the quantile for a single rival, whose tail is the error that is allowed.
    """
    count = len(evidence.scores)
    if count == 2:
        return alone
    error = np.sqrt(evidence.difference_variance[control])
    allowed = 1 - 0.5 * math.erfc(alone / math.sqrt(2))
    largest = np.zeros(errors.drawn.shape[1], np.float32)
    for start in range(0, count, _BLOCK_CANDIDATES):
        block = errors.drawn[start : start + _BLOCK_CANDIDATES] - errors.drawn[control]
        block /= error[start : start + _BLOCK_CANDIDATES, None].astype(np.float32)
        np.maximum(largest, block.max(axis=0), out=largest)
    return max(alone, float(np.quantile(largest, allowed, method="higher")))
