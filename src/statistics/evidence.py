"""Measured figures of all candidates, with variances and covariances due to pictures and seeds.

The figure of a configuration is its mean score over all pictures and all seeds. The measured one
is a mean over a crossed sample of both, so it errs twice: with the pictures, drawn in groups, which
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
from scipy.special import ndtr, ndtri, stdtrit

from ..machine.arrays import Float32Array, Float64Array, Int64Array
from ..metrics.share_intervals import variance_freedom
from .candidates import Candidate
from .picture_groups import PictureGroups
from .seeds import SeedSpread, seed_spread

__all__ = ["Evidence", "normal_quantile", "student_quantile"]


# Of a variance of differences: nothing is divided by 0, and two candidates that answer alike differ
# by no more than the draws of their errors do (see `resampling`), in units of the largest variance.
_LEAST_VARIANCE, _LEAST_VARIANCE_SHARE = 1e-12, 1e-5


@dataclass(frozen=True, eq=False)
class Evidence:
    """The scores of C candidates on the same N pictures in G groups.

    Attributes:
        scores: (C, N) float32, mean over its trainings, higher for better.
        accuracy: (C,) share of right answers.
        repeats: (C,) trainings of each.
        groups: of the pictures.
        seeds: the effect of other seeds, or None where no candidate has repeats; then
            everything is about the trained networks alone, not about their configurations.
        lowest: the worst figure that there can be where the best is 1: 0 of shares, -1 of kappa;
            None of losses, which have no such ends.
        binary: whether answers are right or wrong, so that their variance follows from the share.
    """

    scores: Float32Array
    accuracy: Float64Array
    repeats: Int64Array
    groups: PictureGroups
    seeds: SeedSpread | None
    lowest: float | None = 0.0
    binary: bool = True

    @classmethod
    def of(
        cls,
        candidates: Sequence[Candidate],
        groups: Int64Array | None = None,
        *,
        lowest: float | None = 0.0,
    ) -> Evidence:
        """Build it from the candidates.

        Args:
            candidates: measured on the same pictures.
            groups: (N,) group of each picture; None where each is a group of its own.
            lowest: see the attributes.

        Raises:
            ValueError: no candidates, fewer than two pictures, different numbers of them, or groups
                that do not fit.
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
        grouped = PictureGroups.of(groups, counts.pop())
        return cls(
            scores=np.stack([one.values.mean(axis=0, dtype=np.float32) for one in candidates]),
            accuracy=np.array([one.right.mean() for one in candidates]),
            repeats=np.array([len(one.right) for one in candidates]),
            groups=grouped,
            seeds=seed_spread([one.values for one in candidates], grouped),
            lowest=lowest,
            binary=candidates[0].scores is None,
        )

    @property
    def is_share(self) -> bool:
        """Whether figures lie in [0, 1], as if answers were right or wrong."""
        return self.lowest == 0

    @property
    def pictures(self) -> int:
        """N, the number of pictures."""
        return self.scores.shape[1]

    @cached_property
    def figure(self) -> Float64Array:
        """(C,) mean score over pictures and repeats."""
        return self.scores.mean(axis=1, dtype=np.float64)

    @cached_property
    def influence(self) -> Float32Array:
        """(C, G) by how much each group moves the figure: the sum of squares is its variance."""
        centred = self.scores - self.figure[:, None].astype(np.float32)
        scale = math.sqrt(self.groups.count / (self.groups.count - 1)) / self.pictures
        return (self.groups.totals(centred) * np.float32(scale)).astype(np.float32, copy=False)

    @cached_property
    def shared(self) -> Float32Array:
        """(C, C) covariances of the figures due to the pictures."""
        return self.influence @ self.influence.T

    @cached_property
    def picture_variance(self) -> Float64Array:
        """(C,) variance of `figure` due to the pictures."""
        return np.diagonal(self.shared).astype(np.float64)

    @cached_property
    def seed_variance(self) -> Float64Array:
        """(C,) variance of `figure` due to the seeds."""
        if self.seeds is None:
            return np.zeros(len(self.scores))
        return self.seeds.variance / self.repeats

    @cached_property
    def variance(self) -> Float64Array:
        """(C,) variance of `figure`, of pictures and seeds together."""
        return self.picture_variance + self.seed_variance

    @cached_property
    def design_effect(self) -> float:
        """Variance due to the pictures in units of that of independent right and wrong answers.

        One for all candidates, as they share the pictures: 1 for the accuracy of single trainings
        on pictures that are independent, and more where groups answer alike.
        """
        bernoulli = self.accuracy * (1 - self.accuracy) / self.pictures
        if bernoulli.sum() == 0:
            return self.pictures / self.groups.count if self.lowest is not None else 0.0
        found = float(self.picture_variance.sum() / bernoulli.sum())
        return found if self.lowest is None else max(1.0, found)

    @cached_property
    def freedom(self) -> Float64Array:
        """(C,) degrees of freedom of `variance`, as groups and seeds leave them."""
        return self.freedom_of(self.variance)

    def freedom_of(self, variance: Float64Array) -> Float64Array:
        """(C,) degrees of freedom of a variance of each that holds all of its `seed_variance`."""
        return np.array([self._freedom(float(one), c) for c, one in enumerate(variance)])

    @cached_property
    def difference(self) -> Float64Array:
        """(C, C) figure of the column's candidate minus that of the row's.

        Of shares after two pictures more, one that each of the two alone has right: with
        trainings that hardly ever disagree this keeps the coverage of intervals, and with single
        trainings on independent pictures it is the interval of Bonett & Price, "Adjusted Wald
        Confidence Interval for a Difference of Binomial Proportions Based on Paired Data", J. Educ.
        Behav. Stat. 2012.
        """
        found = self.figure[None, :] - self.figure[:, None]
        return found * (self.pictures / (self.pictures + 2)) if self.is_share else found

    @cached_property
    def difference_variance(self) -> Float64Array:
        """(C, C) variance of `difference`, never 0."""
        shared = self.shared.astype(np.float64)
        own = np.diagonal(shared)
        variance = np.maximum(own[None, :] + own[:, None] - 2.0 * shared, 0.0)
        if self.is_share:
            # The pictures that are counted more weigh as much as one of a group of the others.
            more = 2 * self.design_effect * (1 + self.difference**2 * (1 + 2 / self.pictures))
            variance = (variance * self.pictures**2 + more) / (self.pictures + 2) ** 2
        variance = np.maximum(
            variance, max(_LEAST_VARIANCE, _LEAST_VARIANCE_SHARE * float(own.max()))
        )
        return variance + self.seed_variance[None, :] + self.seed_variance[:, None]

    def difference_freedom(self, first: int, second: int) -> float:
        """Degrees of freedom of the variance of a difference, as groups and seeds leave them."""
        return self._freedom(float(self.difference_variance[second, first]), first, second)

    def _picture_freedom(self, chosen: list[int]) -> float:
        """Degrees of freedom of the variance of one figure, or of a difference, due to pictures."""
        known = math.inf
        if self.groups.order is not None:
            known = max(1.0, self.groups.effective - 1)
        if self.binary:
            return known
        influence = self.influence[chosen[:1]] - (self.influence[chosen[1:]] if chosen[1:] else 0)
        return min(known, variance_freedom(influence))

    def _freedom(self, variance: float, *involved: int) -> float:
        """Satterthwaite, "An Approximate Distribution of Estimates of Variance Components", 1946.

        The variance between independent answers that are right or wrong counts as known, being a
        mean over hundreds. Satterthwaite weighs by the shares of the true variances. An estimate in
        their place is small where the repeats of a candidate lie close together by luck, whose
        variance is too small already. So each share is one of a variance where seeds have at least
        the effect that the field's repeats show together.
        """
        if variance <= 0:
            return math.inf
        chosen = list(involved)
        of_pictures = max(0.0, variance - float(self.seed_variance[chosen].sum()))
        moved, freedom = 0.0, math.inf
        if self.seeds is not None:
            luck = (self.seeds.luck / self.repeats)[chosen]
            usual = np.maximum(self.seeds.excess[chosen], self.seeds.pooled)
            moved = float((usual * luck).sum())
            variance += moved - float((self.seeds.excess[chosen] * luck).sum())
            freedom = float(self.seeds.freedom[chosen].min())
        inverse = min(1.0, moved / variance) ** 2 / freedom
        inverse += (of_pictures / variance) ** 2 / self._picture_freedom(chosen)
        return 1 / inverse if inverse > 0 else math.inf


def student_quantile(normal: float, freedom: float) -> float:
    """Return the quantile of Student's law that is as rare as the normal law's quantile `normal`.

    Args:
        normal: at least 0.
        freedom: degrees of freedom; infinite gives `normal` itself.
    """
    if not math.isfinite(freedom):
        return normal
    return float(-stdtrit(freedom, ndtr(-normal)))


def normal_quantile(confidence: float) -> float:
    """Return the quantile of the normal law that errors of both signs exceed in 1 - confidence.

    Raises:
        ValueError: confidence is not within 0 and 1.
    """
    if not 0 < confidence < 1:
        raise ValueError(f"confidence is {confidence}: it must be above 0 and below 1.")
    return float(ndtri((1 + confidence) / 2))
