"""The other checks of a GPU, run whole on a CPU at small sizes."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

from benchmarks.gpu import photos, runs, trials
from src.runs.folder import RunFolder
from tests.warm_python import WarmPython

pytestmark = pytest.mark.timeout(900)

CPU = torch.device("cpu")
SMALL = ("data=digits", "model=mlp", "runtime=float32", "runtime.threads=1", "evaluate_test=false")


@pytest.fixture(autouse=True)
def forked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, warm_python: WarmPython) -> None:
    """A cache of the test's own, and commands that are forked from what has imported them."""
    monkeypatch.setenv("BAKEOFF_CACHE", str(tmp_path / "cache"))

    def python(_: str, module: str, *overrides: str) -> str:
        done = warm_python.run(module, overrides, os.environ)
        assert done.returncode == 0, done.stderr
        return done.stdout

    for place in ("commands", "gpu.runs", "gpu.trials"):
        monkeypatch.setattr(f"benchmarks.{place}.python", python)


@pytest.mark.slow
def test_two_workers_of_one_device_answer(tmp_path: Path) -> None:
    (row,) = trials.slots(CPU, tmp_path)
    assert row.met is None
    assert row.measured.startswith("complete, complete, complete; seen: {'devices': ''")


@pytest.mark.slow
def test_a_trial_with_enough_memory_completes_at_once(tmp_path: Path) -> None:
    overrides = ("data.batch_size=32", "model=mlp", "runtime=float32")
    (row,) = trials.memory(CPU, tmp_path, overrides=overrides, pictures=64)
    assert row.measured.startswith("complete after 0 halvings, data.batch_size=32")


@pytest.mark.slow
def test_a_sweep_is_timed(tmp_path: Path) -> None:
    overrides = (
        "families=[mlp]",
        "trainer.max_epochs=1",
        "tracking=none",
        "tracking.figures=false",
    )
    (row,) = trials.sweep_rate(CPU, tmp_path, trials=2, overrides=overrides)
    assert float(row.measured.partition(" ")[0].replace(",", "")) > 0
    assert row.what.startswith("a sweep of 2 trials")


@pytest.mark.slow
def test_repeats_and_resumed_runs_are_equal_and_what_differs_is_named(tmp_path: Path) -> None:
    (row,) = runs.determinism(CPU, tmp_path, overrides=SMALL, epochs=2)
    assert row.met and row.measured == "0"
    (row,) = runs.resume(CPU, tmp_path, overrides=SMALL, epochs=20)
    assert row.met and row.measured == "0", row.what
    (first,) = (tmp_path / "first" / "runs").iterdir()
    overrides = [
        *SMALL,
        "tracking=none",
        "tracking.figures=false",
        "trainer.max_epochs=2",
        "seed=1",
    ]
    other = runs._trained(tmp_path / "other", overrides)
    found = runs._different(RunFolder.open(first), other)
    assert "network.head.weight" in found and found[-1] == "probabilities"


@pytest.mark.slow
def test_exports_and_metrics(tmp_path: Path) -> None:
    (row,) = runs.exports(CPU, tmp_path, overrides=SMALL, epochs=2, variants=["pt2"])
    assert row.met, row.measured
    (row,) = runs.system_metrics(CPU, tmp_path, overrides=SMALL, epochs=3)
    assert row.met and "cpu_utilization_percentage" in row.measured


@pytest.mark.slow
def test_describing_and_fine_tuning_are_timed(tmp_path: Path) -> None:
    small = {"network": "resnet10t", "side": 32, "rounds": 1}
    (row,) = photos.features(CPU, tmp_path, **small, count=200)  # type: ignore[arg-type]
    assert float(row.measured.partition("x")[0]) > 0
    (row,) = photos.finetune(CPU, tmp_path, **small, batch=16, pictures=32, epochs=2)  # type: ignore[arg-type]
    assert float(row.measured.partition("x")[0]) > 0
