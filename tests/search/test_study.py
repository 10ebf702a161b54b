"""Studies that are closed, killed, locked and opened again."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.storages.journal import JournalFileBackend

from src.records.trials import COMPLETE, FAILED, PRUNED, RUNNING
from src.runs.folder import sweep_file
from src.search import study_database
from src.search.space import Kind
from src.search.study import JOURNAL, StudyBusy, StudyChanged, SweepStudy
from tests.search.studies import CONDITIONS, NUMBERS, family, plan, run, value_of

ROOT = Path(__file__).resolve().parents[2]
MLP, CNN = family(NUMBERS, "mlp"), family(CONDITIONS, "cnn")
# Asks, reports and tells for ever, in a process that somebody kills.
_ENDLESS = """
import sys
from pathlib import Path
from src.search.study import SweepStudy
from tests.search.studies import CONDITIONS, NUMBERS, family, plan, run, value_of

one = plan(family(NUMBERS, "mlp"), family(CONDITIONS, "cnn"))
with SweepStudy(Path(sys.argv[1]), one, *sys.argv[2:]) as study:
    print("open", flush=True)
    for unfinished in study.unfinished():
        study.complete(unfinished.number, [value_of(unfinished)])
    while True:
        trial = study.ask()
        study.note(trial.number, run_dir=f"/runs/{trial.number}")
        for epoch in range(1, 4):
            study.report(trial.number, epoch, value_of(trial) * epoch)
        study.complete(trial.number, [value_of(trial)])
"""
Start = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def start(tmp_path: Path) -> Any:
    """`start(code, *words)` runs the code in a process of its own."""
    processes: list[subprocess.Popen[str]] = []

    def begin(code: str, *overrides: str) -> subprocess.Popen[str]:
        environment = os.environ | {"PYTHONPATH": str(ROOT)}
        process = subprocess.Popen(
            [sys.executable, "-c", code, *overrides],
            cwd=ROOT,
            env=environment,
            stdout=subprocess.PIPE,
            text=True,
        )
        processes.append(process)
        return process

    yield begin
    for process in processes:
        process.kill()
        process.communicate()


def urls(tmp_path: Path) -> dict[str, str | None]:
    return {"journal": None, "sqlite": f"sqlite:///{tmp_path / 'study.db'}"}


@pytest.mark.parametrize("kind", ["journal", "sqlite"])
def test_trials_go_on_where_they_were_left(tmp_path: Path, kind: str) -> None:
    url = urls(tmp_path)[kind]
    with SweepStudy(tmp_path, plan(MLP, CNN), url) as study:
        study.enqueue("cnn", {"optimizer": "sgd", "momentum": 0.9, "rate": 0.1})
        study.enqueue("mlp", {"a": 0.5, "b": 7})
        first, second, third = (study.ask() for _ in range(3))
        assert first is not None and second is not None and third is not None
        assert (first.family, first.values) == (
            "cnn",
            {"optimizer": "sgd", "momentum": 0.9, "rate": 0.1},
        )
        assert (second.family, second.values) == ("mlp", {"a": 0.5, "b": 7})
        assert (first.is_default, second.is_default, third.is_default) == (True, True, False)
        study.report(0, 1, 0.25)
        study.report(0, 2, 0.5)
        study.note(0, run_dir="/runs/0", run_id="abc", overrides=["as=before"])
        study.failed(1, "too large")
        study.remember("prepared", {"mlp": ["x"]})
    with SweepStudy(tmp_path, plan(MLP, CNN), url) as study:
        assert study.recall("prepared") == {"mlp": ["x"]} and study.recall("nothing") is None
        left = study.unfinished()
        assert [trial.number for trial in left] == [0, 2] and study.unfinished() == []
        assert left[0].run_dir == "/runs/0" and left[0].curve == ((1, 0.25), (2, 0.5))
        assert left[0].overrides == ("as=before",)
        assert left[1].values == third.values
        study.report(0, 2, 0.75)  # repeated after a checkpoint: the first one counts
        study.report(0, 3, 0.6)
        study.complete(0, [0.6])
        study.pruned(2, "behind")
        fourth = study.ask()
        assert fourth is not None and fourth.number == 3
        states = [trial.state for trial in study.trials()]
        assert states == [COMPLETE, FAILED, PRUNED, RUNNING]
        whole = study.trial(0)
        assert whole.curve == ((1, 0.25), (2, 0.5), (3, 0.6)) and whole.objectives == (0.6,)
        assert (whole.best, whole.last) == (0.6, 0.6)
        assert study.trial(1).reason == "too large" and study.trial(2).reason == "behind"


@pytest.mark.parametrize("kind", ["journal", pytest.param("sqlite", marks=pytest.mark.slow)])
def test_a_killed_driver_loses_nothing_and_leaves_no_number_out(
    tmp_path: Path, start: Start, kind: str
) -> None:
    overrides = [str(tmp_path), *filter(None, [urls(tmp_path)[kind]])]
    known: list[Any] = []
    for _ in range(2):
        process = start(_ENDLESS, *overrides)
        assert process.stdout is not None and process.stdout.readline() == "open\n"
        time.sleep(0.3)
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
        with SweepStudy(tmp_path, plan(MLP, CNN), urls(tmp_path)[kind]) as study:
            trials = study.trials()
        assert [trial.number for trial in trials] == list(range(len(trials)))
        assert [trial for trial in trials if trial.state == COMPLETE][: len(known)] == known
        assert sum(trial.state == RUNNING for trial in trials) <= 1
        known = [trial for trial in trials if trial.state == COMPLETE]
        for trial in known:
            assert trial.objectives == (pytest.approx(value_of(trial)),)
    with SweepStudy(tmp_path, plan(MLP, CNN), urls(tmp_path)[kind]) as study:
        for trial in study.unfinished():
            study.complete(trial.number, [0.0])
        undisturbed = tmp_path / "undisturbed"
        with SweepStudy(undisturbed, plan(MLP, CNN)) as other:
            expected = run(other, len(study.trials()))
        assert [t.values for t in study.trials()] == [t.values for t in expected]


def test_a_driver_killed_while_it_draws_completes_the_trial_later(tmp_path: Path) -> None:
    one = plan(MLP, CNN, seed=3)
    with SweepStudy(tmp_path, one) as study:
        whole = run(study, 5)
    journal = tmp_path / "study.journal"
    lines = journal.read_bytes().splitlines(keepends=True)
    begun = [n for n, line in enumerate(lines) if json.loads(line)["op_code"] == 4]
    drawn = set()
    for length in range(begun[3] + 1, begun[4]):  # in the middle of the last but one
        journal.write_bytes(b"".join(lines[:length]))
        with SweepStudy(tmp_path, one) as study:
            if not study.unfinished():
                break  # it was told before the cut
            trial = study.trial(3)
            drawn.add(length)
            space = {"mlp": MLP, "cnn": CNN}[trial.family]
            assert space.stored_values(trial.values).keys() == {
                space.stored_name(p) for p in space.parameters if p.applies(trial.values)
            }
            study.complete(3, [0.5])
            following = study.ask()
            assert following is not None and following.values == whole[4].values
    assert len(drawn) >= 3


def test_the_same_default_is_tried_once_however_often_it_is_asked_for(tmp_path: Path) -> None:
    for _ in range(2):  # a driver is killed before it has noted that it asked
        with SweepStudy(tmp_path, plan(MLP, CNN)) as study:
            study.enqueue("mlp", {"a": 0.5, "b": 7})
    with SweepStudy(tmp_path, plan(MLP, CNN)) as study:
        assert [t.is_default for t in run(study, 3)] == [True, False, False]


def test_what_comes_first_is_tried_before_what_has_waited_longer(tmp_path: Path) -> None:
    with SweepStudy(tmp_path, plan(MLP, CNN)) as study:
        study.enqueue("mlp", {"a": 0.5, "b": 7})
        study.enqueue("cnn", {"optimizer": "sgd", "momentum": 0.9, "rate": 0.1})
        study.enqueue("mlp", {"a": 0.25, "b": 3}, first=True, size=32)
    with SweepStudy(tmp_path, plan(MLP, CNN)) as study:  # by a later start as well
        found = [study.ask([Kind("mlp")]), study.ask(), study.ask()]
        assert [one.values["a"] for one in found if one and one.family == "mlp"] == [0.25, 0.5]
        assert found[0] is not None and study.facts(found[0].number)["size"] == 32


def test_the_same_default_with_other_facts_is_another_candidate(tmp_path: Path) -> None:
    values = {"a": 0.5, "b": 7}
    for size in (64, 96, 96, 64):
        with SweepStudy(tmp_path, plan(MLP, CNN)) as study:
            study.enqueue("mlp", values, size=size)
    with SweepStudy(tmp_path, plan(MLP, CNN)) as study:
        found = run(study, 3)
        assert [trial.is_default for trial in found] == [True, True, False]
        assert [study.facts(number)["size"] for number in (0, 1)] == [64, 96]
        assert found[1].values == values
        study.enqueue("mlp", values, size=96)
        assert not run(study, 1)[-1].is_default


def test_a_default_that_the_sampler_has_proposed_already_is_not_tried_again(tmp_path: Path) -> None:
    """But it is where that trial was stopped, and with other facts."""
    for state, asked in (("complete", 0), ("pruned", 1)):
        with SweepStudy(tmp_path / state, plan(MLP, CNN)) as study:
            study.enqueue("mlp", {"a": 0.5, "b": 7}, size=64)
            first, second = study.ask(), study.ask([Kind("mlp")])
            assert first is not None and second is not None
            study.note(second.number, size=96)
            study.complete(first.number, [0.5])
            if state == "complete":
                study.complete(second.number, [0.5])
            else:
                study.pruned(second.number, "late")
            values = study.trial(second.number).values
            stored = {key: study._frozen(second.number).params[f"mlp/{key}"] for key in values}
            study.enqueue("mlp", stored, size=96)
            following = study.ask()
            assert following is not None and following.is_default == bool(asked)


@pytest.mark.parametrize(
    ("kind", "changed", "message"),
    [
        (
            "sqlite",
            plan(family(NUMBERS | {"a": {"low": 0.0, "high": 2.0}}, "mlp"), CNN),
            r"the study s has other settings: space mlp space a high: 1.0 then, 2.0 now$",
        ),
        ("journal", plan(MLP), "other settings: space: cnn then, not now$"),
        ("journal", plan(MLP, CNN, directions=["minimize"]), "maximize then, minimize now$"),
        ("journal", plan(MLP, CNN, identity={"base": ["seed=1"]}), "settings: base now, not then$"),
    ],
)
def test_a_study_that_means_something_else_is_refused_with_the_difference(
    tmp_path: Path, kind: str, changed: Any, message: str
) -> None:
    url = urls(tmp_path)[kind]
    with SweepStudy(tmp_path, plan(MLP, CNN), url) as study:
        run(study, 2)
    with pytest.raises(StudyChanged, match=message):
        SweepStudy(tmp_path, changed, url)
    with SweepStudy(tmp_path, plan(MLP, CNN, sampler="tpe"), url) as study:
        assert len(study.trials()) == 2, "who proposes may change"


def test_optunas_pages_get_the_names_of_the_metrics(tmp_path: Path) -> None:
    with SweepStudy(tmp_path, plan(MLP, CNN)) as study:
        run(study, 1)
    with SweepStudy(tmp_path, replace(plan(MLP, CNN), metrics={"val/accuracy": "accuracy"})):
        pass
    storage = optuna.storages.JournalStorage(JournalFileBackend(str(tmp_path / JOURNAL)))
    assert optuna.load_study(study_name="s", storage=storage).metric_names == ["accuracy"]


@pytest.mark.parametrize("name", [JOURNAL, "sweep.json"])
def test_a_pipe_among_its_files_is_named_and_not_waited_for(tmp_path: Path, name: str) -> None:
    folder = tmp_path / "sweeps" / "s"
    folder.mkdir(parents=True)
    os.mkfifo(folder / name)
    with pytest.raises(ValueError, match=f"{name} is a pipe, and no file: remove it"):
        SweepStudy(folder, plan(MLP))
    with pytest.raises(ValueError, match="is a pipe"):
        sweep_file(tmp_path, "s")


def test_a_start_that_came_to_no_trial_binds_nobody(tmp_path: Path) -> None:
    with SweepStudy(tmp_path, plan(MLP, CNN)) as study:
        study.remember("prepared", {"mlp": {}})
    with SweepStudy(tmp_path, plan(MLP, CNN, identity={"base": ["seed=1"]})) as study:
        assert study.recall("prepared") is None and not study.trials()
        run(study, 1)
    with pytest.raises(StudyChanged):
        SweepStudy(tmp_path, plan(MLP, CNN))


@pytest.mark.parametrize("kind", ["journal", "sqlite"])
def test_a_second_driver_is_refused_until_the_first_is_gone(
    tmp_path: Path, start: Start, kind: str
) -> None:
    """Of a database whatever its folder."""
    url = urls(tmp_path)[kind]
    one, two = tmp_path / "one", tmp_path / ("two" if url else "one")
    process = start(_ENDLESS, str(one), *filter(None, [url]))
    assert process.stdout is not None and process.stdout.readline() == "open\n"
    by = f"process {process.pid} on" if url else "another process"
    for _ in range(2):  # being refused must not end the other's lease
        with pytest.raises(StudyBusy, match=f"the study s .*is being driven by {by}"):
            SweepStudy(two, plan(MLP, CNN), url)
    process.kill()
    process.wait()
    SweepStudy(two, plan(MLP, CNN), url).close()
    SweepStudy(one, plan(MLP, CNN), url).close()


@pytest.mark.parametrize(("asked", "seconds"), [("", 30), ("?timeout=5", 5)])
def test_a_file_of_sqlite_is_waited_for_as_long_as_its_address_says(
    tmp_path: Path, asked: str, seconds: int
) -> None:
    storage = study_database.open_database(f"sqlite:///{tmp_path / 'study.db'}{asked}")
    with storage.engine.connect() as connection:
        assert connection.exec_driver_sql("pragma busy_timeout").scalar() == 1000 * seconds


def test_a_locked_database_is_one_sentence_and_the_study_is_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(study_database, "_PATIENCE_SECONDS", 0.02)
    monkeypatch.setattr(time, "sleep", lambda seconds: None)  # Optuna tries five times to ask
    url = f"sqlite:///{tmp_path / 'study.db'}"
    with SweepStudy(tmp_path, plan(MLP, CNN), url) as study:
        run(study, 3)
        trial = study.ask()
        assert trial is not None
        known = study.trials()
        # Another process, such as a backup, holds the whole file.
        with sqlite3.connect(tmp_path / "study.db", isolation_level=None) as other:
            other.execute("begin exclusive")
            sentence = r"the study's storage does not answer \(.*database is locked\)"
            for attempt in (
                study.ask,
                lambda: study.recall("identity"),
                lambda: study.remember("over", 1),
                lambda: study.report(trial.number, 1, 0.5),
                lambda: study.note(trial.number, run_dir="x"),
                lambda: study.complete(trial.number, [0.5]),
                lambda: study.failed(trial.number, "why"),
            ):
                with pytest.raises(StudyBusy, match=sentence) as told:
                    attempt()
                assert "\n" not in str(told.value)
            other.execute("rollback")
        other.close()
        assert study.trials() == known
        study.complete(trial.number, [0.5])
    with SweepStudy(tmp_path, plan(MLP, CNN), url) as study:
        assert [t.state for t in study.trials()] == [COMPLETE] * 4


@pytest.mark.parametrize(
    "url", ["sqlite:////nowhere/at all/study.db", "postgresql://nobody@localhost:1/x", "nonsense"]
)
def test_a_storage_that_cannot_be_opened_is_told_in_one_line(tmp_path: Path, url: str) -> None:
    if url.startswith("postgresql"):
        pytest.importorskip("psycopg", reason="the extra `postgres` is not installed")
    with pytest.raises(ValueError, match="storage: it cannot be opened") as told:
        SweepStudy(tmp_path, plan(MLP), url)
    assert "\n" not in str(told.value)
    SweepStudy(tmp_path, plan(MLP)).close()


def test_a_study_of_several_metrics_has_no_value_for_what_was_stopped(tmp_path: Path) -> None:
    with SweepStudy(tmp_path, plan(MLP, directions=["maximize", "minimize"])) as study:
        for end in ("complete", "pruned", "failed"):
            trial = study.ask()
            assert trial is not None
            for epoch, value in ((1, 0.25), (2, 0.5), (2, 0.5)):
                study.report(trial.number, epoch, value)
            if end == "complete":
                study.complete(trial.number, [0.5, 12.0])
            else:
                getattr(study, end)(trial.number, "why")
        assert [t.objectives for t in study.trials()] == [(0.5, 12.0), None, None]
        assert [t.reason for t in study.trials()] == [None, "why", "why"]
        assert {t.curve for t in study.trials()} == {((1, 0.25), (2, 0.5))}
    with SweepStudy(tmp_path, plan(MLP, directions=["maximize", "minimize"])) as study:
        assert [t.epochs for t in study.trials()] == [2, 2, 2]


def test_importances_are_of_each_family_alone(tmp_path: Path) -> None:
    with SweepStudy(tmp_path, plan(MLP, CNN, sampler="random")) as study:
        assert study.importances() == {}
        for _ in range(100):
            trial = study.ask()
            assert trial is not None
            value = trial.values["a"] if trial.family == "mlp" else trial.values["rate"]
            assert isinstance(value, float)
            study.complete(trial.number, [value])
        found = study.importances()
    assert found["mlp"]["a"] > 0.6 and found["cnn"]["rate"] > 0.6
    assert all(sum(shares.values()) == pytest.approx(1) for shares in found.values())


def test_importances_warn_of_no_key_that_few_trials_had(tmp_path: Path) -> None:
    with SweepStudy(tmp_path, plan(CNN)) as study:
        for number, optimizer in enumerate(("sgd", "adamw", "adamw", "adamw")):
            momentum = {"momentum": 0.7} if optimizer == "sgd" else {}
            study.enqueue("cnn", {"optimizer": optimizer, "rate": 0.1 / (1 + number), **momentum})
            trial = study.ask()
            assert trial is not None
            study.complete(trial.number, [float(number)])
        with warnings.catch_warnings():
            warnings.simplefilter("error", UserWarning)
            assert set(study.importances()["cnn"]) >= {"optimizer", "rate"}


def test_to_open_a_study_again_writes_nothing(tmp_path: Path) -> None:
    with SweepStudy(tmp_path, plan(MLP)) as study:
        run(study, 3)
        before = [*study.trials()]
    content = (tmp_path / "study.journal").read_bytes()
    with SweepStudy(tmp_path, plan(MLP)) as study:
        assert [*study.trials()] == before
    assert (tmp_path / "study.journal").read_bytes() == content


def test_optunas_own_commands_read_a_study_in_tables_that_fit_a_screen(tmp_path: Path) -> None:
    spec = replace(plan(MLP, CNN), metrics={"m": "val/accuracy"})
    with SweepStudy(tmp_path, spec) as study:
        best = max(run(study, 4), key=lambda trial: trial.value or 0.0)
        study.remember("prepared", {"mlp": "x" * 5000})

    def typed(command: str, *overrides: str) -> str:
        optuna_command = [sys.executable, "-c", "from optuna.cli import main; main()", command]
        line = [*optuna_command, "--storage", str(tmp_path / JOURNAL), *overrides]
        return subprocess.run(line, capture_output=True, text=True, check=True).stdout

    studies = typed("studies")
    assert "| s " in studies and all(len(line) <= 100 for line in studies.splitlines())
    found = json.loads(typed("best-trial", "--study-name", "s", "--format", "json"))
    assert (found["number"], found["value"]) == (best.number, {"val/accuracy": best.value})
