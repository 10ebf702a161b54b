"""The power of a paired comparison: detectable differences, and pictures needed."""

from __future__ import annotations

import math

import numpy as np
from scipy.special import ndtri

from src.records.comparison import Power
from src.statistics.evidence import Evidence
from src.statistics.roots import root

__all__ = ["pictures_needed", "power_of_pair", "smallest_detectable_gap"]


def power_of_pair(
    evidence: Evidence, first: int, second: int, level: float = 0.05, power: float = 0.8
) -> Power:
    """Return the pictures and repeats needed to detect the measured difference of two candidates.

    Args:
        evidence: of the candidates.
        first, second: which two.
        level: two-sided, of the test.
        power: probability that the test finds the difference.
    """
    apart = (evidence.right[first] - evidence.right[second]).astype(np.float64)
    gap, changed = abs(float(apart.mean())), float(np.mean(apart**2))
    repeats = int(min(evidence.repeats[[first, second]]))
    seeds = float(evidence.seed_variance[[first, second]].sum())
    smallest = smallest_detectable_gap(changed, evidence.pictures, seeds, level, power)
    if gap == 0:
        return Power(0.0, smallest, None, repeats)
    # Half of what the test can bear goes to the seeds at most; the other half is for the pictures.
    bearable = (gap / (ndtri(1 - level / 2) + ndtri(power))) ** 2 / 2
    wanted = repeats if seeds <= bearable else math.ceil(repeats * seeds / bearable)
    pictures = pictures_needed(gap, changed, seeds * repeats / wanted, level, power)
    return Power(gap, smallest, pictures, wanted)


def pictures_needed(
    gap: float, changed: float, seed_variance: float = 0.0, level: float = 0.05, power: float = 0.8
) -> int | None:
    """Return the pictures with which a paired test finds a difference; None if no number suffices.

    Connor, "Sample Size for Testing Differences in Proportions for the Paired-Sample Design",
    Biometrics 1987, and for single trainings exactly that.

    Args:
        gap: true difference of the accuracies, above 0.
        changed: mean squared difference of the two answers to a picture; of single trainings the
            share of pictures that only one of them has right. At least `gap` squared.
        seed_variance: of the measured difference, which more pictures do not take away.
        level: two-sided, of the test.
        power: probability of finding the difference, at least 0.5.

    Raises:
        ValueError: `gap` or `changed` outside of these.
    """
    if not 0 < gap <= 1 or not gap**2 <= changed <= 1:
        raise ValueError(
            f"gap is {gap} and changed {changed}: gap must be above 0 and at most 1, and changed "
            "within its square and 1."
        )
    if (ndtri(1 - level / 2) + ndtri(power)) * math.sqrt(seed_variance) >= gap:
        return None

    def beyond(logarithm: float) -> float:
        return _detectable_gap(gap, changed, math.exp(logarithm), seed_variance, level, power) - gap

    # At least one picture is needed, and more than 1e15 are out of reach.
    if beyond(0.0) <= 0:
        return 1
    if beyond(34.5) > 0:
        return None
    return math.ceil(math.exp(root(beyond, 0.0, 34.5)) * (1 - 1e-9))


def smallest_detectable_gap(
    changed: float, pictures: int, seed_variance: float, level: float = 0.05, power: float = 0.8
) -> float:
    """Return the true difference that so many pictures find with this power, at most 1."""

    def beyond(gap: float) -> float:
        return gap - _detectable_gap(
            gap, max(changed, gap**2), pictures, seed_variance, level, power
        )

    changed = max(changed, 1 / pictures)
    return 1.0 if beyond(1.0) < 0 else root(beyond, 0.0, 1.0)


def _detectable_gap(
    gap: float, changed: float, pictures: float, seed_variance: float, level: float, power: float
) -> float:
    """Return the detectable difference if the errors are those of this gap."""
    without = math.sqrt(changed / pictures + seed_variance)
    within = math.sqrt((changed - gap**2) / pictures + seed_variance)
    return float(ndtri(1 - level / 2) * without + ndtri(power) * within)
