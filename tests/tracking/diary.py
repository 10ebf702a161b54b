"""A spool written as a training would, the run that MLflow has of it, and real processes."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mlflow.entities import Run
from mlflow.tracking import MlflowClient

from src.tracking.follower import Follower
from src.tracking.mlflow_store import Store
from src.tracking.spool import Spool

ROOT = Path(__file__).resolve().parents[2]
# The tests' processes compute nothing, and share their cores with others.
ENVIRONMENT = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
# What is waited for comes at once on an idle machine; a mirror is the last to get a busy core.
PATIENCE_SECONDS = 280.0


class Diary:
    """A run folder's spool, written as a training would, and sent in this process."""

    def __init__(self, run_dir: Path, run_id: str | None = None) -> None:
        self.run_dir = run_dir
        self.run_id = run_id or uuid.uuid4().hex
        self.warnings: list[str] = []
        run_dir.mkdir(parents=True, exist_ok=True)

    def open(self, **changes: Any) -> Spool:
        spool = Spool(self.run_dir)
        start: dict[str, Any] = {
            "run_id": self.run_id,
            "run_name": self.run_dir.name,
            "experiment": "bakeoff",
            "mirrored": True,
            "target": None,
            "tags": {},
        }
        spool.begin(**{**start, **changes})
        return spool

    def ended(self, steps: int = 1, **changes: Any) -> Diary:
        """Write a whole run of so many steps."""
        with self.open(**changes) as spool:
            for step in range(steps):
                spool.metrics({"loss": float(step)}, step)
            spool.end("FINISHED")
        return self

    def follower(self, store: Store) -> Follower:
        follower = Follower(self.run_dir, store.uri, None, self.warnings.append)
        assert follower.take()
        return follower

    def send(self, store: Store) -> Follower:
        """Send all there is, with a new follower, as a new process would."""
        follower = self.follower(store)
        try:
            while follower.step(store) and follower.given_up is None:
                continue
        finally:
            follower.release()
        return follower


def client(store: Store) -> MlflowClient:
    """MLflow's own client of the same database: what a user sees."""
    return MlflowClient(tracking_uri=store.uri, registry_uri=store.uri)


def run_of(store: Store, run_id: str) -> Run:
    """The one run in MLflow with the project's own id `run_id`."""
    mlflow = client(store)
    experiments = [experiment.experiment_id for experiment in mlflow.search_experiments()]
    (run,) = mlflow.search_runs(experiments, f"tags.`bakeoff.run_id` = '{run_id}'")
    assert run.info.run_id == store.find(run_id)
    return mlflow.get_run(run.info.run_id)


def history(store: Store, mlflow_run_id: str) -> dict[str, list[tuple[int, int, float]]]:
    """Every point of every metric: (step, timestamp, value) by key."""
    mlflow = client(store)
    keys = mlflow.get_run(mlflow_run_id).data.metrics
    return {
        key: [(m.step, m.timestamp, m.value) for m in mlflow.get_metric_history(mlflow_run_id, key)]
        for key in sorted(keys)
    }


def python(*overrides: str, **options: Any) -> subprocess.Popen[str]:
    """A Python process of the project."""
    return subprocess.Popen(
        [sys.executable, *overrides], env=ENVIRONMENT, text=True, cwd=ROOT, **options
    )


def wait_until(true: Callable[[], Any], seconds: float = PATIENCE_SECONDS) -> Any:
    """What `true` returns, once it is something; fails after `seconds`."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if result := true():
            return result
        time.sleep(0.05)
    raise AssertionError(f"it did not come to {true} within {seconds} s")


@contextmanager
def ui(output_dir: Path, port: int) -> Iterator[str]:
    """The second line that `src.tracking.ui` prints; it ends with Ctrl-C as it should."""
    overrides = ["-m", "src.tracking.ui", f"output_dir={output_dir}", f"port={port}"]
    process = python(*overrides, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    try:
        assert process.stdout is not None
        assert process.stdout.readline().startswith("starting MLflow")
        yield process.stdout.readline()
    finally:
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=PATIENCE_SECONDS)
    assert process.returncode == 0 and err == ""
    with socket.socket() as probe:  # the server is gone with it
        assert probe.connect_ex(("127.0.0.1", port)) != 0
