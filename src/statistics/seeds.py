"""The variance between trainings with other seeds, beyond that of finitely many pictures.

Two trainings of one configuration differ on a few pictures by chance, and on N pictures that alone
makes their accuracies differ. Whether they differ by more is the ratio of two mean squares of the
crossed layout pictures x seeds. Jordan, "Calibrated Chaos: Variance Between Runs of Neural Network
Training is Harmless and Inevitable", arXiv 2304.01910, 2023, finds that ratio near one for common
trainings; it is not near one for unstable ones, so it is measured.

Three repeats hold two degrees of freedom, and one repeat none. The ratio is therefore shared
between candidates as far as they agree about it: Smyth, "Linear Models and Empirical Bayes Methods
for Assessing Differential Expression in Microarray Experiments", Stat. Appl. Genet. Mol. Biol.
2004. A ratio of variances, unlike a variance, is much the same for a candidate that is
right 70 % of the time and one that is right 99 %.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import digamma, gammaincinv, polygamma

from ..machine.arrays import BoolArray, Float32Array, Float64Array
from .picture_groups import PictureGroups
from .root_finding import root

__all__ = ["SeedSpread", "moderated", "seed_spread"]


# Degrees of freedom of the law that candidates' effects of seeds are taken to follow, at most, and
# for each that the repeats have: a few never show that all candidates are equally steady. Chosen
# on fields like those of `benchmarks/selection.py`, of other draws.
_LEAST_ALIKE, _PER_FREEDOM = 3.0, 0.15


@dataclass(frozen=True, eq=False)
class SeedSpread:
    """The effect of seeds on each of C candidates.

    Attributes:
        luck: (C,) variance of one training's accuracy that comes from its answers changing by
            chance on finite pictures; 0 for one whose repeats are all alike.
        excess: (C,) how many times `luck` the accuracies of trainings vary, at least 1.
        freedom: (C,) degrees of freedom behind `excess`, at least 1; infinite where `luck` is 0.
        ratio: (C,) what `excess` was for its own repeats alone, above 0.
        repeated: (C,) degrees of freedom behind `ratio`; 0 where it says nothing, because there is
            one repeat or `luck` is 0.
    """

    luck: Float64Array
    excess: Float64Array
    freedom: Float64Array
    ratio: Float64Array
    repeated: Float64Array

    @property
    def variance(self) -> Float64Array:
        """(C,) of the true accuracies of trainings, as infinitely many pictures would show them."""
        return (self.excess - 1) * self.luck

    @property
    def pooled(self) -> float:
        """Return the excess that all repeats show together, at least 1."""
        freedom = self.repeated.sum()
        return max(1.0, float(self.ratio @ self.repeated / freedom)) if freedom else 1.0

    def at_most(self, by_chance: float) -> float:
        """Return the excess above which these repeats would lie so close together by chance.

        An upper confidence limit of the excess of all, at least 1.

        Args:
            by_chance: how probable that is, within 0 and 1.
        """
        freedom = float(self.repeated.sum())
        if not freedom:
            return 1.0
        shown = float(self.ratio @ self.repeated)
        return max(1.0, shown / (2 * float(gammaincinv(freedom / 2, by_chance))))


def seed_spread(
    scores: Sequence[BoolArray | Float32Array], groups: PictureGroups | None = None
) -> SeedSpread | None:
    """Estimate the effect of seeds on C candidates; None where it cannot be estimated.

    A candidate with one repeat borrows both numbers from those with more. One whose repeats all
    predict alike (a method without a seed) has no spread, and lends none. If some have to borrow
    and none can lend, the result is None.

    Args:
        scores: C arrays (R, N), of each training on each picture, such as which it had right.
        groups: of the pictures; None where each is a group of its own.
    """
    count = scores[0].shape[1]
    groups = groups or PictureGroups.of(None, count)
    repeats = np.array([len(one) for one in scores])
    parts = np.array([_variances(one, groups) for one in scores])
    between, luck, single = parts.T
    # Accuracies are multiples of 1 / N. A variance below that of rounding to them cannot be seen.
    between = np.maximum(between, 1 / (12 * count**2))
    # The same for a single training that has everything right: half an answer short of it.
    single = np.maximum(single, 0.5 * (1 - 0.5 / count) / count**2)
    lends = (repeats > 1) & (luck > 0)
    alone = repeats == 1
    if not lends.any():
        one, none = np.ones_like(luck), np.zeros_like(luck)
        nothing = SeedSpread(luck, one, np.full_like(luck, math.inf), one, none)
        return None if alone.any() else nothing
    freedom = (repeats[lends] - 1).astype(np.float64)
    # One training cannot show how often another would answer differently; that it does so in
    # proportion to the variance between pictures is the assumption.
    luck[alone] = np.average(luck[lends] / single[lends], weights=freedom) * single[alone]
    ratios = between[lends] / luck[lends]
    prior, prior_freedom, excess, total = moderated(
        ratios, freedom, max(_LEAST_ALIKE, freedom.sum() * _PER_FREEDOM)
    )
    spread = SeedSpread(
        luck,
        excess=np.where(alone, max(1.0, prior), 1.0),
        freedom=np.where(alone, min(max(1.0, prior_freedom), freedom.sum()), math.inf),
        ratio=np.ones_like(luck),
        repeated=np.where(lends, repeats - 1.0, 0.0),
    )
    spread.excess[lends] = np.maximum(1.0, excess)
    spread.freedom[lends] = total
    spread.ratio[lends] = ratios
    return spread


def moderated(
    ratios: Float64Array, freedom: Float64Array, most: float = math.inf
) -> tuple[float, float, Float64Array, Float64Array]:
    """Shrink G estimated variances (or ratios of them) towards each other (Smyth 2004).

    Args:
        ratios: (G,) above 0, each `scale * chi2 / freedom`.
        freedom: (G,) degrees of freedom, at least 1.
        most: degrees of freedom of the common value, at most.

    Returns:
        The common value; its degrees of freedom, infinite where the G differ by no more than they
        would by chance; the G shrunken values; their degrees of freedom, never more than there
        are in all.
    """
    logs = np.log(ratios) - digamma(freedom / 2) + np.log(freedom / 2)
    group = len(ratios)
    beyond_chance = -1.0
    if group > 1:
        beyond_chance = float(np.mean((logs - logs.mean()) ** 2 * group / (group - 1)))
        beyond_chance -= float(np.mean(polygamma(1, freedom / 2)))
    everything = float(freedom.sum())
    common, prior = float(np.average(ratios, weights=freedom)), math.inf
    if beyond_chance > 0:
        half = root(lambda x: float(polygamma(1, x)) - beyond_chance, 1e-4, 1e8)
        common = math.exp(float(logs.mean()) + float(digamma(half)) - math.log(half))
        prior = 2 * half
    prior = min(prior, most)
    if not math.isfinite(prior):
        return common, prior, np.full(group, common), np.full(group, everything)
    shrunken = (prior * common + freedom * ratios) / (prior + freedom)
    return common, prior, shrunken, np.minimum(prior + freedom, everything)


def _variances(
    scores: BoolArray | Float32Array, groups: PictureGroups
) -> tuple[float, float, float]:
    """Return three variances of (R, N) scores.

    Returns:
        between the means of trainings, 0 for one; of one training's mean due to its scores
        changing by chance on finite groups, 0 for one; of one training's mean due to the groups.
    """
    repeats, count = scores.shape
    means = scores.mean(axis=1, dtype=np.float64)
    centred = scores - means[:, None].astype(np.float32)
    totals = groups.totals(centred)
    scale = groups.count / max(1, groups.count - 1) / count**2
    single = scale * float(np.einsum("rg,rg->", totals, totals, dtype=np.float64)) / repeats
    if repeats < 2 or groups.count < 2:
        return 0.0, 0.0, single
    totals = totals - totals.mean(axis=0)
    squares = float(np.einsum("rg,rg->", totals, totals, dtype=np.float64))
    luck = scale * squares / (repeats - 1)
    # What is left of rounding is no spread.
    return float(means.var(ddof=1)), luck if luck > 1e-12 * single else 0.0, single
