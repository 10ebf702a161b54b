"""Forecast how long trials take, which of them end in the time that is left, and which pay.

A forecast uses the measurements of the family, and the times of its earlier trials as there are
some.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from statistics import median
from types import MappingProxyType

from ..config.overrides import without_keys
from ..records.trials import COMPLETE, PRUNED, TrialRecord
from ..reporting.formatting import metric_text
from ..search.space import Family, Kind, Value
from .families import CLASSIFIER, kinds_of, name_of_kind, trial_variants
from .prepared import Prepared

__all__ = ["SAFETY_FACTOR", "TimeForecast"]

_DEFAULTS: Mapping[str, Value] = MappingProxyType({})
# A trial of a family that was not tried yet may take so many times as long as was measured. The fit
# is measured on few pictures and with other hyperparameters (a kernel machine on 3,068 photos: 23
# s, and 35 s in a trial), and each family is measured alone (epochs of a cnn: 6 s, and 9 to 11 s
# beside another trial). The factor is not applied to the study's first trial, which is worth the
# risk.
SAFETY_FACTOR = 1.5
# Number of latest trials of a family that are all no better than an earlier one, pruned ones among
# them, after which no more of it are proposed: they differ less and less, and the best of ever more
# of them owes more to chance. Of 8, 12, 24 and 48 it is the least that never lost more than about a
# standard error of the best accuracy in recorded studies (docs/concepts.md, "Budget").
_PATIENCE = 24
# How many times the way from its median to its best a family may be behind, and beyond that how
# many times the intervals, by the least number of complete trials: two hardly show that way, but
# one may be a bad configuration. In races of recorded trials the best of all was none the worse for
# it (docs/figures.md, "Sweeps").
_REACH, _INTERVALS = 2.0, {4: 1.0, 2: 2.0}
# Number of latest trials of a kind that are used, since the load of the machine changes.
_LATEST_TRIALS = 3


@dataclass(frozen=True)
class TimeForecast:
    """Forecasts how long trials of families take.

    Attributes:
        families: by name.
        prepared: results of the families that were measured, by name; read anew in each call.
        one_machine: whether all trials share the cores of one.
    """

    families: Mapping[str, Family]
    prepared: Mapping[str, Prepared]
    one_machine: bool = True
    _kinds: dict[str, list[Kind]] = field(init=False)
    _variants: dict[str, list[dict[str, Value]]] = field(init=False)

    def __post_init__(self) -> None:
        families = self.families.values()
        object.__setattr__(self, "_kinds", {one.name: kinds_of(one) for one in families})
        object.__setattr__(self, "_variants", {one.name: trial_variants(one) for one in families})

    def affordable(
        self,
        seconds: float | None,
        took: Sequence[TrialRecord],
        beside: Sequence[TrialRecord] = (),
        *,
        further: Callable[[float, str], float] = lambda seconds, family: 0.0,
    ) -> list[Kind]:
        """Return the kinds of trials that end within a time limit.

        A family of which all kinds fit is returned as a single kind, in which a sampler is free to
        choose. A kind that fits only with some variants (features, or sizes of networks) is
        restricted to those.

        Args:
            seconds: the limit; None for none.
            took: trials that ended, the latest last, with their seconds; pruned ones would have
                taken longer.
            beside: running trials, with their seconds so far. Two that describe pictures with all
                cores of one machine run one after another in effect, and there must be time for
                both. While the study has no complete trial, that holds if one of them does, and on
                any machine.
            further: returns the seconds that must be left after a trial, by its seconds and family.
        """
        raced = [n for n in self.families if n in self.prepared and self.prepared[n].affordable]
        if seconds is None:
            return [Kind(name) for name in raced]
        running = [one for one in beside if one.family in self.families.keys() & self.prepared]
        answered = any(one.state == COMPLETE for one in took)
        shared = [one for one in running if self.prepared[one.family].all_cores]
        if answered:
            running = shared = shared if self.one_machine else []
        theirs = sum(self._rest(one, took) for one in running)
        found: list[Kind] = []
        for name in raced:
            kinds, variants = self._kinds[name], self._variants[name]
            own = self.prepared[name].all_cores
            takes_turns = (shared and own) if answered else (running and (shared or own))
            fitting: list[Kind] = []
            for kind in kinds:
                alone = needed = self._needed(kind, took, variants)
                if takes_turns and answered:
                    needed = [theirs + each for each in alone]
                elif takes_turns:
                    surely = [self._upper_seconds(name, {**kind.values, **one}) for one in variants]
                    needed = [theirs + max(each) for each in zip(alone, surely, strict=True)]
                fitting_variants = [
                    variant
                    for variant, each, its_own in zip(variants, needed, alone, strict=True)
                    if each + further(its_own, name) <= seconds
                ]
                if fitting_variants:
                    whole = len(fitting_variants) == len(variants)
                    fitting.append(kind if whole else replace(kind, among=fitting_variants))
            if fitting == kinds:
                found.append(Kind(name))
            else:
                found += fitting
        return found

    def saturated(self, judged: Sequence[TrialRecord], direction: str) -> list[str]:
        """Return the families of which further trials would hardly bring anything better.

        Args:
            judged: trials that are complete, or were pruned as worse, the latest last.
            direction: "maximize" or "minimize" the first metric.
        """
        found = []
        for name in self.families.keys() & self.prepared.keys():
            own = [one for one in judged if one.family == name and self._is_current(one)]
            figures = [math.inf if t.objectives is None else t.place(direction)[0] for t in own]
            best = min(figures, default=math.inf)
            if best < math.inf and len(own) > figures.index(best) + _PATIENCE:
                found.append(name)
        return sorted(found)

    def behind(self, judged: Sequence[TrialRecord], direction: str, metric: str) -> dict[str, str]:
        """Return the families whose best trial is too far behind the best of all, with the reason.

        That is farther than their 95 % intervals, together, as many times as `_INTERVALS` has it,
        and `_REACH` times what a family's best is ahead of its median. There is none if the metric
        has no intervals.

        Args:
            judged, direction: as of `saturated`.
            metric: key of the first metric.
        """
        complete = [(one, one.objectives[0]) for one in judged if one.objectives is not None]
        if not complete:
            return {}
        first, lead = min(complete, key=lambda one: one[0].place(direction))
        found: dict[str, str] = {}
        for name in sorted(self.families.keys() & self.prepared.keys()):
            own = [one for one in complete if one[0].family == name and self._is_current(one[0])]
            times = next((n for least, n in _INTERVALS.items() if len(own) >= least), None)
            if times is None:
                continue
            best, level = min(own, key=lambda one: one[0].place(direction))
            reach = abs(level - median(value for _, value in own))
            error = math.hypot(_half_interval(first, metric), _half_interval(best, metric))
            if abs(lead - level) > _REACH * reach + times * error:
                found[name] = (
                    f"its best of {len(own)} trials, {metric_text(metric, level)}, is too far "
                    f"behind {metric_text(metric, lead)}"
                )
        return found

    def needed(
        self, kind: Kind, took: Sequence[TrialRecord], variant: Mapping[str, Value] = _DEFAULTS
    ) -> float:
        """Return the seconds that a trial of a kind and variant is expected to take.

        This is the median over the latest trials of the kind on the same networks, each scaled by
        the measured ratio of this variant to its own. Without such trials it is the measured time
        times `SAFETY_FACTOR`, plus the smallest overhead of the family's trials (measuring a model,
        writing its record). It is at least the measured time of describing the pictures. The search
        for a classifier, which has a limit, is not counted before the study has a complete trial,
        nor once it was made on the same features by the only configuration that searches.

        Args:
            kind: of the trial.
            took: as of `affordable`.
            variant: one of `trial_variants`; empty for that of the default configuration.
        """
        return self._needed(kind, took, [variant])[0]

    def expected(self, trial: TrialRecord, took: Sequence[TrialRecord]) -> float:
        """Return the seconds that a running trial is expected to take, as when it was to begin.

        Infinite if nothing was measured of its family.

        Args:
            took: as of `affordable`.
        """
        if trial.family not in self.families.keys() & self.prepared.keys():
            return math.inf
        kinds = [kind.values for kind in self._kinds[trial.family]]
        kind = Kind(trial.family, _first_contained(kinds, trial.values))
        return self.needed(kind, took, _first_contained(self._variants[trial.family], trial.values))

    def _needed(
        self, kind: Kind, took: Sequence[TrialRecord], variants: Sequence[Mapping[str, Value]]
    ) -> list[float]:
        known = self.prepared[kind.family]
        # Each with its seconds, and with those that were measured for it.
        own = [
            (one, one.seconds or 0.0, sum(self._measured(one.family, one.values)))
            for one in took
            if one.family == kind.family and self._is_current(one)
        ]
        alike = [one for one in own if kind.holds(one[0].family, one[0].values)]
        ended = [seconds - theirs for one, seconds, theirs in own if one.state != PRUNED]
        # What was stopped shows it as well, such as the records of each fold.
        beyond = ended or [seconds - theirs for _, seconds, theirs in own]
        overhead = max(0.0, min(beyond, default=0.0))
        found = []
        for variant in variants:
            values = {**kind.values, **variant}
            describing, fitting = self._measured(kind.family, values)
            completed: list[float] = []
            stopped: list[float] = []
            for one, seconds, theirs in alike:
                longer = (describing + fitting) / theirs if theirs else 1.0
                (stopped if one.state == PRUNED else completed).append(longer * seconds)
            if completed:
                expected = median(completed[-_LATEST_TRIALS:])
                if self._searches_once(kind):
                    expected -= known.search_seconds * (expected > known.search_seconds)
            else:
                expected = describing + overhead
                if took or not _searches(values):
                    expected += fitting
                if took and not ended:
                    expected += (SAFETY_FACTOR - 1) * describing
            found.append(max(describing, expected, *stopped))
        return found

    def _is_current(self, trial: TrialRecord) -> bool:
        """Return whether a trial has what the last measurement of its family chose."""
        searched = {parameter.key for parameter in self.families[trial.family].parameters}
        chosen = without_keys(self.prepared[trial.family].cut, searched)
        return {*chosen} <= {*trial.overrides}

    def _rest(self, running: TrialRecord, took: Sequence[TrialRecord]) -> float:
        """Return the seconds that a running trial is expected to take from now on."""
        if any(one.state == COMPLETE for one in took):
            expected = self.expected(running, took)
        else:
            expected = self._upper_seconds(running.family, running.values)
        return max(0.0, expected - (running.seconds or 0.0))

    def _upper_seconds(self, family: str, values: Mapping[str, Value]) -> float:
        """Return an upper estimate of the seconds of a trial from what was measured."""
        describing, fitting = self._measured(family, values)
        return SAFETY_FACTOR * describing + fitting

    def _measured(self, family: str, values: Mapping[str, Value]) -> tuple[float, float]:
        """Estimate the seconds of describing or training, and of the classifier's fit at most."""
        known = self.prepared[family]
        variant = _first_contained(self._variants[family], values)
        describing = known.seconds * known.longer.get(name_of_kind(variant), 1.0)
        kind = _first_contained([one.values for one in self._kinds[family]], values)
        expected = known.search_seconds if _searches(values) else 0.0
        expected = known.fit_seconds.get(name_of_kind(kind), expected)
        fitting = known.fit_seconds.get(name_of_kind({**kind, **variant}), expected)
        return describing, fitting if _searches(values) else SAFETY_FACTOR * fitting

    def _searches_once(self, kind: Kind) -> bool:
        """Return whether all trials of a kind search for a classifier on the same features."""
        family = self.families[kind.family]
        known = {**family.constants, **kind.values}
        others = (p for p in family.parameters if p.key not in known and p.applies(known))
        return _searches(kind.values) and not any(others)


def _first_contained(
    some: Sequence[Mapping[str, Value]], values: Mapping[str, Value]
) -> Mapping[str, Value]:
    """Return the first of some mappings that these values contain; an empty one if none is."""
    return next((one for one in some if one.items() <= values.items()), _DEFAULTS)


def _half_interval(trial: TrialRecord, metric: str) -> float:
    """Return half the length of a trial's 95 % interval; infinite if it has none."""
    low, high = trial.interval(metric) or (-math.inf, math.inf)
    return (high - low) / 2


def _searches(values: Mapping[str, Value]) -> bool:
    return values.get(CLASSIFIER, "auto") == "auto"
