"""Commands and servers as real processes, moments to wait for, and what is left in MLflow."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, TypeVar

from src.tracking.addresses import default_uri
from tests.warm_python import ROOT, Command

Found = TypeVar("Found")


def complete(
    command: Sequence[str], environment: Mapping[str, str], **options: Any
) -> subprocess.CompletedProcess[Any]:
    """Run a command in the checkout to its end."""
    usual = {"cwd": ROOT, "stderr": subprocess.PIPE, "text": True, "timeout": 800}
    options = usual | {"stdout": subprocess.PIPE} | options
    return subprocess.run(command, env=environment, check=False, **options)


# Whether a process lives is asked less often than for a moment that may pass in milliseconds: both
# take the cores on which the process computes.
_BETWEEN_LOOKS = 0.1


def wait_until(
    moment: Callable[[], Found],
    process: Command | subprocess.Popen[str],
    pause: float = 0.001,
    seconds: float = 400,
) -> Found:
    """Return what `moment` returns, as soon as it is true, while the process lives."""
    deadline, looked = time.monotonic() + seconds, 0.0
    while not (found := moment()):
        now = time.monotonic()
        if now > looked + _BETWEEN_LOOKS:
            looked = now
            if process.poll() is not None:
                raise AssertionError(f"it ended before the moment came: {process.communicate()}")
        assert now < deadline, "the moment did not come"
        time.sleep(pause)
    return found


def kill(process: Command | subprocess.Popen[str]) -> None:
    """End a process and its whole group by SIGKILL."""
    os.killpg(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL


def complaints(stderr: str) -> list[str]:
    """Return the lines of standard error but those that say what a slow step does."""
    return [line for line in stderr.splitlines() if not line.endswith(" ...")]


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


@contextmanager
def mlflow_server(folder: Path, port: int, database: Path, application: str = "") -> Iterator[None]:
    """MLflow's server until it is killed, over the database in `folder`, at first a copy of one.

    It is the server process itself, without MLflow's command around it, so that a kill is a kill.
    `application` is code that may put another one of this name before MLflow's `app`.
    """
    folder.mkdir(exist_ok=True)
    if not (folder / "mlflow.db").exists():
        shutil.copy(database, folder)
    environment = {
        "_MLFLOW_SERVER_FILE_STORE": default_uri(folder),
        "_MLFLOW_SERVER_REGISTRY_STORE": default_uri(folder),
        "_MLFLOW_SERVER_ARTIFACT_ROOT": "mlflow-artifacts:/",
        "_MLFLOW_SERVER_SERVE_ARTIFACTS": "true",
        "_MLFLOW_SERVER_ARTIFACT_DESTINATION": str(folder / "mlartifacts"),
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        "MLFLOW_DISABLE_TELEMETRY": "true",
    }
    code = (
        f"import os; os.environ.update({environment!r})\n"
        "import uvicorn\n"
        "from mlflow.server.fastapi_app import app\n"
        f"application = app\n{application}\n"
        f"uvicorn.run(application, port={port}, log_level='error')\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        text=True,
    )

    def answers() -> bool:
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=2).close()
        except OSError:
            return False
        return True

    try:
        wait_until(answers, process, pause=0.2)
        yield
    finally:
        process.kill()
        process.wait()


def rows(output_dir: Path, statement: str, *values: str) -> list[Any]:
    """Return the rows that the MLflow database of an output folder has for an SQL statement.

    A single column is returned without its tuples.
    """
    with closing(sqlite3.connect(output_dir / "mlflow.db", timeout=60)) as database:
        found = database.execute(statement, values).fetchall()
    return [row[0] if len(row) == 1 else row for row in found]


def mlflow_runs(output_dir: Path) -> dict[str, dict[str, Any]]:
    """Runs by id: status, name and tags."""
    found = {
        run_id: {"id": run_id, "status": status, "name": name}
        for run_id, status, name in rows(output_dir, "select run_uuid, status, name from runs")
    }
    for run_id, key, value in rows(output_dir, "select run_uuid, key, value from tags"):
        found[run_id][key] = value
    return found


def points(run_dir: Path) -> list[tuple[str, int, float]]:
    """Every (key, step, value) in a run's spool, sorted, as MLflow's table `metrics` has them."""
    events = map(json.loads, (run_dir / "tracking" / "spool.jsonl").read_text().splitlines())
    return sorted(
        (key, event["step"], value)
        for event in events
        if event["event"] == "metrics"
        for key, value in event["values"].items()
    )


def is_a_speed(key: str) -> bool:
    """Whether a metric depends on what else the machine does."""
    return key.startswith(("cost/", "system/")) or key.endswith("images_per_second")


def summary_of(run_dir: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((run_dir / "summary.json").read_text())
    return found


def only_run(output_dir: Path) -> Path:
    (run_dir,) = (output_dir / "runs").iterdir()
    return run_dir


# Prints the peak memory of the command in KiB as the last word of standard output.
MEASURED = """
import resource, subprocess, sys
code = subprocess.run(sys.argv[1:]).returncode
print("peak", resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
sys.exit(code)
"""
