"""How long trials take, and which of them end in the time that is left.

That goes by what was measured of their family, and then by what its earlier trials took.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from statistics import median
from types import MappingProxyType

from ..records.trials import PRUNED, TrialRecord
from ..search.space import Family, Kind, Value
from .families import kinds_of, name_of_kind, variants_of
from .prepared import Prepared

__all__ = ["ROUGHLY", "Forecast"]

_CLASSIFIER = "model.classifier"
_OWN: Mapping[str, Value] = MappingProxyType({})
# So many times as long as it was measured to take may take what was not tried yet. A fit to few
# pictures knows nothing of a trial's strength and scaling (a kernel machine on 3,068 photos: 23 s,
# and 35 s with the trial's own), and a family is measured alone (epochs of a cnn beside another
# trial: 9 to 11 s for 6). The first answer of all is worth the risk.
ROUGHLY = 1.5
# Of the trials of a kind, the last few tell: other work comes and goes.
_LATEST = 3


@dataclass(frozen=True)
class Forecast:
    """Forecasts trials of families by what was measured of them and by what earlier trials took.

    Attributes:
        families: by name.
        prepared: those of them that were prepared, by name; looked up in each call.
    """

    families: Mapping[str, Family]
    prepared: Mapping[str, Prepared]
    _kinds: dict[str, list[Kind]] = field(init=False)
    _variants: dict[str, list[dict[str, Value]]] = field(init=False)

    def __post_init__(self) -> None:
        families = self.families.values()
        object.__setattr__(self, "_kinds", {one.name: kinds_of(one) for one in families})
        object.__setattr__(self, "_variants", {one.name: variants_of(one) for one in families})

    def affordable(
        self,
        seconds: float | None,
        took: Sequence[TrialRecord],
        beside: Sequence[TrialRecord] = (),
    ) -> list[Kind]:
        """Return the kinds of trials that end in so many seconds, None for no limit.

        A family all of whose kinds do is one kind, in which a sampler is free to choose. Where a
        kind ends in time with some features or sizes of networks alone, it is of those.

        Args:
            took: trials that ended, the latest last, with their seconds; those that were pruned
                would have taken more.
            beside: trials that run, one of which is to be the first answer of all. Where one of
                them, or what begins, describes pictures with all cores, they take turns on these,
                so that nothing begins unless there is time for all of them one after another.
        """
        raced = [n for n in self.families if n in self.prepared and self.prepared[n].affordable]
        if seconds is None:
            return [Kind(name) for name in raced]
        running = [one for one in beside if one.family in self.families.keys() & self.prepared]
        shared = any(self.prepared[one.family].all_cores for one in running)
        theirs = sum(self._surely(one.family, one.values) for one in running)
        found: list[Kind] = []
        for name in raced:
            kinds, variants = self._kinds[name], self._variants[name]
            takes_turns = running and (shared or self.prepared[name].all_cores)
            fitting: list[Kind] = []
            for kind in kinds:
                needed = self._needed(kind, took, variants)
                if takes_turns:
                    surely = [self._surely(name, {**kind.values, **one}) for one in variants]
                    needed = [theirs + max(each) for each in zip(needed, surely, strict=True)]
                among = [v for v, takes in zip(variants, needed, strict=True) if takes <= seconds]
                if among:
                    whole = len(among) == len(variants)
                    fitting.append(kind if whole else replace(kind, among=among))
            if fitting == kinds:
                found.append(Kind(name))
            else:
                # Where kinds take turns, none comes again that has a single configuration.
                again = [kind for kind in fitting if not self._is_spent(kind, took)]
                found += again or fitting
        return found

    def needed(
        self, kind: Kind, took: Sequence[TrialRecord], variant: Mapping[str, Value] = _OWN
    ) -> float:
        """Return the seconds that a trial of a kind, of one variant, is expected to take.

        That is the median of the last ones of its kind on the same networks, each as many times as
        long as this variant was measured to take longer than that which it was. Before there are
        some it is what was measured and half as much again, and beside it what the family's trials
        take at least for all else (measuring a model, writing its record). It is never less than
        describing the pictures was measured to take. The search for a classifier, which is bounded,
        does not count before some trial has answered, nor once it was made on the features
        of the only configuration that searches.

        Args:
            variant: one of `variants_of`; empty for that of the family's own configuration.
        """
        return self._needed(kind, took, [variant])[0]

    def _needed(
        self, kind: Kind, took: Sequence[TrialRecord], variants: Sequence[Mapping[str, Value]]
    ) -> list[float]:
        known = self.prepared[kind.family]
        # With how long each was measured to take.
        own = [
            (one, one.seconds or 0.0, sum(self._measured(one.family, one.values)))
            for one in took
            if one.family == kind.family and known.cut <= {*one.overrides}
        ]
        alike = [one for one in own if kind.holds(one[0].family, one[0].values)]
        ended = [seconds - theirs for one, seconds, theirs in own if one.state != PRUNED]
        beyond = max(0.0, min(ended, default=0.0))
        found = []
        for variant in variants:
            values = {**kind.values, **variant}
            describing, fitting = self._measured(kind.family, values)
            told: list[float] = []
            stopped: list[float] = []
            for one, seconds, theirs in alike:
                longer = (describing + fitting) / theirs if theirs else 1.0
                (stopped if one.state == PRUNED else told).append(longer * seconds)
            if told:
                usual = median(told[-_LATEST:])
                if self._searches_once(kind):
                    usual -= known.search_seconds * (usual > known.search_seconds)
            else:
                usual = describing + beyond
                if took or not _searches(values):
                    usual += fitting
                if took and not ended:
                    usual += (ROUGHLY - 1) * describing
            found.append(max(describing, usual, *stopped))
        return found

    def _surely(self, family: str, values: Mapping[str, Value]) -> float:
        """Return the seconds in which a trial ends by what was measured, slower as it may be."""
        describing, fitting = self._measured(family, values)
        return ROUGHLY * describing + fitting

    def _measured(self, family: str, values: Mapping[str, Value]) -> tuple[float, float]:
        """Return about what describing takes, or training, and what a classifier does at most."""
        known = self.prepared[family]
        variant = _held(self._variants[family], values)
        describing = known.seconds * known.longer.get(name_of_kind(variant), 1.0)
        kind = _held([one.values for one in self._kinds[family]], values)
        usual = known.search_seconds if _searches(values) else 0.0
        usual = known.fit_seconds.get(name_of_kind(kind), usual)
        fitting = known.fit_seconds.get(name_of_kind({**kind, **variant}), usual)
        return describing, fitting if _searches(values) else ROUGHLY * fitting

    def _is_spent(self, kind: Kind, took: Sequence[TrialRecord]) -> bool:
        """Return whether all that a kind can be was tried on the same features."""
        own = (one for one in took if kind.holds(one.family, one.values))
        return self._searches_once(kind) and any(
            self.prepared[kind.family].cut <= {*one.overrides} for one in own
        )

    def _searches_once(self, kind: Kind) -> bool:
        """Return whether all trials of a kind search for a classifier on the same features."""
        family = self.families[kind.family]
        known = {**family.constants, **kind.values}
        others = (p for p in family.parameters if p.key not in known and p.applies(known))
        return _searches(kind.values) and not any(others)


def _held(some: Sequence[Mapping[str, Value]], values: Mapping[str, Value]) -> Mapping[str, Value]:
    """Return the first of some values of keys that are among these; none where there is none."""
    return next((one for one in some if one.items() <= values.items()), _OWN)


def _searches(values: Mapping[str, Value]) -> bool:
    return values.get(_CLASSIFIER, "auto") == "auto"
