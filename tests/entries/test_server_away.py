"""A training whose MLflow server is not there, or is silent; a real server gets it all later."""

from __future__ import annotations

import json
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import pytest

from tests.entries.conftest import Begin, Run


@contextmanager
def real_server(folder: Path, port: int) -> Iterator[None]:
    """`mlflow server` over a database in `folder`, killed at the end."""
    folder.mkdir(exist_ok=True)
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1"),
            *("--port", str(port), "--workers", "1"),
            *("--backend-store-uri", f"sqlite:///{folder}/mlflow.db"),
            *("--artifacts-destination", str(folder / "mlartifacts")),
        ],
        env=os.environ | {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        deadline = time.monotonic() + 180
        while time.monotonic() < deadline:
            with (
                suppress(OSError),
                urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=2),
            ):
                break
            assert process.poll() is None, "the server ended"
            time.sleep(0.2)
        yield
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def spooled(folder: Path) -> list[tuple[str, int, float]]:
    events = map(json.loads, (folder / "tracking" / "spool.jsonl").read_text().splitlines())
    return sorted(
        (key, event["step"], value)
        for event in events
        if event["event"] == "metrics"
        for key, value in event["values"].items()
    )


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_server_that_never_answers_costs_a_warning_and_is_told_later(
    run: Run, tmp_path: Path
) -> None:
    output_dir, server_dir = tmp_path / "outputs", tmp_path / "server"
    place = f"output_dir={output_dir}"
    with socket.socket() as silent:  # takes connections and says nothing, for ever
        silent.bind(("127.0.0.1", 0))
        silent.listen(100)
        port = silent.getsockname()[1]
        uri = f"tracking.uri=http://127.0.0.1:{port}"
        result = run("src.train", "model=mlp", "trainer.max_epochs=3", uri, place)
    assert result.returncode == 0, result.stderr
    said = [line for line in result.stderr.splitlines() if not line.startswith("epoch ")]
    assert said and all(line.startswith("warning: ") for line in said)
    assert f"python -m src.tracking.replay {place}" in said[-1]
    (folder,) = (output_dir / "runs").iterdir()
    assert json.loads((folder / "summary.json").read_text())["status"] == "FINISHED"

    deadline = time.monotonic() + 200
    result = run("src.tracking.replay", place)
    while "another process is sending it" in result.stdout and time.monotonic() < deadline:
        time.sleep(1)  # the training's own mirror has not lost hope yet
        result = run("src.tracking.replay", place)
    # Now nobody is there at all.
    assert result.returncode == 1 and "not sent: " in result.stdout and result.stderr == ""
    with real_server(server_dir, port):
        result = run("src.tracking.replay", place)
        assert result.returncode == 0, result.stdout + result.stderr
        again = run("src.tracking.replay", place)
        assert again.returncode == 0 and "is there already" in again.stdout
    with sqlite3.connect(server_dir / "mlflow.db") as database:
        mirrored = sorted(database.execute("select key, step, value from metrics").fetchall())
        statuses = database.execute("select status from runs").fetchall()
    assert mirrored == spooled(folder) and statuses == [("FINISHED",)]
    files = [path.name for path in (server_dir / "mlartifacts").rglob("*") if path.is_file()]
    for name in ("config.yaml", "val.parquet", "learning_curves.png", "last.ckpt"):
        assert name in files


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_two_trainings_at_once_on_a_fresh_database(
    environment: dict[str, str], tmp_path: Path
) -> None:
    words = ["model=mlp", "trainer.max_epochs=2", "tracking.log_model=false"]
    command = [sys.executable, "-m", "src.train", *words, f"output_dir={tmp_path}"]
    processes = [
        subprocess.Popen(
            [*command, f"seed={seed}"], env=environment, stderr=subprocess.PIPE, text=True
        )
        for seed in (1, 2)
    ]
    for process in processes:
        _, error = process.communicate(timeout=400)
        assert process.returncode == 0 and "warning" not in error, error
    with sqlite3.connect(tmp_path / "mlflow.db") as database:
        assert database.execute("select status from runs").fetchall() == [("FINISHED",)] * 2
        steps = database.execute("select step from metrics where key = 'train/loss'").fetchall()
    assert sorted(step for (step,) in steps) == [1, 1, 2, 2]


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_server_that_is_killed_in_mid_training_is_told_the_rest_later(
    begin: Begin, run: Run, tmp_path: Path, unused_port: int
) -> None:
    output_dir, server_dir = tmp_path / "outputs", tmp_path / "server"
    words = ["model=mlp", "trainer.max_epochs=30", f"output_dir={output_dir}"]
    words += [f"tracking.uri=http://127.0.0.1:{unused_port}", "tracking.log_model=false"]
    with real_server(server_dir, unused_port):
        training = begin("src.train", *words)
        deadline = time.monotonic() + 200
        while not _points(server_dir):  # some of it has arrived
            assert training.poll() is None and time.monotonic() < deadline
            time.sleep(0.05)
    _, error = training.communicate(timeout=300)
    assert training.returncode == 0, error
    assert "does not answer" in error and "python -m src.tracking.replay" in error
    (folder,) = (output_dir / "runs").iterdir()
    assert json.loads((folder / "summary.json").read_text())["status"] == "FINISHED"
    assert len(_points(server_dir)) < len(spooled(folder))
    with real_server(server_dir, unused_port):
        result = run("src.tracking.replay", f"output_dir={output_dir}")
        assert result.returncode == 0, result.stdout + result.stderr
    assert _points(server_dir) == spooled(folder), "a gap, or a point twice"


def _points(server_dir: Path) -> list[tuple[str, int, float]]:
    try:
        with closing(sqlite3.connect(server_dir / "mlflow.db")) as database:
            found = database.execute("select key, step, value from metrics").fetchall()
    except sqlite3.OperationalError:  # its tables are just being made
        return []
    return sorted(found)


@pytest.fixture
def unused_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
