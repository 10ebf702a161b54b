"""How long trials take, by their kinds, and which of them end in the time that is left."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median

from ..records.trials import PRUNED, TrialRecord
from ..search.space import Family, Kind, Value
from .families import kinds_of, name_of_kind
from .tasks import Prepared

__all__ = ["Forecast"]

_CLASSIFIER = "model.classifier"
# So many times as long as it was measured to take may take what was not tried yet. A fit to few
# pictures knows nothing of a trial's strength and scaling (a kernel machine on 3,068 photos: 23 s,
# and 35 s with the trial's own), and a family is measured alone (epochs of a cnn beside another
# trial: 9 to 11 s for 6). The first answer of all is worth the risk.
_ROUGHLY = 1.5
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

    def affordable(self, seconds: float | None, took: Sequence[TrialRecord]) -> list[Kind]:
        """Return the kinds of trials that end in so many seconds, None for no limit.

        A family all of whose kinds do is one kind, in which a sampler is free to choose.

        Args:
            took: trials that ended, the latest last, with their seconds; those that were pruned
                would have taken more.
        """
        found: list[Kind] = []
        for name, family in self.families.items():
            known = self.prepared.get(name)
            if known is None or not known.affordable:
                continue
            kinds = kinds_of(family)
            fitting = [one for one in kinds if seconds is None or self.needed(one, took) <= seconds]
            if len(fitting) < len(kinds):
                # Where kinds take turns, none comes again that has a single configuration.
                again = [kind for kind in fitting if not self._is_spent(kind, took)]
                found += again or fitting
            else:
                found.append(Kind(name))
        return found

    def needed(self, kind: Kind, took: Sequence[TrialRecord]) -> float:
        """Return the seconds that a trial of a kind is expected to take.

        That is the median of the last ones of its kind on the same features. Before there are some
        it is what was measured and half as much again, and beside it what the family's trials take
        at least for all else (measuring a model, writing its record). It is never less than
        describing the pictures was measured to take. The search for a classifier, which ends by the
        clock, does not count before some trial has answered, nor once it was made on the features
        of the only configuration that searches.
        """
        known = self.prepared[kind.family]
        own = [one for one in took if one.family == kind.family and known.cut <= {*one.overrides}]
        ended = [one for one in own if one.state != PRUNED]
        alike = [one.seconds or 0.0 for one in ended if kind.holds(one.family, one.values)]
        if alike:
            usual = median(alike[-_LATEST:])
            if self._searches_once(kind):
                usual -= known.search_seconds * (usual > known.search_seconds)
        else:
            beyond = [
                (one.seconds or 0.0) - known.seconds - self._fit_seconds(one.family, one.values)
                for one in ended
            ]
            usual = known.seconds + max(0.0, min(beyond, default=0.0))
            if took or not _searches(kind.values):
                usual += self._fit_seconds(kind.family, kind.values)
            if took and not ended:
                usual += (_ROUGHLY - 1) * known.seconds
        stopped = (
            one for one in own if one.state == PRUNED and kind.holds(kind.family, one.values)
        )
        return max(known.seconds, usual, *(one.seconds or 0.0 for one in stopped))

    def _fit_seconds(self, family: str, values: Mapping[str, Value]) -> float:
        """Return about what the classifier of a trial takes at most; 0 where there is none."""
        known = self.prepared[family]
        if _searches(values):
            return known.search_seconds
        kinds = (kind for kind in kinds_of(self.families[family]) if kind.holds(family, values))
        found = (known.fit_seconds.get(name_of_kind(kind.values), 0.0) for kind in kinds)
        return _ROUGHLY * max(found, default=0.0)

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


def _searches(values: Mapping[str, Value]) -> bool:
    return values.get(_CLASSIFIER, "auto") == "auto"
