"""Confident learning: labels that out-of-sample predictions contradict."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .validation import checked

__all__ = ["LabelSuspects", "label_suspects"]


class LabelSuspects(NamedTuple):
    """M samples whose label is probably wrong, the most certain first.

    Attributes:
        indices: (M,) int64, positions within the samples.
        scores: (M,) float64 in (0, 1], descending: the probability of the suggested class minus
            that of the label.
        suggested: (M,) int64, the class that each probably belongs to.
    """

    indices: NDArray[np.int64]
    scores: NDArray[np.float64]
    suggested: NDArray[np.int64]


def label_suspects(probs: ArrayLike, targets: ArrayLike) -> LabelSuspects:
    """Return samples off the diagonal of the confident joint, ranked by their margin.

    Northcutt, Jiang and Chuang, "Confident Learning: Estimating Uncertainty in Dataset Labels",
    JAIR 70 (2021), section 3.1: a sample is confidently of class k if its probability of k reaches
    the mean probability of k among the samples labelled k; of several such classes the most
    probable one counts. The mean corrects for classes of which a model is over- or underconfident.
    Samples whose label still is the more probable one are not suspects.

    A class without labelled samples has no such mean, and is never suggested.

    Args:
        probs: (N, K), of samples that the model was not trained on.
        targets: (N,) the labels. Raises as `validation.checked`.
    """
    probs, targets = checked(probs, targets)
    probs = probs.astype(np.float64, copy=False)
    own = np.take_along_axis(probs, targets[:, None], axis=1)[:, 0]
    counts = np.bincount(targets, minlength=probs.shape[1])
    sums = np.bincount(targets, weights=own, minlength=probs.shape[1])
    thresholds = np.full(probs.shape[1], np.inf)
    np.divide(sums, counts, out=thresholds, where=counts > 0)
    confident = np.where(probs >= thresholds, probs, -np.inf)
    suggested = confident.argmax(axis=1)
    margin = confident.max(axis=1) - own  # -inf where no class is confident
    found = np.flatnonzero((suggested != targets) & (margin > 0))
    ranked = found[np.argsort(-margin[found], kind="stable")]
    return LabelSuspects(ranked, margin[ranked], suggested[ranked])
