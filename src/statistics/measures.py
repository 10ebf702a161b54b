"""Measures that candidates are ranked by, as one score a picture whose mean is the figure.

Accuracy, log-loss and costs are means over pictures. Balanced accuracy and macro F1 are not; there
a picture's score is the figure plus its influence on it (Hampel, "The Influence Curve and Its Role
in Robust Estimation", JASA 1974), so that variances, covariances and resampled errors of the
figure are those of a mean, to first order.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..metrics.probabilistic import SMALLEST_PROBABILITY
from ..records.comparison import MEASURES

__all__ = ["Measure"]

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Measure:
    """A measure of predictions.

    Attributes:
        name: one of "accuracy", "balanced_accuracy", "macro_f1", "log_loss" and "cost".
        costs: (K, K) cost of each prediction (column) for each target (row), for "cost" alone.

    Raises:
        ValueError: another name, or costs without "cost" or the other way round.
    """

    name: str = "accuracy"
    costs: Floats | None = None

    def __post_init__(self) -> None:
        if self.name not in MEASURES:
            raise ValueError(f"The measure is {self.name!r}: it must be of {', '.join(MEASURES)}.")
        if (self.costs is not None) != (self.name == "cost"):
            raise ValueError("A cost matrix goes with the measure cost, and with no other.")

    @property
    def is_share(self) -> bool:
        """Whether figures lie in [0, 1], and higher ones are better; others are costs."""
        return MEASURES[self.name]

    def scores(
        self,
        probs: NDArray[np.floating],
        preds: NDArray[np.int64],
        targets: NDArray[np.int64],
    ) -> NDArray[np.float32]:
        """Return (N,) scores, higher for better: their mean is the figure, or minus a cost.

        Args:
            probs: (N, K) probabilities.
            preds: (N,) most probable classes.
            targets: (N,) classes.

        Raises:
            ValueError: a cost matrix for another number of classes.
        """
        classes = probs.shape[1]
        if self.name == "log_loss":
            likelihood = np.take_along_axis(probs, targets[:, None], axis=1)[:, 0]
            return np.log(likelihood.clip(SMALLEST_PROBABILITY, 1.0)).astype(np.float32)
        if self.costs is not None:
            if self.costs.shape != (classes, classes):
                raise ValueError(
                    f"The cost matrix is {' x '.join(map(str, self.costs.shape))}, and there are "
                    f"{classes} classes: it must have a row and a column for each."
                )
            return (-self.costs[targets, preds]).astype(np.float32)
        right = preds == targets
        if self.name == "accuracy":
            return right.astype(np.float32)
        of_targets = np.bincount(targets, minlength=classes) / len(targets)
        hits = np.bincount(targets[right], minlength=classes) / len(targets)
        if self.name == "balanced_accuracy":
            return _balanced(right, targets, of_targets, hits)
        of_preds = np.bincount(preds, minlength=classes) / len(targets)
        return _macro_f1(right, preds, targets, of_targets + of_preds, hits)


def _balanced(
    right: NDArray[np.bool_], targets: NDArray[np.int64], shares: Floats, hits: Floats
) -> NDArray[np.float32]:
    """Return the mean recall plus each picture's influence on it."""
    present = shares > 0
    recall = np.divide(hits, shares, out=np.zeros_like(hits), where=present)
    influence = (right - recall[targets]) / shares[targets] / present.sum()
    return (recall[present].mean() + influence).astype(np.float32)


def _macro_f1(
    right: NDArray[np.bool_],
    preds: NDArray[np.int64],
    targets: NDArray[np.int64],
    sizes: Floats,
    hits: Floats,
) -> NDArray[np.float32]:
    """Return the mean F1 plus each picture's influence on it.

    Args:
        right, preds, targets: (N,).
        sizes: (K,) share of the pictures that are of a class plus that predicted as it.
        hits: (K,) share of the pictures that are of a class and predicted as it.
    """
    known = sizes > 0
    f1 = np.divide(2 * hits, sizes, out=np.zeros_like(hits), where=known)
    weight = np.divide(1.0, sizes, out=np.zeros_like(sizes), where=known)
    influence = 2 * right * weight[targets] - (f1 * weight)[targets] - (f1 * weight)[preds]
    return (f1[known].mean() + influence / known.sum()).astype(np.float32)
