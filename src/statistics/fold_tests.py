"""Two candidates over the folds of a cross-validation."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import stdtr, stdtrit

from src.statistics.intervals import Interval

__all__ = ["FoldTest", "corrected_resampled_t"]


@dataclass(frozen=True)
class FoldTest:
    """The outcome: mean difference, its interval of 95 % and the two-sided p-value."""

    difference: float
    interval: Interval
    p_value: float

    def sentence(self, first: str, second: str, level: float = 0.05) -> str:
        """The outcome in words, with what it is about."""
        verdict = "differ" if self.p_value <= level else "cannot be told apart"
        return (
            f"The configurations {first} and {second} {verdict} over the folds: the first is ahead "
            f"by {100 * self.difference:.2f} points ({100 * self.interval.low:.2f} to "
            f"{100 * self.interval.high:.2f}; corrected resampled t, p = {self.p_value:.2g})."
        )


def corrected_resampled_t(differences: ArrayLike, test_share: float) -> FoldTest:
    """Is the mean difference over folds more than chance, seeing that folds share pictures?

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
