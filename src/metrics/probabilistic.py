"""Metrics of probabilities: log loss, Brier score, calibration."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .validation import checked

__all__ = [
    "SMALLEST_PROBABILITY",
    "ReliabilityBins",
    "binned",
    "brier",
    "entropy_terms",
    "log_loss",
    "reliability_bins",
]

# float32's epsilon, which is also where scikit-learn clips float32 probabilities. It bounds the
# loss of one sample by 15.9, so that a single overconfident mistake cannot make a mean infinite.
SMALLEST_PROBABILITY = float(np.finfo(np.float32).eps)


def log_loss(probs: ArrayLike, targets: ArrayLike) -> float:
    """Compute the mean negative log-likelihood of the targets, in nats, within [0, 15.95].

    Probabilities below `SMALLEST_PROBABILITY` count as that. Raises as `validation.checked`.
    """
    probs, targets = checked(probs, targets)
    likelihood = _of(targets, probs).clip(SMALLEST_PROBABILITY, 1.0)
    return float(np.abs(np.log(likelihood)).mean())  # 0 where all are 1, and not -0


def entropy_terms(shares: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return -p log(p) of each share p in [0, 1], in nats, and 0 of 0.

    As `scipy.special.entr`, which models that are served alone need not have.
    """
    return shares * np.abs(np.log(np.where(shares > 0, shares, 1.0)))


def brier(probs: ArrayLike, targets: ArrayLike) -> float:
    """Compute the mean squared distance between probabilities and one-hot targets, in [0, 2].

    Brier's original multiclass score (1950): squares are summed over the classes, so with two
    classes it is twice the binary score. Raises as `validation.checked`.
    """
    probs, targets = checked(probs, targets)
    # |p - y|^2 = |p|^2 - 2 p_y + 1 needs no one-hot matrix.
    squares = np.einsum("nk,nk->n", probs, probs, dtype=np.float64)
    return float((squares - 2 * _of(targets, probs) + 1).mean())


@dataclass(frozen=True, eq=False)
class ReliabilityBins:
    """Samples grouped by the probability of the class that is answered, in equal-width bins.

    Attributes:
        edges: (M + 1,) from 0 to 1; bin m holds confidences in (edges[m], edges[m + 1]].
        counts: (M,) int64, samples in the bin.
        confidence: (M,) their mean confidence, NaN where there are none.
        accuracy: (M,) the share of them that is right, NaN where there are none.
    """

    edges: NDArray[np.float64]
    counts: NDArray[np.int64]
    confidence: NDArray[np.float64]
    accuracy: NDArray[np.float64]

    @property
    def calibration_error(self) -> float:
        """Mean gap between confidence and accuracy, weighted by samples, in [0, 1].

        The expected calibration error of Guo et al., "On Calibration of Modern Neural Networks",
        ICML 2017, section 2, where the answers are the most probable classes. It depends on the
        number of bins; 15 is the paper's.
        """
        filled = self.counts > 0
        gaps = np.abs(self.confidence[filled] - self.accuracy[filled])
        return float(np.average(gaps, weights=self.counts[filled]))


def reliability_bins(
    probs: ArrayLike, targets: ArrayLike, num_bins: int = 15, preds: NDArray[Any] | None = None
) -> ReliabilityBins:
    """Compute the table of a reliability diagram of answers.

    `preds` are the (N,) answers, None for the most probable classes. Raises as
    `validation.checked`.
    """
    probs, targets = checked(probs, targets)
    if preds is None:
        preds = probs.argmax(axis=1)  # by rows a quarter of the time of the highest value itself
    return binned(_of(preds, probs), preds == targets, num_bins)


def binned(
    confidence: NDArray[np.float64], right: NDArray[np.bool_], num_bins: int = 15
) -> ReliabilityBins:
    """Compute `reliability_bins` of M bins from the confidence of N predictions, right or not.

    Args:
        confidence: (N,) in [0, 1], of the answer to each sample.
        right: (N,) whether it is the target.
    """
    edges = np.linspace(0, 1, num_bins + 1)
    # The outer edges stay out, so that rounding just past 1 still lands in the last bin.
    bins = np.searchsorted(edges[1:-1], confidence, side="left")
    counts = np.bincount(bins, minlength=num_bins)

    def means(values: NDArray[np.float64]) -> NDArray[np.float64]:
        sums = np.bincount(bins, weights=values, minlength=num_bins)
        mean = np.full(num_bins, np.nan)
        np.divide(sums, counts, out=mean, where=counts > 0)
        return mean

    return ReliabilityBins(edges, counts, means(confidence), means(right.astype(np.float64)))


def _of(labels: NDArray[Any], probs: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return the probability of one label of each sample, (N,) float64."""
    return np.take_along_axis(probs, labels[:, None], axis=1)[:, 0].astype(np.float64)
