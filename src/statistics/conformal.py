"""Conformal prediction: sets of labels that hold the true one with a stated probability.

A label belongs to a picture's set where the model gives it at least a threshold of probability. The
threshold is a low quantile of the probabilities that the true labels got on calibration pictures,
which neither trained nor chose the model (Sadinle, Lei & Wasserman, "Least ambiguous set-valued
classifiers with bounded error levels", JASA 2019; Angelopoulos & Bates, "Conformal prediction: a
gentle introduction", FnT ML 2023, section 1).
"""

from __future__ import annotations

from bisect import bisect_left

import numpy as np
from numpy.typing import ArrayLike

from ..machine.arrays import Float64Array, Int64Array

__all__ = [
    "check_promise",
    "coverage_rank",
    "expected_least_coverage",
    "fewest_pictures",
    "one_of_each_group",
    "set_thresholds",
]


def set_thresholds(
    label_probs: ArrayLike,
    targets: ArrayLike,
    coverage: float,
    *,
    num_classes: int,
    classwise: bool = False,
    candidates: int = 1,
) -> Float64Array:
    """Return the least probability (K,) with which each label belongs to a set.

    Sets of all labels whose probability reaches it hold the true one with at least the probability
    `coverage`, over calibration pictures and a new picture that is drawn as they were; with
    `classwise`, among the pictures of each class. A threshold is 0, so that the label belongs to
    every set, where there are too few pictures for any other.

    Args:
        label_probs: (n,) in [0, 1], the probability of the true label of each picture.
        targets: (n,) int in [0, K), the true labels.
        coverage: in (0, 1).
        num_classes: K.
        classwise: a threshold for each class by its own pictures (Vovk, "Conditional validity of
            inductive conformal predictors", 2012), in place of one for all.
        candidates: models of which one was chosen by these pictures, see
            `expected_least_coverage`.

    Raises:
        ValueError: lengths differ, or an argument is out of range.
    """
    probs, classes = np.asarray(label_probs, np.float64), np.asarray(targets)
    if probs.shape != classes.shape or probs.ndim != 1:
        raise ValueError(f"There are probabilities {probs.shape} for labels {classes.shape}.")
    if not classwise:
        return np.full(num_classes, _threshold(probs, coverage, candidates))
    parts = [probs[classes == label] for label in range(num_classes)]
    return np.array([_threshold(part, coverage, candidates) for part in parts])


def _threshold(probs: Float64Array, coverage: float, candidates: int) -> float:
    rank = coverage_rank(len(probs), coverage, candidates)
    return 0.0 if rank is None else float(np.sort(probs)[len(probs) - rank])


def coverage_rank(pictures: int, coverage: float, candidates: int = 1) -> int | None:
    """Return the least number k of calibration pictures whose sets must hold their true label.

    Without a choice among several models that is ceil((n + 1) coverage).

    Args:
        pictures: n, at least 0.
        coverage: in (0, 1).
        candidates: see `expected_least_coverage`.

    Returns:
        k in [1, n]; None where n pictures are too few.

    Raises:
        ValueError: `coverage` is not within (0, 1), or `candidates` is below 1.
    """
    check_promise(coverage, candidates)
    ranks = range(1, pictures + 1)
    found = bisect_left(
        ranks,
        coverage - _ROUNDING,
        key=lambda rank: expected_least_coverage(rank, pictures, candidates),
    )
    return ranks[found] if found < pictures else None


def check_promise(coverage: float, candidates: int) -> None:
    """Raise a ValueError unless `coverage` is within (0, 1) and `candidates` at least 1."""
    if not 0 < coverage < 1:
        raise ValueError(f"coverage is {coverage:g}: it must be between 0 and 1.")
    if candidates < 1:
        raise ValueError(f"candidates is {candidates}: it must be at least 1.")


# (n + 1) * 0.9 / (n + 1) is not always 0.9.
_ROUNDING = 1e-12


def expected_least_coverage(rank: int, pictures: int, candidates: int = 1) -> float:
    """Return a lower bound of the expected coverage of the chosen one of several models.

    A threshold that k of n exchangeable pictures reach covers a new one with a probability that is
    distributed as Beta(k, n + 1 - k) or higher; its mean is k / (n + 1). Where the same pictures
    chose one of m models, in whatever way, the expectation is at least the mean of the lowest 1/m
    of that distribution: m times the integral of its quantiles from 0 to 1/m, as for the least of m
    variables of any dependence.

    Args:
        rank: k in [1, n].
        pictures: n.
        candidates: m, at least 1.
    """
    if candidates == 1:
        return rank / (pictures + 1)
    from scipy.special import betainc, betaincinv

    other = pictures + 1 - rank
    quantile = betaincinv(rank, other, 1 / candidates)
    # The integral of x beyond the density of Beta(a, b) is a / (a + b) of Beta(a + 1, b).
    return float(candidates * rank / (pictures + 1) * betainc(rank + 1, other, quantile))


def fewest_pictures(coverage: float, candidates: int = 1) -> int:
    """Return the least number of calibration pictures that `coverage_rank` does not refuse."""
    most = 1
    while coverage_rank(most, coverage, candidates) is None:
        most *= 2
    return bisect_left(
        range(most),
        True,
        key=lambda pictures: coverage_rank(pictures, coverage, candidates) is not None,
    )


def one_of_each_group(groups: ArrayLike, seed: int = 0) -> Int64Array:
    """Return ascending positions of one picture of each group, drawn at random.

    Pictures of a group (a patient, a burst of shots) are not exchangeable with those of others; one
    of each is, and what holds for them holds for a picture of a new group (Dunn, Wasserman &
    Ramdas, "Distribution-free prediction sets for two-layer hierarchical models", JASA 2023).

    Args:
        groups: (n,) int, the group of each picture.
        seed: of the draw.
    """
    order = np.random.default_rng(seed).permutation(len(np.asarray(groups)))
    _, first = np.unique(np.asarray(groups)[order], return_index=True)
    return np.sort(order[first]).astype(np.int64)
