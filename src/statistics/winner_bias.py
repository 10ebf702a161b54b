"""By how much the first of many is too good, on the average over all that might have come first."""

from __future__ import annotations

import numpy as np

from src.statistics.evidence import Evidence
from src.statistics.resampling import Errors

__all__ = ["too_good"]


def too_good(evidence: Evidence, errors: Errors) -> float:
    """The mean error of whoever comes first, at least 0: the winner's curse in shares.

    Fields are drawn around supposed true accuracies, and whoever is first in each is as much too
    good as its error. The supposed ones are the measured ones drawn together, because errors have
    spread these apart: to the spread that is left when the errors' own is taken off (Louis,
    "Estimating a Population of Parameter Values Using Bayes and Empirical Bayes Methods", JASA
    1984). Among equals that is no spread at all, and far ahead there is nothing to correct.

    The median given that this one won, as Andrews, Kitagawa & McCloskey have it (see `winner`), is
    off by several points near ties: in `benchmarks/selection.py` it errs by more than the measured
    accuracy does, and this by a third less.

    Args:
        evidence: of C candidates.
        errors: resampled from `evidence`.
    """
    measured, drawn = evidence.accuracy, errors.drawn
    apart = measured - measured.mean()
    spread = float((apart**2).mean())
    if spread > 0:
        by_error = float(((drawn - drawn.mean(axis=0)) ** 2).mean(dtype=np.float64))
        apart = apart * np.sqrt(max(0.0, 1 - by_error / spread))
    first = (apart[:, None] + drawn).argmax(axis=0)
    return max(0.0, float(drawn[first, np.arange(drawn.shape[1])].mean(dtype=np.float64)))
