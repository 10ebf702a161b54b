"""Serve MLflow's pages on this machine alone.

python -m src.tracking.ui output_dir=outputs port=5000
"""

from __future__ import annotations

import json
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections import deque
from contextlib import suppress
from pathlib import Path
from typing import Any

if not __package__:  # it was given as a file, in which no import finds the others
    print("error: run python -m src.tracking.ui in the checkout, not a path", file=sys.stderr)
    sys.exit(2)

from ..config.checks import ConfigError
from ..config.command_line import run_command
from ..config.tracking import UISettings
from ..machine.failures import RunFailed
from ..machine.interruption import Interrupted
from ..machine.own_pages import HOST, own_hosts
from ..machine.subprocesses import bound_command, import_environment
from .addresses import absolute_uri, sqlite_path
from .mlflow_database import find_artifacts
from .mlflow_pages import APP_NAME, HOSTS, found_by_mlflow, link

__all__ = ["main", "server_command", "show"]

# What alembic says of a database that it cannot bring up to date.
_OF_ANOTHER_VERSION = "Can't locate revision"
_START_SECONDS = 180.0
_STOP_SECONDS = 15.0
# Among so many experiments the latest run is looked for: the most that MLflow lists at once.
_MOST_EXPERIMENTS = 1000
_ENVIRONMENT = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    # Workers for jobs that only language-model evaluation has.
    "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
}


def server_command(artifacts: Path, port: int) -> list[str]:
    """Return the command of the MLflow server for the database in `MLFLOW_BACKEND_STORE_URI`.

    A variable, since every user of the machine can read a command line, and a database's URI may
    hold a password. The host names are exact: by default MLflow accepts every name that begins like
    a private address, so that a page on `10.evil.com` could read the runs through the visitor's
    browser (DNS rebinding). `mlflow_pages` refuses pages of other servers on this machine.
    """
    return [
        sys.executable,
        *("-m", "mlflow", "server"),
        *("--artifacts-destination", artifacts.as_uri()),
        *("--host", HOST),
        *("--port", str(port)),
        *("--workers", "1"),
        *("--app-name", APP_NAME),
        *("--allowed-hosts", ",".join(own_hosts(port))),
    ]


def show(settings: UISettings) -> None:
    """Serve until Ctrl-C.

    Raises:
        ConfigError: the port is taken, there is no database, or `tracking.uri` is a server itself.
        RunFailed: the server did not start, or ended by itself.
    """
    output_dir = Path(settings.output_dir).absolute()
    uri = absolute_uri(settings.tracking.uri, output_dir)
    if uri.startswith("http"):
        raise ConfigError(f"tracking.uri is a server with pages of its own: open {uri}")
    database = sqlite_path(uri)
    if database is not None and not database.is_file():
        raise ConfigError(
            f"there is no tracking database {database} yet: train something first "
            "(python -m src.train model=cnn), or name another output_dir or tracking.uri."
        )
    _require_free(settings.port)
    if database is not None:
        with suppress(sqlite3.Error):  # which the server has a sentence about
            find_artifacts(database)
    print("starting MLflow, which takes some seconds ...", flush=True)
    artifacts = (output_dir if database is None else database.parent) / "mlartifacts"
    with found_by_mlflow() as pages:
        environment = import_environment()
        environment["PYTHONPATH"] += f"{os.pathsep}{pages}"
        environment |= {"MLFLOW_BACKEND_STORE_URI": uri, HOSTS: ",".join(own_hosts(settings.port))}
        server = subprocess.Popen(
            bound_command(server_command(artifacts, settings.port)),
            stdin=subprocess.PIPE,
            env=os.environ | _ENVIRONMENT | environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
        )
        _show(server, settings.port)


def _show(server: subprocess.Popen[str], port: int) -> None:
    """Print the address once the server answers, and end it at Ctrl-C."""
    try:
        _wait_until_ready(server, port)
        site = f"http://{HOST}:{port}"
        print(f"MLflow: {link(site, _latest_experiment(site))}  (Ctrl-C ends it)", flush=True)
        assert server.stderr is not None
        deque(server.stderr, maxlen=0)  # a line per request, dropped until it ends
        raise RunFailed(f"the MLflow server ended with code {server.wait()}")
    except Interrupted as stop:
        if stop.signum != signal.SIGINT:  # Ctrl-C is how this is meant to end
            raise
    finally:
        _stop(server)


def _latest_experiment(site: str) -> str | None:
    """Return the id of the experiment of the run that began last; None without runs."""
    try:
        found = _searched(site, "experiments", max_results=_MOST_EXPERIMENTS)
        ids = [experiment["experiment_id"] for experiment in found]
        latest = ["attributes.start_time DESC"]
        runs = _searched(site, "runs", experiment_ids=ids, max_results=1, order_by=latest)
        return next((str(run["info"]["experiment_id"]) for run in runs), None)
    except (OSError, ValueError, LookupError):  # the address without it will do
        return None


def _searched(site: str, what: str, **query: Any) -> list[dict[str, Any]]:
    """Return the experiments, or runs, that MLflow's server finds."""
    request = urllib.request.Request(
        f"{site}/api/2.0/mlflow/{what}/search",
        json.dumps(query).encode(),
        {"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=10) as answer:
        found: list[dict[str, Any]] = json.load(answer).get(what, [])
    return found


def _require_free(port: int) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError as error:
            raise ConfigError(
                f"port {port} cannot be used ({error.strerror}): set port=NUMBER."
            ) from error


def _wait_until_ready(server: subprocess.Popen[str], port: int) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while time.monotonic() < deadline:
        if server.poll() is not None:
            assert server.stderr is not None
            last = server.stderr.read().strip().splitlines()[-1:]
            raise RunFailed(_why_not("".join(last)))
        try:
            with urllib.request.urlopen(f"http://{HOST}:{port}/health", timeout=2):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.2)
    raise RunFailed(f"the MLflow server did not answer within {_START_SECONDS:.0f} s")


def _why_not(line: str) -> str:
    """Return why the server did not start, by the last line that it wrote."""
    hint = ""
    if _OF_ANOTHER_VERSION in line:
        hint = (
            "; the database was made by a later version of MLflow than this one: install that, or "
            "set tracking.uri to another database"
        )
    return f"the MLflow server did not start: {line}{hint}"


def _stop(server: subprocess.Popen[str]) -> None:
    assert server.stdin is not None
    server.stdin.close()  # this ends it with its workers
    try:
        server.wait(_STOP_SECONDS)
    except BaseException:  # it takes too long, or the user interrupts again
        server.terminate()
        raise


def main() -> int:
    """Run the command line and return its exit code: 0 after Ctrl-C."""
    keys = ["tracking.uri"]
    return run_command(__doc__, UISettings, lambda settings, _: show(settings), from_mlflow=keys)


if __name__ == "__main__":
    sys.exit(main())
