"""Scaling of blocks of features and of principal components."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Self

import numpy as np
from sklearn.base import BaseEstimator, TransformerMixin

from ..machine.arrays import Float32Array

__all__ = ["BlockScaler", "PartWhitening"]

_ROUNDING = np.finfo(np.float32).eps


class BlockScaler(TransformerMixin, BaseEstimator):
    """A transformer that centres features and gives each block a total variance of 1.

    Args:
        sizes: features of each block, one after another.
        each: also give every feature of a block the same variance.

    Attributes:
        mean_: (D,) float32.
        scale_: (D,) float32, what centred features are multiplied by; 0 for one that never varies.
    """

    def __init__(self, sizes: Sequence[int] = (), each: bool = False) -> None:
        self.sizes = sizes
        self.each = each

    def fit(self, features: Float32Array, targets: Any = None) -> Self:
        """Fit to features (N, D)."""
        if sum(self.sizes) != features.shape[1]:
            raise ValueError(f"{features.shape[1]} features are no blocks of {list(self.sizes)}")
        means = features.mean(axis=0, dtype=np.float64)
        spread = features.var(axis=0, dtype=np.float64)
        self.mean_ = means.astype(np.float32)
        scales, ends = [], np.cumsum(self.sizes)[:-1]
        for centres, variances in zip(np.split(means, ends), np.split(spread, ends), strict=True):
            # Of a block of small numbers small variances count, and those of rounding in none.
            size = (centres**2 + variances).max(initial=0.0)
            varied = variances > np.maximum(1e-12 * min(1.0, size), (_ROUNDING * centres) ** 2)
            if not varied.any():
                scales.append(np.zeros_like(variances))
            elif self.each:
                scales.append(varied / np.sqrt(np.where(varied, variances, 1.0) * varied.sum()))
            else:
                scales.append(varied / np.sqrt(variances.sum()))
        self.scale_ = np.concatenate(scales).astype(np.float32)
        return self

    def transform(self, features: Float32Array) -> Float32Array:
        """Return features (N, D) scaled, (N, D)."""
        return (features - self.mean_) * self.scale_


class PartWhitening(TransformerMixin, BaseEstimator):
    """A transformer that whitens principal components in part.

    Divided by a power of their deviations, the first, mostly light and size, keep some of their
    weight, and the last, mostly noise, are not raised to that of the first as by whitening (Jegou &
    Chum, "Negative Evidences and Co-occurrences in Image Retrieval: The Benefit of PCA and
    Whitening", ECCV 2012).

    Args:
        power: of the deviations; 0 leaves all as it is, and 1 is whitening.

    Attributes:
        scale_: (D,) float32, what components are multiplied by; 0 for one that never varies.
    """

    def __init__(self, power: float = 0.5) -> None:
        self.power = power

    def fit(self, features: Float32Array, targets: Any = None) -> Self:
        """Fit to features (N, D)."""
        deviations = features.std(axis=0, dtype=np.float64)
        varied = deviations > 1e-6 * deviations.max(initial=0.0)
        scale = varied / np.where(varied, deviations, 1.0) ** self.power
        self.scale_ = scale.astype(np.float32)
        return self

    def transform(self, features: Float32Array) -> Float32Array:
        """Return features (N, D) scaled, (N, D)."""
        return features * self.scale_
