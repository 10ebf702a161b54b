"""Measures that candidates are ranked by, as one score a picture whose mean is the figure.

Accuracy, log-loss and costs are means over pictures. Others, such as balanced accuracy, F1, mean
average precision and kappa, are not; there a picture's score is the figure plus its influence on it
(Hampel, "The Influence Curve and Its Role in Robust Estimation", JASA 1974), so that variances,
covariances and resampled errors of the figure are those of a mean, to first order. The scores of
each kind of targets are in `src.targets`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..machine.arrays import Float32Array, Float64Array, IntegerArray
from ..records.comparison import LOWEST, MEASURES
from ..targets import TargetKind, kind_of
from ..targets.labels import label_counts

__all__ = ["Measure"]


# Means over classes, each with as much weight as any other.
_OVER_CLASSES = ("balanced_accuracy", "macro_f1", "map", "miou", "dice")


@dataclass(frozen=True, eq=False)
class Measure:
    """A measure of predictions.

    Attributes:
        name: a key of `MEASURES`; each kind of targets has some of them.
        costs: (K, K) cost of each prediction (column) for each target (row), for "cost" alone.

    Raises:
        ValueError: another name, or costs without "cost" or the other way round.
    """

    name: str = "accuracy"
    costs: Float64Array | None = None

    def __post_init__(self) -> None:
        if self.name not in MEASURES:
            raise ValueError(f"The measure is {self.name!r}: it must be of {', '.join(MEASURES)}.")
        if (self.costs is not None) != (self.name == "cost"):
            raise ValueError("A cost matrix goes with the measure cost, and with no other.")

    @property
    def ends(self) -> tuple[float, float]:
        """The least and the greatest figure that there can be."""
        if self.costs is not None:
            least, greatest = self.costs.min(), self.costs.max()  # as scores are rounded
            return float(np.float32(least)), float(np.float32(greatest))
        return LOWEST.get(self.name, 0.0), 1.0 if self.name in LOWEST else math.inf

    def scores(
        self,
        probs: NDArray[np.floating],
        preds: IntegerArray,
        targets: IntegerArray,
        kind: TargetKind | None = None,
    ) -> Float32Array:
        """Return (N,) scores, higher for better: their mean is the figure, or minus a cost.

        Args:
            probs: (N, K) probabilities.
            preds, targets: (N,) classes, or of label sets (N, K).
            kind: of the targets; None for one class a picture.

        Raises:
            ValueError: the kind has no such measure, or a cost matrix for another number of
                classes.
        """
        kind = kind or kind_of("single")
        if self.costs is None or self.name not in kind.measures:
            return kind.scores(self.name, probs, preds, targets)
        classes = probs.shape[1]
        if self.costs.shape != (classes, classes):
            raise ValueError(
                f"The cost matrix is {' x '.join(map(str, self.costs.shape))}, and there are "
                f"{classes} classes: it must have a row and a column for each."
            )
        return (-self.costs[targets, preds]).astype(np.float32)

    def baseline(
        self, probs: NDArray[np.floating], targets: IntegerArray, kind: TargetKind
    ) -> float | None:
        """Return the figure of the best answer that is the same everywhere; None if not known."""
        if self.costs is None or self.name not in kind.measures:
            return kind.baseline(self.name, probs, targets)
        return float(self.costs[targets].mean(axis=0).min())

    def lone(self, probs: NDArray[np.floating], targets: IntegerArray) -> int:
        """Return how many classes one picture has, of a measure that is their mean; else 0."""
        if self.name not in _OVER_CLASSES:
            return 0
        return int((label_counts(targets, np.shape(probs)[-1]) == 1).sum())
