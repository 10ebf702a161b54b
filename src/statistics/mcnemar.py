"""Two trained networks on the same pictures, exactly."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import bdtr

__all__ = ["McNemar", "mcnemar"]


@dataclass(frozen=True)
class McNemar:
    """The outcome of McNemar's exact test.

    Attributes:
        first_alone, second_alone: pictures that only the one network had right.
        p_value: two-sided.
    """

    first_alone: int
    second_alone: int
    p_value: float

    def sentence(self, first: str, second: str, level: float = 0.05) -> str:
        """The outcome in words, with what it is about."""
        verdict = "differ" if self.p_value <= level else "cannot be told apart"
        return (
            f"The trained networks {first} and {second} {verdict}: {self.first_alone} pictures "
            f"only the first has right, {self.second_alone} only the second (McNemar's exact test, "
            f"p = {self.p_value:.2g}). This compares two trained networks; trained again with "
            "other seeds, the two configurations may compare differently."
        )


def mcnemar(first: NDArray[np.bool_], second: NDArray[np.bool_]) -> McNemar:
    """Do two networks have equally many pictures right, but for chance?

    McNemar, "Note on the Sampling Error of the Difference Between Correlated Proportions or
    Percentages", Psychometrika 1947, with the exact binomial law instead of its chi-square.

    Args:
        first, second: (N,) bool, which pictures each had right, in the same order.

    Raises:
        ValueError: shapes that are not (N,) or not equal.
    """
    first, second = np.asarray(first, bool), np.asarray(second, bool)
    if first.ndim != 1 or first.shape != second.shape:
        raise ValueError(f"The answers have shapes {first.shape} and {second.shape}: both (N,).")
    ahead, behind = int((first & ~second).sum()), int((second & ~first).sum())
    tail = float(bdtr(min(ahead, behind), ahead + behind, 0.5)) if ahead + behind else 1.0
    return McNemar(ahead, behind, min(1.0, 2 * tail))
