"""Metrics of decisions, the most probable classes: accuracy, confusion matrix, recall, F1.

Metrics of single classes are functions of the confusion matrix (K, K), which is counted once, of at
least one sample.
A class without a target has no recall and a class never predicted has no precision: both are NaN,
and the averages leave them out as scikit-learn does.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .share_intervals import wilson_interval
from .validation import checked

__all__ = [
    "ClassScores",
    "balanced_accuracy",
    "balanced_thresholds",
    "class_scores",
    "confusion_matrix",
    "macro_f1",
    "mean_cost",
    "per_class_f1",
    "per_class_precision",
    "per_class_recall",
    "top_k_accuracy",
]

Floats = NDArray[np.float64]
Counts = NDArray[np.int64]


def top_k_accuracy(probs: ArrayLike, targets: ArrayLike, k: int = 5) -> float:
    """Compute the share of samples, in [0, 1], whose target is among the k most probable classes.

    Of equally probable classes the earlier ones rank higher, so k = 1 is the accuracy.

    Raises:
        ValueError: k is not within 1 and K, or as `validation.checked`.
    """
    probs, targets = checked(probs, targets)
    num_classes = probs.shape[1]
    if not 1 <= k <= num_classes:
        raise ValueError(f"k is {k}: it must be within 1 and {num_classes}, the classes there are.")
    of_target = np.take_along_axis(probs, targets[:, None], axis=1)
    earlier = np.arange(num_classes) < targets[:, None]
    rank = (probs > of_target).sum(axis=1) + ((probs == of_target) & earlier).sum(axis=1)
    return float((rank < k).mean())


def confusion_matrix(
    probs: ArrayLike, targets: ArrayLike, preds: NDArray[Any] | None = None
) -> Counts:
    """Count samples per target (row) and answer (column): (K, K) int64.

    `preds` are the (N,) answers, None for the most probable classes. Raises as
    `validation.checked`.
    """
    probs, targets = checked(probs, targets)
    num_classes = probs.shape[1]
    cells = targets * num_classes + (probs.argmax(axis=1) if preds is None else preds)
    return np.bincount(cells, minlength=num_classes**2).reshape(num_classes, num_classes)


def per_class_recall(matrix: Counts) -> Floats:
    """Compute the recall of each class: (K,) in [0, 1], NaN without samples of it."""
    return _ratio(np.diagonal(matrix), matrix.sum(axis=1))


def per_class_precision(matrix: Counts) -> Floats:
    """Compute the precision of each class: (K,) in [0, 1], NaN without predictions of it."""
    return _ratio(np.diagonal(matrix), matrix.sum(axis=0))


def per_class_f1(matrix: Counts) -> Floats:
    """Compute the F1 of each class: (K,) in [0, 1], NaN without samples and predictions of it."""
    return _ratio(2 * np.diagonal(matrix), matrix.sum(axis=0) + matrix.sum(axis=1))


def macro_f1(matrix: Counts) -> float:
    """Compute the mean F1 of the classes among targets or predictions, in [0, 1].

    Raises:
        ValueError: the matrix counts no samples.
    """
    return _mean_of_defined(per_class_f1(matrix))


def balanced_accuracy(matrix: Counts) -> float:
    """Compute the mean recall of the classes among the targets, in [0, 1].

    Raises:
        ValueError: the matrix counts no samples.
    """
    return _mean_of_defined(per_class_recall(matrix))


def balanced_thresholds(probs: NDArray[np.floating[Any]]) -> Floats:
    """Return (K,) the shares of classes, above 0, that a model takes for granted; their sum is 1.

    Balanced accuracy asks for the class whose probability is the largest multiple of its share of
    the pictures. That is the mean of a model's probabilities (Saerens, Latinne & Decaestecker,
    "Adjusting the Outputs of a Classifier to New a Priori Probabilities", Neural Computation 2002),
    so that one trained with weights of classes, which is unsure because of them, is not corrected
    twice. Each class has half a picture more: none is so rare that a trace of it decides.

    Args:
        probs: (N, K) of pictures that the model was not trained on.
    """
    sums = probs.sum(axis=0, dtype=np.float64) + 0.5
    return sums / sums.sum()


def mean_cost(costs: Floats, preds: NDArray[Any], targets: NDArray[Any]) -> float:
    """Compute the mean cost of predictions, in the units of the costs.

    Args:
        costs: (K, K) cost of each prediction (column) for each target (row).
        preds, targets: (N,) classes, at least one.
    """
    return float(costs[targets, preds].mean(dtype=np.float64))


def _mean_of_defined(values: Floats) -> float:
    if np.isnan(values).all():
        raise ValueError("There are no samples: a metric needs at least one.")
    return float(np.nanmean(values))


@dataclass(frozen=True)
class ClassScores:
    """The scores of one class and the number of its pictures.

    Attributes:
        index: of the class, in [0, K).
        recall, precision, f1: in [0, 1], NaN where they are not defined.
        recall_low, recall_high: the recall's 95 % Wilson interval, likewise.
        confused_with: index of the class most often predicted for it wrongly, or None.
        confused: how often.
    """

    index: int
    pictures: int
    recall: float
    precision: float
    f1: float
    recall_low: float
    recall_high: float
    confused_with: int | None
    confused: int


def class_scores(matrix: Counts) -> list[ClassScores]:
    """Return the scores of each class, in order."""
    scores = (per_class_recall(matrix), per_class_precision(matrix), per_class_f1(matrix))
    wrong = matrix.copy()
    np.fill_diagonal(wrong, 0)
    rows = []
    for index, shares in enumerate(zip(*scores, strict=True)):
        recall, precision, f1 = map(float, shares)
        pictures, right = int(matrix[index].sum()), int(matrix[index, index])
        low, high = wilson_interval(right, pictures) if pictures else (np.nan, np.nan)
        confused = int(wrong[index].max())
        other = int(wrong[index].argmax()) if confused else None
        own = ClassScores(index, pictures, recall, precision, f1, low, high, other, confused)
        rows.append(own)
    return rows


def _ratio(part: Counts, whole: Counts) -> Floats:
    ratio = np.full(len(whole), np.nan)
    np.divide(part, whole, out=ratio, where=whole > 0)
    return ratio
