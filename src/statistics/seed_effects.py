"""The posterior distribution of the effect of seeds on a candidate.

`seeds` gives one figure of how much seeds move an accuracy, and the degrees of freedom behind it.
Where seeds are wild, and wilder for some candidates than for others, one figure is not enough. The
winner: of two candidates whose repeats look alike, the one whose seeds are wilder wins by luck more
often, so that winning itself says something about the figure. A difference: with two repeats of
each, whose figure is too small and whose is too large shows in none of them. Both are averaged over
every possible figure instead.

The effect of seeds is their variance in units of the luck of finite pictures. Among the candidates
of a field its logarithm follows a normal law, whose two numbers nobody knows and a few candidates
cannot tell. They are not estimated, therefore, but averaged over, as Gelman, "Prior Distributions
for Variance Parameters in Hierarchical Models", Bayesian Analysis 2006, advises. All of it happens
on a grid, where averages are sums.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from src.statistics.seeds import SeedSpread

__all__ = ["Belief", "pair_effects", "seed_effects"]

Floats = NDArray[np.float64]


class Belief(NamedTuple):
    """The prior of a field's seed effects.

    Attributes:
        median: the square root of the field's median effect follows half a Cauchy law of this
            scale: next to nothing for common trainings (see `seeds`), and any size for others.
        unlike: the standard deviation of the logarithms follows half a normal law of this scale.
            With 1.5 it is below that in two fields of three, and then the wildest of 20
            candidates has seeds four times as strong as the median's.
    """

    median: float
    unlike: float


# From seeds that do nothing to seeds that do everything.
_EFFECTS = np.geomspace(1e-3, 1e4, 65)


def seed_effects(spread: SeedSpread, candidate: int, belief: Belief) -> tuple[Floats, Floats]:
    """Return the posterior of the variance of a candidate's trainings, given the repeats of all.

    A candidate with one repeat knows of seeds what the others say about the field. The more
    repeats there are, the closer the variances are to what these show.

    Args:
        spread: of C candidates.
        candidate: index of the one.
        belief: about the field.

    Returns:
        (G,) variances of the true accuracies of its trainings, ascending; (G,) their
        probabilities.
    """
    (own,), share = _given_law(spread, [candidate], belief)
    return _EFFECTS * spread.luck[candidate], share @ own


def pair_effects(
    spread: SeedSpread, first: int, second: int, belief: Belief
) -> tuple[Floats, Floats, Floats]:
    """As `seed_effects`, of two candidates together: who knows of the one knows of the other.

    Returns:
        (G,) variances of the first, (G,) of the second, (G, G) the probabilities of both.
    """
    (one, other), share = _given_law(spread, [first, second], belief)
    together = (share[:, None] * one).T @ other
    return _EFFECTS * spread.luck[first], _EFFECTS * spread.luck[second], together


def _given_law(
    spread: SeedSpread, chosen: Sequence[int], belief: Belief
) -> tuple[list[Floats], Floats]:
    """(H, G) probabilities of each chosen one's effects under each law, (H,) those of the laws."""
    scale = 1 + _EFFECTS
    # A mean square is its own expectation times chi-square over its degrees of freedom.
    logs = -spread.repeated[:, None] / 2 * (np.log(scale) + spread.ratio[:, None] / scale)
    likelihood = np.exp(logs - logs.max(axis=1, keepdims=True))
    laws, before = _laws(belief)
    # A law of a field that leaves no room for a candidate must not become 0 / 0.
    of_law = np.maximum(likelihood @ laws.T, 1e-300)
    logs = before + np.log(of_law).sum(axis=0)
    share = np.exp(logs - logs.max())
    return [likelihood[c] * laws / of_law[c][:, None] for c in chosen], share / share.sum()


@cache
def _laws(belief: Belief) -> tuple[Floats, Floats]:
    """(H, G) laws that effects of a field might follow, and (H,) the logarithm of the belief."""
    logs = np.log(_EFFECTS)
    medians, unlike = (one.ravel() for one in np.meshgrid(logs, np.linspace(0.25, 4.0, 16)))
    laws = np.exp(-(((logs - medians[:, None]) / unlike[:, None]) ** 2) / 2)
    # Of the logarithm of a median: half a Cauchy law of x has density x / (1 + x^2) of log x.
    size = np.exp(medians / 2) / belief.median
    before = np.log(size / (1 + size**2)) - (unlike / belief.unlike) ** 2 / 2
    return laws / laws.sum(axis=1, keepdims=True), before
