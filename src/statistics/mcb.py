"""Multiple comparisons with the best: the candidates that cannot be told from it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from src.statistics.evidence import Evidence
from src.statistics.intervals import student_quantile
from src.statistics.resampling import Errors

__all__ = ["BestComparison", "compare_with_best"]

Floats = NDArray[np.float64]

# A candidate so far behind that even Bonferroni's bound at a tenth of the level leaves it out
# needs no closer look, which spares most of a large field.
_CLEARLY_BEHIND = 0.1
# Candidates worked on at a time: with 1,000 draws they stay in a core's own cache.
_BLOCK = 128


@dataclass(frozen=True, eq=False)
class BestComparison:
    """The outcome of multiple comparisons with the best, for C candidates.

    Attributes:
        tied: (C,) bool, those that cannot be told from the best. The truly best is among them
            with the confidence asked for.
        lowest, highest: (C,) within which each true accuracy minus that of the best of the others
            lies, all of them at once with that confidence; 0 where it lies on one side.
    """

    tied: NDArray[np.bool_]
    lowest: Floats
    highest: Floats


def compare_with_best(
    evidence: Evidence, errors: Errors, confidence: float = 0.95
) -> BestComparison:
    """Constrained multiple comparisons with the best, on paired answers.

    Hsu, "Constrained Simultaneous Confidence Intervals for Multiple Comparisons with the Best",
    Annals of Statistics 1984: each candidate is held against all others as Dunnett holds them
    against a control, and is left out if one of them is better beyond the control's critical
    value. The critical values are quantiles of the largest of the paired, studentised errors, as
    resampled: how the candidates hang together is in them, which a correction by counting
    (Bonferroni's) would not know. As only the truly best must be kept, no further correction for
    the number of candidates is due (Hsu 1981).

    Raises:
        ValueError: confidence is not within 0 and 1.
    """
    if not 0 < confidence < 1:
        raise ValueError(f"confidence is {confidence}: it must be above 0 and below 1.")
    count = len(evidence.right)
    if count == 1:
        return BestComparison(np.ones(1, np.bool_), np.zeros(1), np.zeros(1))
    tied, highest = np.ones(count, np.bool_), np.zeros(count)
    reach = np.full((count, count), -np.inf)
    hopeless = _CLEARLY_BEHIND * (1 - confidence) / (count - 1)
    for control in range(count):
        ahead = evidence.difference[control]
        error = np.sqrt(evidence.difference_variance[control])
        others = np.arange(count) != control
        rival = int(np.argmax(np.where(others, ahead / error, -np.inf)))
        freedom = evidence.difference_freedom(rival, control)
        if ahead[rival] / error[rival] > -student_quantile(hopeless, freedom):
            tied[control] = False
            continue
        largest = _largest(errors.drawn, control, error) * errors.student(freedom)
        critical = float(np.quantile(largest, confidence, method="higher"))
        reach[control] = ahead - critical * error
        margin = float((critical * error - ahead)[others].min())
        tied[control], highest[control] = margin >= 0, max(0.0, margin)
    lowest = np.zeros(count)
    for candidate in range(count):
        rivals = tied.copy()
        rivals[candidate] = False
        if rivals.any():
            lowest[candidate] = min(0.0, float(reach[rivals, candidate].min()))
    return BestComparison(tied, lowest, highest)


def _largest(drawn: NDArray[np.float32], control: int, error: Floats) -> NDArray[np.float32]:
    """(B,) the largest of all errors against the control's, in standard errors."""
    largest = np.zeros(drawn.shape[1], np.float32)
    for start in range(0, len(drawn), _BLOCK):
        block = drawn[start : start + _BLOCK] - drawn[control]
        block /= error[start : start + _BLOCK, None].astype(np.float32)
        np.maximum(largest, block.max(axis=0), out=largest)
    return largest
