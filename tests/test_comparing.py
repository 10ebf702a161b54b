from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import yaml

from src.comparing import compared, write_comparison
from src.config.after import CompareSettings
from src.config.checks import ConfigError
from src.records import Predictions, RunSummary
from src.reporting.comparison import format_comparison
from src.run_folder import RunFolder

CLASSES = ("a", "b")
TARGETS = np.tile(np.array([0, 1], np.int64), 200)


def settings(output_dir: Path, **changes: object) -> CompareSettings:
    plain = {"runs": None, "sweep": None, "data": None, "part": "val"} | changes
    return CompareSettings(output_dir=str(output_dir), **plain)  # type: ignore[arg-type]


def run(
    output_dir: Path,
    model: str,
    wrong: int,
    *,
    seed: int = 0,
    lr: float = 0.1,
    split: str = "s",
    status: str = "FINISHED",
    tests: int | None = None,
) -> RunFolder:
    """A run that had its first `wrong` pictures wrong, moved on a little by its seed."""
    folder = RunFolder.create(output_dir, model, "pictures")
    plain = {
        "seed": seed,
        "model": {"name": model},
        "optimizer": {"lr": lr},
        "runtime": {"x": seed},
    }
    folder.config.write_text(yaml.safe_dump(plain))
    right = np.ones(len(TARGETS), bool)
    right[seed : seed + wrong] = False
    probs = np.full((len(TARGETS), 2), 0.1, np.float32)
    probs[np.arange(len(TARGETS)), np.where(right, TARGETS, 1 - TARGETS)] = 0.9
    ids = np.arange(len(TARGETS), dtype=np.int64)
    predictions = Predictions(ids, None, TARGETS, probs, CLASSES)
    predictions.write(folder.predictions / "val.parquet")
    RunSummary(
        run_id=folder.run_id,
        status=status,
        name=folder.name,
        model=model,
        data="pictures",
        seed=seed,
        split_fingerprint=split,
        metrics={"cost/latency_ms": float(wrong)},
        num_parameters=1,
        duration_seconds=1.0,
        test_measurements=tests,
        run_dir=str(folder.path),
        command="python -m src.train",
    ).write(folder.summary)
    return folder


def test_seeds_are_repeats_and_settings_are_candidates(tmp_path: Path) -> None:
    for seed in (1, 2, 3):
        run(tmp_path, "cnn", 10, seed=seed)
        run(tmp_path, "mlp", 120, seed=seed, lr=0.1)
        run(tmp_path, "mlp", 130, seed=seed, lr=0.2)
    found = compared(settings(tmp_path))
    assert [one.name for one in found.verdict.standings] == [
        "cnn",
        "mlp optimizer.lr=0.1",
        "mlp optimizer.lr=0.2",
    ]
    assert [len(one.run_ids) for one in found.verdict.standings] == [3, 3, 3]
    assert [one.name for one in found.verdict.tied] == ["cnn"]
    assert found.verdict.winner.accuracy == pytest.approx(1 - 10 / len(TARGETS))
    assert "cnn comes first of 3 candidates" in format_comparison(found)


def test_other_pictures_unfinished_runs_and_other_data_are_left_out(tmp_path: Path) -> None:
    run(tmp_path, "cnn", 10, tests=2)
    run(tmp_path, "mlp", 20)
    run(tmp_path, "vit", 1, split="another")
    run(tmp_path, "fcn", 1, status="KILLED")
    found = compared(settings(tmp_path))
    assert (found.runs, found.left_out, found.test_measurements) == (2, 1, 2)
    printed = format_comparison(found)
    assert "One run on other pictures left out." in printed and "measured 2 times" in printed
    with pytest.raises(ConfigError, match="no finished run"):
        compared(settings(tmp_path, data="others"))


def test_named_runs_of_two_splits_are_refused(tmp_path: Path) -> None:
    one, other = run(tmp_path, "cnn", 10), run(tmp_path, "mlp", 20, split="another")
    with pytest.raises(ConfigError, match="measured on different pictures"):
        compared(settings(tmp_path, runs=[one.run_id, str(other.path)]))
    with pytest.raises(ConfigError, match="there is no run 'nobody'"):
        compared(settings(tmp_path, runs=["nobody"]))
    with pytest.raises(ConfigError, match="sweep is 'none'"):
        compared(settings(tmp_path, sweep="none"))


def test_a_sweeps_runs_are_those_of_its_record(tmp_path: Path) -> None:
    trial, refit = run(tmp_path, "cnn", 10), run(tmp_path, "cnn", 12, seed=1)
    run(tmp_path, "mlp", 1)
    record = {
        "trials": [{"run_dir": str(trial.path)}, {"run_dir": None}, {"run_dir": "/gone"}],
        "finalists": [{"run_dirs": {"1": str(refit.path)}}],
    }
    (tmp_path / "sweeps" / "s").mkdir(parents=True)
    (tmp_path / "sweeps" / "s" / "sweep.json").write_text(json.dumps(record))
    found = compared(settings(tmp_path, sweep="s"))
    assert [(one.name, len(one.run_ids)) for one in found.verdict.standings] == [("cnn", 2)]
    table, rows = write_comparison(found, settings(tmp_path, sweep="s"))
    assert json.loads(table.read_text())["runs"] == 2
    assert len(rows.read_text().splitlines()) == 2
