"""How long trials take, and which of them end in the time that is left.

Before a family is measured, the frozen networks that were measured before it tell what it takes;
then what was measured of it does, and in the end what its earlier trials took.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from statistics import median
from types import MappingProxyType

from ..records.trials import PRUNED, TrialRecord
from ..search.space import Family, Kind, Value
from .families import kinds_of, name_of_kind, variants_of
from .prepared import Prepared

__all__ = [
    "TUNED_SIDE",
    "Forecast",
    "crafted_seconds",
    "least_crafted",
    "partly",
    "pictures_within",
    "training_pictures",
    "tuned_epoch",
]

_CLASSIFIER = "model.classifier"
_OWN: Mapping[str, Value] = MappingProxyType({})
# So many times as long as it was measured to take may take what was not tried yet. A fit to few
# pictures knows nothing of a trial's strength and scaling (a kernel machine on 3,068 photos: 23 s,
# and 35 s with the trial's own), and a family is measured alone (epochs of a cnn beside another
# trial: 9 to 11 s for 6). The first answer of all is worth the risk.
_ROUGHLY = 1.5
# Of the trials of a kind, the last few tell: other work comes and goes.
_LATEST = 3
# Pixels of a side at which a network is tuned where time is short.
TUNED_SIDE = 160
# Passes through a network that a step of training is worth.
_PASSES = 3
# A trial of hand-crafted features, from opening the pictures and describing them twice to the fit,
# against describing each once by EfficientNet-Lite0 at 224 pixels: on 3,068 clothing photos 0.024
# CPU seconds a picture, and 0.06. Other networks are told from their pixels alone.
_CRAFTED, _SIDE = 0.4, 224
_TRAINING = ("train", "dropped")
# Where all training pictures would take too long, the shares that may be described, of which so
# many are the fewest. Opening the pictures takes a part of a trial, whatever its share.
_SHARES, _FEWEST, _OPENING = (0.5, 0.25, 0.125), 200, 0.25


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
                    usual += (_ROUGHLY - 1) * describing
            found.append(max(describing, usual, *stopped))
        return found

    def _surely(self, family: str, values: Mapping[str, Value]) -> float:
        """Return the seconds in which a trial ends by what was measured, slower as it may be."""
        describing, fitting = self._measured(family, values)
        return _ROUGHLY * describing + fitting

    def _measured(self, family: str, values: Mapping[str, Value]) -> tuple[float, float]:
        """Return about what describing takes, or training, and what a classifier does at most."""
        known = self.prepared[family]
        variant = _held(self._variants[family], values)
        describing = known.seconds * known.longer.get(name_of_kind(variant), 1.0)
        kind = _held([one.values for one in self._kinds[family]], values)
        usual = known.search_seconds if _searches(values) else 0.0
        usual = known.fit_seconds.get(name_of_kind(kind), usual)
        fitting = known.fit_seconds.get(name_of_kind({**kind, **variant}), usual)
        return describing, fitting if _searches(values) else _ROUGHLY * fitting

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


def training_pictures(prepared: Collection[Prepared]) -> int:
    """Return about how many there are, with those that a family leaves out; 0 if unknown."""
    return max((sum(map(one.parts.get, _TRAINING, (0, 0))) for one in prepared), default=0)


def tuned_epoch(family: Family, prepared: Collection[Prepared], slots: int) -> float:
    """Return about what an epoch of a published network takes on small pictures, in seconds.

    By the fastest frozen network that was measured, which had the cores of all `slots`: forward and
    back through all layers is three times the work. 0 where nothing is known.
    """
    speed = _speed(prepared, TUNED_SIDE)
    if "recipe=finetune" not in family.overrides or not speed:
        return 0.0
    return _PASSES * training_pictures(prepared) * slots / speed


def crafted_seconds(family: Family, prepared: Collection[Prepared]) -> float:
    """Return about what a trial of hand-crafted features takes, in seconds; 0 if it is not known.

    By the fastest frozen network that was measured, which used all cores as this does.
    """
    speed = _speed(prepared, _SIDE)
    if "model=handcrafted" not in family.overrides or not speed:
        return 0.0
    return _CRAFTED * training_pictures(prepared) / speed


def pictures_within(most: float, count: int, needed: float, base: Sequence[str]) -> int | None:
    """Return how many training pictures can be described in a time; None where none can.

    Args:
        most: that time, in seconds.
        count: all training pictures.
        needed: seconds of a trial on all of them; 0 if it is not known.
        base: overrides that all trials share, which may state the number of pictures.
    """
    for share in _shares(count, base):
        if 0 < partly(needed, share) <= most:
            return round(share * count)
    return None


def least_crafted(count: int, needed: float, base: Sequence[str]) -> float:
    """Return the least `most` for which `pictures_within` returns a number; 0 if not known."""
    return partly(needed, _shares(count, base)[-1])


def _shares(count: int, base: Sequence[str]) -> list[float]:
    """Return the shares of the training pictures that may be described, all of them first."""
    given = any(word.startswith("data.train_limit=") for word in base)
    return [1.0, *(share for share in _SHARES if share * count >= _FEWEST and not given)]


def partly(needed: float, share: float) -> float:
    """Return about what a trial takes on a share of the pictures, where `needed` is for all."""
    return needed * (_OPENING + (1 - _OPENING) * share)


def _speed(prepared: Collection[Prepared], side: int) -> float:
    """Return pictures a second of the fastest frozen network at a size; 0 where none is known."""
    speeds = [
        network["images_per_second"] * (network["side"] / side) ** 2
        for one in prepared
        for network in one.networks
        if network.get("images_per_second") and network.get("side")
    ]
    return max(speeds, default=0.0)
