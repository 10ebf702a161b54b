"""Estimates of how well a frozen network's features suit a task, to rank networks by.

Each takes well under a second for a thousand pictures.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from sklearn.preprocessing import normalize

from ..machine.arrays import AnyArray, BoolArray, Float32Array, Float64Array, Int64Array
from ..metrics.multilabel import Sets, average_precisions, mean_average_precision
from ..targets import kind_of
from ..targets.labels import label_codes
from .calibration import folds_of, of_all_classes
from .paths import View, mean_scores, ridge_scores

__all__ = ["CrossValidated", "cross_validated", "gain", "logme"]

# The fixed point is reached when the ratio of the two precisions changes by less than this share.
_TOLERANCE, _MOST_ITERATIONS = 1e-3, 50
_FOLDS = 5
_RIDGES = (0.3, 1.0, 3.0, 10.0)
_SHRINKAGES = (0.1, 0.3, 0.5, 0.8)
_HEADS = len(_RIDGES) + len(_SHRINKAGES)


def logme(features: Float32Array, targets: AnyArray, num_classes: int) -> float:
    """Return the logarithm of the maximum evidence of linear models on features, a picture.

    The evidence p(y | F) of Bayesian linear regression on each class's indicator y, its weights
    N(0, 1 / alpha) and its noise N(0, 1 / beta), is maximised over alpha and beta by MacKay's fixed
    point, and its logarithms are averaged over the classes that have pictures: You et al., "LogME:
    Practical Assessment of Pre-trained Models for Transfer Learning" (ICML 2021); the iteration by
    way of the singular values follows You et al., "Ranking and Tuning Pre-trained Models" (JMLR
    2022). Higher is better; values compare for the same pictures only. 0 of label sets without any
    label.

    Args:
        features: (N, D), N at least 2.
        targets: (N,) in [0, num_classes), or label sets (N, num_classes) of 0 and 1.

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
    return float(np.mean(found) / count) if found else 0.0


def _spectrum(
    features: Float32Array, targets: AnyArray, num_classes: int
) -> tuple[Float64Array, Float64Array, Float64Array]:
    """Return squared singular values (r,), squares (r, K) of the indicators along the left singular
    vectors, and the indicators' own squares (K,)."""
    hits = np.eye(num_classes)[targets] if targets.ndim == 1 else targets.astype(np.float64)
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


@dataclass(frozen=True)
class CrossValidated:
    """What a quick head on features has reached on held-out pictures.

    Attributes:
        figure: accuracy, or the mean average precision of label sets, in [0, 1].
        moves: (N,) by how much each picture moves it, 0 on average.
        contents: (N,) equal where pictures share a fold, as of `held_together`.
    """

    figure: float
    moves: Float64Array
    contents: NDArray[np.generic]

    @property
    def error(self) -> float:
        """The standard error of the figure, in [0, 1]."""
        return _error(self.moves, self.contents)


def cross_validated(
    features: Float32Array, targets: AnyArray, contents: NDArray[np.generic], seed: int
) -> CrossValidated:
    """Return what a quick head on features reaches on held-out pictures.

    Features are centred and their rows scaled to length 1. The best of ridge regressions and
    nearest means counts, so the figure is a little too high, by the same luck for every network.
    Label sets have a head for each label against the rest, all of one strength.

    Args:
        features: (N, D) float32 of some hundred pictures.
        targets: (N,) labels of at least two classes, or label sets (N, K) of 0 and 1.
        contents: (N,) equal where pictures share a fold, as of `held_together`.
        seed: of the five folds.

    Raises:
        ValueError: there are fewer than two classes, or than two pictures that differ.
    """
    return (_by_classes if targets.ndim == 1 else _by_sets)(features, targets, contents, seed)


def gain(one: CrossValidated, other: CrossValidated) -> tuple[float, float]:
    """Return by how much other features of the same pictures are better, and its standard error.

    The error is that of paired differences, picture by picture, on the same folds.

    Args:
        one, other: of the same targets, contents and seed.
    """
    return other.figure - one.figure, _error(other.moves - one.moves, one.contents)


def _by_classes(
    features: Float32Array, targets: Int64Array, contents: NDArray[np.generic], seed: int
) -> CrossValidated:
    classes, labels = np.unique(targets, return_inverse=True)
    distinct = len(np.unique(contents))
    if len(classes) < 2 or distinct < 2:
        raise ValueError(
            f"{len(classes)} classes in {distinct} pictures that differ: at least 2 of each"
        )
    right = np.zeros((_HEADS, len(labels)))
    for train, held in folds_of(labels, contents, _FOLDS, seed):
        right[:, held] = _right(features, labels, train, held)
    best = right[right.mean(axis=1).argmax()]
    return CrossValidated(float(best.mean()), best - best.mean(), contents)


def _by_sets(
    features: Float32Array, targets: Sets, contents: NDArray[np.generic], seed: int
) -> CrossValidated:
    if len(np.unique(contents)) < 2:
        raise ValueError("1 picture that differs from others: at least 2 are needed")
    scores = np.zeros((_HEADS, *targets.shape), np.float32)
    for train, held in folds_of(label_codes(targets), contents, _FOLDS, seed):
        scores[:, held] = _label_scores(features, targets, train, held)
    found = [mean_average_precision(average_precisions(one, targets)) for one in scores]
    best = scores[int(np.argmax(found))]
    each = kind_of("multi").scores("map", best, targets, targets)
    return CrossValidated(max(found), each - each.mean(), contents)


def _error(moves: NDArray[np.floating], contents: NDArray[np.generic]) -> float:
    """Return the standard error of a figure by how each picture moves it, (N,), 0 on average.

    Copies of a picture, or those of a group, which have equal contents, are one observation.
    """
    known, group = np.unique(contents, return_inverse=True)
    spread = float(np.sqrt(np.square(np.bincount(group, moves)).sum())) / len(moves)
    # Where all are right there may still be others: Agresti and Coull's two more of each kind.
    least = np.sqrt(2 * (len(known) + 2)) / (len(known) + 4) ** 1.5
    return max(spread, float(least))


def _right(
    features: Float32Array, labels: Int64Array, train: Int64Array, held: Int64Array
) -> BoolArray:
    """Return (heads, M): which held-out pictures each head is right about."""
    known, own = np.unique(labels[train], return_inverse=True)
    if len(known) == 1:
        return np.tile(labels[held] == known[0], (_HEADS, 1))
    view = View.of(*_rows(features, train, held), own, len(known))
    classes = int(labels.max()) + 1
    found = [of_all_classes(one.astype(np.float64), known, classes) for one in _scores(view)]
    return np.stack([one.argmax(axis=1) == labels[held] for one in found])


def _label_scores(
    features: Float32Array, targets: Sets, train: Int64Array, held: Int64Array
) -> Float32Array:
    """Return (heads, M, K) scores of each label for the held-out pictures.

    They are 0 where all or none of the training pictures have the label.
    """
    found = np.zeros((_HEADS, len(held), targets.shape[1]), np.float32)
    labels = targets[train].astype(np.int64)
    view = View.of(*_rows(features, train, held), labels[:, 0], 2)
    for label in np.flatnonzero(labels.min(axis=0) < labels.max(axis=0)):
        own = replace(view, labels=labels[:, label])
        found[:, :, label] = [one[:, 1] - one[:, 0] for one in _scores(own)]
    return found


def _rows(
    features: Float32Array, train: Int64Array, held: Int64Array
) -> tuple[Float32Array, Float32Array]:
    """Return the training and the held-out features, centred, their rows of length 1."""
    mean = features[train].mean(axis=0, dtype=np.float64).astype(np.float32)
    return normalize(features[train] - mean), normalize(features[held] - mean)


def _scores(view: View) -> list[Float64Array]:
    """Return the scores of each head."""
    return [*ridge_scores(view, _RIDGES), *mean_scores(view, _SHRINKAGES)]
