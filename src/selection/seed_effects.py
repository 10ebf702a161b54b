"""All that the seeds might do to a candidate, each with how probable it is.

`seeds` gives one figure of how much seeds move an accuracy, and the degrees of freedom behind it.
That is enough for candidates that were named before. It is not for the winner: of two candidates
whose repeats look alike, the one whose seeds are wilder wins by luck more often, so that winning
itself says something about the figure. To take it into account every possible figure is needed.

The effect of seeds is their variance in units of the luck of finite pictures. Among the candidates
of a field its logarithm follows a normal law, whose two numbers nobody knows and a few candidates
cannot tell. They are not estimated, therefore, but averaged over, as Gelman, "Prior Distributions
for Variance Parameters in Hierarchical Models", Bayesian Analysis 2006, advises. All of it happens
on a grid, where averages are sums.
"""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.typing import NDArray

from src.selection.seeds import SeedSpread

__all__ = ["seed_effects"]

Floats = NDArray[np.float64]

# From seeds that do nothing to seeds that do everything.
_EFFECTS = np.geomspace(1e-3, 1e4, 65)
# What is thought of a field before it is seen. The square root of its median effect follows half a
# Cauchy law: next to nothing for common trainings (see `seeds`), and any size for others.
_MEDIAN = 0.1
# The standard deviation of the logarithms follows half a normal law: in two fields of three it is
# below 1.5, with which the wildest of 20 candidates has seeds four times as strong as the median's.
_UNLIKE = 1.5
# Both numbers were chosen on fields like those of `benchmarks/selection.py`, of other draws.


def seed_effects(spread: SeedSpread, candidate: int) -> tuple[Floats, Floats]:
    """What the variance of the candidate's trainings might be, given the repeats of all.

    A candidate with one repeat knows of seeds what the others say about the field. The more
    repeats there are, the closer the variances are to what these show.

    Args:
        spread: of C candidates.
        candidate: index of the one.

    Returns:
        (G,) variances of the true accuracies of its trainings, ascending; (G,) their
        probabilities.
    """
    scale = 1 + _EFFECTS
    # A mean square is its own expectation times chi-square over its degrees of freedom.
    logs = -spread.repeated[:, None] / 2 * (np.log(scale) + spread.ratio[:, None] / scale)
    likelihood = np.exp(logs - logs.max(axis=1, keepdims=True))
    laws, belief = _laws()
    # A law of a field that leaves no room for a candidate must not become 0 / 0.
    of_law = np.maximum(likelihood @ laws.T, 1e-300)
    logs = belief + np.log(of_law).sum(axis=0)
    share = np.exp(logs - logs.max()) / of_law[candidate]
    probability = likelihood[candidate] * (share @ laws)
    return _EFFECTS * spread.luck[candidate], probability / probability.sum()


@cache
def _laws() -> tuple[Floats, Floats]:
    """(H, G) laws that effects of a field might follow, and (H,) the logarithm of the belief."""
    logs = np.log(_EFFECTS)
    medians, unlike = (one.ravel() for one in np.meshgrid(logs, np.linspace(0.25, 4.0, 16)))
    laws = np.exp(-(((logs - medians[:, None]) / unlike[:, None]) ** 2) / 2)
    # Of the logarithm of a median: half a Cauchy law of x has density x / (1 + x^2) of log x.
    size = np.exp(medians / 2) / _MEDIAN
    belief = np.log(size / (1 + size**2)) - (unlike / _UNLIKE) ** 2 / 2
    return laws / laws.sum(axis=1, keepdims=True), belief
