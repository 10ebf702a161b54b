"""Metrics of label sets: average precision, F1, exact match, and thresholds of labels.

Targets and predictions are (N, K) with 0 and 1. A label that no picture has counts in no average.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = [
    "LabelScores",
    "average_precision",
    "average_precisions",
    "best_thresholds",
    "checked_sets",
    "cross_fitted_thresholds",
    "f1_scores",
    "label_scores",
    "mean_average_precision",
    "micro_f1",
    "precision_influence",
    "precision_recall",
    "single_precisions",
]

Floats = NDArray[np.float64]
Sets = NDArray[np.integer[Any]]
_MOST_ROUNDS = 20
_FOLDS = 5


def checked_sets(probs: ArrayLike, targets: ArrayLike) -> tuple[NDArray[Any], Sets]:
    """Return probabilities and label sets as arrays, after checking that they fit together.

    Args:
        probs: (N, K) floating point in [0, 1]; N >= 1, K >= 1.
        targets: (N, K) whole numbers 0 and 1.

    Raises:
        ValueError: no samples, shapes that do not fit, a value that is no probability (NaN
            included), or a target that is neither 0 nor 1.
    """
    probs, targets = np.asarray(probs), np.asarray(targets)
    if probs.ndim != 2 or targets.shape != probs.shape:
        raise ValueError(
            f"targets has shape {targets.shape} and probs {probs.shape}: both must be (N, K)."
        )
    if not len(probs):
        raise ValueError("There are no samples: a metric needs at least one.")
    # Written so that NaN, which compares false with everything, fails too.
    if not (probs.min() >= 0 and probs.max() <= 1):
        raise ValueError("probs holds a value that is no probability: below 0, above 1 or NaN.")
    if not np.issubdtype(targets.dtype, np.integer) or not np.isin(targets, (0, 1)).all():
        raise ValueError("targets must be whole numbers, 0 and 1.")
    return probs, targets


def average_precision(scores: NDArray[Any], positive: NDArray[Any]) -> float:
    """Compute the average precision of one label, in (0, 1]; NaN where no picture has it.

    The mean over the pictures with the label of the precision among those that score as high or
    higher: the sum over thresholds of the gain in recall times the precision, without
    interpolation.

    Args:
        scores: (N,), higher for more certain.
        positive: (N,) 0 and 1, or bool.
    """
    found = np.flatnonzero(positive)
    if not len(found):
        return float("nan")
    above, hits = _at_least(scores, scores[found]), _at_least(scores[found], scores[found])
    return float((hits / above).mean())


def precision_recall(scores: NDArray[Any], positive: NDArray[Any]) -> tuple[Floats, Floats]:
    """Return the recall (M,) and precision (M,) of one label at each threshold, the highest first.

    A threshold is a score that occurs, from which on the label counts as predicted.

    Args:
        scores: (N,), higher for more certain.
        positive: (N,) 0 and 1, or bool, at least one of them positive.
    """
    levels = np.unique(scores)[::-1]
    found = scores[np.flatnonzero(positive)]
    hits = _at_least(found, levels)
    return hits / len(found), hits / _at_least(scores, levels)


def average_precisions(probs: NDArray[Any], targets: Sets) -> Floats:
    """Compute the average precision of each label: (K,), NaN where no picture has it."""
    labels = range(probs.shape[1])
    return np.array([average_precision(probs[:, k], targets[:, k]) for k in labels])


def mean_average_precision(each: Floats) -> float:
    """Compute the mean of the average precisions (K,) that there are, in [0, 1]; 0 without any."""
    known = each[~np.isnan(each)]
    return float(known.mean()) if len(known) else 0.0


def precision_influence(scores: NDArray[Any], positive: NDArray[Any]) -> Floats:
    """Return (N,) by how much each picture moves the average precision of a label.

    N - 1 times what is lost without the picture, centred: the influence function as the jackknife
    estimates it (Efron, "The Jackknife, the Bootstrap and Other Resampling Plans", 1982), so that
    the mean square over N is the variance of the figure. 0 for all where fewer than two pictures
    have the label.
    """
    count, chosen = len(scores), np.asarray(positive) > 0
    own = np.sort(scores[chosen])
    if len(own) < 2 or count == len(own):
        return np.zeros(count)
    above, hits = _at_least(scores, own), _at_least(own, own)
    plain = np.concatenate([[0.0], np.cumsum(hits / above)])
    fewer = np.concatenate([[0.0], np.cumsum(hits / np.maximum(above - 1, 1))])
    both = np.concatenate([[0.0], np.cumsum((hits - 1) / np.maximum(above - 1, 1))])
    # The pictures with the label that score as high as each picture at most: their ranks move.
    below = np.searchsorted(own, scores, side="right")
    whole, rest = plain[-1], plain[-1] - plain[below]
    without = (rest + fewer[below]) / len(own)
    # Of a picture with the label its own term goes as well.
    place = np.searchsorted(own, scores[chosen], side="left")
    at = ((hits - 1) / np.maximum(above - 1, 1))[place]
    without[chosen] = (rest[chosen] + both[below[chosen]] - at) / (len(own) - 1)
    influence = (count - 1) * (whole / len(own) - without)
    return influence - influence.mean()


def single_precisions(scores: NDArray[Any], positive: NDArray[Any]) -> Floats:
    """Return (P,) the average precision if each of the P pictures with a label alone had it."""
    found = scores[np.asarray(positive) > 0]
    return 1 / (1 + _at_least(scores, found) - _at_least(found, found))


def f1_scores(preds: Sets, targets: Sets) -> Floats:
    """Compute the F1 of each label, (K,) in [0, 1]; NaN where it is neither there nor predicted."""
    sizes = preds.sum(axis=0, dtype=np.int64) + targets.sum(axis=0, dtype=np.int64)
    hits = (preds & targets).sum(axis=0, dtype=np.int64)
    scores = np.full(len(sizes), np.nan)
    np.divide(2 * hits, sizes, out=scores, where=sizes > 0)
    return scores


def micro_f1(preds: Sets, targets: Sets) -> float:
    """Compute the F1 of all (picture, label) pairs together, in [0, 1]; 1 where there are none."""
    size = int(preds.sum()) + int(targets.sum())
    return 2 * int((preds & targets).sum()) / size if size else 1.0


@dataclass(frozen=True)
class LabelScores:
    """The scores of one label.

    Attributes:
        index: of the label, in [0, K).
        pictures, predicted: pictures that have it, and those it is predicted for.
        average_precision, recall, precision, f1: in [0, 1], NaN where they are not defined.
    """

    index: int
    pictures: int
    predicted: int
    average_precision: float
    recall: float
    precision: float
    f1: float


def label_scores(probs: NDArray[Any], targets: Sets, preds: Sets) -> list[LabelScores]:
    """Return the scores of each label, in order; all three are (N, K)."""
    f1 = f1_scores(preds, targets)
    rows = []
    for k in range(probs.shape[1]):
        there, answers = int(targets[:, k].sum()), int(preds[:, k].sum())
        hits = int((preds[:, k] & targets[:, k]).sum())
        rows.append(
            LabelScores(
                index=k,
                pictures=there,
                predicted=answers,
                average_precision=average_precision(probs[:, k], targets[:, k]),
                recall=hits / there if there else float("nan"),
                precision=hits / answers if answers else float("nan"),
                f1=float(f1[k]),
            )
        )
    return rows


def best_thresholds(probs: NDArray[Any], targets: Sets, metric: str) -> Floats:
    """Return (K,) thresholds under which predicted labels have the best F1 on these pictures.

    A label counts as predicted from its threshold on. Thresholds lie halfway between neighbouring
    probabilities. A label that no picture has gets one half.

    Args:
        probs, targets: (N, K), of pictures that the model was not trained on.
        metric: "macro_f1", where each label has its own best F1, or "micro_f1", where one label
            after another is moved until the F1 of all together does not grow any more.

    Raises:
        ValueError: another metric.
    """
    if metric not in ("macro_f1", "micro_f1"):
        raise ValueError(f"thresholds are chosen for {metric!r}: it must be macro_f1 or micro_f1")
    columns = [_cuts(probs[:, k], targets[:, k]) for k in range(probs.shape[1])]
    others = (0, 0)
    chosen = [_best_cut(cuts, others) for cuts in columns]
    if metric == "micro_f1":
        for _ in range(_MOST_ROUNDS):
            before = list(chosen)
            for k, cuts in enumerate(columns):
                rest = [columns[j] for j in range(len(columns)) if j != k]
                at = [chosen[j] for j in range(len(columns)) if j != k]
                hits = sum(int(one[1][i]) for one, i in zip(rest, at, strict=True))
                sizes = sum(int(one[2][i]) for one, i in zip(rest, at, strict=True))
                chosen[k] = _best_cut(cuts, (hits, sizes))
            if chosen == before:
                break
    return np.array([cuts[0][i] for cuts, i in zip(columns, chosen, strict=True)])


def cross_fitted_thresholds(
    probs: NDArray[Any],
    targets: NDArray[np.integer[Any]],
    groups: NDArray[np.integer[Any]],
    choose: Callable[[NDArray[Any], NDArray[np.integer[Any]]], Floats],
) -> Floats:
    """Return (N, M) thresholds for each picture that were chosen without it and its group.

    Groups are dealt into five folds, and the pictures of a fold get the thresholds that are best
    for those of the other folds: a figure of thresholds on the very pictures that they were chosen
    on is too good. The folds depend on the groups alone, so that all candidates that are measured
    on the same pictures have the same.

    Args:
        probs, targets: (N, K), and (N, K) or (N,).
        groups: (N,) equal for pictures that go together.
        choose: probabilities and targets of some pictures -> (M,) the best thresholds for them.
    """
    _, codes = np.unique(groups, return_inverse=True)
    count = int(codes.max(initial=-1)) + 1
    fold = np.random.default_rng(0).permutation(count)[codes] % _FOLDS
    folds = [fold == one for one in range(_FOLDS)]
    chosen = np.stack([choose(probs[~held_out], targets[~held_out]) for held_out in folds])
    return chosen[fold]


def _cuts(
    scores: NDArray[Any], positive: NDArray[Any]
) -> tuple[Floats, NDArray[np.int64], NDArray[np.int64]]:
    """Return thresholds, descending, with hits and predictions plus targets of each.

    Under the first one the label is predicted for no picture, which may serve the F1 of all labels
    together best; a probability of one is predicted under any.
    """
    total = int(positive.sum())
    if not total:
        return np.array([0.5]), np.zeros(1, np.int64), np.array([int((scores >= 0.5).sum())])
    order = np.argsort(-scores)  # equal scores count together, in whatever order
    values, hits = scores[order].astype(np.float64), np.cumsum(positive[order].astype(np.int64))
    last = np.flatnonzero(np.append(values[1:] != values[:-1], True))
    following = np.append(values[1:], 0.0)[last]
    cuts, hits, sizes = (values[last] + following) / 2, hits[last], last + 1 + total
    if values[0] < 1:
        above = (values[0] + 1) / 2
        cuts, hits, sizes = np.r_[above, cuts], np.r_[0, hits], np.r_[total, sizes]
    return cuts, hits, sizes


def _best_cut(
    cuts: tuple[Floats, NDArray[np.int64], NDArray[np.int64]], others: tuple[int, int]
) -> int:
    _, hits, sizes = cuts
    return int(np.argmax((2 * (hits + others[0])) / np.maximum(sizes + others[1], 1)))


def _at_least(scores: NDArray[Any], values: NDArray[Any]) -> NDArray[np.int64]:
    """Return how many scores are at least as high as each of some values."""
    return len(scores) - np.searchsorted(np.sort(scores), values, side="left")
