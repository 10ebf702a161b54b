"""A training whose MLflow server is not there, or is silent; a real server gets it all later."""

from __future__ import annotations

import socket
import time
from pathlib import Path

import pytest

from tests.entries.commands import (
    complaints,
    free_port,
    mlflow_server,
    only_run,
    points,
    rows,
    summary_of,
    wait_until,
)
from tests.entries.conftest import Begin, Run

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
# What a spool has: MLflow has those of epochs once more, for its charts.
_POINTS = (
    "select key, step, value from metrics where key not like 'by epoch/%' order by key, step, value"
)


def test_a_server_that_never_answers_costs_a_warning_and_is_told_later(
    run: Run, empty_database: Path, tmp_path: Path
) -> None:
    output_dir, server_dir = tmp_path / "outputs", tmp_path / "server"
    place = f"output_dir={output_dir}"
    with socket.create_server(("127.0.0.1", 0)) as silent:  # takes connections, never answers
        port = silent.getsockname()[1]
        uri = f"tracking.uri=http://127.0.0.1:{port}"
        result = run("src.train", "model=mlp", "trainer.max_epochs=3", uri, place)
    assert result.returncode == 0, result.stderr
    said = [one for one in complaints(result.stderr) if not one.startswith("epoch ")]
    assert said and all(line.startswith("warning: ") for line in said)
    assert f"python -m src.tracking.replay {place}" in said[-1]
    folder = only_run(output_dir)
    assert summary_of(folder)["status"] == "FINISHED"

    deadline = time.monotonic() + 200
    result = run("src.tracking.replay", place)
    while "another process is sending it" in result.stdout and time.monotonic() < deadline:
        time.sleep(1)  # the training's own mirror has not lost hope yet
        result = run("src.tracking.replay", place)
    # Now nobody is there at all.
    assert result.returncode == 1 and "not sent: " in result.stdout and result.stderr == ""
    with mlflow_server(server_dir, port, empty_database):
        result = run("src.tracking.replay", place)
        assert result.returncode == 0, result.stdout + result.stderr
        again = run("src.tracking.replay", place)
        assert again.returncode == 0 and "is there already" in again.stdout
    assert rows(server_dir, _POINTS) == points(folder)
    assert rows(server_dir, "select status from runs") == ["FINISHED"]
    files = [path.name for path in (server_dir / "mlartifacts").rglob("*") if path.is_file()]
    for name in ("config.yaml", "val.parquet", "learning_curves.png", "last.ckpt"):
        assert name in files


def test_a_server_that_is_killed_in_mid_training_is_told_the_rest_later(
    begin: Begin, run: Run, empty_database: Path, tmp_path: Path
) -> None:
    output_dir, server_dir, port = tmp_path / "outputs", tmp_path / "server", free_port()
    overrides = ["model=mlp", "trainer.max_epochs=30", f"output_dir={output_dir}"]
    overrides += [f"tracking.uri=http://127.0.0.1:{port}", "tracking.log_model=false"]
    overrides.append("tracking.figures=false")

    with mlflow_server(server_dir, port, empty_database):
        training = begin("src.train", *overrides)
        wait_until(lambda: rows(server_dir, _POINTS), training, pause=0.05)
    _, error = training.communicate()
    assert training.returncode == 0, error
    assert "does not answer" in error and "python -m src.tracking.replay" in error
    folder = only_run(output_dir)
    assert summary_of(folder)["status"] == "FINISHED"
    assert len(rows(server_dir, _POINTS)) < len(points(folder))
    with mlflow_server(server_dir, port, empty_database):
        result = run("src.tracking.replay", f"output_dir={output_dir}")
        assert result.returncode == 0, result.stdout + result.stderr
    assert rows(server_dir, _POINTS) == points(folder), "a gap, or a point twice"
