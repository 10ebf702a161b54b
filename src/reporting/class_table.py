"""How each class fares."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from src.machine.text import csv_row
from src.metrics.classification import (
    per_class_f1,
    per_class_precision,
    per_class_recall,
)
from src.metrics.intervals import wilson_interval

__all__ = ["ClassRow", "class_rows", "class_table"]


@dataclass(frozen=True)
class ClassRow:
    """One class's share of a confusion matrix.

    Attributes:
        index: of the class, in [0, K).
        pictures: how many are of this class.
        recall, precision, f1: in [0, 1], NaN where they are not defined.
        recall_low, recall_high: the recall's 95 % Wilson interval, likewise.
        confused_with: index of the class that most of its pictures were taken for wrongly, or None.
        confused: how many of them.
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


def class_rows(matrix: NDArray[np.int64]) -> list[ClassRow]:
    """One row a class, in the order of the classes.

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
            ClassRow(
                index, pictures, float(recall), float(precision), float(f1), low, high, other,
                confused,
            )
        )  # fmt: skip
    return rows


def class_table(matrix: NDArray[np.int64], class_names: Sequence[str]) -> str:
    """All classes as CSV, in their order; what is not defined is left empty."""
    text = io.StringIO()
    out = csv.writer(text, lineterminator="\n")
    scores = ("recall", "recall_low", "recall_high", "precision", "f1")
    out.writerow(["class", "pictures", *scores, "most_confused_with", "confused"])
    for row in class_rows(matrix):
        values = (getattr(row, score) for score in scores)
        known = ["" if np.isnan(value) else f"{value:.4f}" for value in values]
        other = "" if row.confused_with is None else class_names[row.confused_with]
        out.writerow(csv_row([class_names[row.index], row.pictures, *known, other, row.confused]))
    return text.getvalue()
