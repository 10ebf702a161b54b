"""A sweep that is stopped in every way there is ends like one that nobody disturbed."""

from __future__ import annotations

import json
import os
import shlex
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest
from optuna.trial import FrozenTrial

from tests.entries.commands import mlflow_runs, points, summary_of
from tests.entries.conftest import Begin, Outputs, Run
from tests.entries.sweeps import OVERRIDES, children, folder, trials, wait_for
from tests.search.workers.pools import gone
from tests.warm_python import Command

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1500)]
EPOCHS = 8
# One after another, so that what is proposed depends on nothing but what was before.
STEADY = [
    *(*OVERRIDES, "pruner=none", f"trainer.max_epochs={EPOCHS}"),
    "data.batch_size=16",
    *("search=[optimizer.lr,model.*]", "budget.trials=2", "finalist_seeds=1"),
    "tracking.log_model=false",
]
# For the mirror, which is still told what became of the runs.
_SECONDS_AFTER_SIGKILL = 60.0


def _kill_driver(sweep: Command) -> None:
    sweep.kill()


def _kill_all(sweep: Command) -> None:
    processes = [psutil.Process(sweep.pid), *psutil.Process(sweep.pid).children(recursive=True)]
    for process in processes:  # nobody is left to notice anything
        process.suspend()
    for process in processes:
        process.kill()


def _interrupt(sweep: Command) -> None:
    sweep.send_signal(signal.SIGINT)


def _terminate(sweep: Command) -> None:
    sweep.terminate()


def _insist(sweep: Command) -> None:
    sweep.send_signal(signal.SIGINT)
    time.sleep(0.02)
    sweep.send_signal(signal.SIGINT)


def _close_terminal(sweep: Command) -> None:
    os.killpg(sweep.pid, signal.SIGHUP)


_WAYS: list[tuple[Callable[[Command], None], int]] = [
    (_interrupt, 128 + signal.SIGINT),
    (_kill_driver, -signal.SIGKILL),
    (_terminate, 128 + signal.SIGTERM),
    (_insist, 128 + signal.SIGINT),
    (_kill_all, -signal.SIGKILL),
    (_close_terminal, 128 + signal.SIGHUP),
]
if signal.getsignal(signal.SIGHUP) == signal.SIG_IGN:  # under nohup, which sweeps obey
    _WAYS.pop()


def test_stopped_six_times_it_has_the_same_trials_and_the_same_winner(
    begin: Begin, run: Run, outputs: Outputs
) -> None:
    whole, torn, hint = outputs("whole"), outputs("torn"), ""
    overrides = [*STEADY, f"output_dir={torn}"]
    for stop, code in _WAYS:
        reports = _reports(trials(torn))
        sweep = begin("src.sweep", *overrides)
        # Bound now: the loop's variable is another one by the time it is asked.
        wait_for(lambda found, before=reports: _reports(found) >= before + 2, torn, sweep)
        started = [child.pid for child in children(sweep)]
        assert len(started) >= 2, "a worker and the mirror"
        asked = time.monotonic()
        stop(sweep)
        _, error = sweep.communicate()
        ended = time.monotonic()
        assert stop is not _insist or ended - asked < 5
        assert sweep.returncode == code, (stop.__name__, error)
        assert "Traceback" not in error, error
        page = (folder(torn) / "sweep.html").read_text(encoding="utf-8")
        assert ("The race is running" in page) == (stop in (_kill_driver, _kill_all, _insist))
        assert ("The race was stopped before its end" in page) != ("The race is running" in page)
        if code > 0:
            assert all(gone(pid) for pid in started), f"{stop.__name__} leaves a child"
        if stop is _interrupt:  # the first of them, and MLflow is told
            hint, last = error.splitlines()[-2:]
            assert last == "stopped by SIGINT"
            assert hint.startswith("resume with: python -m src.sweep study=")
            (trial,) = trials(torn)
            assert trial.state.name == "RUNNING"
            assert summary_of(Path(trial.user_attrs["run_dir"]))["status"] == "KILLED"
            assert {one["status"] for one in mlflow_runs(torn).values()} == {"KILLED"}
        while not all(gone(pid) for pid in started):
            assert time.monotonic() - ended < _SECONDS_AFTER_SIGKILL, "a child lives on"
            time.sleep(0.05)

    result = run("src.sweep", *shlex.split(hint.partition(": ")[2])[3:])
    assert result.returncode == 0, result.stderr
    result = run("src.sweep", *STEADY, f"output_dir={whole}")
    assert result.returncode == 0, result.stderr
    assert _told(torn) == _told(whole)
    # No epoch of a run that went on is there twice, and nothing in MLflow: the sweep, its trials,
    # the finalist's training.
    for trial in trials(torn):
        found = points(Path(trial.user_attrs["run_dir"]))
        assert [step for key, step, _ in found if key == "val/accuracy"] == [*range(1, EPOCHS + 1)]
    assert len(mlflow_runs(torn)) == len(mlflow_runs(whole)) == 1 + 2 + 1
    assert {one["status"] for one in mlflow_runs(torn).values()} == {"FINISHED"}


def _reports(found: list[FrozenTrial]) -> int:
    return sum(len(trial.intermediate_values) for trial in found)


def _told(output_dir: Path) -> dict[str, Any]:
    """What came of it, but for times and places."""
    record = json.loads((folder(output_dir) / "sweep.json").read_text())
    kept = ("number", "family", "values", "state", "objectives", "curve")
    return {
        "trials": [{key: trial[key] for key in kept} for trial in record["trials"]],
        "winner": record["winner"],
        "finalists": [finalist["runs"] for finalist in record["finalists"]],
        "test": {k: v for k, v in record["test"].items() if "cost" not in k},
    }
