"""A clock that jumps by days, forwards and back, while a training and a sweep run."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable
from pathlib import Path

import mlflow
import pytest

from tests.entries.conftest import Outputs, Train
from tests.warm_python import WarmPython

# What Python imports at its start, in the processes that a command starts as well.
JUMPING = """
import time

plain, plain_ns = time.time, time.time_ns
DAYS = (0, 1, -1, 400, -400)


def jumped():
    return 86_400 * DAYS[int(20 * time.monotonic()) % len(DAYS)]


time.time = lambda: plain() + jumped()
time.time_ns = lambda: plain_ns() + jumped() * 10**9
"""
# `python -m jumping src.train ...`, for a process whose Python has started before.
COMMAND = """
import runpy, sys

runpy.run_module(sys.argv.pop(1), run_name="__main__", alter_sys=True)
"""
MLP = ("model=mlp", "data=digits", "runtime=float32", "trainer.progress=false")


@pytest.fixture
def jumping(environment: dict[str, str], tmp_path: Path) -> dict[str, str]:
    folder = tmp_path / "clock"
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(JUMPING)
    (folder / "jumping.py").write_text(JUMPING + COMMAND)
    path = os.pathsep.join([str(folder), os.environ.get("PYTHONPATH", "")]).rstrip(os.pathsep)
    return environment | {"PYTHONPATH": path}


Typed = Callable[..., str]


@pytest.fixture
def typed(jumping: dict[str, str], warm_python: WarmPython) -> Typed:
    """`typed("src.train", "seed=1")` is what a command prints while the clock jumps."""

    def run(*overrides: str) -> str:
        done = warm_python.run("jumping", overrides, jumping)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    return run


def metrics(output_dir: Path) -> dict[str, float]:
    (summary,) = (output_dir / "runs").glob("*/summary.json")
    plain = json.loads(summary.read_text())
    assert plain["status"] == "FINISHED"
    took = plain["metrics"]["cost/training_seconds"]
    assert 0 < took < 600, "it is measured by a clock that only moves forward"
    return {k: v for k, v in plain["metrics"].items() if k.startswith(("val/", "test/"))}


@pytest.mark.slow
def test_a_training_is_the_same_and_its_times_are_no_nonsense(
    train: Train, typed: Typed, outputs: Outputs, tmp_path: Path
) -> None:
    overrides, output_dir = (
        (*MLP, "trainer.max_epochs=2", "tracking.figures=false"),
        outputs("jumping"),
    )
    train(tmp_path, *overrides, "tracking=none")
    typed("src.train", *overrides, f"output_dir={output_dir}")
    assert metrics(output_dir) == metrics(tmp_path)
    client = mlflow.MlflowClient(f"sqlite:///{output_dir / 'mlflow.db'}")
    (run,) = client.search_runs([one.experiment_id for one in client.search_experiments()])
    assert run.info.status == "FINISHED"
    curve = client.get_metric_history(run.info.run_id, "val/accuracy")
    assert [point.step for point in curve] == [1, 2]
    times = [run.info.start_time, *(point.timestamp for point in curve), run.info.end_time]
    assert times == sorted(times) and times[-1] - times[0] < 600_000


@pytest.mark.slow
def test_a_budget_of_minutes_holds_and_the_sweep_goes_on(typed: Typed, outputs: Outputs) -> None:
    overrides = ("study=jumps", *MLP[1:3], "families=[mlp]", "budget.minutes=3", "finalists=0")
    overrides = (*overrides, "trainer.max_epochs=2", "workers.count=1", "tracking.figures=false")
    overrides = (*overrides, f"output_dir={outputs('jumping')}")
    first = typed("src.sweep", *overrides, "budget.trials=2")
    assert "2 trials (2 complete)" in first
    more = typed("src.sweep", *overrides, "budget.trials=3")
    assert "3 trials (3 complete)" in more
    took = re.search(r", 1 family, (?:(\d+) min )?([\d.]+) s", more)
    assert took is not None and 60 * int(took[1] or 0) + float(took[2]) < 180
