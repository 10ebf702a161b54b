"""Comparing real runs, from the command line to MLflow and back."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from tests.entries.commands import mlflow_runs, rows
from tests.entries.conftest import Outputs, Run

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

_QUICK = (
    *("recipe=quick", "runtime=float32", "trainer.max_epochs=1", "evaluate_test=false"),
    *("tracking.log_model=false", "tracking.figures=false"),
)


@pytest.fixture(scope="module")
def runs(run: Run, outputs: Outputs) -> Path:
    """An output folder with two networks, two seeds each, mirrored in MLflow."""
    output_dir = outputs("some runs")
    overrides = ["model=mlp,fcn", "seed=1,2", f"output_dir={output_dir}", *_QUICK]
    result = run("src.train", "-m", *overrides)
    assert result.returncode == 0, result.stderr
    return output_dir


@pytest.fixture(scope="module")
def said(run: Run, runs: Path) -> str:
    result = run("src.compare", f"output_dir={runs}", "experiment=bakeoff-digits")
    assert result.returncode == 0, result.stderr
    return result.stdout


def test_the_command_prints_the_verdict_and_leaves_a_report(said: str, runs: Path) -> None:
    assert "comes first of 2 candidates" in said and "mean of 2 trainings" in said
    folder = runs / "compare" / "experiment-bakeoff-digits"
    assert f"report: {folder / 'report.html'}" in said
    assert said.splitlines()[-1].startswith("next: python -m src.select ")
    plain = json.loads((folder / "leaderboard.json").read_text())
    assert plain["runs"] == 4 and len(plain["candidates"]) == 2
    for one in plain["candidates"]:
        assert one["parameters"] > 0 and one["latency_ms"] > 0 and one["training_seconds"] > 0
        assert one["spread"] is not None
    page = (folder / "report.html").read_text()
    assert "data:image/png" in page  # the digits of which they say different things
    drawn = {path.stem for path in (folder / "figures").iterdir()}
    assert {"leaderboard", "trade_offs", "classes"} <= drawn
    assert "learning_curves" not in drawn  # of a single epoch


def test_mlflow_has_the_comparison_beside_the_runs(said: str, runs: Path) -> None:
    beginning = "report in MLflow: artifacts of run "
    (line,) = (line for line in said.splitlines() if line.startswith(beginning))
    run_id = line.removeprefix(beginning)
    found = mlflow_runs(runs)[run_id]
    assert (found["name"], found["status"]) == ("compare experiment-bakeoff-digits", "FINISHED")
    assert found["bakeoff.kind"] == "compare"
    assert "comes first of 2 candidates" in found["mlflow.note.content"]
    assert len(rows(runs, "select distinct experiment_id from runs")) == 1
    artifacts = runs / "mlartifacts" / run_id / "artifacts"
    assert (artifacts / "report.html").is_file() and list((artifacts / "figures").glob("*.png"))


def test_asking_again_compares_the_same_runs(said: str, runs: Path, run: Run) -> None:
    """The comparison's own run is none of them."""
    again = run("src.compare", f"output_dir={runs}", "experiment=bakeoff-digits")
    assert again.returncode == 0 and again.stdout == said


def test_two_runs_by_name_are_tested_exactly(runs: Path, run: Run) -> None:
    chosen = sorted(path.name for path in (runs / "runs").iterdir())[:2]
    overrides = [f"output_dir={runs}", f"runs=[{','.join(chosen)}]", "tracking.enabled=false"]
    result = run("src.compare", *overrides)
    assert result.returncode == 0, result.stderr
    assert re.search(r"Of the pictures, \d+ are right only with", result.stdout)
