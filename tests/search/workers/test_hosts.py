"""Sweeps over two hosts that share no disk."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.trial import FrozenTrial, TrialState

from src.runs.seal import changed_since, read_seal
from tests.entries.commands import free_port, mlflow_runs, mlflow_server, rows
from tests.search.test_postgres import PASSWORD, Postgres
from tests.search.workers.hosts import ENVIRONMENT, TwoHosts
from tests.search.workers.pools import wait_until
from tests.warm_python import ROOT

# What takes seconds on an idle machine.
PATIENCE = 900.0

pytestmark = [pytest.mark.slow, pytest.mark.timeout(5000)]


@pytest.fixture(scope="module")
def hosts() -> Iterator[TwoHosts]:
    both = TwoHosts()
    try:
        both.start_second()
        both.start_head()
        both.start_node()
        yield both
    finally:
        both.close()


def _sweep(hosts: TwoHosts, study: str, *overrides: str, place: str = "outputs") -> list[str]:
    return [
        *(sys.executable, "-m", "src.sweep", f"study={study}", "workers=ray"),
        *(f"workers.address={hosts.address}", f"output_dir={hosts.folder / place}"),
        *("families=[mlp]", "budget.minutes=null", "pruner=none", "runtime=float32"),
        *("search=[optimizer.lr]", *overrides),
    ]


def _record(hosts: TwoHosts, study: str, place: str = "outputs") -> dict[str, Any]:
    content = (hosts.folder / place / "sweeps" / study / "sweep.json").read_text()
    record: dict[str, Any] = json.loads(content)
    return record


def test_runs_of_the_second_host_come_home_whole(hosts: TwoHosts) -> None:
    overrides = ("budget.trials=4", "finalists=1", "finalist_seeds=1", "trainer.max_epochs=3")
    subprocess.run(
        _sweep(hosts, "home", *overrides, "tracking=none"), cwd=ROOT, env=ENVIRONMENT, check=True
    )
    record = _record(hosts, "home")
    assert [trial["state"] for trial in record["trials"]] == ["complete"] * 4
    assert record["test"]["test/accuracy"] > 0.5
    folders = [Path(trial["run_dir"]) for trial in record["trials"]]
    folders += [Path(one) for found in record["finalists"] for one in found["run_dirs"].values()]
    runs = hosts.folder / "outputs" / "runs"
    assert sorted(folders) == sorted(runs.iterdir())
    for folder in folders:
        assert read_seal(folder) is not None and changed_since(folder) is None
        assert not hosts.second_has(folder)
    logs = hosts.folder / "outputs" / "sweeps" / "home" / "workers"
    assert "epoch 3/3" in (logs / "worker-0.log").read_text()
    assert "epoch 3/3" in (logs / "worker-1.log").read_text()


@pytest.fixture
def database(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The address of a PostgreSQL server, whose password is in the environment."""
    pytest.importorskip("psycopg", reason="the extra `postgres` is not installed")
    server = Postgres()
    monkeypatch.setenv("PGPASSWORD", PASSWORD)
    yield server.url.replace(f":{PASSWORD}@", "@")
    server.close()


def test_nothing_that_has_ended_is_lost_whatever_fails(
    hosts: TwoHosts, database: str, empty_database: Path, tmp_path: Path
) -> None:
    # While the second host is out of reach, the other one may go through half of the trials.
    port, epochs, count = free_port(), 10, 12
    command = _sweep(
        *(hosts, "faults", f"storage={database}", f"tracking.uri=http://127.0.0.1:{port}"),
        *(f"budget.trials={count}", "finalists=0", "evaluate_test=false"),
        *(f"trainer.max_epochs={epochs}", "data.batch_size=4"),
    )
    environment = ENVIRONMENT | {"PGPASSWORD": PASSWORD}

    def trials() -> list[FrozenTrial]:
        with suppress(KeyError):  # the study is not there yet
            return optuna.load_study(study_name="faults", storage=database).trials
        return []

    def on_second() -> list[int]:
        return hosts.second_processes(f"{sys.executable} -m src.search.workers.local")

    def reported(epoch: int) -> Callable[[], bool]:
        """Whether all trials that run, one on each host, have come so far."""
        return lambda: (
            len(found := [one for one in trials() if one.state is TrialState.RUNNING]) == 2
            and all(len(one.intermediate_values) >= epoch for one in found)
        )

    def noted(fact: str, number: int) -> Callable[[], bool]:
        return lambda: sum(one.user_attrs.get(fact, 0) for one in trials()) >= number

    with mlflow_server(tmp_path / "server", port, empty_database):
        with subprocess.Popen(
            command, cwd=ROOT, env=environment, stderr=subprocess.PIPE, text=True
        ) as driver:

            def wait(condition: Callable[[], bool], what: str) -> None:
                def true() -> bool:
                    assert driver.poll() is None, driver.communicate()
                    return condition()

                wait_until(true, PATIENCE, what)

            # A worker dies: its trial goes on in another one, on whichever host that is.
            wait(reported(2), "no trials on both hosts")
            for worker in on_second():
                os.kill(worker, signal.SIGKILL)
            wait(noted("lost", 1), "the death of a worker was not noticed")
            # The cable is out for a while: both go on where they were.
            wait(lambda: bool(on_second()) and reported(4)(), "no second attempt")
            hosts.cable(connected=False)
            time.sleep(20)
            hosts.cable(connected=True)
            # The second host goes with its trial, which begins anew, and comes back.
            wait(lambda: any(one.state.is_finished() for one in trials()), "no end")
            wait(reported(2), "the trials did not go on")
            hosts.end_second()
            wait(noted("gone", 1), "the end of a host was not noticed")
            hosts.start_second()
            hosts.start_node()
            wait(lambda: bool(on_second()), "no worker on the host that came back")
            # The head goes, and with it the driver's way to its workers.
            wait(reported(2), "the trials did not go on")
            ended = {one.number: one for one in trials() if one.state.is_finished()}
            hosts.end_head()
            error = driver.communicate(timeout=PATIENCE)[1]
        assert driver.returncode == 1, error
        assert "does not answer any more" in error and "the same command goes on" in error
        hosts.end_second()
        hosts.start_second()
        hosts.start_head()
        hosts.start_node()
        done = subprocess.run(
            command, cwd=ROOT, env=environment, stderr=subprocess.PIPE, text=True, check=False
        )
        assert done.returncode == 0, done.stderr

    found = trials()
    assert [one.state for one in found] == [TrialState.COMPLETE] * count
    assert [sorted(one.intermediate_values) for one in found] == [[*range(1, epochs + 1)]] * count
    for number, before in ended.items():
        assert found[number] == before, "a trial that had ended was changed"
    # One run a trial, here as in MLflow, with each figure of each epoch once.
    runs = hosts.folder / "outputs" / "runs"
    folders = {one.user_attrs["run_dir"] for one in found}
    for folder in map(Path, folders):
        assert read_seal(folder) is not None and changed_since(folder) is None
    assert folders == {str(path) for path in runs.iterdir() if read_seal(path)} - _earlier(hosts)
    server = tmp_path / "server"
    tracked = [run for run in mlflow_runs(server).values() if "bakeoff.trial" in run]
    assert Counter(run["bakeoff.trial"] for run in tracked) == {str(n): 1 for n in range(count)}
    assert {run["status"] for run in tracked} == {"FINISHED"}, done.stderr
    points = rows(server, "select run_uuid, key, step from metrics where key = 'val/accuracy'")
    assert max(Counter(points).values()) == 1


def test_a_run_that_goes_on_on_the_other_host_ends_in_mlflow_as_its_folder_says(
    hosts: TwoHosts,
) -> None:
    # Of its own, as what other sweeps could not send would be tried again by the replay.
    place, whole = "outputs-again", 40
    outputs = hosts.folder / place
    command = _sweep(
        *(hosts, "again", "budget.trials=2", "finalists=1", "finalist_seeds=1"),
        *(f"trainer.max_epochs={whole}", "data.batch_size=4", "data.split_seed=1"),
        place=place,
    )

    def epochs() -> list[int]:
        """Epochs of each trial so far, this and earlier starts together."""
        with suppress(FileNotFoundError):
            lines = (outputs / "sweeps" / "again" / "study.journal").read_text().splitlines()
            events = [json.loads(line) for line in lines if '"intermediate_value":' in line]
            return [*Counter(event["trial_id"] for event in events).values()]
        return []

    def begin(until: int) -> subprocess.Popen[str]:
        """Start the sweep, until both hosts have trained a trial for so many epochs."""
        driver = subprocess.Popen(
            command, cwd=ROOT, env=ENVIRONMENT, stderr=subprocess.PIPE, text=True
        )
        wait_until(
            lambda: driver.poll() is not None or (len(epochs()) == 2 and min(epochs()) >= until),
            PATIENCE,
            "no trials",
        )
        assert driver.poll() is None, driver.communicate()
        return driver

    def tracked() -> dict[str, dict[str, Any]]:
        runs = mlflow_runs(outputs).values()
        return {run["name"]: run for run in runs if run.get("bakeoff.sweep") == "again"}

    driver = begin(2)
    driver.send_signal(signal.SIGINT)
    error = driver.communicate(timeout=PATIENCE)[1]
    assert driver.returncode == 130, error
    assert [tracked()[name]["status"] for name in ("mlp-0", "mlp-1")] == ["KILLED"] * 2
    # One of them goes on on the second host: of its folder here nobody says that it was lost.
    before = min(epochs())
    driver = begin(before + 1)
    sent = subprocess.run(
        (sys.executable, "-m", "src.tracking.replay", f"output_dir={outputs}"),
        cwd=ROOT,
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert sent.returncode == 0, sent.stdout + sent.stderr
    assert driver.poll() is None, "it was over too soon to tell"
    assert sent.stdout.count(": still running") + sent.stdout.count("another process") == 3
    error = driver.communicate(timeout=PATIENCE)[1]
    assert driver.returncode == 0, error
    runs = tracked()
    assert [run["status"] for run in runs.values()] == ["FINISHED"] * 4
    assert not any("bakeoff.reason" in run for run in runs.values())
    for run in (runs["mlp-0"], runs["mlp-1"]):
        spool = Path(run["bakeoff.run_dir"]) / "tracking" / "spool.jsonl"
        ends = [json.loads(line) for line in spool.read_text().splitlines()]
        assert [one["status"] for one in ends if one["event"] == "finish"] == ["KILLED", "FINISHED"]
        key = "select step from metrics where key = 'val/accuracy' and run_uuid = ? order by step"
        assert len(set(steps := rows(outputs, key, run["id"]))) == len(steps) == whole
    # What the winner's host measured is here.
    record = _record(hosts, "again", place)
    (finalist,) = record["finalists"]
    (run_dir,) = finalist["run_dirs"].values()
    final = next(run for run in runs.values() if run["bakeoff.run_dir"] == run_dir)
    key = "select value from metrics where key = 'test/accuracy' and run_uuid = ?"
    assert rows(outputs, key, final["id"]) == [record["test"]["test/accuracy"]]
    assert record["test_measurements"] == 1
    measured = map(json.loads, (outputs / "test_measurements.jsonl").read_text().splitlines())
    assert final["bakeoff.run_id"] in {line["run_id"] for line in measured}
    assert not hosts.second_has(outputs / "mlflow.db")


def _earlier(hosts: TwoHosts) -> set[str]:
    """Return the run folders of the other sweep over the same hosts."""
    with suppress(FileNotFoundError):
        record = _record(hosts, "home")
        finals = [d for one in record["finalists"] for d in one["run_dirs"].values()]
        return {trial["run_dir"] for trial in record["trials"]} | set(finals)
    return set()
