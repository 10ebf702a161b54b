"""Looks at the same candidates again and again, while some of them get further seeds.

A test that is repeated until it finds something finds something in the end. So each look has a
level of its own, and the levels of all looks sum to that of a single one (spending: Lan & DeMets,
"Discrete Sequential Boundaries for Clinical Trials", Biometrika 1983; for candidates that are left
out one by one: Even-Dar, Mannor & Mansour, "Action Elimination and Stopping Conditions for the
Multi-Armed Bandit and Reinforcement Learning Problems", JMLR 2006). Nothing is taken for granted
about how the looks depend on each other, as they do here by the pictures, which stay the same.
"""

from __future__ import annotations

import numpy as np
from scipy.special import ndtr

from ..machine.arrays import BoolArray
from .evidence import Evidence

__all__ = ["WORTH_SEEDS", "decided_by_seeds", "look_confidence", "seeds_until_next_look"]

# Of `decided_by_seeds`: with less, further seeds are wasted.
WORTH_SEEDS = 0.05
# Of all looks together.
_CONFIDENCE = 0.95


def look_confidence(look: int) -> float:
    """Return the confidence that a look needs for all after the first to hold together with 95 %.

    The second look has a half of the level, the third a sixth, the k-th 1 / (k (k - 1)): they sum
    to the level, however many there are. The first look keeps all of it. That adds nothing to the
    claim that the truly best is among the tied: a comparison with the best leaves it out with half
    of the level at most (see `compare_with_best`), at the first look and at all later ones.

    Args:
        look: from 1.
    """
    return _CONFIDENCE if look == 1 else 1 - (1 - _CONFIDENCE) / (look * (look - 1))


def seeds_until_next_look(seeds: int, tied: int, left: int, first: bool) -> int:
    """Return how many further seeds each of the tied candidates gets before the next look.

    As many as it has, so that looks are few and each costs little; fewer if no more are left, but
    then half as many at least, since a look takes more of the level than a few seeds bring.

    Args:
        seeds: that each of them has.
        tied: number of candidates.
        left: trainings that may still be made.
        first: whether no further seeds were trained before, where any number is worth a look.

    Returns:
        0 if no further look is worth its trainings.
    """
    each = min(seeds, left // tied)
    return each if first or 2 * each >= seeds else 0


def decided_by_seeds(evidence: Evidence, tied: BoolArray, quantile: float) -> float | None:
    """Return the probability that further seeds alone would tell the first from another one tied.

    Of any number of seeds: their effect would be known then, and what the pictures leave open would
    stay as it is. The difference that would be measured is normal around that of now, with the
    variance that comes from seeds (predictive power: Spiegelhalter, Freedman & Blackburn,
    "Monitoring Clinical Trials: Conditional or Predictive Power?", Controlled Clin. Trials 1986).

    Args:
        evidence: of C candidates, the best first.
        tied: (C,) bool.
        quantile: of the normal law, that the test asks for.

    Returns:
        a probability for the one of the others that is the most likely to be found different from
        the first;
        None if nothing is known of seeds, or nothing is tied with the first.
    """
    others = np.flatnonzero(tied)[1:]
    if evidence.seeds is None or not len(others):
        return None
    ahead = -evidence.difference[0, others]
    of_seeds = evidence.seed_variance[0] + evidence.seed_variance[others]
    of_pictures = evidence.difference_variance[0, others] - of_seeds
    needed = quantile * np.sqrt(of_pictures)
    error = np.sqrt(np.maximum(of_seeds, np.finfo(np.float64).tiny))
    found = ndtr((ahead - needed) / error) + ndtr((-ahead - needed) / error)
    return float(found.max())
