"""The power of the comparison: differences it finds, and the pictures and seeds it needs."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy.special import ndtr, ndtri, stdtr

from ..machine.arrays import BoolArray
from ..records.comparison import Power
from .evidence import Evidence, student_quantile
from .root_finding import root

__all__ = ["Design", "power_of_tied"]

_TARGET = 0.8
# More pictures are out of reach.
_MOST_PICTURES = 1e15


@dataclass(frozen=True)
class Design:
    """The error of a paired difference of two candidates, for any number of pictures and repeats.

    Attributes:
        critical: quantile of the normal law that the test asks for; of Student's the one as rare.
        per_picture: variance of the difference due to the pictures, times their number.
        per_repeat: variance of the difference due to the seeds, times the number of repeats.
        pictures, repeats: that the degrees of freedom below belong to.
        group_freedom: behind `per_picture`, infinite for independent pictures.
        seed_freedom: behind `per_repeat`, infinite where seeds are not known to do anything.
    """

    critical: float
    per_picture: float
    per_repeat: float
    pictures: float
    repeats: float
    group_freedom: float = math.inf
    seed_freedom: float = math.inf

    def power(self, gap: float, pictures: float, repeats: float) -> float:
        """Return the probability that the test finds a true difference of this size."""
        error, freedom = self._error(pictures, repeats)
        beyond = gap / error - student_quantile(self.critical, freedom)
        return float(stdtr(freedom, beyond) if math.isfinite(freedom) else ndtr(beyond))

    def detectable(self, pictures: float, repeats: float) -> float:
        """Return the true difference that is found four times out of five."""
        error, freedom = self._error(pictures, repeats)
        reach = student_quantile(self.critical, freedom)
        return (reach + student_quantile(float(ndtri(_TARGET)), freedom)) * error

    def pictures_needed(self, gap: float, repeats: float) -> int | None:
        """Return the pictures that find a difference four times out of five; None if no number."""

        def beyond(logarithm: float) -> float:
            return self.detectable(math.exp(logarithm), repeats) - gap

        most = math.log(_MOST_PICTURES)
        if beyond(math.log(2)) <= 0:
            return 2
        if beyond(most) > 0:
            return None
        return math.ceil(math.exp(root(beyond, math.log(2), most)) * (1 - 1e-9))

    def repeats_needed(self, gap: float) -> int:
        """Return the fewest repeats, from those there are, whose seeds leave half of the error."""
        bearable = (gap / (self.critical + float(ndtri(_TARGET)))) ** 2 / 2
        return max(int(self.repeats), math.ceil(self.per_repeat / bearable - 1e-9))

    def _error(self, pictures: float, repeats: float) -> tuple[float, float]:
        of_pictures, of_seeds = self.per_picture / pictures, self.per_repeat / repeats
        variance = of_pictures + of_seeds
        groups = max(1.0, self.group_freedom * pictures / self.pictures)
        seeds = max(1.0, self.seed_freedom * repeats / self.repeats)
        inverse = (of_pictures / variance) ** 2 / groups + (of_seeds / variance) ** 2 / seeds
        return math.sqrt(variance), 1 / inverse if inverse > 0 else math.inf


def power_of_tied(evidence: Evidence, tied: BoolArray, critical: float, gap: float) -> Power:
    """Return what a true difference of two candidates among the best needs to be found.

    The variances are those measured; the difference is the user's own, for a power that is
    computed from the measured difference says nothing that its p-value did not say (Hoenig &
    Heisey, "The Abuse of Power", The American Statistician 2001).

    Args:
        evidence: of the candidates, the best first.
        tied: (C,) bool, those whose differences are averaged over; where it is one alone, that of
            the first two counts.
        critical: normal quantile of the test.
        gap: true difference, above 0, in the units of the figures.

    Raises:
        ValueError: `gap` is not above 0.
    """
    if not gap > 0:
        raise ValueError(f"gap is {gap}: it must be above 0.")
    pair = [0, 1]
    repeats = int(evidence.repeats[pair].min())
    seeds = float(evidence.seed_variance[pair].sum())
    among = np.flatnonzero(tied) if tied.sum() > 1 else np.array(pair)
    # Those of the first two alone would be too small: they are first by having few errors.
    variance = evidence.difference_variance[np.ix_(among, among)]
    of_seeds = 2 * float(evidence.seed_variance[among].mean())
    of_pictures = float(variance[~np.eye(len(among), dtype=bool)].mean()) - of_seeds
    known = evidence.seeds is not None and seeds > 0
    design = Design(
        critical=critical,
        per_picture=of_pictures * evidence.pictures,
        per_repeat=seeds * repeats,
        pictures=evidence.pictures,
        repeats=repeats,
        group_freedom=(
            math.inf if evidence.groups.order is None else max(1.0, evidence.groups.effective - 1)
        ),
        seed_freedom=(
            float(evidence.seeds.freedom[pair].min())
            if known and evidence.seeds is not None
            else math.inf
        ),
    )
    wanted = design.repeats_needed(gap)
    return Power(
        gap=gap,
        probability=design.power(gap, evidence.pictures, repeats),
        smallest_gap=design.detectable(evidence.pictures, repeats),
        pictures=design.pictures_needed(gap, wanted),
        repeats=wanted,
    )
