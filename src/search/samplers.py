"""Optuna's samplers, made anew for each trial from (seed, number of the trial).

They draw the same after an interruption as without one.
"""

from __future__ import annotations

import bisect
import hashlib
import itertools
import random
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

from optuna import samplers
from optuna.samplers import BaseSampler, TPESampler
from optuna.study import StudyDirection
from optuna.trial import Trial, TrialState

from .space import FAMILY, Family, Kind, StudySpec
from .trials import REPEATS, StudySubset, enqueued_values

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution
    from optuna.study import Study
    from optuna.trial import FrozenTrial

__all__ = ["Proposer", "check_sampler"]

_ONE_PLAIN_SPACE = ("cmaes", "grid", "qmc")
# Samplers that learn only from trials, not from attributes that they store in the study.
_LEARN = ("tpe", "gp")
# A sampler's time grows with the trials that it reads. Of 250 or more TPE takes the best 25 for its
# good ones, so that more change hardly anything.
_MOST_READ, _BEST_READ = 250, 75
# Number of running trials that it reads, to propose different ones. With a thousand slots all of
# the latest trials run, and ended ones would not be read.
_RUNNING_READ = 75
# States of trials from which TPE learns once there are enough; before, it samples at random.
_READ_BY_TPE = (TrialState.COMPLETE, TrialState.PRUNED)
_NOT_ENDED = (TrialState.RUNNING, TrialState.WAITING)
# Fewest random trials of each family before its sampler learns from them.
_LEAST_STARTUP = 3


def check_sampler(name: str, families: Sequence[Family], objectives: int) -> None:
    """Raise ValueError for what a sampler cannot do; the message says what, and the remedy."""
    if name in _ONE_PLAIN_SPACE:
        if len(families) > 1 or any(parameter.when for parameter in families[0].parameters):
            raise ValueError(
                f"sampler={name} takes a single family whose keys have no conditions: name one "
                "family, fix the keys that others depend on, or set sampler=tpe"
            )
        if not families[0].parameters:
            raise ValueError(f"sampler={name} has nothing to choose: no key is searched")
        for parameter in families[0].parameters:
            if name == "grid" and not (parameter.choices or parameter.step or parameter.whole):
                raise ValueError(
                    f"sampler=grid needs choices or a step for {parameter.key}, a range of floats"
                )
            if name == "cmaes" and parameter.choices:
                raise ValueError(f"sampler=cmaes takes numbers only, and {parameter.key} is none")
    if objectives > 1 and name not in ("tpe", "nsga2", "random", "grid", "qmc"):
        raise ValueError(f"sampler={name} takes one metric: set sampler=tpe")


@dataclass(frozen=True)
class Proposer:
    """Draws the configurations of a study's trials."""

    study: Study
    spec: StudySpec
    _known: _Known = field(init=False)

    def __post_init__(self) -> None:
        maximized = self.study.directions[0] is StudyDirection.MAXIMIZE
        object.__setattr__(self, "_known", _Known(-1.0 if maximized else 1.0))

    def prepare(self, kinds: Sequence[Kind] | None) -> int | None:
        """Enqueue the next trial if the sampler is not free to choose.

        To be called where nothing that it may be is enqueued. Where some families, or some of
        their choices, are left out, the kinds that the trial may be of (None for all) take turns:
        those without a trial come first, and then the best has every second one. Return how many
        are enqueued, None where the sampler has nothing left to propose.
        """
        if self.spec.sampler == "grid":
            return self._enqueue_untried()
        families = {family.name: family for family in self.spec.families}
        if kinds is None or all(Kind(name) in kinds for name in families):
            return 0
        turns = []
        for kind in kinds:
            chosen = {FAMILY: kind.family} if len(families) > 1 else {}
            turns.append(chosen | families[kind.family].stored_choices(kind.values))
        trials = self.study.get_trials(deepcopy=False)
        which = self._turn(turns, trials, len(trials))
        kind, values = kinds[which], turns[which]
        if kind.among:
            rng = random.Random(_seed(self.spec.seed, f"among {len(self.study.get_trials(False))}"))
            one = {**kind.values, **rng.choice(kind.among)}
            values = values | families[kind.family].stored_choices(one)
        self.study.enqueue_trial(values, user_attrs={FAMILY: kind.family})
        return 1

    def _turn(
        self, turns: Sequence[dict[str, Any]], trials: Sequence[FrozenTrial], number: int
    ) -> int:
        """Return which of these parameters, some of a trial's, are those of trial `number`."""
        alike = [[one for one in trials if turn.items() <= one.params.items()] for turn in turns]
        if [] in alike:
            return alike.index([])
        sign = 1.0 if self.study.directions[0] is StudyDirection.MAXIMIZE else -1.0
        best = {
            number: max(sign * one.values[0] for one in own if one.state is TrialState.COMPLETE)
            for number, own in enumerate(alike)
            if any(one.state is TrialState.COMPLETE for one in own)
        }
        if best and number % 2:
            return max(best, key=best.__getitem__)
        return number // 2 % len(turns)

    def draw(self, trial: Trial, trial_id: int) -> None:
        """Draw a family, then its values by a sampler that reads that family's trials alone.

        So what a proposal costs does not grow with the trials of other families. What the trial,
        which the storage knows by `trial_id`, has already is kept.
        """
        if len(self.spec.families) == 1:  # no choice, and some samplers take none
            family = self.spec.families[0]
            trials = self._trials() if self.spec.sampler in _LEARN else []
            self.study.sampler = self._sampler(trial.number, family.name)
            if self.spec.sampler in _LEARN:
                self._draw_open(family, trials, None, trial.number, trial_id)
                subset = self._subset(trials, None, trial.number, self.study.sampler)
                trial = Trial(subset, trial_id)
            family.draw(trial)
            return
        by_name = {family.name: family for family in self.spec.families}
        trials = [] if self.spec.sampler == "random" else self._trials()
        self.study.sampler = self._family_sampler(trial.number)
        every = self._subset(trials, None, trial.number, self.study.sampler)
        name = Trial(every, trial_id).suggest_categorical(FAMILY, tuple(by_name))
        if self.spec.sampler in _LEARN:
            self._draw_open(by_name[name], trials, name, trial.number, trial_id)
        own = self._subset(trials, name, trial.number, self._sampler(trial.number, name))
        by_name[name].draw(Trial(own, trial_id))

    def _draw_open(
        self,
        family: Family,
        trials: Sequence[FrozenTrial],
        group: str | None,
        number: int,
        trial_id: int,
    ) -> None:
        """Choose among what a family may still be, where some choices are a single trial each.

        Once such a choice was tried it is none any more; a sampler that learns would propose the
        best of them for ever. The others take turns, as in `prepare`.
        """
        if (found := family.single_choices()) is None:
            return
        parameter, single = found
        name = family.stored_name(parameter)
        read = self._known.read(trials, group, number)
        tried = {one.params.get(name) for one in read}
        used = {parameter.stored(value) for value in single} & tried
        rest = [one for one in map(parameter.stored, parameter.choices) if one not in used]
        if not used or not rest:
            return
        turn = self._turn([{name: one} for one in rest], read, number)
        chosen = _Chosen({name: rest[turn]})
        parameter.suggest(Trial(StudySubset(self.study, lambda: read, chosen), trial_id), name)

    def _trials(self) -> list[FrozenTrial]:
        """Return all trials, as the storage has them."""
        trials = self.study.get_trials(deepcopy=False)
        self._known.update(trials)
        return trials

    def _subset(
        self, trials: Sequence[FrozenTrial], family: str | None, number: int, sampler: BaseSampler
    ) -> StudySubset:
        """Return the trials of a family, or all, for a sampler; of very many the best and latest.

        Without trial `number` itself, which would be judged by its own half if it is half drawn.
        """
        read = self._known.read(trials, family, number)
        return StudySubset(self.study, lambda: read, sampler)

    def _enqueue_untried(self) -> int | None:
        """Enqueue a point of the grid that was not tried; return None if all of it was.

        Optuna's own grid leaves out as many points as were enqueued by hand.
        """
        known = self.study.get_trials(deepcopy=False)
        tried = [enqueued_values(trial) for trial in known]
        for values in _grid(self.spec.families[0], self.spec.seed):
            if values not in tried:
                self.study.enqueue_trial(values)
                return 1
        return None

    def _sampler(self, number: int, family: str) -> BaseSampler:
        """Return the sampler of a family's values, for the trial with this number.

        TPE is the multivariate one of Bergstra et al. (2011) and Falkner et al. (2018), which takes
        each family's keys as a group of their own.
        """
        spec = self.spec
        startup, count = spec.startup_trials, len(spec.families)
        if count > 1:
            startup = max(_LEAST_STARTUP, startup // count)
        name = spec.sampler
        if name == "tpe" and self._known.judged[family if count > 1 else None] < startup:
            name = "random"  # as TPE itself until then, which takes several times as long to make
        # What learns would go on repeating a trial.
        if name in _LEARN and self._was_withdrawn(number - 1):
            name = "random"
        make = partial(_make, name, family, study_seed=spec.seed, startup_trials=startup)
        draw = _seed(spec.seed, number)
        sampler = make(draw)

        def alone(
            study: Study,
            trial: FrozenTrial,
            param_name: str,
            param_distribution: BaseDistribution,
        ) -> Any:
            one = make(_seed(draw, param_name))
            return one.sample_independent(study, trial, param_name, param_distribution)

        # Each parameter that is drawn alone is drawn from a seed of its own, so that the rest of a
        # trial, whose driver was killed while it was being drawn, comes out the same.
        sampler.sample_independent = alone  # type: ignore[method-assign]
        return sampler

    def _was_withdrawn(self, number: int) -> bool:
        trials = self.study.get_trials(deepcopy=False)
        return number >= 0 and REPEATS in trials[number].user_attrs

    def _family_sampler(self, number: int) -> BaseSampler:
        """Return the sampler that chooses among families, for the trial with this number.

        A single choice is nothing for a model of many dimensions: where the named sampler learns,
        TPE of one parameter does it here.
        """
        draw = _seed(self.spec.seed, number)
        if self.spec.sampler == "random" or self._known.judged[None] < self.spec.startup_trials:
            return samplers.RandomSampler(seed=draw)
        return TPESampler(seed=draw, n_startup_trials=self.spec.startup_trials, multivariate=False)


class _Chosen(samplers.RandomSampler):
    """Proposes these values, by stored name."""

    def __init__(self, values: Mapping[str, Any]) -> None:
        super().__init__()
        self._values = values

    def sample_independent(
        self,
        study: Study,
        trial: FrozenTrial,
        param_name: str,
        param_distribution: BaseDistribution,
    ) -> Any:
        return self._values[param_name]


class _Known:
    """The trials of a study that a sampler reads: of a family, or of all, and of very many some.

    Each is looked at once after its end, so that a proposal costs no more in a long study. `sign`
    is -1 where the first metric is maximized.
    """

    def __init__(self, sign: float) -> None:
        self._sign = sign
        self._seen = 0
        self._running: list[int] = []
        # By family, and under None of all: how many TPE learns from; all that ended in the order of
        # their numbers; and best ones first.
        self.judged: Counter[str | None] = Counter()
        self._ended: dict[str | None, list[int]] = {}
        self._ranked: dict[str | None, list[tuple[float, int]]] = {}

    def update(self, trials: Sequence[FrozenTrial]) -> None:
        """Look at all trials of the study, by number."""
        running = []
        for number in (*self._running, *range(self._seen, len(trials))):
            trial = trials[number]
            if trial.state in _NOT_ENDED:
                running.append(number)
                continue
            groups = {None, trial.params.get(FAMILY)}
            for group in groups:
                bisect.insort(self._ended.setdefault(group, []), number)
            if trial.state in _READ_BY_TPE:
                self.judged.update(groups)
            if trial.state is TrialState.COMPLETE:
                entry = self._sign * trial.values[0], number
                for group in groups:
                    bisect.insort(self._ranked.setdefault(group, []), entry)
        self._running, self._seen = running, len(trials)

    def read(
        self, trials: Sequence[FrozenTrial], family: str | None, without: int
    ) -> list[FrozenTrial]:
        """Return by number the trials of a family, or of all, without one; of many some.

        Of more than `_MOST_READ` they are the best, the first of equal ones first, and the latest.
        """
        running = (
            number
            for number in reversed(self._running)
            if number != without and family in (None, trials[number].params.get(FAMILY))
        )
        numbers = [*itertools.islice(running, _RUNNING_READ), *self._ended.get(family, ())]
        numbers.sort()
        if len(numbers) > _MOST_READ:
            best = [number for _, number in self._ranked.get(family, ())[:_BEST_READ]]
            numbers = sorted({*best, *numbers[_BEST_READ - _MOST_READ :]})
        return [trials[number] for number in numbers]


def _make(
    name: str, family: str, draw: int, *, study_seed: int, startup_trials: int
) -> BaseSampler:
    match name:
        case "tpe":
            return _tpe(draw, startup_trials)
        case "gp":
            return samplers.GPSampler(
                seed=draw,
                n_startup_trials=startup_trials,
                independent_sampler=_tpe(draw, startup_trials),
            )
        case "random" | "grid":  # a grid is enqueued; see `Proposer.prepare`
            return samplers.RandomSampler(seed=draw)
        case "cmaes":
            return samplers.CmaEsSampler(seed=draw, n_startup_trials=startup_trials)
        case "qmc":
            # A sequence is one only if its scrambling stays the same.
            return samplers.QMCSampler(seed=study_seed, scramble=True)
        case _:
            # A study keeps the parents of a generation by the class of the sampler.
            own = type(f"NSGAII-{family}", (samplers.NSGAIISampler,), {})
            # The first population is drawn at random.
            return own(seed=draw, population_size=max(2, startup_trials))


def _tpe(seed: int, startup_trials: int) -> BaseSampler:
    return TPESampler(seed=seed, n_startup_trials=startup_trials, multivariate=True, group=True)


def _grid(family: Family, seed: int) -> list[dict[str, Any]]:
    """Return every combination of a family's values, as stored, in a shuffled order."""
    axes: list[list[tuple[str, Any]]] = []
    for parameter in family.parameters:
        if parameter.choices:
            values = [parameter.stored(value) for value in parameter.choices]
        else:
            step = parameter.step or 1
            count = round((parameter.high - parameter.low) / step) + 1
            # Rounded, so that 0.1 * 3 is the 0.3 that a default may have.
            values = [round(parameter.low + step * i, 12) for i in range(count)]
        axes.append([(family.stored_name(parameter), value) for value in values])
    combinations = [dict(one) for one in itertools.product(*axes)]
    random.Random(seed).shuffle(combinations)
    return combinations


def _seed(seed: int, what: int | str) -> int:
    digest = hashlib.blake2b(f"{seed}:{what}".encode(), digest_size=4).digest()
    return int.from_bytes(digest, "big")
