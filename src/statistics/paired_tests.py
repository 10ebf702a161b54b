"""Tests of two candidates that were named in advance: of two networks, and over folds."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import bdtr, ndtr, stdtr, stdtrit

from ..machine.arrays import BoolArray, Int64Array
from ..records.comparison import FoldTest, Interval, McNemar
from .evidence import Evidence
from .picture_groups import PictureGroups

__all__ = ["corrected_resampled_t", "difference_p_value", "mcnemar"]


def mcnemar(
    first: BoolArray,
    second: BoolArray,
    groups: Int64Array | None = None,
) -> McNemar:
    """Test whether two networks have equally many pictures right, up to chance.

    McNemar, "Note on the Sampling Error of the Difference Between Correlated Proportions or
    Percentages", Psychometrika 1947, with the exact binomial law instead of its chi-square. Of
    pictures in groups it is the sign test on groups, each counted for the network that has more of
    its pictures right.

    Args:
        first, second: (N,) bool, which pictures each had right, in the same order.
        groups: (N,) of the pictures; None where each is a group of its own.

    Raises:
        ValueError: shapes that are not (N,) or not equal.
    """
    first, second = np.asarray(first, bool), np.asarray(second, bool)
    if first.ndim != 1 or first.shape != second.shape:
        raise ValueError(f"The answers have shapes {first.shape} and {second.shape}: both (N,).")
    more = PictureGroups.of(groups, len(first)).totals(first.astype(np.float64) - second)
    ahead, behind = int((more > 0).sum()), int((more < 0).sum())
    tail = float(bdtr(min(ahead, behind), ahead + behind, 0.5)) if ahead + behind else 1.0
    return McNemar(ahead, behind, min(1.0, 2 * tail))


def difference_p_value(evidence: Evidence, first: int, second: int) -> float:
    """Return the two-sided p-value of equal true figures, of any measure.

    Student's test on each picture's influence on the difference of the two figures.
    """
    error = math.sqrt(evidence.difference_variance[second, first])
    distance = abs(float(evidence.difference[second, first])) / error
    freedom = evidence.difference_freedom(first, second)
    tail = ndtr(-distance) if math.isinf(freedom) else stdtr(freedom, -distance)
    return 2 * float(tail)


def corrected_resampled_t(differences: ArrayLike, test_share: float) -> FoldTest:
    """Test whether the mean difference over folds is more than chance; folds share pictures.

    Nadeau & Bengio, "Inference for the Generalization Error", Machine Learning 2003: the variance
    of the mean of J differences is taken as (1/J + n_test/n_train) times theirs. Bouckaert &
    Frank, "Evaluating the Replicability of Significance Tests for Comparing Learning Algorithms",
    PAKDD 2004, apply it to repeated cross-validation, all folds of all repeats together.

    Args:
        differences: (J,) of a fold each: accuracy of the one minus that of the other, J >= 2.
        test_share: share of the pictures that a fold measures on, within 0 and 1; 1/k of k folds.

    Raises:
        ValueError: fewer than two differences, or another share.
    """
    values = np.asarray(differences, np.float64)
    if values.ndim != 1 or len(values) < 2:
        raise ValueError(f"differences has shape {values.shape}: it must be (J,), J at least 2.")
    if not 0 < test_share < 1:
        raise ValueError(f"test_share is {test_share}: it must be above 0 and below 1.")
    mean, freedom = float(values.mean()), len(values) - 1
    inflation = 1 / len(values) + test_share / (1 - test_share)
    error = math.sqrt(inflation * float(values.var(ddof=1)))
    half = error * float(stdtrit(freedom, 0.975))
    if error == 0:
        p_value = 1.0 if mean == 0 else 0.0
    else:
        p_value = 2 * float(stdtr(freedom, -abs(mean) / error))
    return FoldTest(mean, Interval(mean - half, mean + half), p_value)
