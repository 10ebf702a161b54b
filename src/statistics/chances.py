"""The probability that each candidate is the best, and what choosing it is expected to cost."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..machine.arrays import Float64Array
from .evidence import Evidence
from .resampling import Errors

__all__ = ["Chances", "chances_of"]


class Chances(NamedTuple):
    """Probabilities of C candidates.

    Attributes:
        best: (C,) probability that a candidate is the best; they sum to 1.
        equal: (C,) probability that it is behind the best by no more than the band.
        loss: (C,) expected difference to the best, at least 0.
    """

    best: Float64Array
    equal: Float64Array
    loss: Float64Array


# Copies of one candidate differ by no more, and share the draws in which they come first.
_TOLERANCE = 1e-6
# Degrees of freedom with which a loss that may be of any size still has a mean.
_LEAST_FREEDOM = 2.0


def chances_of(evidence: Evidence, errors: Errors, band: float, seed: int = 0) -> Chances:
    """Return the probabilities, given the measured figures and their joint errors.

    Benavoli, Corani, Demsar & Zaffalon, "Time for a Change: a Tutorial for Comparing Multiple
    Classifiers Through Bayesian Analysis", JMLR 2017: a test cannot say that two candidates are
    equal, a probability can, with a region of practical equivalence. The true figures are drawn
    around the measured ones (a flat prior), so among many candidates the loss is rather too high.
    Few seeds or groups know their variance badly: the joint law is Student's then, with the freedom
    of the test between the first candidate and the one that is the hardest to tell from it. Two
    that this test cannot tell apart get no certainty from here.

    Args:
        evidence: of the candidates, the best first.
        errors: drawn from it.
        band: difference that counts as equal, at least 0.
        seed: of the draws of the variance.
    """
    freedom = _freedom(evidence)
    lost = expected = _lost(evidence, errors, freedom, seed)
    if evidence.lowest is None and freedom < _LEAST_FREEDOM:
        expected = _lost(evidence, errors, _LEAST_FREEDOM, seed)
    first = lost <= _TOLERANCE
    return Chances(
        best=(first / first.sum(axis=0)).mean(axis=1),
        equal=(lost <= band).mean(axis=1),
        loss=expected.mean(axis=1, dtype=np.float64),
    )


def _lost(evidence: Evidence, errors: Errors, freedom: float, seed: int) -> NDArray[np.float32]:
    """Return draws (C, draws) of the differences to the best, with so many degrees of freedom."""
    drawn = errors.drawn
    if math.isfinite(freedom):
        known = np.random.default_rng(seed).chisquare(freedom, drawn.shape[1]) / freedom
        drawn = drawn / np.sqrt(known).astype(np.float32)
    true = evidence.figure[:, None].astype(np.float32) - drawn
    lost = true.max(axis=0) - true
    if evidence.lowest is not None:
        np.minimum(lost, 1 - evidence.lowest, out=lost)
    return lost


def _freedom(evidence: Evidence) -> float:
    """Return the degrees of freedom of the first one's difference to its hardest rival."""
    if len(evidence.scores) == 1:
        return math.inf
    error = np.sqrt(evidence.difference_variance[0, 1:])
    rival = 1 + int(np.argmax(evidence.difference[0, 1:] / error))
    return evidence.difference_freedom(0, rival)
