"""Optuna's samplers, made anew for each trial from (seed, number of the trial).

They draw the same after an interruption as without one.
"""

from __future__ import annotations

import bisect
import hashlib
import itertools
import random
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

from optuna import samplers
from optuna.samplers import BaseSampler, TPESampler
from optuna.study import StudyDirection
from optuna.trial import Trial, TrialState

from .space import FAMILY, Family, Kind, StudySpec
from .study_trials import StudySubset, enqueued_values

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution
    from optuna.study import Study
    from optuna.trial import FrozenTrial

__all__ = ["Proposer", "check_sampler"]

# Tells whether a family has a configuration with these values of parameters left to try.
_IsOpen = Callable[[Family, Mapping[str, Any]], bool]
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

    def prepare(self, kinds: Sequence[Kind] | None, tried: Collection[int] | None) -> int | None:
        """Enqueue the next trial if the sampler is not free to choose.

        To be called where nothing that it may be is enqueued. Where some families, or some of
        their choices, are left out, the kinds that the trial may be of (None for all) take turns:
        those without a trial come first, and then the best has every second one. Return how many
        are enqueued, None where there is nothing left to propose; `tried` is that of `draw`.
        """
        families = {family.name: family for family in self.spec.families}
        is_open = self._openness(tried, None)
        free = kinds is None or all(Kind(name) in kinds for name in families)
        fitting: list[tuple[Kind, dict[str, Any], list[dict[str, Any]]]] = []
        for kind in map(Kind, families) if kinds is None or free else kinds:
            family, chosen = families[kind.family], {}
            if len(families) > 1:
                chosen[FAMILY] = kind.family
            every = [family.stored_choices({**kind.values, **one}) for one in kind.among or ({},)]
            if some := [one for one in every if is_open(family, one)]:
                fitting.append((kind, chosen | family.stored_choices(kind.values), some))
        if not fitting:
            return None
        if free:
            return 0
        trials = self.study.get_trials(deepcopy=False)
        which = self._turn([own for _, own, _ in fitting], trials, len(trials))
        kind, own, some = fitting[which]
        rng = random.Random(_seed(self.spec.seed, f"among {len(trials)}"))
        self.study.enqueue_trial(own | rng.choice(some), user_attrs={FAMILY: kind.family})
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

    def draw(self, trial: Trial, trial_id: int, tried: Collection[int] | None) -> None:
        """Draw a family, then its values by a sampler that reads that family's trials alone.

        So what a proposal costs does not grow with the trials of other families. What the trial,
        which the storage knows by `trial_id`, has already is kept. Where that is possible it is
        none of those whose numbers are `tried`, and none that waits.
        """
        is_open, learns = self._openness(tried, trial.number), self.spec.sampler in _LEARN
        if len(self.spec.families) == 1:  # no choice, and some samplers take none
            family = self.spec.families[0]
            trials = self._trials() if learns else []
            self.study.sampler = self._sampler(trial.number, family.name)
            self._avoid(self.study.sampler, family, is_open)
            if learns:
                subset = self._subset(trials, None, trial.number, self.study.sampler)
                trial = Trial(subset, trial_id)
            family.draw(trial)
            return
        by_name = {family.name: family for family in self.spec.families}
        trials = [] if self.spec.sampler == "random" else self._trials()
        self.study.sampler = self._family_sampler(trial.number)
        self._correct(
            self.study.sampler,
            lambda _: [*by_name],
            lambda values: is_open(by_name[values[FAMILY]], values),
        )
        every = self._subset(trials, None, trial.number, self.study.sampler)
        name = Trial(every, trial_id).suggest_categorical(FAMILY, tuple(by_name))
        sampler = self._sampler(trial.number, name)
        self._avoid(sampler, by_name[name], is_open)
        by_name[name].draw(Trial(self._subset(trials, name, trial.number, sampler), trial_id))

    def _avoid(self, sampler: BaseSampler, family: Family, is_open: _IsOpen) -> None:
        """Make a sampler of a family's values propose no configuration that was tried."""
        by_name = {family.stored_name(one): one for one in family.parameters}
        self._correct(
            sampler,
            lambda name: by_name[name].options() or (),
            lambda values: is_open(family, values),
        )

    def _correct(
        self,
        sampler: BaseSampler,
        options: Callable[[str], Sequence[Any]],
        is_open: Callable[[Mapping[str, Any]], bool],
    ) -> None:
        """Replace what a sampler proposes by another value where nothing is left to try with it.

        Where the sampler learns, the others take turns, as in `prepare`; else one is drawn.

        Args:
            options: returns the values that a parameter may have.
            is_open: returns whether something is left to try with these values of parameters.
        """
        together, alone = sampler.sample_relative, sampler.sample_independent
        proposed: dict[str, Any] = {}

        def relative(
            study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
        ) -> dict[str, Any]:
            proposed.update(together(study, trial, search_space))
            return {}  # so that each of them comes by `single`

        def single(
            study: Study,
            trial: FrozenTrial,
            param_name: str,
            param_distribution: BaseDistribution,
        ) -> Any:
            known = {**(enqueued_values(trial) or {}), **trial.params}
            value = proposed.get(param_name)
            if value is None:
                value = alone(study, trial, param_name, param_distribution)
            if is_open({**known, param_name: value}):
                return value
            rest = [one for one in options(param_name) if is_open({**known, param_name: one})]
            random.Random(_seed(self.spec.seed, f"{trial.number} {param_name}")).shuffle(rest)
            turns = [{param_name: one} for one in rest]
            if self.spec.sampler in _LEARN and rest:
                return rest[self._turn(turns, study.get_trials(deepcopy=False), trial.number)]
            return rest[0] if rest else value

        sampler.sample_relative = relative  # type: ignore[method-assign]
        sampler.sample_independent = single  # type: ignore[method-assign]

    def _openness(self, numbers: Collection[int] | None, but: int | None) -> _IsOpen:
        """Return what tells whether a family has a configuration with some values left to try.

        Trials, as of `_tried`, are looked through where that is not clear without them.
        """
        found: list[dict[str, list[dict[str, Any]]]] = []

        def is_open(family: Family, fixed: Mapping[str, Any]) -> bool:
            if family.is_endless(fixed):
                return True
            if not found:
                found.append(self._tried(numbers, but))
            return family.is_open(found[0][family.name], fixed)

        return is_open

    def _tried(
        self, numbers: Collection[int] | None, but: int | None
    ) -> dict[str, list[dict[str, Any]]]:
        """Return the study's parameters of trials with these numbers, and of what waits, by family.

        None for all of them. Without trial `but`.
        """
        families = [family.name for family in self.spec.families]
        found: dict[str, list[dict[str, Any]]] = {name: [] for name in families}
        for one in self.study.get_trials(deepcopy=False):
            waits = one.state is TrialState.WAITING
            counts = waits or numbers is None or one.number in numbers
            if counts and one.number != but:
                values = (enqueued_values(one) or {}) if waits else one.params
                found[values.get(FAMILY, families[0])].append(values)
        return found

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

    def _family_sampler(self, number: int) -> BaseSampler:
        """Return the sampler that chooses among families, for the trial with this number.

        A single choice is nothing for a model of many dimensions: where the named sampler learns,
        TPE of one parameter does it here.
        """
        draw = _seed(self.spec.seed, number)
        if self.spec.sampler == "random" or self._known.judged[None] < self.spec.startup_trials:
            return samplers.RandomSampler(seed=draw)
        return TPESampler(seed=draw, n_startup_trials=self.spec.startup_trials, multivariate=False)


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
        case "random" | "grid":  # of which each point is drawn once; see `Proposer.draw`
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


def _seed(seed: int, what: int | str) -> int:
    digest = hashlib.blake2b(f"{seed}:{what}".encode(), digest_size=4).digest()
    return int.from_bytes(digest, "big")
