"""Folders of finished runs, as small as they can be."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import yaml
from numpy.typing import NDArray

from src.config.finished import CompareSettings
from src.config.tracking import TrackingSwitch
from src.records.run import Predictions, RunSummary
from src.runs.folder import RunFolder

CLASSES = ("a", "b")
TARGETS = np.tile(np.array([0, 1], np.int64), 200)


def compare_settings(output_dir: Path, **changes: object) -> CompareSettings:
    plain: dict[str, object] = dict.fromkeys(["runs", "sweep", "experiment", "filter", "data"])
    plain |= {
        "part": "val",
        "metric": None,
        "costs": None,
        "changed": "refuse",
        "ensemble": False,
        "tracking": TrackingSwitch(enabled=False, uri=None),
    } | changes
    return CompareSettings(output_dir=str(output_dir), **plain)  # type: ignore[arg-type]


def finished_run(
    output_dir: Path,
    model: str,
    wrong: int,
    *,
    seed: int = 0,
    lr: float = 0.1,
    split: str = "s",
    status: str = "FINISHED",
    tests: int | None = None,
    shift: int = 0,
    cv: dict[str, int | None] | None = None,
    tracked: bool = False,
    repeats: int = 0,
    groups: NDArray[np.int64] | None = None,
    copies: bool = False,
    trial: int | None = 0,
    family: str | None = None,
    sure: float = 0.9,
    latency: float | None = None,
) -> RunFolder:
    """A run that had its first `wrong` pictures wrong, moved on a little by its seed.

    `shift` is added to the ids of its pictures; `repeats` is how often it went over its folds;
    `groups` are those of its pictures, of `copies` or named; `trial` and `family` are of a sweep.
    `sure` is the probability of each answer, `latency` in milliseconds its `wrong` if None.
    """
    folder = RunFolder.create(output_dir, model, "pictures")
    plain = {
        "seed": seed,
        "output_dir": str(output_dir),
        "model": {"name": model},
        "optimizer": {"lr": lr},
        "tracking": {"enabled": tracked, "uri": None, "experiment": None},
        "runtime": {"x": seed},
    }
    if cv is not None:
        plain["cv"] = cv
    folder.config.write_text(yaml.safe_dump(plain))
    right = np.ones(len(TARGETS), bool)
    right[seed : seed + wrong] = False
    probs = np.full((len(TARGETS), 2), 1 - sure, np.float32)
    probs[np.arange(len(TARGETS)), np.where(right, TARGETS, 1 - TARGETS)] = sure
    ids = np.arange(len(TARGETS), dtype=np.int64) + shift
    predictions = Predictions(ids, None, TARGETS, probs, CLASSES, groups, copies=copies)
    predictions.write(folder.predictions / "val.parquet")
    for repeat in range(repeats):
        moved = replace(predictions, probs=np.roll(probs, 2 * repeat, axis=0))
        moved.write(folder.predictions / f"val-repeat{repeat + 1}.parquet")
    RunSummary(
        run_id=folder.run_id,
        status=status,
        name=folder.name,
        model=model,
        data="pictures",
        seed=seed,
        split_fingerprint=split,
        metrics={"cost/latency_ms": float(wrong if latency is None else latency)},
        num_parameters=1,
        duration_seconds=1.0,
        test_measurements=tests,
        run_dir=str(folder.path),
        command="python -m src.train",
        trial=trial,
        family=family,
    ).write(folder.summary)
    return folder


def write_study(output_dir: Path, **record: object) -> None:
    """Write the record of the study s."""
    (output_dir / "sweeps" / "s").mkdir(parents=True, exist_ok=True)
    (output_dir / "sweeps" / "s" / "sweep.json").write_text(json.dumps(record))
