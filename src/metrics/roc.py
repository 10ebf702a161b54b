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

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .share_intervals import group_numbers, influence_errors, influence_interval, variance_freedom

__all__ = [
    "auc_influence",
    "auc_interval",
    "auc_widening",
    "class_auc_intervals",
    "class_aucs",
    "has_auc",
    "mean_auc",
    "placements",
    "roc_curve",
    "side",
    "sides",
]

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
Labels = NDArray[np.integer[Any]]

# Columns that are taken out of a matrix at a time: one by one each would read all of its rows.
_COLUMNS = 32
# Number of pictures, beside those of the rarer side, from which the usual variance of an AUC counts
# as known: chosen on simulated scores, with five pictures of a class and more.
_USUAL_PICTURES = 10


def side(
    probs: NDArray[Any], targets: Labels, k: int, first: int = 0
) -> tuple[NDArray[Any], Bools]:
    """Return (N,) scores of a class, higher for more certain, and (N,) which pictures are of it.

    Args:
        probs: see above, or some of the columns.
        targets: see above.
        k: index of the class.
        first: index of the class of the first column.
    """
    if targets.ndim == 2:
        return probs[:, k - first], targets[:, k] > 0
    # Of two, 1 - p is not exact: one that is nearly 1 would tie where p does not.
    mirrored = k == 0 and probs.shape[1] == 2
    return -probs[:, 1] if mirrored else probs[:, k - first], targets == k


def sides(probs: NDArray[Any], targets: Labels) -> Iterator[tuple[int, NDArray[Any], Bools]]:
    """Yield each class that has an AUC, with its `side`."""
    for first in range(0, probs.shape[1], _COLUMNS):
        block = np.asfortranarray(probs[:, first : first + _COLUMNS])
        for k in range(first, first + block.shape[1]):
            scores, positive = side(block, targets, k, first)
            if has_auc(positive):
                yield k, scores, positive


def has_auc(positive: Bools) -> bool:
    """Return whether some pictures (N,) are of a class, and some are not."""
    return bool(positive.any() and not positive.all())


def class_aucs(probs: NDArray[Any], targets: Labels) -> Floats:
    """Compute the AUC of each class: (K,) in [0, 1], NaN where it has none."""
    found = np.full(probs.shape[1], np.nan)
    for k, scores, positive in sides(probs, targets):
        # Mann & Whitney's U by the ranks of the class, halfway where scores are equal: of its own
        # pictures half are below.
        ordered, own = np.sort(scores), scores[positive]
        ranks = [np.searchsorted(ordered, own, side=end).sum() for end in ("left", "right")]
        higher = sum(ranks) / 2 - len(own) ** 2 / 2
        found[k] = higher / (len(own) * (len(scores) - len(own)))
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
    order = np.argsort(scores)
    ordered, of_class = scores[order], positive[order]
    new = np.append(True, ordered[1:] != ordered[:-1])
    starts = np.flatnonzero(new)
    # At each level of the scores, and half of these with all below it.
    own = np.add.reduceat(of_class, starts, dtype=np.int64)
    others = np.diff(starts, append=len(scores)) - own
    own_below, others_below = (np.cumsum(one) - one / 2 for one in (own, others))
    right = others_below / others.sum(), 1 - own_below / own.sum()
    level, found = np.cumsum(new) - 1, np.empty(len(scores))
    found[order] = np.where(of_class, right[0][level], right[1][level])
    return found


def auc_influence(places: Floats, positive: Bools, groups: Labels | None = None) -> Floats:
    """Return (N,) by how much each picture moves the AUC.

    The mean square over N is DeLong's variance, in which that of each side is an unbiased estimate,
    and that of sums over groups of pictures the one of Obuchowski, "Nonparametric Analysis of
    Clustered ROC Curve Data", Biometrics 1997, but for the correction, of order 1 / G, of what the
    two sides have in common. A side of one picture, or group, has no variance of its own.

    Args:
        places, positive: (N,), see `placements`.
        groups: (N,) equal for pictures that go together; None where each stands for itself.
    """
    moves = np.empty(len(places))
    for side in (positive, ~positive):
        number = _independent(side, groups)
        weight = len(places) / side.sum() * np.sqrt(number / max(number - 1, 1))
        moves[side] = weight * (places[side] - places[side].mean())
    return moves


def auc_widening(places: Floats, positive: Bools, groups: Labels | None = None) -> float:
    """Return the factor, at least 1, by which errors of an AUC are larger than they seem.

    A dozen pictures of a class may all be ranked high by luck, and then vary little. Where scores
    of the usual laws vary more at this AUC (Newcombe, "Confidence Intervals for an Effect Size
    Measure Based on the Mann-Whitney Statistic, Part 2", Statistics in Medicine 2006, method 5),
    the variance is averaged with theirs, as if that were known from some pictures as well. Of
    hundreds of pictures a side this changes little; one picture, or group, has no variance of its
    own to be averaged.

    Args:
        places, positive, groups: as of `auc_influence`.
    """
    fewest = min(_independent(side, groups) for side in (positive, ~positive))
    own = float(np.square(auc_influence(places, positive)).mean()) / len(places)
    if fewest < 2 or own == 0:
        return 1.0
    auc, of_class, mean = float(places[positive].mean()), int(positive.sum()), len(places) / 2
    usual = 2 * mean - 1 - 3 * (mean - 1) / ((2 - auc) * (1 + auc))
    usual *= auc * (1 - auc) / (of_class * (len(places) - of_class))
    averaged = ((fewest - 1) * own + _USUAL_PICTURES * usual) / (fewest - 1 + _USUAL_PICTURES)
    return max(1.0, math.sqrt(averaged / own))


def auc_interval(
    scores: NDArray[Any], positive: Bools, groups: Labels | None = None
) -> tuple[float, float, float]:
    """Return the AUC of a class and the ends of its 95 % interval.

    The ends are NaN where fewer than two groups are on a side.

    Args:
        scores, positive: (N,), as of `placements`.
        groups: (N,) equal for pictures that go together; None where each stands for itself.
    """
    places = placements(scores, positive)
    auc = float(places[positive].mean())
    codes, freedom = group_numbers(len(scores), groups)
    independent = min(_independent(one, groups) for one in (positive, ~positive))
    if independent < 2:
        return auc, float("nan"), float("nan")
    moves = auc_widening(places, positive, groups) * auc_influence(places, positive, groups)
    (error,) = influence_errors(moves[:, None], codes)
    # Few pictures of a class decide the variance.
    totals = np.bincount(codes, moves).astype(np.float64)
    freedom = min(freedom, variance_freedom(totals[None]))
    return auc, *influence_interval(auc, float(error), freedom, independent)


def class_auc_intervals(
    probs: NDArray[Any], targets: Labels, groups: Labels | None = None
) -> Floats:
    """Return (K, 3) the AUC of each class and the ends of its 95 % interval, as `auc_interval`.

    NaN where a class has none. `groups` are (N,) as of `auc_interval`.
    """
    found = np.full((probs.shape[1], 3), np.nan)
    for k, scores, positive in sides(probs, targets):
        found[k] = auc_interval(scores, positive, groups)
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


def _independent(chosen: Bools, groups: Labels | None) -> int:
    """Return of how many groups the pictures are that (N,) `chosen` says."""
    return int(chosen.sum()) if groups is None else len(np.unique(groups[chosen]))
