"""Measured accuracies of all candidates, with variances and covariances due to pictures and seeds.

The accuracy of a configuration is its share of right answers over all pictures and all seeds. The
measured one is a mean over a crossed sample of both, so it errs twice: with the pictures, which
all candidates share (their errors go together, which is why paired comparisons are sharp), and
with the seeds, which each candidate draws for itself. Every interval and every test of this room
takes its errors from here.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from src.statistics.candidates import Candidate
from src.statistics.seeds import SeedSpread, seed_spread

__all__ = ["Evidence"]

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Evidence:
    """The answers of C candidates to the same N pictures.

    Attributes:
        right: (C, N) float32 in [0, 1], the share of its trainings that had the picture right.
        losses: (C, N) float32, their mean log-loss for the picture, in nats.
        repeats: (C,) trainings of each.
        seeds: the effect of other seeds, or None where no candidate has repeats; then
            everything is about the trained networks alone, not about their configurations.
    """

    right: NDArray[np.float32]
    losses: NDArray[np.float32]
    repeats: NDArray[np.int64]
    seeds: SeedSpread | None

    @classmethod
    def of(cls, candidates: Sequence[Candidate]) -> Evidence:
        """Build it from the candidates.

        Raises:
            ValueError: no candidates, fewer than two pictures, or different numbers of them.
        """
        if not candidates:
            raise ValueError("There are no candidates to compare.")
        counts = {one.right.shape[1] for one in candidates}
        if len(counts) > 1 or counts == {1}:
            found = ", ".join(map(str, sorted(counts)))
            raise ValueError(
                f"The candidates were measured on {found} pictures: it must be the same pictures "
                "for all, and at least two."
            )
        return cls(
            right=np.stack([one.right.mean(axis=0, dtype=np.float32) for one in candidates]),
            losses=np.stack([one.losses for one in candidates]),
            repeats=np.array([len(one.right) for one in candidates]),
            seeds=seed_spread([one.right for one in candidates]),
        )

    @property
    def pictures(self) -> int:
        """N, the number of pictures."""
        return self.right.shape[1]

    @cached_property
    def accuracy(self) -> Floats:
        """(C,) mean over pictures and repeats."""
        return self.right.mean(axis=1, dtype=np.float64)

    @cached_property
    def seed_variance(self) -> Floats:
        """(C,) variance of `accuracy` due to the seeds."""
        if self.seeds is None:
            return np.zeros(len(self.right))
        return self.seeds.variance / self.repeats

    @cached_property
    def picture_variance(self) -> Floats:
        """(C,) variance of `accuracy` due to the pictures."""
        squares = np.einsum("cn,cn->c", self.right, self.right, dtype=np.float64)
        spread = np.maximum(squares / self.pictures - self.accuracy**2, 0.0)
        return spread / (self.pictures - 1)

    @cached_property
    def variance(self) -> Floats:
        """(C,) variance of `accuracy`, of pictures and seeds together."""
        return self.picture_variance + self.seed_variance

    @cached_property
    def freedom(self) -> Floats:
        """(C,) degrees of freedom of `variance`, as the seeds leave them."""
        return np.array([self._freedom(self.variance[c], c) for c in range(len(self.right))])

    @cached_property
    def together(self) -> NDArray[np.float32]:
        """(C, C) on how many pictures two candidates are both right, in shares of trainings."""
        return self.right @ self.right.T

    def covariance(self, candidate: int) -> Floats:
        """(C,) covariance of its `accuracy` with that of every candidate, itself included."""
        both = self.together[candidate].astype(np.float64) / self.pictures
        shared = (both - self.accuracy * self.accuracy[candidate]) / (self.pictures - 1)
        shared[candidate] = self.variance[candidate]
        return shared

    @cached_property
    def difference(self) -> Floats:
        """(C, C) accuracy of the column's candidate minus that of the row's, after two pictures.

        Two pictures more are counted, one that each of the two alone has right: with trainings
        that hardly ever disagree this keeps intervals honest, and with single trainings it is the
        interval of Bonett & Price, "Adjusted Wald Confidence Interval for a Difference of Binomial
        Proportions Based on Paired Data", J. Educ. Behav. Stat. 2012.
        """
        apart = self.accuracy[None, :] - self.accuracy[:, None]
        return apart * (self.pictures / (self.pictures + 2))

    @cached_property
    def difference_variance(self) -> Floats:
        """(C, C) variance of `difference`, never 0."""
        squares = np.diagonal(self.together).astype(np.float64)
        apart = squares[None, :] + squares[:, None] - 2.0 * self.together
        np.maximum(apart, 0.0, out=apart)
        enlarged = self.pictures + 2
        of_pictures = ((apart + 2) / enlarged - self.difference**2) / enlarged
        return of_pictures + self.seed_variance[None, :] + self.seed_variance[:, None]

    def difference_freedom(self, first: int, second: int) -> float:
        """Degrees of freedom of the variance of a difference, as the seeds leave them."""
        return self._freedom(float(self.difference_variance[second, first]), first, second)

    def _freedom(self, variance: float, *involved: int) -> float:
        """Satterthwaite, "An Approximate Distribution of Estimates of Variance Components", 1946.

        The pictures' part of the variance counts as known, being a mean over hundreds of them.
        """
        if self.seeds is None:
            return math.inf
        chosen = list(involved)
        uncertain = float((self.seeds.excess * self.seeds.luck / self.repeats)[chosen].sum())
        if uncertain == 0:
            return math.inf
        return float(self.seeds.freedom[chosen].min()) * max(1.0, variance / uncertain) ** 2
