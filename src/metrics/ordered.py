"""Metrics of ordered classes, mean absolute error and quadratic kappa, and answers for them."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "MEDIAN",
    "expected_classes",
    "kappa_cuts",
    "kappa_influence",
    "mean_absolute_error",
    "probabilities_above",
    "quadratic_kappa",
]

Floats = NDArray[np.float64]
Classes = NDArray[np.integer[Any]]
# A class is passed where a higher one has at least this probability: what remains is the median,
# which of all answers has the least mean distance under these probabilities.
MEDIAN = 0.5


def mean_absolute_error(preds: Classes, targets: Classes) -> float:
    """Compute the mean distance of predicted classes to the targets, in classes.

    Args:
        preds, targets: (N,) in [0, K), N at least 1.
    """
    return float(np.abs(preds.astype(np.int64) - targets).mean())


def quadratic_kappa(preds: Classes, targets: Classes, num_classes: int) -> float:
    """Compute Cohen's kappa with quadratic weights, in [-1, 1].

    Cohen, "Weighted Kappa: Nominal Scale Agreement With Provision for Scaled Disagreement or
    Partial Credit", Psychological Bulletin 1968: one less the mean squared distance over the one
    that independent answers with the same shares of classes would have. 0 where all answers and
    all targets are one and the same class.

    Args:
        preds, targets: (N,) in [0, num_classes), N at least 1.
        num_classes: K.
    """
    observed, expected, _, _ = _distances(preds, targets, num_classes)
    return 1 - observed / expected if expected > 0 else 0.0


def kappa_influence(preds: Classes, targets: Classes, num_classes: int) -> Floats:
    """Return (N,) by how much each picture moves the quadratic kappa; their mean is 0."""
    observed, expected, of_preds, of_targets = _distances(preds, targets, num_classes)
    if expected == 0:
        return np.zeros(len(preds))
    steps = np.arange(num_classes)
    square = np.square(steps[:, None] - steps).astype(np.float64)
    own = square[targets, preds]
    others = (square @ of_preds)[targets] + (square @ of_targets)[preds]
    return -(own - observed) / expected + observed / expected**2 * (others - 2 * expected)


def expected_classes(probs: NDArray[np.floating[Any]]) -> Floats:
    """Return (N,) the means of the classes 0 to K - 1 under their probabilities (N, K)."""
    return probs.astype(np.float64) @ np.arange(probs.shape[1], dtype=np.float64)


def probabilities_above(probs: NDArray[np.floating[Any]]) -> Floats:
    """Return (N, K - 1) how probable a class above each but the highest is, of (N, K)."""
    return np.cumsum(probs[:, :0:-1], axis=1, dtype=np.float64)[:, ::-1]


def kappa_cuts(expected: Floats, targets: Classes, num_classes: int) -> Floats:
    """Return (K - 1,) ascending numbers: the answer is how many of them an expected class reaches.

    Quadratic kappa is 2 cov(t, p) / (var(t) + var(p) + (mean(t) - mean(p))^2) of targets t and
    answers p, Lin's coefficient of concordance ("A Concordance Correlation Coefficient to Evaluate
    Reproducibility", Biometrics 1989; that the two are one: Krippendorff, "Bivariate Agreement
    Coefficients for Reliability of Data", 1970). Of all lines p = a m + b through expected classes
    m it is largest on the one with the mean and the variance of the targets, whatever the
    covariance, as long as it is positive. So expected classes are stretched to these, since the
    mean of several classes lies nearer to the middle than a class does, and rounded.

    Args:
        expected: (N,) of pictures that the model was not trained on.
        targets: (N,) in [0, num_classes).
        num_classes: K.
    """
    borders: Floats = np.arange(num_classes - 1, dtype=np.float64) + 0.5
    if not len(targets) or np.ptp(expected) == 0 or np.ptp(targets) == 0:
        return borders  # nothing says how far to stretch
    scale = float(expected.std() / targets.std())
    return float(expected.mean()) + (borders - float(targets.mean())) * scale


def _distances(
    preds: Classes, targets: Classes, num_classes: int
) -> tuple[float, float, Floats, Floats]:
    """Return mean squared distances, observed and expected, and the shares of classes in both."""
    of_preds, of_targets = (
        np.bincount(classes, minlength=num_classes) for classes in (preds, targets)
    )
    count, steps = len(preds), np.arange(num_classes)
    # Sums of whole numbers: of one answer for everything the two are equal, and kappa is 0 exactly.
    expected = int(of_targets @ np.square(steps[:, None] - steps) @ of_preds) / count**2
    observed = int(np.square(preds.astype(np.int64) - targets).sum()) / count
    return observed, expected, of_preds / count, of_targets / count
