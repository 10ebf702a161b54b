"""The nearest class mean by a shrunk Mahalanobis distance."""

from __future__ import annotations

from abc import abstractmethod
from typing import Self

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, ClassifierMixin

from ..machine.arrays import Float32Array, Float64Array, Int64Array

__all__ = ["NearestMean", "ScoringClassifier", "gram"]

_BLOCK = 4096


class ScoringClassifier(ClassifierMixin, BaseEstimator):
    """A classifier of scikit-learn's kind that predicts the class with the highest score.

    Attributes:
        classes_: (K,).
    """

    classes_: Int64Array

    @abstractmethod
    def decision_function(self, features: Float32Array) -> Float64Array:
        """Return scores (N, K); of two classes (N,) of the second, as scikit-learn does."""

    def predict(self, features: Float32Array) -> Int64Array:
        """Return (N,) the classes with the highest scores."""
        scores = self.decision_function(features)
        best = (scores > 0).astype(np.int64) if scores.ndim == 1 else scores.argmax(axis=1)
        return self.classes_[best]


class NearestMean(ScoringClassifier):
    """A classifier by the nearest class mean under a shrunk Mahalanobis distance.

    The covariance within classes is shrunk towards equal variances without correlations (Friedman,
    "Regularized Discriminant Analysis", JASA 1989). With shrinkage 1 the distance is Euclidean, as
    in scikit-learn's NearestCentroid; below, the classifier is linear discriminant analysis with
    equal priors.

    Args:
        shrinkage: in (0, 1].

    Attributes:
        classes_: (K,).
        coef_: (K, D) float32.
        intercept_: (K,) float64.
    """

    def __init__(self, shrinkage: float = 0.1) -> None:
        self.shrinkage = shrinkage

    def fit(self, features: Float32Array, targets: Int64Array) -> Self:
        """Fit to features (N, D) and targets (N,)."""
        self.classes_, labels = np.unique(targets, return_inverse=True)
        rows = [features[labels == k] for k in range(len(self.classes_))]
        means = np.stack([own.mean(axis=0, dtype=np.float64) for own in rows])
        centre = means.mean(axis=0)
        weights = self._inverse(features - means.astype(np.float32)[labels], means - centre)
        self.coef_ = weights.astype(np.float32)
        # -|mean - x|^2 / 2 without what is the same for all classes.
        self.intercept_ = -0.5 * (weights * (means + centre)).sum(axis=1)
        return self

    def decision_function(self, features: Float32Array) -> Float64Array:
        """Return scores (N, K); of two classes (N,) of the second, as scikit-learn does."""
        scores: Float64Array = features @ self.coef_.T + self.intercept_
        return scores[:, 1] - scores[:, 0] if len(self.classes_) == 2 else scores

    def _inverse(self, within: Float32Array, means: Float64Array) -> Float64Array:
        """Means (K, D) times the inverse of the shrunk covariance of rows (N, D)."""
        from scipy.linalg import cho_factor, cho_solve

        variance = max(float(np.square(within, dtype=np.float64).sum(axis=0).mean()), 1e-12)
        variance /= len(within)
        if self.shrinkage >= 1:
            return means / variance
        ridge, share = self.shrinkage * variance, (1 - self.shrinkage) / len(within)
        if len(within) < within.shape[1]:
            # By Woodbury's identity a matrix of all pairs of rows does, which is the smaller one.
            rows = within.astype(np.float64)
            pairs = rows @ rows.T
            pairs[np.diag_indices(len(pairs))] += ridge / share
            factor = cho_factor(pairs, overwrite_a=True, check_finite=False)
            inner = cho_solve(factor, rows @ means.T, check_finite=False)
            return (means - inner.T @ rows) / ridge
        covariance = share * gram(within)
        covariance[np.diag_indices(len(covariance))] += ridge
        factor = cho_factor(covariance, overwrite_a=True, check_finite=False)
        found = cho_solve(factor, means.T, check_finite=False).T
        return found


def gram(rows: NDArray[np.floating]) -> Float64Array:
    """Return the sum of the outer products (D, D) of rows (N, D), in double precision.

    Block by block, so that no copy of all rows in double precision is made.
    """
    total = np.zeros((rows.shape[1], rows.shape[1]))
    for at in range(0, len(rows), _BLOCK):
        block = rows[at : at + _BLOCK].astype(np.float64)
        total += block.T @ block
    return total
