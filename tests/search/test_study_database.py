"""What the one writer of a study in a database keeps in memory is what the database holds."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.storages import RDBStorage
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy import event
from sqlalchemy.engine import Engine

from src.search.study import SweepStudy
from src.search.study_database import OneWriter
from tests.search.studies import family, plan, pruner

SPACE = {
    "optimizer": {"choices": ["sgd", "adamw"]},
    "lr": {"low": 1e-4, "high": 1e-1, "log": True},
    "momentum": {"when": {"optimizer": "sgd"}, "low": 0.8, "high": 0.98},
}
EPOCHS = 5


def spec() -> Any:
    families = family(SPACE, "cnn"), family(SPACE, "mlp")
    return plan(*families, sampler="tpe", pruner=pruner("asha", EPOCHS))


def race(study: SweepStudy, trials: int) -> None:
    """Let trials report, be stopped and end, in twos; the last goes on running."""
    for number in range(trials):
        trial = study.ask()
        assert trial is not None and trial.number == number
        study.note(number, overrides=[f"{k}={v}" for k, v in trial.values.items()])
        if number:
            end_trial(study, number - 1)


def end_trial(study: SweepStudy, number: int) -> None:
    value = (37 * number % 101) / 101
    for epoch in range(1, EPOCHS + 1):
        study.report(number, epoch, value * epoch)
        if epoch < EPOCHS and study.should_prune(number):
            return study.pruned(number, f"at {epoch}")
    if number % 9 == 8:
        return study.failed(number, "no reason")
    study.note(number, figures={"val/accuracy": value})
    return study.complete(number, [value])


def content(trials: list[FrozenTrial]) -> list[Any]:
    names = ("number", "state", "params", "distributions", "values", "intermediate_values")
    return [
        [getattr(trial, name) for name in (*names, "user_attrs", "system_attrs")]
        for trial in trials
    ]


@contextmanager
def statements() -> Iterator[list[str]]:
    """The SQL that is sent to any database meanwhile."""
    sent: list[str] = []

    def note(_: Any, __: Any, statement: str, *rest: Any) -> None:
        sent.append(statement)

    event.listen(Engine, "before_cursor_execute", note)
    yield sent
    event.remove(Engine, "before_cursor_execute", note)


def test_a_database_holds_what_its_writer_knows_and_gets_few_statements(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'study.db'}"
    with SweepStudy(tmp_path / "db", spec(), url) as study:
        study.enqueue("cnn", {"optimizer": "adamw", "lr": 0.01})
        with statements() as sent:
            race(study, 30)
        records = study.trials()
        known = optuna.load_study(study_name="s", storage=study._study._storage).trials
        assert content(known) == content(optuna.load_study(study_name="s", storage=url).trials)
        assert {trial.state for trial in known} == {
            *(TrialState.RUNNING, TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL)
        }
    # Two or three for each value that is written; every look at a trial would be six more.
    assert len(sent) / 30 <= 60
    with SweepStudy(tmp_path / "db", spec(), url) as study:
        assert study.trials() == records
        assert [trial.number for trial in study.unfinished()] == [29]
        end_trial(study, 29)
        end_trial(study, study.ask().number)  # type: ignore[union-attr]
        assert study.trials() == [*records[:-1], *study.trials()[29:]]
    with SweepStudy(tmp_path / "journal", spec()) as study:
        study.enqueue("cnn", {"optimizer": "adamw", "lr": 0.01})
        race(study, 30)
        assert study.trials() == records


def test_trials_are_read_when_they_are_first_asked_for(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'study.db'}"
    before = optuna.create_study(study_name="s", storage=url)
    storage = OneWriter(RDBStorage(url))
    here = optuna.load_study(study_name="s", storage=storage)
    # The driver before this one, which a machine that waits for its claim thinks dead, was alive.
    before.tell(before.ask(), 0.5)
    open_trial = before.ask()
    assert [trial.state for trial in here.trials] == [TrialState.COMPLETE, TrialState.RUNNING]
    trial_id = storage.get_trial_id_from_study_id_trial_number(0, open_trial.number)
    storage.set_trial_user_attr(trial_id, "noted", 1)
    storage.set_study_user_attr(0, "driver", "me")
    before.set_user_attr("other", 2)
    assert here.user_attrs == {"driver": "me", "other": 2}
    assert optuna.load_study(study_name="s", storage=url).trials[1].user_attrs == {"noted": 1}
    with pytest.raises(KeyError):
        optuna.load_study(study_name="none", storage=storage)
