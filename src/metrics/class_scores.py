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
    """The scores of one class.

    Attributes:
        index: of the class, in [0, K).
        pictures: how many are of this class.
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
    """Return the scores of each class, in the order of the classes.

    Args:
        matrix: (K, K) counts, targets in rows, as `metrics.classification.confusion_matrix`.
    """
    scores = (per_class_recall(matrix), per_class_precision(matrix), per_class_f1(matrix))
    wrong = matrix.copy()
    np.fill_diagonal(wrong, 0)
    rows = []
    for index, (recall, precision, f1) in enumerate(zip(*scores, strict=True)):
        pictures, right = int(matrix[index].sum()), int(matrix[index, index])
        low, high = wilson_interval(right, pictures) if pictures else (np.nan, np.nan)
        confused = int(wrong[index].max())
        other = int(wrong[index].argmax()) if confused else None
        rows.append(
            ClassScores(
                index, pictures, float(recall), float(precision), float(f1), low, high, other,
                confused,
            )
        )  # fmt: skip
    return rows
