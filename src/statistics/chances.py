"""The probability that each candidate is the best, and what choosing it is expected to cost."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from .evidence import Evidence
from .resampling import Errors

__all__ = ["Chances", "chances_of"]

Floats = NDArray[np.float64]


class Chances(NamedTuple):
    """What is probable of C candidates.

    Attributes:
        best: (C,) probability that a candidate is the best; they sum to 1.
        equal: (C,) probability that it is behind the best by no more than the band.
        loss: (C,) expected difference to the best, at least 0.
    """

    best: Floats
    equal: Floats
    loss: Floats


# Copies of one candidate differ by no more, and share the draws in which they come first.
_LEVEL = 1e-6


def chances_of(evidence: Evidence, errors: Errors, band: float) -> Chances:
    """Return the probabilities, given the measured figures and their joint errors.

    Benavoli, Corani, Demsar & Zaffalon, "Time for a Change: a Tutorial for Comparing Multiple
    Classifiers Through Bayesian Analysis", JMLR 2017: a test cannot say that two candidates are
    equal, a probability can, with a region of practical equivalence. The true figures are drawn
    around the measured ones (a flat prior), so among many candidates the loss is rather too high.

    Args:
        evidence: of the candidates.
        errors: drawn from it.
        band: difference that counts as equal, at least 0.
    """
    true = evidence.figure[:, None].astype(np.float32) - errors.drawn
    lost = true.max(axis=0) - true
    first = lost <= _LEVEL
    return Chances(
        best=(first / first.sum(axis=0)).mean(axis=1),
        equal=(lost <= band).mean(axis=1),
        loss=lost.mean(axis=1, dtype=np.float64),
    )
