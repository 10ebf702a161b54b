"""The winner's curse: by how much the figure of a candidate that was picked is too good.

The largest of many measured figures is, on the average, too large. How much depends on how close
the others came, and on how far their errors go together with the winner's. What is expected of the
true figure, given all measured ones, does not depend on how one of them was picked, if the field's
true figures follow a law that is known (Efron, "Tweedie's Formula and Selection Bias", JASA 2011).
That law is estimated from the field, as a mixture of any shape (Kiefer & Wolfowitz, Ann. Math.
Statist. 1956; Koenker & Mizera, JASA 2014): among equals it is a point, and all that is measured
apart is luck; a search's long tail of bad trials does not make its best ones any less alike.
"""

from __future__ import annotations

import math

import numpy as np

from ..machine.arrays import Float64Array
from ..metrics.share_intervals import variance_freedom
from .evidence import Evidence

__all__ = ["expected_figure", "expected_figures"]


_GRID_POINTS, _EM_STEPS = 120, 20
# Of the standard error of a ratio of two variances. Chosen on fields like those of
# `benchmarks/selection.py`, of other draws: with more, less luck is left among equals, and more is
# taken from candidates that differ. Of five candidates on 60 groups of pictures 0.3 points are left
# if they are equal, and 0.3 are taken too much if they differ by as much as they err.
_ERRORS_OF_RATIO = 0.7
_LEAST_BINOMIAL_VARIANCE, _MOST_FREEDOM = 1e-6, 1e6


def expected_figure(evidence: Evidence, winner: int) -> float:
    """Return what is expected of the true figure of a candidate that was picked.

    Args:
        evidence: of C candidates.
        winner: index of the one.
    """
    count = len(evidence.scores)
    if count == 1:
        return float(evidence.figure[winner])
    # Errors that all candidates share move none of them ahead; the mean holds a share of each.
    deviations = evidence.influence - evidence.influence.mean(axis=0)
    variance = np.einsum("cg,cg->c", deviations, deviations, dtype=np.float64)
    variance += (1 - 2 / count) * evidence.seed_variance + evidence.seed_variance.mean() / count
    variance *= count / (count - 1)
    known = variance_freedom(deviations), evidence.freedom_of(variance)
    expected = expected_figures(evidence.figure, variance, *known)
    if evidence.is_share:
        # The first have few errors by luck, so that they seem to vary less than they do.
        own, likely = (
            np.clip(p * (1 - p), _LEAST_BINOMIAL_VARIANCE, None)
            for p in (evidence.figure, expected)
        )
        for repeats in np.unique(evidence.repeats):
            alike = evidence.repeats == repeats
            variance[alike] = likely[alike] * variance[alike].sum() / own[alike].sum()
        expected = expected_figures(evidence.figure, variance, *known)
    return float(expected[winner])


def expected_figures(
    measured: Float64Array,
    variance: Float64Array,
    freedom: float = math.inf,
    of_each: Float64Array | None = None,
) -> Float64Array:
    """Return (C,) posterior means of the true figures under the law that suits the field best.

    Args:
        measured: (C,) figures.
        variance: (C,) of the errors by which they differ.
        freedom: degrees of freedom of their mean variance.
        of_each: (C,) degrees of freedom of each variance, whose errors are Student's: who is far
            ahead, and whose variance few repeats know, may have a larger one. None where the
            variances are known.
    """
    spread = float(measured.max() - measured.min())
    if spread == 0 or not (variance > 0).any():
        return measured.copy()
    least = np.maximum(variance, 1e-6 * float(variance.max()))
    grid = np.linspace(measured.min(), measured.max(), _GRID_POINTS)
    logs = -((measured[:, None] - grid) ** 2) / (2 * least[:, None])
    if of_each is not None:
        own = np.minimum(of_each, _MOST_FREEDOM)[:, None]
        logs = -(own + 1) / 2 * np.log1p(-2 * logs / own)
    # From the normal law with the moments of the field: with few candidates, the law that suits
    # best would take luck for a shape.
    centre = float(measured.mean())
    # A spread that errors alone might well have is taken for theirs.
    by_chance = math.sqrt(2 / (len(measured) - 1) + 2 / freedom)
    of_errors = float(least.mean()) * (1 + _ERRORS_OF_RATIO * by_chance)
    of_truths = max(float(measured.var(ddof=1)) - of_errors, (spread / _GRID_POINTS) ** 2)
    given = _shares(logs - (grid - centre) ** 2 / (2 * of_truths))
    for _ in range(_EM_STEPS):
        weights = given.mean(axis=0)
        given = _shares(logs + np.log(np.maximum(weights, np.finfo(np.float64).tiny)))
    expected: Float64Array = given @ grid
    return expected


def _shares(logs: Float64Array) -> Float64Array:
    """Return (C, P) the exponentials of logarithms, each row of which sums to 1.

    One whose error is tiny may lie so far from the field that none of its own is a number above 0.
    """
    shares: Float64Array = np.exp(logs - logs.max(axis=1, keepdims=True))
    shares /= shares.sum(axis=1, keepdims=True)
    return shares
