"""The count of measurements of a test part: what raises it, and what does not."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from src.data.splitting.test_usage import (
    count_test_measurement_once,
    past_test_measurements,
)
from src.records.run import Predictions
from src.runs.folder import RunFolder
from src.runs.test_part import counted_measurement

TARGETS, IDS = np.array([0, 1, 1]), np.array([4, 5, 8])
PROBS = np.array([[0.9, 0.1], [0.4, 0.6], [0.2, 0.8]], np.float32)


def keep(folder: RunFolder, probs: np.ndarray) -> None:
    folder.predictions.mkdir(exist_ok=True, parents=True)
    Predictions(IDS, None, TARGETS, probs, ("a", "b")).write(folder.predictions / "test.parquet")


def test_repeating_a_runs_own_measurement_is_not_counted(tmp_path: Path) -> None:
    folder = RunFolder.create(tmp_path, "mlp", "digits")
    assert counted_measurement(folder, "f", (PROBS, TARGETS, IDS)) == 1
    keep(folder, PROBS)
    close = PROBS + np.array([1e-5, -1e-5], np.float32)  # other threads
    assert counted_measurement(folder, "f", (close, TARGETS, IDS)) == 1
    assert past_test_measurements(tmp_path, "f") == 1


def test_other_weights_other_runs_and_lost_counts_are_counted(tmp_path: Path) -> None:
    folder, other = (RunFolder.create(tmp_path, name, "digits") for name in ("mlp", "cnn"))
    counted_measurement(folder, "f", (PROBS, TARGETS, IDS))
    keep(folder, PROBS)
    trained_on = PROBS[:, ::-1].copy()
    assert counted_measurement(folder, "f", (trained_on, TARGETS, IDS)) == 2
    assert counted_measurement(other, "f", (PROBS, TARGETS, IDS)) == 3
    assert counted_measurement(folder, "g", (PROBS, TARGETS, IDS)) == 1, "of another split"
    (tmp_path / "test_measurements.jsonl").unlink()
    assert counted_measurement(folder, "f", (PROBS, TARGETS, IDS)) == 1


def test_what_a_worker_measured_elsewhere_is_counted_here_once(tmp_path: Path) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    for place, name in ((here, "mlp"), (there, "cnn")):
        folder = RunFolder.create(place, name, "digits")
        counted_measurement(folder, "f", (PROBS, TARGETS, IDS))
        # One that shares the folder has counted already.
        assert count_test_measurement_once(place, "f", folder.run_id) == 1
    assert count_test_measurement_once(here, "f", folder.run_id) == 2
    assert count_test_measurement_once(here, "f", folder.run_id) == 2
    assert count_test_measurement_once(here, "g", folder.run_id) == 1, "of another split"
