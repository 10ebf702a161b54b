"""A study in a database, cached by its single writer."""

from __future__ import annotations

import logging
import time
from collections.abc import Container, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from optuna.distributions import BaseDistribution
from optuna.storages import BaseStorage, InMemoryStorage, RDBStorage
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from .storage import describe

if TYPE_CHECKING:
    from sqlalchemy.engine.interfaces import DBAPIConnection, Dialect

__all__ = ["OneWriter", "open_database"]

_log = logging.getLogger(__name__)

# How long a database that goes away in mid-race is waited for; and SQLite for another process that
# writes, unless the URL says so (`?timeout=5`).
_PATIENCE_SECONDS = 30
_PAUSE_SECONDS = 0.2


def open_database(url: str) -> BaseStorage:
    """Return the storage behind a URL, as SQLAlchemy takes it; ValueError if it does not open."""
    options: dict[str, Any] = {}
    if not url.startswith("sqlite"):  # a connection that was cut is replaced before it is used
        options = {"pool_pre_ping": True}
    elif "timeout=" not in url.partition("?")[2]:
        options = {"connect_args": {"timeout": _PATIENCE_SECONDS}}
    try:
        storage = RDBStorage(url, engine_kwargs=options)
    except ImportError as error:
        known = " (for PostgreSQL: make install EXTRAS=postgres)"
        hint = known if url.startswith("postgres") else ""
        cause = error.__cause__ or error
        raise ValueError(f"storage: its driver is not installed: {cause}{hint}") from error
    except Exception as error:
        raise ValueError(f"storage: it cannot be opened ({describe(error)})") from error
    from sqlalchemy import event  # which a study in a journal does without

    event.listen(storage.engine, "do_connect", _connect)
    return storage


def _connect(
    dialect: Dialect, record: object, arguments: list[Any], options: dict[str, Any]
) -> DBAPIConnection:
    """Connect to the database; where it refuses, as while it restarts, try again for a while.

    Nothing has been asked of it yet. What breaks off later may have been done, and is not repeated.
    """
    began = time.monotonic()
    warned = False
    while True:
        try:
            return dialect.connect(*arguments, **options)
        except dialect.loaded_dbapi.OperationalError as error:
            if time.monotonic() - began >= _PATIENCE_SECONDS:
                raise
            if not warned:
                _log.warning(
                    "the study's storage does not answer (%s): waiting for it for up to %d s",
                    describe(error),
                    _PATIENCE_SECONDS,
                )
                warned = True
        time.sleep(_PAUSE_SECONDS)


class OneWriter(InMemoryStorage):
    """A study of a database, kept in memory by the one process that writes it.

    Its trials are read once, when they are first asked for; `RDBStorage` reads those that run for
    each question anew, with six statements each. What is written is in the database first. What a
    study has beside its trials, such as the claim of its driver, is read there each time.
    """

    def __init__(self, database: BaseStorage) -> None:
        super().__init__()
        self._database = database
        # Ids in the database, by those here: of studies, and of trials that have not ended.
        self._there: dict[int, int] = {}
        self._trials_there: dict[int, int] = {}
        self._unread: set[int] = set()

    def create_new_study(
        self, directions: Sequence[StudyDirection], study_name: str | None = None
    ) -> int:
        """Create it in the database, and here."""
        there = self._database.create_new_study(directions, study_name)
        here = super().create_new_study(directions, study_name)
        self._there[here] = there
        return here

    def get_all_studies(self) -> list[Any]:
        """Return those of the database."""
        return self._database.get_all_studies()

    def get_study_id_from_name(self, study_name: str) -> int:
        """Return the id here; KeyError if the database has no such study."""
        with suppress(KeyError):
            return super().get_study_id_from_name(study_name)
        there = self._database.get_study_id_from_name(study_name)
        here = super().create_new_study(self._database.get_study_directions(there), study_name)
        self._there[here] = there
        self._unread.add(here)
        return here

    def get_study_user_attrs(self, study_id: int) -> dict[str, Any]:
        """Return those of the database."""
        return self._database.get_study_user_attrs(self._there[study_id])

    def get_study_system_attrs(self, study_id: int) -> dict[str, Any]:
        """Return those of the database."""
        return self._database.get_study_system_attrs(self._there[study_id])

    def set_study_user_attr(self, study_id: int, key: str, value: Any) -> None:
        """Write it to the database."""
        self._database.set_study_user_attr(self._there[study_id], key, value)

    def set_study_system_attr(self, study_id: int, key: str, value: Any) -> None:
        """Write it to the database."""
        self._database.set_study_system_attr(self._there[study_id], key, value)

    def _read(self, study_id: int) -> None:
        if study_id not in self._unread:
            return
        there = self._there[study_id]
        for trial in self._database.get_all_trials(there, deepcopy=False):
            here = super().create_new_trial(study_id, trial)
            if not trial.state.is_finished():
                self._trials_there[here] = self._database.get_trial_id_from_study_id_trial_number(
                    there, trial.number
                )
        self._unread.remove(study_id)

    def get_all_trials(
        self,
        study_id: int,
        deepcopy: bool = True,
        states: Container[TrialState] | None = None,
    ) -> list[FrozenTrial]:
        """Return the trials with one of these states, by number."""
        self._read(study_id)
        return super().get_all_trials(study_id, deepcopy, states)

    def get_trial_id_from_study_id_trial_number(self, study_id: int, trial_number: int) -> int:
        """Return the id here; KeyError if there is no such trial."""
        self._read(study_id)
        return super().get_trial_id_from_study_id_trial_number(study_id, trial_number)

    def create_new_trial(self, study_id: int, template_trial: FrozenTrial | None = None) -> int:
        """Create a trial in the database, and here; return its id here."""
        self._read(study_id)
        there = self._database.create_new_trial(self._there[study_id], template_trial)
        here = super().create_new_trial(study_id, template_trial)
        self._trials_there[here] = there
        return here

    def set_trial_param(
        self,
        trial_id: int,
        param_name: str,
        param_value_internal: float,
        distribution: BaseDistribution,
    ) -> None:
        """Write it to the database, and here."""
        given = param_name, param_value_internal, distribution
        self._database.set_trial_param(self._trials_there[trial_id], *given)
        super().set_trial_param(trial_id, *given)

    def set_trial_state_values(
        self, trial_id: int, state: TrialState, values: Sequence[float] | None = None
    ) -> bool:
        """Write it to the database, and here; False where a trial runs already."""
        there = self._trials_there[trial_id]
        done = self._database.set_trial_state_values(there, state, values)
        return done and super().set_trial_state_values(trial_id, state, values)

    def set_trial_intermediate_value(
        self, trial_id: int, step: int, intermediate_value: float
    ) -> None:
        """Write it to the database, and here."""
        there = self._trials_there[trial_id]
        self._database.set_trial_intermediate_value(there, step, intermediate_value)
        super().set_trial_intermediate_value(trial_id, step, intermediate_value)

    def set_trial_user_attr(self, trial_id: int, key: str, value: Any) -> None:
        """Write it to the database, and here."""
        self._database.set_trial_user_attr(self._trials_there[trial_id], key, value)
        super().set_trial_user_attr(trial_id, key, value)

    def set_trial_system_attr(self, trial_id: int, key: str, value: Any) -> None:
        """Write it to the database, and here."""
        self._database.set_trial_system_attr(self._trials_there[trial_id], key, value)
        super().set_trial_system_attr(trial_id, key, value)
