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
from numpy.typing import NDArray
from scipy.special import digamma, polygamma

from src.statistics.roots import root

__all__ = ["SeedSpread", "moderated", "seed_spread"]

Floats = NDArray[np.float64]


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

    luck: Floats
    excess: Floats
    freedom: Floats
    ratio: Floats
    repeated: Floats

    @property
    def variance(self) -> Floats:
        """(C,) of the true accuracies of trainings, as infinitely many pictures would show them."""
        return (self.excess - 1) * self.luck


def seed_spread(right: Sequence[NDArray[np.bool_]]) -> SeedSpread | None:
    """Estimate the effect of seeds on C candidates; None where it cannot be estimated.

    A candidate with one repeat borrows both numbers from those with more. One whose repeats all
    predict alike (a method without a seed) has no spread, and lends none. If some have to borrow
    and none can lend, the result is None.

    Args:
        right: C arrays (R, N), which training had which picture right.
    """
    repeats = np.array([len(one) for one in right])
    shares = np.array([one.mean() for one in right])
    squares = [_mean_squares(one) for one in right]
    count = right[0].shape[1]
    luck = np.array([chance / count for _, chance in squares])
    # Accuracies are multiples of 1 / N. A variance below that of rounding to them cannot be seen.
    between = np.array([max(seeds, 1 / (12 * count)) / count for seeds, _ in squares])
    lends = (repeats > 1) & (luck > 0)
    alone = repeats == 1
    if not lends.any():
        one, none = np.ones_like(luck), np.zeros_like(luck)
        nothing = SeedSpread(luck, one, np.full_like(luck, math.inf), one, none)
        return None if alone.any() else nothing
    freedom = (repeats[lends] - 1).astype(np.float64)
    # One training cannot show how often another would answer differently; that it does so in
    # proportion to the Bernoulli variance is the assumption.
    per_bernoulli = np.average(luck[lends] / _bernoulli(shares[lends], count), weights=freedom)
    luck[alone] = per_bernoulli * _bernoulli(shares[alone], count)
    ratios = between[lends] / luck[lends]
    prior, prior_freedom, excess, total = moderated(ratios, freedom)
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


def moderated(ratios: Floats, freedom: Floats) -> tuple[float, float, Floats, Floats]:
    """Shrink G estimated variances (or ratios of them) towards each other (Smyth 2004).

    Args:
        ratios: (G,) above 0, each `scale * chi2 / freedom`.
        freedom: (G,) degrees of freedom, at least 1.

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
    if beyond_chance <= 0:
        common = float(np.average(ratios, weights=freedom))
        return common, math.inf, np.full(group, common), np.full(group, everything)
    half = root(lambda x: float(polygamma(1, x)) - beyond_chance, 1e-4, 1e8)
    common = math.exp(float(logs.mean()) + float(digamma(half)) - math.log(half))
    prior = 2 * half
    shrunken = (prior * common + freedom * ratios) / (prior + freedom)
    return common, prior, shrunken, np.minimum(prior + freedom, everything)


def _mean_squares(right: NDArray[np.bool_]) -> tuple[float, float]:
    """Mean squares of seeds and of pictures x seeds, of (R, N) answers; 0 for one repeat."""
    repeats, count = right.shape
    if repeats < 2 or count < 2:
        return 0.0, 0.0
    of_seeds, of_pictures = right.mean(axis=1), right.mean(axis=0)
    mean = float(of_seeds.mean())
    seeds = count * float(((of_seeds - mean) ** 2).sum())
    pictures = repeats * float(((of_pictures - mean) ** 2).sum())
    total = repeats * count * mean * (1 - mean)
    chance = max(0.0, total - seeds - pictures) / ((repeats - 1) * (count - 1))
    # What is left of rounding is no spread.
    return seeds / (repeats - 1), chance if chance > 1e-12 else 0.0


def _bernoulli(shares: Floats, count: int) -> Floats:
    """Variance of a mean of `count` answers, kept off 0 by half an answer."""
    inside = np.clip(shares, 0.5 / count, 1 - 0.5 / count)
    return inside * (1 - inside) / count
