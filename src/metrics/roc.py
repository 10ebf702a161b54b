"""Area under the ROC curve (AUC) of probabilities, its intervals and its curves.

The AUC of a class is the probability that a picture of it gets a higher probability of it than a
picture of another class does, ties counted half: 0.5 of chance, 1 where a threshold divides the two
(Hanley & McNeil, "The Meaning and Use of the Area under a Receiver Operating Characteristic (ROC)
Curve", Radiology 1982). Of several classes each one is held against the rest, and the mean is over
the classes (Fawcett, "An Introduction to ROC Analysis", Pattern Recognition Letters 2006), as in
scikit-learn's `roc_auc_score(..., multi_class="ovr")`. Two classes have one AUC, that of the second
one's probability. A class that no picture has, or every one, has none (NaN) and counts in no mean.

Throughout, `probs` are (N, K), and `targets` (N,) classes or, of label sets, (N, K) 0 and 1.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .intervals import group_numbers, influence_errors, influence_interval, variance_freedom

__all__ = [
    "auc_influence",
    "auc_intervals",
    "class_aucs",
    "has_auc",
    "mean_auc",
    "placements",
    "roc_curve",
    "sides",
]

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
Labels = NDArray[np.integer[Any]]

# Columns that are taken out of the rows of a matrix at a time: one by one each would read them all.
_COLUMNS = 32


def sides(probs: NDArray[Any], targets: Labels) -> Iterator[tuple[int, NDArray[Any], Bools]]:
    """Yield each class that has an AUC, with (N,) its scores and which pictures are of it."""
    two = targets.ndim == 1 and probs.shape[1] == 2
    for start in range(0, probs.shape[1], _COLUMNS):
        block = np.ascontiguousarray(probs[:, start : start + _COLUMNS].T)
        for k, scores in enumerate(block, start):
            positive = targets == k if targets.ndim == 1 else targets[:, k] > 0
            if has_auc(positive):
                # Of two, 1 - p is not exact: one that is nearly 1 would tie where p does not.
                yield k, -probs[:, 1] if two and k == 0 else scores, positive


def has_auc(positive: Bools) -> bool:
    """Return whether some pictures (N,) are of a class, and some are not."""
    return bool(positive.any() and not positive.all())


def class_aucs(probs: NDArray[Any], targets: Labels) -> Floats:
    """Compute the AUC of each class: (K,) in [0, 1], NaN where it has none."""
    found = np.full(probs.shape[1], np.nan)
    for k, scores, positive in sides(probs, targets):
        of_class = int(positive.sum())
        # Mann & Whitney's U, by the places of the class among all: its own are half below it.
        higher = _below(scores[positive], scores).sum() - of_class**2 / 2
        found[k] = higher / (of_class * (len(scores) - of_class))
    return found


def mean_auc(aucs: Floats) -> float:
    """Compute the mean of the AUCs (K,) that there are, in [0, 1]; NaN where there is none."""
    return float("nan") if np.isnan(aucs).all() else float(np.nanmean(aucs))


def placements(scores: NDArray[Any], positive: Bools) -> Floats:
    """Return (N,) the share of the other side's pictures that each one is ranked right against.

    The structural components of DeLong, DeLong & Clarke-Pearson, "Comparing the Areas under Two or
    More Correlated Receiver Operating Characteristic Curves", Biometrics 1988: the mean of either
    side is the AUC.

    Args:
        scores: (N,), higher for more certain.
        positive: (N,), of both kinds.
    """
    found, of_class, others = np.empty(len(scores)), scores[positive], scores[~positive]
    found[positive] = _below(of_class, others) / len(others)
    found[~positive] = 1 - _below(others, of_class) / len(of_class)
    return found


def auc_influence(places: Floats, positive: Bools) -> Floats:
    """Return (N,) by how much each picture moves the AUC.

    The mean square over N is DeLong's variance, in which each side's is that of an unbiased
    estimate; a side of one picture has none. Sums over groups of pictures have the variance of
    Obuchowski, "Nonparametric Analysis of Clustered ROC Curve Data", Biometrics 1997, but for
    corrections of order 1 / G.

    Args:
        places, positive: (N,), see `placements`.
    """
    moves = np.empty(len(places))
    for side in (positive, ~positive):
        count = int(side.sum())
        weight = len(places) / np.sqrt(count * max(count - 1, 1))
        moves[side] = weight * (places[side] - places[side].mean())
    return moves


def auc_intervals(probs: NDArray[Any], targets: Labels, groups: Labels | None = None) -> Floats:
    """Return (K, 3) the AUC of each class with the ends of its 95 % interval.

    NaN where there is none; the ends also where fewer than two groups are on a side.

    Args:
        probs, targets: see above.
        groups: (N,) equal for pictures that go together; None where each stands for itself.
    """
    found = np.full((probs.shape[1], 3), np.nan)
    codes, freedom = group_numbers(len(probs), groups)
    for k, scores, positive in sides(probs, targets):
        places = placements(scores, positive)
        auc = float(places[positive].mean())
        moves = auc_influence(places, positive)
        found[k, 0] = auc
        independent = min(_distinct(codes[side], groups) for side in (positive, ~positive))
        if independent < 2:
            continue
        (error,) = influence_errors(moves[:, None], codes)
        # Few pictures of a class decide the variance.
        own = min(freedom, variance_freedom(np.bincount(codes, moves)[None]))
        found[k, 1:] = influence_interval(auc, float(error), own, independent)
    return found


def roc_curve(scores: NDArray[Any], positive: Bools) -> tuple[Floats, Floats]:
    """Return the false positive rate (M,) and the true positive rate (M,) at each threshold.

    From no picture above the highest threshold, (0, 0), to all of them, (1, 1).

    Args:
        scores: (N,), higher for more certain.
        positive: (N,), of both kinds.
    """
    order = np.argsort(-scores, kind="stable")
    last = np.flatnonzero(np.append(np.diff(scores[order]) != 0, True))
    hits = np.cumsum(positive[order])[last]
    false = last + 1 - hits
    ends = np.concatenate([[0], false]), np.concatenate([[0], hits])
    return ends[0] / false[-1], ends[1] / hits[-1]


def _distinct(codes: Labels, groups: Labels | None) -> int:
    return len(codes) if groups is None else len(np.unique(codes))


def _below(values: NDArray[Any], others: NDArray[Any]) -> Floats:
    """Return how many of the others lie below each value, ties counted half."""
    ordered = np.sort(others)
    left, right = (np.searchsorted(ordered, values, side=side) for side in ("left", "right"))
    return (left + right) / 2.0
