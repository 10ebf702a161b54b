"""From trained runs to a champion that labels and serves: what a person types."""

from __future__ import annotations

import base64
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
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path

import pytest

from tests.entries.conftest import Begin, Run
from tests.entries.test_server_away import real_server


def output_dir_of(trained: Path) -> Path:
    return trained.parents[1]


@pytest.fixture
def copied(trained: Path, tmp_path: Path) -> Path:
    """The folder of the same run in an output folder that may be changed."""
    output_dir = Path(shutil.copytree(output_dir_of(trained), tmp_path / "outputs"))
    return output_dir / "runs" / trained.name


def looks(output_dir: Path) -> int:
    return len((output_dir / "test_measurements.jsonl").read_text().splitlines())


def registry(output_dir: Path) -> tuple[list[tuple[str, int, str]], list[tuple[str, str, int]]]:
    """(name, version, run id) of every version, and (name, alias, version) of every alias."""
    with closing(sqlite3.connect(output_dir / "mlflow.db")) as database:
        versions = database.execute("select name, version, run_id from model_versions").fetchall()
        aliases = database.execute(
            "select name, alias, version from registered_model_aliases"
        ).fetchall()
    return versions, aliases


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["run=nobody"], "there is no run 'nobody'"),
        (["chose=winner"], "did you mean choose"),
        (["part=test"], "chosen on the test part"),
        ([], "no finished run"),
    ],
)
def test_wrong_words_are_one_sentence(
    run: Run, tmp_path: Path, words: list[str], message: str
) -> None:
    result = run("src.select", *words, f"output_dir={tmp_path}")
    assert result.returncode == 2 and result.stdout == ""
    assert len(result.stderr.splitlines()) == 1 and message in result.stderr


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_a_champion_labels_and_serves(
    run: Run, copied: Path, tmp_path: Path, environment: dict[str, str]
) -> None:
    output_dir = copied.parents[1]
    result = run("src.select", f"run={copied.name}", "refit=true", f"output_dir={output_dir}")
    assert result.returncode == 0, result.stderr
    assert "registered: models:/bakeoff-digits@champion, version 1" in result.stdout
    # The chosen run was measured when it was trained, its refit now.
    assert "measured 2 times on this split" in result.stdout and looks(output_dir) == 2
    ((name, version, run_id),), aliases = registry(output_dir)
    assert (name, version) == ("bakeoff-digits", 1)
    assert aliases == [("bakeoff-digits", "champion", 1)]
    (refit,) = (p for p in (output_dir / "runs").iterdir() if p != copied)
    assert json.loads((refit / "summary.json").read_text())["run_id"] == run_id

    example = refit / "model" / "example.png"
    labels = tmp_path / "labels.csv"
    words = ["run=champion", f"images={example}", f"out={labels}", f"output_dir={output_dir}"]
    assert run("src.predict", *words).returncode == 0
    _, row = labels.read_text().splitlines()
    label = row.split(",")[1]
    assert _served(output_dir, environment, example) == label

    again = run("src.select", f"run={copied.name}", "refit=true", f"output_dir={output_dir}")
    assert again.returncode == 0 and "is there already" in again.stdout
    assert "version 1" in again.stdout and looks(output_dir) == 2
    assert registry(output_dir) == ([(name, version, run_id)], aliases)


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("moment", ["refit", "measured", "recorded"])
def test_killed_on_the_way_it_is_given_again(
    run: Run, begin: Begin, copied: Path, moment: str
) -> None:
    """With SIGKILL: in the refit, after the test part was measured, and before MLflow knows."""
    output_dir = copied.parents[1]
    words = [f"run={copied.name}", "refit=true", f"output_dir={output_dir}"]
    moments: dict[str, Callable[[], bool]] = {
        "refit": lambda: any(p.is_file() for p in _refit(copied, "checkpoints/last.ckpt")),
        "measured": lambda: any(p.is_file() for p in _refit(copied, "predictions/test.parquet")),
        "recorded": (output_dir / "champions" / "digits.json").is_file,
    }
    process = begin("src.select", *words)
    deadline = time.monotonic() + 400
    while not moments[moment]() and time.monotonic() < deadline:
        assert process.poll() is None, "it ended before the moment came"
        time.sleep(0.001)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    before = looks(output_dir)

    result = run("src.select", *words)
    assert result.returncode == 0, result.stderr
    assert looks(output_dir) == (before if moment != "refit" else before + 1) == 2
    versions, aliases = registry(output_dir)
    assert len(versions) == 1 and aliases == [("bakeoff-digits", "champion", 1)]
    assert len(list((output_dir / "runs").iterdir())) == 2


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_a_server_that_is_away_is_told_by_the_same_command_later(
    run: Run, copied: Path, tmp_path: Path
) -> None:
    output_dir, server_dir = copied.parents[1], tmp_path / "server"
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    words = [f"run={copied.name}", f"output_dir={output_dir}"]
    words.append(f"tracking.uri=http://127.0.0.1:{port}")
    away = run("src.select", *words)
    assert away.returncode == 0, away.stderr
    assert "warning: " in away.stderr and "not registered yet" in away.stdout
    assert (output_dir / "champions" / "digits.json").is_file()
    with real_server(server_dir, port):
        there = run("src.select", *words)
    assert there.returncode == 0, there.stderr
    assert "registered: models:/bakeoff-digits@champion, version 1" in there.stdout
    assert looks(output_dir) == 1
    versions, aliases = registry(server_dir)
    assert len(versions) == 1 and aliases == [("bakeoff-digits", "champion", 1)]


def _refit(copied: Path, file: str) -> list[Path]:
    return [path / file for path in copied.parent.iterdir() if path != copied]


def _served(output_dir: Path, environment: dict[str, str], picture: Path) -> str:
    """The label that `mlflow models serve` gives it."""
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    path = os.pathsep.join([str(Path(sys.executable).parent), environment["PATH"]])
    where = {"MLFLOW_TRACKING_URI": f"sqlite:///{output_dir}/mlflow.db", "PATH": path}
    words = ["models", "serve", "-m", "models:/bakeoff-digits@champion", "--env-manager", "local"]
    server = subprocess.Popen(
        [sys.executable, "-m", "mlflow", *words, "-p", str(port)],
        env=environment | where,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        deadline = time.monotonic() + 300
        while time.monotonic() < deadline:
            assert server.poll() is None, "the server ended"
            with (
                suppress(OSError),
                urllib.request.urlopen(f"http://127.0.0.1:{port}/ping", timeout=2),
            ):
                break
            time.sleep(0.5)
        encoded = base64.b64encode(picture.read_bytes()).decode()
        request = urllib.request.Request(
            f"http://127.0.0.1:{port}/invocations",
            json.dumps({"dataframe_records": [{"image": encoded}]}).encode(),
            {"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=60) as answer:
            return str(json.load(answer)["predictions"][0]["label"])
    finally:
        os.killpg(server.pid, signal.SIGKILL)
        server.wait()
