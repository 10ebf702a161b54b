"""Errors of the measured figures, drawn jointly for all candidates."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from ..machine.arrays import Float32Array
from .evidence import Evidence

__all__ = ["Errors", "joint_normal", "resample"]


@dataclass(frozen=True, eq=False)
class Errors:
    """B joint draws of the errors of all figures.

    Attributes:
        drawn: (C, B) float32, by how much each figure might be too high.
        standard: (C, B) float32, the same in standard errors; 0 for one that does not vary.
    """

    drawn: Float32Array

    @cached_property
    def standard(self) -> Float32Array:
        scale = np.sqrt(np.einsum("cb,cb->c", self.drawn, self.drawn) / self.drawn.shape[1])
        return self.drawn / np.where(scale > 0, scale, 1.0).astype(np.float32)[:, None]


def resample(evidence: Evidence, draws: int = 1000, seed: int = 0) -> Errors:
    """Draw the errors of all figures from the normal law with the covariances of the evidence.

    It is the bootstrap of groups with normal weights, the same ones for all candidates (the
    multiplier bootstrap: Chernozhukov, Chetverikov & Kato, "Gaussian Approximations and Multiplier
    Bootstrap for Maxima of Sums of High-Dimensional Random Vectors", Annals of Statistics 2013).
    Seeds are not resampled: of two or three, that shows a half or two thirds of their variance, and
    of one none. Their errors have the variance that `seeds` found.

    Args:
        evidence: of C candidates.
        draws: B, at least 1.
        seed: of the draws.
    """
    generator = np.random.default_rng(seed)
    if evidence.groups.count > len(evidence.scores):
        drawn = joint_normal(evidence.shared, draws, generator)
    else:
        weights = generator.standard_normal((evidence.groups.count, draws), np.float32)
        drawn = np.asarray(evidence.influence @ weights, np.float32)
    if evidence.seed_variance.any():
        noise = generator.standard_normal(drawn.shape, dtype=np.float32)
        drawn += noise * np.sqrt(evidence.seed_variance)[:, None].astype(np.float32)
    return Errors(drawn)


def joint_normal(
    covariance: NDArray[np.floating], draws: int, generator: np.random.Generator
) -> Float32Array:
    """Return (C, B) float32 draws from the normal law with a mean of 0.

    Args:
        covariance: (C, C), of any rank.
        draws: B.
        generator: of the draws.
    """
    # Copies of a candidate, and rounding, leave no Cholesky root.
    values, vectors = np.linalg.eigh(covariance.astype(np.float64))
    root = (vectors * np.sqrt(np.maximum(values, 0.0))).astype(np.float32)
    weights = generator.standard_normal((len(covariance), draws), np.float32)
    return np.asarray(root @ weights, np.float32)
