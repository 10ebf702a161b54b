"""Scores of single classes, from the confusion matrix."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from src.metrics.classification import per_class_f1, per_class_precision, per_class_recall
from src.metrics.intervals import wilson_interval

__all__ = ["ClassScores", "class_scores"]


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


def class_scores(matrix: NDArray[np.int64]) -> list[ClassScores]:
    """Return the scores of each class, in order, from `classification.confusion_matrix` (K, K)."""
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
