"""A study of Optuna with a single writer, an identity, and trials that can be resumed."""

from __future__ import annotations

import json
import warnings
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from copy import deepcopy
from functools import reduce
from pathlib import Path
from typing import Any, Self

import optuna
from filelock import Timeout
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, Trial, TrialState

from ..machine.regular_files import refuse_odd_files
from ..records.trials import TrialRecord
from ..storage.locks import ProcessLock, holder_of
from .samplers import Proposer
from .space import FAMILY, Kind, StudySpec, Value
from .storage import NOTED, Journal, Lease, StudyBusy, translated_errors
from .study_database import OneWriter, open_database
from .study_trials import (
    STALE,
    STATES,
    current,
    enqueued_values,
    importances,
    rungs,
    trial_record,
)

__all__ = ["JOURNAL", "StudyBusy", "StudyChanged", "SweepStudy"]

JOURNAL = "study.journal"
_MOST_DIFFERENCES = 3
_LONGEST_VALUE = 40
# Attribute of an enqueued trial that comes before the others.
_FIRST = "first"


class StudyChanged(ValueError):
    """The study was begun with another space, direction or base.

    Attributes:
        begun: the identity that it was begun with.
    """

    def __init__(self, message: str, begun: Any) -> None:
        super().__init__(message)
        self.begun = begun


class SweepStudy:
    """The one writer of a study, in the database with this URL or a journal in its folder.

    Raises:
        StudyBusy: another process drives it.
        StudyChanged: the study was begun with another identity; the message shows the difference.
        ValueError: the storage cannot be opened.
        OSError: the folder cannot be written.
    """

    def __init__(self, folder: Path, spec: StudySpec, storage: str | None = None) -> None:
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        # Grouped sampling and seeded QMC are what conditional spaces and repeatable studies need.
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        self.spec = spec
        self._families = {family.name: family for family in spec.families}
        self._ids: dict[int, int] = {}  # of trials in the storage, by number
        self._running: set[int] = set()
        self._some_wait = True  # unless a look at all trials found none that is enqueued
        self._journal: Journal | None = None
        self._lease: Lease | None = None
        folder.mkdir(parents=True, exist_ok=True)
        self._lock = ProcessLock(folder / "driver.lock", thread_local=False)
        try:
            self._lock.acquire(timeout=0)
        except Timeout:
            raise StudyBusy(
                f"the study {spec.name} in {folder} is being driven by {holder_of(self._lock)}: "
                "wait for it, or take another name, study=NAME"
            ) from None
        try:
            refuse_odd_files(folder)
            self._open(folder, storage)
        except BaseException:
            self.close()
            raise

    def _open(self, folder: Path, url: str | None) -> None:
        if url is None:
            self._journal = Journal(folder / JOURNAL)
            self._storage: optuna.storages.BaseStorage
            self._storage = optuna.storages.JournalStorage(self._journal)
        else:
            self._storage = OneWriter(open_database(url))
        spec = self.spec
        with translated_errors():
            self._study = self._load_or_create()
            names = list(self.spec.metrics.values())
            if self._study.metric_names != names:
                self._study.set_metric_names(names)
            self._study_id = self._storage.get_study_id_from_name(spec.name)
        self._proposer = Proposer(self._study, spec)
        if url is not None:  # other machines reach it too
            self._lease = Lease(spec.name, self.recall, self.remember)
            self._lease.take()
        self._check_identity()

    def _load_or_create(self) -> optuna.Study:
        """Return the study of the storage; a journal that has it is only read."""
        name, pruner = self.spec.name, self.spec.pruner
        if name in optuna.get_all_study_names(self._storage):
            return optuna.load_study(study_name=name, storage=self._storage, pruner=pruner)
        return optuna.create_study(
            study_name=name,
            storage=self._storage,
            directions=[StudyDirection[one.upper()] for one in self.spec.directions],
            pruner=pruner,
            load_if_exists=True,  # another machine may have been quicker
        )

    def _check_identity(self) -> None:
        known = self.recall("identity")
        given = json.loads(json.dumps(self.spec.identity))
        if known == given or (known and self.spec.meaning(known) == self.spec.meaning(given)):
            return
        # A start without any trial, for wrong pictures perhaps, does not fix the identity.
        empty = not self._study.get_trials(deepcopy=False)
        if known is None or (empty and known.get("direction") == given.get("direction")):
            self.remember("identity", given)
            if known is not None:
                self.remember("prepared", None)
        else:
            # Overrides that all trials share are named as they were given.
            found = [one.removeprefix("base: ") for one in _differences(known, given)]
            more = len(found) - _MOST_DIFFERENCES
            shown = "; ".join(found[:_MOST_DIFFERENCES]) + (f" and {more} more" if more > 0 else "")
            raise StudyChanged(f"the study {self.spec.name} has other settings: {shown}", known)

    def close(self) -> None:
        """Release the study for another process."""
        if self._lease is not None:
            self._lease.give_back()
        if self._journal is not None:
            self._journal.close()
        self._lock.release()

    def renew_claim(self) -> None:
        """Renew the claim on the study, every few seconds; StudyBusy if another process has it."""
        if self._lease is not None:
            self._lease.renew()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # Values that the study stores in addition to its trials.

    def recall(self, key: str) -> Any:
        """Return what was remembered under `key`, or None."""
        with translated_errors():
            kept = self._storage.get_study_system_attrs(self._study_id)
            return deepcopy(kept.get(NOTED + key))

    def remember(self, key: str, value: Any) -> None:
        """Keep a plain value for later starts."""
        with translated_errors():
            self._storage.set_study_system_attr(self._study_id, NOTED + key, value)

    # Trials that begin, run and end.

    def enqueue(
        self, family: str, values: Mapping[str, Value], *, first: bool = False, **facts: Any
    ) -> None:
        """Enqueue a configuration before all that the sampler proposes, once if called repeatedly.

        With `first` it comes before others that wait as well.

        Once for the same facts, plain values that are kept with the trial: with others than those
        of the family's earlier trials it is another candidate. Not where a trial of the same facts
        has the values, unless it was stopped or failed.

        ValueError if a value is none that its parameter may have.
        """
        stored = self._families[family].stored_values(values)
        wanted = ({FAMILY: family} if len(self._families) > 1 else {}) | stored
        own = [one for one in self._all() if self._family_of(one) == family]
        alike = [t for t in own if all(t.user_attrs.get(k, v) == v for k, v in facts.items())]
        if len(alike) < len(own) and any(one.user_attrs.get("default") for one in alike):
            return
        if any(
            t.params == wanted and t.state not in (TrialState.PRUNED, TrialState.FAIL)
            for t in alike
        ):
            return
        self._some_wait = True
        with translated_errors():
            self._study.enqueue_trial(
                wanted,
                user_attrs={"default": True, FAMILY: family, **({_FIRST: True} if first else {})}
                | facts,
                skip_if_exists=len(alike) == len(own),
            )

    def ask(
        self, kinds: Sequence[Kind] | None = None, tried: Collection[int] | None = None
    ) -> TrialRecord | None:
        """Return a new trial, running; None where there is nothing left to propose.

        Args:
            kinds: that it may be of, None for all; what waits of others goes on waiting.
            tried: numbers of the trials, None for all, whose values, and those of what waits, no
                trial that the sampler proposes has.
        """
        with translated_errors():
            fitting, others = self._waiting(kinds)
            if not fitting:
                enqueued = self._proposer.prepare(kinds, tried)
                if enqueued is None:
                    return None
                if enqueued:  # else the sampler is free to choose
                    self._some_wait = True
                    fitting, others = self._waiting(kinds)
                    if not fitting:
                        raise RuntimeError(
                            f"a proposal is of none of the kinds that may begin: {kinds}"
                        )
            if fitting and (others or len(fitting) > 1):  # `Study.ask` takes what waits longest
                self._storage.set_trial_state_values(self._id(fitting[0]), TrialState.RUNNING)
                trial = Trial(self._study, self._id(fitting[0]))
            else:
                trial = self._study.ask()
            self._proposer.draw(trial, self._id(trial.number), tried)
        self._running.add(trial.number)
        return self.trial(trial.number)

    def _waiting(self, kinds: Sequence[Kind] | None) -> tuple[list[int], list[int]]:
        """Return the enqueued trials that may be of these kinds, and those of others."""
        found: tuple[list[int], list[int]] = [], []
        if not self._some_wait:  # to look at thousands of others takes a while
            return found
        waiting = self._study.get_trials(deepcopy=False, states=(TrialState.WAITING,))
        for trial in sorted(waiting, key=lambda one: _FIRST not in one.user_attrs):
            fits = kinds is None or any(self._may_be(trial, kind) for kind in kinds)
            found[not fits].append(trial.number)
        self._some_wait = any(found)
        return found

    def _may_be(self, waiting: FrozenTrial, kind: Kind) -> bool:
        family = self._family_of(waiting)
        fixed = enqueued_values(waiting) or {}
        choices = self._families[kind.family].stored_choices
        stored = [choices({**kind.values, **one}) for one in kind.among or ({},)]
        return family == kind.family and any(one.items() <= fixed.items() for one in stored)

    def unfinished(self, tried: Collection[int] | None = None) -> list[TrialRecord]:
        """Return the trials that an earlier driver left running, to be resumed here.

        `tried` is that of `ask`, for those that were not drawn to their end.
        """
        left = []
        for frozen in self._all():
            number = frozen.number
            if frozen.state is TrialState.RUNNING and number not in self._running:
                with translated_errors():
                    # Draws the rest if the driver was killed while drawing.
                    trial_id = self._id(number)
                    self._proposer.draw(Trial(self._study, trial_id), trial_id, tried)
                self._running.add(number)
                left.append(self.trial(number))
        return left

    def note(self, number: int, **facts: Any) -> None:
        """Keep plain values with a running trial, such as its run's folder."""
        with translated_errors():
            for key, value in facts.items():
                self._storage.set_trial_user_attr(self._id(number), key, value)

    def report(self, number: int, step: int, value: float) -> bool:
        """Keep the first metric after an epoch or a fold, counted from 1; return whether it is new.

        A repeated step is ignored: what a trial repeats after a checkpoint is the same. Unlike
        `Trial.report` this takes the curves of studies with several objectives.
        """
        with translated_errors():
            trial = self._frozen(number)
            new = step not in trial.intermediate_values
            if new:
                self._storage.set_trial_intermediate_value(self._id(number), step, value)
                if step in (stale := trial.user_attrs.get(STALE, ())):
                    self.note(number, **{STALE: [one for one in stale if one != step]})
        return new

    def begin_anew(self, number: int) -> None:
        """Forget the reports of a running trial, whose next attempt is a new training."""
        with translated_errors():
            trial = self._storage.get_trial(self._id(number))
            self.note(number, **{STALE: sorted(trial.intermediate_values)})
            for key in rungs(trial):
                self._storage.set_trial_system_attr(self._id(number), key, None)

    def should_prune(self, number: int) -> bool:
        """Return whether the pruner stops a running trial."""
        with translated_errors():
            return self.spec.pruner.prune(self._study, self._frozen(number))

    def complete(self, number: int, objectives: Sequence[float]) -> None:
        """End a trial with its metrics."""
        self._end(number, TrialState.COMPLETE, list(objectives))

    def pruned(self, number: int, reason: str) -> None:
        """End a trial that was stopped."""
        self.note(number, reason=reason)
        # As `Study.tell` does; a study with several objectives has no such value.
        curve = self._frozen(number).intermediate_values
        values = [curve[max(curve)]] if curve and len(self.spec.directions) == 1 else None
        self._end(number, TrialState.PRUNED, values)

    def failed(self, number: int, reason: str) -> None:
        """End a trial that failed."""
        self.note(number, reason=reason)
        self._end(number, TrialState.FAIL, None)

    def _end(self, number: int, state: TrialState, values: list[float] | None) -> None:
        with translated_errors():
            self._storage.set_trial_state_values(self._id(number), state, values)
        self._running.remove(number)

    # The content of the study.

    def trial(self, number: int) -> TrialRecord:
        """Return the current record of a trial."""
        return self._record(self._frozen(number))

    def trials(self) -> list[TrialRecord]:
        """Return all that have begun, by number."""
        return [self._record(frozen) for frozen in self._all() if frozen.state in STATES]

    def facts(self, number: int) -> dict[str, Any]:
        """Return what was noted of a trial."""
        return dict(self._frozen(number).user_attrs)

    def best(self) -> TrialRecord | None:
        """Return the best complete trial by the first metric; see `src.records.ties`."""
        return reduce(self.better, self.trials(), None)

    def better(self, best: TrialRecord | None, trial: TrialRecord) -> TrialRecord | None:
        """Return `trial` if it is complete and better than the best one so far, else that."""
        if trial.objectives is None or best is None or best.objectives is None:
            return best if trial.objectives is None else trial
        direction = self.spec.directions[0]
        return trial if trial.place(direction) < best.place(direction) else best

    def importances(self) -> dict[str, dict[str, float]]:
        """Return the share of each family's keys; see `src.search.study_trials.importances`."""
        return importances(self._all(), self._families, self.spec.directions)

    def _family_of(self, trial: FrozenTrial) -> str | None:
        """Return the family of a trial; None before that has been drawn."""
        only = next(iter(self._families)) if len(self._families) == 1 else None
        found: str | None = trial.user_attrs.get(FAMILY, trial.params.get(FAMILY, only))
        return found

    def _all(self) -> list[FrozenTrial]:
        with translated_errors():
            return [*map(current, self._study.get_trials(deepcopy=False))]

    def _frozen(self, number: int) -> FrozenTrial:
        with translated_errors():
            return current(self._storage.get_trial(self._id(number)))

    def _id(self, number: int) -> int:
        if number not in self._ids:
            self._ids[number] = self._storage.get_trial_id_from_study_id_trial_number(
                self._study_id, number
            )
        return self._ids[number]

    def _record(self, frozen: FrozenTrial) -> TrialRecord:
        return trial_record(frozen, self._families, self.spec.directions)


def _differences(known: Any, given: Any, where: str = "") -> Iterator[str]:
    """Yield the differences between two nested plain values, with both values.

    Of what only one of them has, such as a family with its whole search space, the keys are named.
    """
    if isinstance(known, dict) and isinstance(given, dict):
        if only := _then_and_now(known.keys() - given.keys(), given.keys() - known.keys()):
            yield f"{where}: {only}" if where else only
        for key in sorted(known.keys() & given.keys()):
            yield from _differences(known[key], given[key], f"{where} {key}".strip())
    elif isinstance(known, list) and isinstance(given, list):
        then = [value for value in known if value not in given]
        now = [value for value in given if value not in known]
        if known != given:
            yield f"{where}: {_then_and_now(then, now) or 'in another order'}"
    elif known != given:
        yield f"{where}: {_then_and_now([known], [given])}"


def _then_and_now(then: Iterable[Any], now: Iterable[Any]) -> str:
    """Return, as in "1 then, 2 now" or "2 now, not then"; empty where there is neither."""
    sides = [", ".join(sorted(map(_short, values))) for values in (then, now)]
    if all(sides):
        return f"{sides[0]} then, {sides[1]} now"
    whens = ("then, not now", "now, not then")
    return "".join(f"{side} {when}" for side, when in zip(sides, whens) if side)


def _short(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value)
    return text if len(text) <= _LONGEST_VALUE else f"{text[: _LONGEST_VALUE - 1]}…"
