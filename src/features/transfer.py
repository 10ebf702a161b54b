"""Estimates of how well a frozen network's features suit a task, to rank networks by.

Each takes well under a second for a thousand pictures.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from sklearn.preprocessing import normalize

from ..machine.arrays import BoolArray, Float32Array, Float64Array, Int64Array
from .calibration import folds_of, of_all_classes
from .paths import View, mean_scores, ridge_scores

__all__ = ["cross_validated_accuracy", "logme"]

# The fixed point is reached when the ratio of the two precisions changes by less than this share.
_TOLERANCE, _MOST_ITERATIONS = 1e-3, 50
_FOLDS = 5
_RIDGES = (0.3, 1.0, 3.0, 10.0)
_SHRINKAGES = (0.1, 0.3, 0.5, 0.8)


def logme(features: Float32Array, targets: Int64Array, num_classes: int) -> float:
    """Return the logarithm of the maximum evidence of linear models on features, a picture.

    The evidence p(y | F) of Bayesian linear regression on each class's indicator y, its weights
    N(0, 1 / alpha) and its noise N(0, 1 / beta), is maximised over alpha and beta by MacKay's fixed
    point, and its logarithms are averaged over the classes that have pictures: You et al., "LogME:
    Practical Assessment of Pre-trained Models for Transfer Learning" (ICML 2021); the iteration by
    way of the singular values follows You et al., "Ranking and Tuning Pre-trained Models" (JMLR
    2022). Higher is better; values compare for the same pictures only.

    Args:
        features: (N, D), N at least 2.
        targets: (N,) in [0, num_classes).

    Raises:
        ValueError: lengths differ, or there are fewer than two pictures.
    """
    count = len(features)
    if count != len(targets) or count < 2:
        raise ValueError(f"{count} rows of features for {len(targets)} targets: at least 2 of each")
    squares, projections, totals = _spectrum(features, targets, num_classes)
    found = [
        _evidence(squares, projections[:, k], totals[k], count, features.shape[1])
        for k in range(num_classes)
        if totals[k] > 0
    ]
    return float(np.mean(found) / count)


def _spectrum(
    features: Float32Array, targets: Int64Array, num_classes: int
) -> tuple[Float64Array, Float64Array, Float64Array]:
    """Return squared singular values (r,), squares (r, K) of the indicators along the left singular
    vectors, and the indicators' own squares (K,)."""
    hits = np.eye(num_classes)[targets]
    left, values, _ = np.linalg.svd(np.asarray(features, np.float64), full_matrices=False)
    squares = np.square(values)
    kept = squares > 1e-10 * max(float(squares[0]), 1e-300)
    return squares[kept], np.square(left[:, kept].T @ hits), hits.sum(axis=0)


def _evidence(
    squares: Float64Array, along: Float64Array, total: float, count: int, dims: int
) -> float:
    """Return the largest log evidence of one class's indicator, of `_spectrum`, of N and D."""
    outside = max(total - float(along.sum()), 0.0)
    ratio = 1.0  # alpha / beta
    for _ in range(_MOST_ITERATIONS):
        weights, errors, gamma = _moments(squares, along, outside, ratio)
        alpha = gamma / max(weights, 1e-12)
        beta = (count - gamma) / max(errors, 1e-12)
        last, ratio = ratio, alpha / max(beta, 1e-12)
        if abs(ratio - last) <= _TOLERANCE * last:
            break
    weights, errors, gamma = _moments(squares, along, outside, ratio)
    # At the fixed point alpha |m|^2 + beta |y - F m|^2 = N; it is not assumed here.
    logs = dims * np.log(alpha) - np.log(alpha + beta * squares).sum()
    logs -= (dims - len(squares)) * np.log(alpha)
    fit = beta * errors + alpha * weights
    return float(0.5 * (count * np.log(beta / (2 * np.pi)) + logs - fit))


def _moments(
    squares: Float64Array, along: Float64Array, outside: float, ratio: float
) -> tuple[float, float, float]:
    """Return the square of the mean weights, the squared errors, and the effective parameters."""
    shrunk = squares + ratio
    weights = float((squares * along / np.square(shrunk)).sum())
    errors = float((np.square(ratio / shrunk) * along).sum()) + outside
    return weights, errors, float((squares / shrunk).sum())


def cross_validated_accuracy(
    features: Float32Array, targets: Int64Array, contents: NDArray[np.generic], seed: int
) -> tuple[float, float]:
    """Return the held-out accuracy of a quick head, and its standard error, both in [0, 1].

    Features are centred and their rows scaled to length 1. The best of ridge regressions and
    nearest means counts, so the accuracy is a little too high, by the same luck for every network.

    Args:
        features: (N, D) float32 of some hundred pictures.
        targets: (N,) labels of at least two classes.
        contents: (N,) equal where pictures share a fold, as of `held_together`.
        seed: of the five folds.

    Raises:
        ValueError: there are fewer than two classes, or than two pictures that differ.
    """
    classes, labels = np.unique(targets, return_inverse=True)
    distinct = len(np.unique(contents))
    if len(classes) < 2 or distinct < 2:
        raise ValueError(
            f"{len(classes)} classes in {distinct} pictures that differ: at least 2 of each"
        )
    folds = list(folds_of(labels, contents, _FOLDS, seed))
    right = [_right(features, labels, train, held) for train, held in folds]
    correct = np.concatenate(right, axis=1)
    best = correct[correct.mean(axis=1).argmax()]
    # Copies of a picture, or those of a group, are one observation.
    held_out = np.concatenate([held for _, held in folds])
    _, group = np.unique(contents[held_out], return_inverse=True)
    accuracy = float(best.mean())
    sums = np.bincount(group, best - accuracy)
    spread = float(np.sqrt(np.square(sums).sum())) / len(best)
    # Where all are right there may still be others: Agresti and Coull's two more of each kind.
    least = np.sqrt(2 * (distinct + 2)) / (distinct + 4) ** 1.5
    return accuracy, max(spread, float(least))


def _right(
    features: Float32Array, labels: Int64Array, train: Int64Array, held: Int64Array
) -> BoolArray:
    """Return (heads, M): which held-out pictures each head is right about."""
    known, own = np.unique(labels[train], return_inverse=True)
    mean = features[train].mean(axis=0, dtype=np.float64).astype(np.float32)
    rows = normalize(features[train] - mean), normalize(features[held] - mean)
    view = View.of(*rows, own, len(known))
    classes = int(labels.max()) + 1
    if len(known) == 1:
        return np.tile(labels[held] == known[0], (len(_RIDGES) + len(_SHRINKAGES), 1))
    scores = [*ridge_scores(view, _RIDGES), *mean_scores(view, _SHRINKAGES)]
    found = [of_all_classes(one.astype(np.float64), known, classes) for one in scores]
    return np.stack([one.argmax(axis=1) == labels[held] for one in found])
