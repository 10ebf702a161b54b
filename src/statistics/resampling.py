"""Errors of the measured accuracies, resampled jointly for all candidates."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from scipy.special import gammaincinv

from src.statistics.evidence import Evidence

__all__ = ["Errors", "resample"]

Floats = NDArray[np.float64]

# So many weights are held at a time: 32 MB.
_WEIGHTS_AT_ONCE = 1 << 23
# With more degrees of freedom than this, Student's quantiles are the normal ones within 0.5 %.
_AS_GOOD_AS_NORMAL = 300.0


@dataclass(frozen=True, eq=False)
class Errors:
    """B joint draws of the errors of all accuracies.

    Attributes:
        drawn: (C, B) float32, by how much each accuracy might be too high.
        uniforms: (B,) in (0, 1), by which `student` draws.
    """

    drawn: NDArray[np.float32]
    uniforms: Floats
    _factors: dict[int, Floats] = field(default_factory=dict, init=False)

    def student(self, freedom: float) -> Floats:
        """(B,) factors that turn normal errors into Student's with this many degrees of freedom."""
        if freedom > _AS_GOOD_AS_NORMAL:
            return np.ones_like(self.uniforms)
        # The quantiles take longer than all the rest, and pairs differ little in their freedom:
        # those within 5 % of each other share the lowest of them.
        steps = math.floor(math.log(freedom) / 0.05)
        if steps not in self._factors:
            lowest = math.exp(0.05 * steps)
            chi_squares = 2 * gammaincinv(lowest / 2, self.uniforms)
            self._factors[steps] = np.sqrt(lowest / chi_squares)
        return self._factors[steps]


def resample(evidence: Evidence, draws: int = 1000, seed: int = 0) -> Errors:
    """Resample the errors of all accuracies by a bootstrap of pictures and seeds.

    Owen, "The Pigeonhole Bootstrap", Ann. Appl. Stat. 2007: the two factors of a crossed sample
    are drawn independently of each other. Pictures are resampled, the same ones for all
    candidates. Seeds are not: of two or three, resampling shows a half or two thirds of the
    variance, and of one it shows none. Their errors come from a normal law with the variance that
    `seeds` found, and `Errors.student` adds what that variance itself is unsure of.

    Args:
        evidence: of C candidates.
        draws: B, at least 1.
        seed: of the draws.
    """
    generator = np.random.default_rng(seed)
    count = evidence.pictures
    centred = evidence.right - evidence.accuracy[:, None].astype(np.float32)
    drawn = np.empty((len(centred), draws), np.float32)
    step = max(1, _WEIGHTS_AT_ONCE // count)
    for start in range(0, draws, step):
        size = min(step, draws - start)
        weights = np.empty((size, count), np.float32)
        for row in weights:
            row[:] = np.bincount(generator.integers(count, size=count), minlength=count)
        drawn[:, start : start + size] = centred @ weights.T
    drawn /= count
    if evidence.seed_variance.any():
        noise = generator.standard_normal(drawn.shape, dtype=np.float32)
        drawn += noise * np.sqrt(evidence.seed_variance)[:, None].astype(np.float32)
    return Errors(drawn, generator.random(draws))
