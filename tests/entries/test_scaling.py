"""What more pictures would bring: the command, and what MLflow has of it."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest

from src.storage.locks import alone
from tests.entries.conftest import Run

pytestmark = pytest.mark.slow


def test_a_forecast_is_printed_and_kept(fitted: Path, run: Run, tmp_path: Path) -> None:
    # Its trainings lie beside the run, where other tests take that for the only one.
    runs = shutil.copytree(fitted.parents[1], tmp_path / "copy") / "runs"
    chosen = runs / fitted.name
    result = run("src.scaling", f"run={chosen}", "fractions=[0.25,0.5]", "goal=0.5")
    assert result.returncode == 0, result.stderr
    record = json.loads((chosen / "data_scaling.json").read_text())
    now = record["measured"][-1]
    assert now["run"] == chosen.name and f"{now['pictures']:,}" in result.stdout
    assert "Twice as many training pictures" in result.stdout
    assert f"50.0 % is reached by these {now['pictures']:,}" in result.stdout
    assert len(list(chosen.parent.glob("*/summary.json"))) >= 3
    (further,) = [line for line in result.stdout.splitlines() if "label_next=100" in line]
    assert further.startswith("which pictures to label first: ") and f"run={chosen}" in further


def test_a_second_forecast_of_a_run_is_refused_with_who_makes_the_first(
    fitted: Path, run: Run
) -> None:
    with alone(fitted / ".scaling.lock", "a test"):
        refused = run("src.scaling", f"run={fitted}")
    assert refused.returncode == 2
    said = f"run: a forecast of {fitted.name} is being made by another process ({os.getpid()})"
    assert said in refused.stderr


@pytest.mark.parametrize(
    ("overrides", "why"),
    [
        (["run=nobody"], "nobody"),
        (["fractions=[2]"], "above 0 and below 1"),
        (["faktors=[2]"], "factors"),
        (["goal=1.5"], "below 1"),
    ],
)
def test_wrong_input_ends_with_a_sentence(
    fitted: Path, run: Run, overrides: list[str], why: str
) -> None:
    given = [] if overrides[0].startswith("run=") else [f"run={fitted}"]
    result = run("src.scaling", *given, *overrides)
    assert result.returncode == 2 and why in result.stderr
    assert "Traceback" not in result.stderr and not result.stdout
