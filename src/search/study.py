"""A study that survives: Optuna's, with one writer, a fingerprint, and trials that can go on."""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import optuna
from filelock import FileLock, Timeout
from optuna.distributions import CategoricalDistribution
from optuna.pruners import BasePruner
from optuna.samplers import BaseSampler
from optuna.storages import BaseStorage, JournalStorage
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, Trial, TrialState

from src.records.trials import COMPLETE, FAILED, PRUNED, RUNNING, TrialRecord
from src.search.difference import difference
from src.search.importances import key_shares
from src.search.journal import Journal
from src.search.lease import Lease, StudyBusy
from src.search.samplers import family_sampler, grid, make_sampler
from src.search.space import Family, Value
from src.search.storage import open_database, plainly
from src.search.views import FAMILY, PartOfStudy

__all__ = ["JOURNAL", "Plan", "StudyBusy", "StudyChanged", "SweepStudy"]

_STATES = {
    TrialState.RUNNING: RUNNING,
    TrialState.COMPLETE: COMPLETE,
    TrialState.PRUNED: PRUNED,
    TrialState.FAIL: FAILED,
}
JOURNAL = "study.journal"
# A sampler's time grows with what it looks at, and its proposals hardly change after so many.
_MOST_SEEN, _BEST_SEEN = 400, 100
# Random trials of each family, at least, before its sampler learns from them.
_LEAST_STARTUP = 3


class StudyChanged(ValueError):
    """The study was begun with another space, direction or base."""


@dataclass(frozen=True)
class Plan:
    """What makes a study this study, and how it proposes.

    Attributes:
        name: of the study.
        families: that race.
        directions: "maximize" or "minimize", one a metric.
        identity: plain values that must not change between starts.
        sampler, startup_trials, seed: see `make_sampler`.
        pruner: see `make_pruner`.
    """

    name: str
    families: Sequence[Family]
    directions: Sequence[str]
    identity: Mapping[str, Any]
    sampler: str
    startup_trials: int
    seed: int
    pruner: BasePruner


class SweepStudy:
    """The one writer of a study.

    Args:
        folder: of the study; made where it is missing.
        plan: see `Plan`.
        storage: URL of a database; None for a journal in `folder`.

    Raises:
        StudyBusy: another process drives it.
        StudyChanged: the study was begun with another identity; the message shows the difference.
        ValueError: the storage cannot be opened.
        OSError: the folder cannot be written.
    """

    def __init__(self, folder: Path, plan: Plan, storage: str | None = None) -> None:
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        # Grouped sampling and seeded QMC are what conditional spaces and repeatable studies need.
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        self.plan = plan
        self._families = {family.name: family for family in plan.families}
        self._running: dict[int, Trial] = {}
        self._journal: Journal | None = None
        self._lease: Lease | None = None
        folder.mkdir(parents=True, exist_ok=True)
        self._lock = FileLock(folder / "driver.lock", thread_local=False)
        try:
            self._lock.acquire(timeout=0)
        except Timeout:
            raise StudyBusy(
                f"the study {plan.name} in {folder} is being driven by another process"
            ) from None
        try:
            self._open(folder, storage)
        except BaseException:
            self.close()
            raise

    def _open(self, folder: Path, storage: str | None) -> None:
        opened: BaseStorage
        if storage is None:
            self._journal = Journal(folder / JOURNAL)
            opened = JournalStorage(self._journal)
        else:
            opened = open_database(storage)
        with plainly():
            self._study = self._loaded(opened)
        if storage is not None:  # other machines reach it too
            self._lease = Lease(self.plan.name, self.recall, self.remember)
            self._lease.take()
        known = self.recall("identity")
        given = json.loads(json.dumps(self.plan.identity))
        # A start that came to no trial, for wrong pictures say, decides nothing of a later one.
        empty = not self._study.get_trials(deepcopy=False)
        if known is None:
            self.remember("identity", given)
        elif empty and known != given and known.get("direction") == given.get("direction"):
            self.remember("identity", given)
            self.remember("prepared", None)
        elif known != given:
            raise StudyChanged(
                f"the study {self.plan.name} was begun otherwise: {difference(known, given)}. "
                "Begin a new one with study=NAME, or take the old settings"
            )

    def _loaded(self, storage: BaseStorage) -> optuna.Study:
        """The study in a storage; a journal that has it is only read."""
        name, pruner = self.plan.name, self.plan.pruner
        if name in optuna.get_all_study_names(storage):
            return optuna.load_study(study_name=name, storage=storage, pruner=pruner)
        return optuna.create_study(
            study_name=name,
            storage=storage,
            directions=[StudyDirection[one.upper()] for one in self.plan.directions],
            pruner=pruner,
            load_if_exists=True,  # another machine may have been quicker
        )

    def close(self) -> None:
        """Let another process drive."""
        if self._lease is not None:
            self._lease.give_back()
        if self._journal is not None:
            self._journal.close()
        self._lock.release()

    def stay(self) -> None:
        """To be called every few seconds, for drivers on other machines.

        Raises:
            StudyBusy: another process has taken the study over meanwhile.
        """
        if self._lease is not None:
            self._lease.renew()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # What the study knows beside its trials.

    def recall(self, key: str) -> Any:
        """What was remembered under `key`, or None."""
        with plainly():
            return self._study.user_attrs.get(key)

    def remember(self, key: str, value: Any) -> None:
        """Keep a plain value for later starts."""
        with plainly():
            self._study.set_user_attr(key, value)

    # Trials.

    def enqueue(self, family: str, values: Mapping[str, Value]) -> None:
        """Try this configuration before anything that the sampler proposes; once, if asked again.

        Raises:
            ValueError: a value is none that its parameter may have.
        """
        stored = self._families[family].stored_values(values)
        chosen = {FAMILY: family} if len(self._families) > 1 else {}
        with plainly():
            self._study.enqueue_trial(
                chosen | stored, user_attrs={"default": True}, skip_if_exists=True
            )

    def ask(self, families: frozenset[str] | None = None) -> TrialRecord | None:
        """Return a new trial, running; None where the sampler has nothing left to propose.

        Args:
            families: that it may be of, at least one; None for all. Where some are left out and
                nothing is enqueued, the others take turns.
        """
        with plainly():
            if self.plan.sampler == "grid" and not self._enqueue_untried():
                return None
            if families is not None and not self._families.keys() <= families:
                self._enqueue_one_of(sorted(families))
            trial = self._study.ask()
            self._draw(trial)
        self._running[trial.number] = trial
        return self.trial(trial.number)

    def _enqueue_one_of(self, families: Sequence[str]) -> None:
        trials = self._all()
        if len(self._families) > 1 and all(t.state is not TrialState.WAITING for t in trials):
            self._study.enqueue_trial({FAMILY: families[len(trials) % len(families)]})

    def _draw(self, trial: Trial) -> None:
        """First the family, then its values by a sampler that looks at the family alone: what it
        costs to ask does not grow with the other families."""
        plan, names, number = self.plan, tuple(self._families), trial.number
        with plainly():
            if len(names) == 1:  # no choice, and some samplers take none
                self._study.sampler = self._sampler(number)
                plan.families[0].draw(trial)
                return
            self._study.sampler = family_sampler(
                plan.sampler, seed=plan.seed, number=number, startup_trials=plan.startup_trials
            )
            family = str(trial._suggest(FAMILY, CategoricalDistribution(names)))
            # Not this trial itself: one half drawn would be judged by its own half.
            seen = self._worth_a_look(family) - {trial.number}
            view = PartOfStudy(
                self._study, lambda other: other.number in seen, self._sampler(number)
            )
            self._families[family].draw(Trial(view, trial._trial_id))

    def _worth_a_look(self, family: str) -> set[int]:
        """The family's trials by number; of very many the best and the latest."""
        if self.plan.sampler == "random":
            return set()
        trials = [t for t in self._all() if t.params.get(FAMILY) == family]
        if len(trials) <= _MOST_SEEN:
            return {trial.number for trial in trials}
        complete = [t for t in trials if t.state is TrialState.COMPLETE]
        sign = -1.0 if self.plan.directions[0] == "maximize" else 1.0
        complete.sort(key=lambda t: sign * t.values[0])
        best = {trial.number for trial in complete[:_BEST_SEEN]}
        return best | {trial.number for trial in trials[_BEST_SEEN - _MOST_SEEN :]}

    def note(self, number: int, **facts: Any) -> None:
        """Keep plain values with a running trial, such as its run's folder."""
        with plainly():
            for key, value in facts.items():
                self._running[number].set_user_attr(key, value)

    def report(self, number: int, epoch: int, value: float) -> None:
        """The first metric after this epoch, counted from 1; a repeated epoch is passed over."""
        trial = self._running[number]
        with plainly():
            # What a trial that goes on from a checkpoint repeats is the same.
            if epoch in self._frozen(number).intermediate_values:
                return
            if len(self.plan.directions) == 1:
                trial.report(value, epoch)
            else:  # of several objectives Optuna keeps curves, but refuses to be told of them
                storage = self._study._storage
                storage.set_trial_intermediate_value(trial._trial_id, epoch, value)

    def should_prune(self, number: int) -> bool:
        """What the pruner says of a running trial."""
        with plainly():
            return self._running[number].should_prune()

    def complete(self, number: int, objectives: Sequence[float]) -> None:
        """The trial ended, with its metrics."""
        self._tell(number, TrialState.COMPLETE, list(objectives))

    def pruned(self, number: int, reason: str) -> None:
        """The trial was stopped."""
        self.note(number, reason=reason)
        self._tell(number, TrialState.PRUNED)

    def failed(self, number: int, reason: str) -> None:
        """The trial came to nothing."""
        self.note(number, reason=reason)
        self._tell(number, TrialState.FAIL)

    def _tell(self, number: int, state: TrialState, values: list[float] | None = None) -> None:
        trial = self._running[number]
        with plainly():
            if state is TrialState.PRUNED and values is None:
                # What `Study.tell` does; a study of several objectives has no such value.
                frozen = self._frozen(number)
                if frozen.last_step is not None and len(self.plan.directions) == 1:
                    values = [frozen.intermediate_values[frozen.last_step]]
            self._study._storage.set_trial_state_values(trial._trial_id, state, values)
        del self._running[number]

    def unfinished(self) -> list[TrialRecord]:
        """The trials that an earlier driver left running; they run on here."""
        left = []
        for frozen in self._all():
            if frozen.state is TrialState.RUNNING and frozen.number not in self._running:
                with plainly():
                    trial = Trial(self._study, frozen._trial_id)
                # The rest, if the driver was killed while it was being drawn.
                self._draw(trial)
                self._running[frozen.number] = trial
                left.append(self.trial(frozen.number))
        return left

    def trial(self, number: int) -> TrialRecord:
        """One trial as it stands."""
        with plainly():
            return self._record(self._frozen(number))

    def trials(self) -> list[TrialRecord]:
        """All that have begun, by number."""
        return [self._record(frozen) for frozen in self._all() if frozen.state in _STATES]

    def facts(self, number: int) -> dict[str, Any]:
        """What was noted of a trial."""
        with plainly():
            return dict(self._frozen(number).user_attrs)

    def importances(self) -> dict[str, dict[str, float]]:
        """By family and key, the share in how the first metric varies; see `key_shares`."""
        complete = [t for t in self._all() if t.state is TrialState.COMPLETE]
        found = {}
        for name, family in self._families.items():
            own = [trial for trial in complete if self._family_name(trial) == name]
            if shares := key_shares(own, self.plan.directions):
                keys = {family.stored_name(p): p.name for p in family.parameters}
                found[name] = {keys[stored]: share for stored, share in shares.items()}
        return found

    def _all(self) -> list[FrozenTrial]:
        with plainly():
            return self._study.get_trials(deepcopy=False)

    def _frozen(self, number: int) -> FrozenTrial:
        storage, study = self._study._storage, self._study._study_id
        running = self._running.get(number)
        if running is None:
            return storage.get_trial(storage.get_trial_id_from_study_id_trial_number(study, number))
        return storage.get_trial(running._trial_id)

    def _family_name(self, frozen: FrozenTrial) -> str:
        return str(frozen.params.get(FAMILY, self.plan.families[0].name))

    def _record(self, frozen: FrozenTrial) -> TrialRecord:
        family = self._families[self._family_name(frozen)]
        by_name = {family.stored_name(p): p for p in family.parameters}
        values = {
            by_name[name].key: by_name[name].value(stored)
            for name, stored in frozen.params.items()
            if name in by_name
        }
        curve = tuple(sorted(frozen.intermediate_values.items()))
        facts = frozen.user_attrs
        sign = max if self.plan.directions[0] == "maximize" else min
        return TrialRecord(
            number=frozen.number,
            family=family.name,
            state=_STATES.get(frozen.state, RUNNING),
            values=values,
            words=tuple(facts.get("words", ())),
            curve=curve,
            objectives=tuple(frozen.values) if frozen.state is TrialState.COMPLETE else None,
            best=sign((value for _, value in curve), default=None),
            seconds=facts.get("seconds"),
            figures=facts.get("figures", {}),
            reason=facts.get("reason"),
            run_id=facts.get("run_id"),
            run_dir=facts.get("run_dir"),
            is_default=bool(facts.get("default")),
        )

    def _sampler(self, number: int) -> BaseSampler:
        plan, count = self.plan, len(self._families)
        startup = plan.startup_trials
        return make_sampler(
            plan.sampler,
            plan.families,
            seed=plan.seed,
            number=number,
            startup_trials=startup if count == 1 else max(_LEAST_STARTUP, startup // count),
        )

    def _enqueue_untried(self) -> bool:
        """Let the next trial be one of the grid that was not tried; False if all of it was.

        Optuna's own grid leaves out as many as were enqueued by hand.
        """
        known = self._all()
        if any(frozen.state is TrialState.WAITING for frozen in known):
            return True
        tried = [frozen.system_attrs.get("fixed_params") for frozen in known]
        for values in grid(self.plan.families[0], self.plan.seed):
            if values not in tried:
                self._study.enqueue_trial(values)
                return True
        return False
