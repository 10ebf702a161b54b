"""Conformal risk control: sets that miss at most a stated share of a picture's labels, on average.

A label belongs to a picture's set where the model gives it at least a threshold of probability. The
threshold is the highest one with which calibration pictures, which neither trained nor chose the
model, show that the expected share of missed labels is small enough (Angelopoulos, Bates, Fisch,
Lei & Schuster, "Conformal risk control", ICLR 2024). Pictures without labels have none to miss and
do not count: what holds, holds among the pictures that have some.

Where the same pictures may have chosen one of m models, an expectation over them says nothing of
the one that was chosen. There the share that is missed is kept low for all m at once, with a
probability that leaves room for the rest (Bates, Angelopoulos, Lei, Malik & Jordan, "Distribution-
free, risk-controlling prediction sets", JACM 2021, with their Hoeffding-Bentkus bound).
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike

from ..machine.arrays import BoolArray, Float64Array
from .conformal import check_promise

__all__ = ["fewest_labelled", "miss_threshold"]

# n R + 1 <= (n + 1) alpha, where the sides may differ in their last digits.
_ROUNDING = 1e-9
# Of the share that may be missed, the probability that the bound for m models does not hold.
_FAILURE = 0.1


def miss_threshold(
    probs: ArrayLike, targets: ArrayLike, coverage: float, *, candidates: int = 1
) -> float | None:
    """Return the least probability with which a label belongs to a set.

    Sets of all labels whose probability reaches it hold on average at least the share `coverage` of
    a picture's labels, over calibration pictures and a new picture that is drawn as they were.

    Args:
        probs: (n, K) in [0, 1], of every label.
        targets: (n, K) 0 and 1, the labels of each picture; rows without any do not count.
        coverage: in (0, 1).
        candidates: models of which one was chosen by these pictures.

    Returns:
        None where there are too few pictures with labels; see `fewest_labelled`.

    Raises:
        ValueError: shapes differ, or an argument is out of range.
    """
    check_promise(coverage, candidates)
    chances, held = np.asarray(probs, np.float64), np.asarray(targets) > 0
    if chances.shape != held.shape or chances.ndim != 2:
        raise ValueError(f"There are probabilities {chances.shape} for label sets {held.shape}.")
    sizes = held.sum(axis=1)
    pictures = int((sizes > 0).sum())
    if pictures < fewest_labelled(coverage, candidates):
        return None
    rows, labels = np.nonzero(held)
    values = chances[rows, labels]
    order = np.argsort(values, kind="stable")
    values, shares = values[order], (1 / sizes[rows] / pictures)[order]
    # Missed with a threshold at each value: what lies below it.
    missed = np.cumsum(shares) - shares
    first = np.flatnonzero(np.diff(values, prepend=-1.0) > 0)
    kept = _small_enough(missed[first], pictures, coverage, candidates)
    return float(values[first[np.flatnonzero(kept)[-1]]])


def fewest_labelled(coverage: float, candidates: int = 1) -> int:
    """Return the least number of calibration pictures with labels that `miss_threshold` needs.

    Raises:
        ValueError: an argument is out of range.
    """
    check_promise(coverage, candidates)
    if candidates == 1:
        return math.ceil(1 / (1 - coverage) - 1 - _ROUNDING)
    most, failure = _parts(coverage, candidates)
    return math.ceil(math.log(failure) / math.log1p(-most))


def _parts(coverage: float, candidates: int) -> tuple[float, float]:
    """Return what each of several models may miss, and the probability that it misses more."""
    allowed = 1 - coverage
    return (1 - _FAILURE) * allowed, _FAILURE * allowed / candidates


def _small_enough(
    missed: Float64Array, pictures: int, coverage: float, candidates: int
) -> BoolArray:
    """Return for ascending shares of missed labels whether they show what is promised."""
    if candidates == 1:
        enough: BoolArray = pictures * missed + 1 <= (1 - coverage) * (pictures + 1) + _ROUNDING
        return enough
    from scipy.special import bdtr, rel_entr

    most, failure = _parts(coverage, candidates)
    low = np.minimum(missed, most)
    distance = rel_entr(low, most) + rel_entr(1 - low, 1 - most)
    tail = math.e * bdtr(np.ceil(pictures * missed - _ROUNDING), pictures, most)
    enough = np.minimum(np.exp(-pictures * distance), tail) <= failure * (1 + _ROUNDING)
    return enough
