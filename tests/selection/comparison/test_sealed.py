"""Runs that were changed after they had been sealed: left out and named, or used where asked."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from src.config.checks import ConfigError
from src.records.run import Predictions
from src.runs.folder import RunFolder
from src.runs.seal import seal
from src.selection.comparison import compared
from tests.selection.comparison.runs import compare_settings, finished_run


def sealed_run(output_dir: Path, model: str, wrong: int) -> RunFolder:
    folder = finished_run(output_dir, model, wrong)
    seal(folder.path, run_id=folder.run_id, name=folder.name)
    return folder


def better_predictions(folder: RunFolder) -> None:
    file = folder.predictions / "val.parquet"
    said = Predictions.read(file)
    probs = np.eye(2, dtype=np.float32)[said.targets]
    Predictions(said.sample_ids, None, said.targets, probs, said.class_names).write(file)


def cheaper(folder: RunFolder) -> None:
    text = folder.summary.read_text()
    folder.summary.write_text(re.sub(r'latency_ms": \d+', 'latency_ms": 0', text))


def killed(folder: RunFolder) -> None:
    folder.summary.write_text(folder.summary.read_text().replace("FINISHED", "KILLED"))


def other_settings(folder: RunFolder) -> None:
    folder.config.write_text(folder.config.read_text().replace("0.1", "0.2"))


def damaged_seal(folder: RunFolder) -> None:
    path = folder.path / "seal.json"
    path.write_bytes(path.read_bytes().replace(b"val", b"vol"))


def other_identity(folder: RunFolder) -> None:
    path = folder.path / "run.json"
    path.write_text(path.read_text().replace(folder.run_id, "0" * 32))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (better_predictions, r"val\.parquet"),
        (cheaper, r"summary\.json"),
        (killed, r"summary\.json"),
        (other_settings, r"config\.yaml"),
        (damaged_seal, r"seal\.json is damaged"),
        (other_identity, r"run\.json"),
    ],
)
def test_a_changed_run_is_left_out_and_named(
    tmp_path: Path, change: Callable[[RunFolder], None], said: str
) -> None:
    whole, other = sealed_run(tmp_path, "mlp", 20), sealed_run(tmp_path, "cnn", 40)
    untouched = compared(compare_settings(tmp_path))
    assert untouched.runs == 2 and untouched.remarks == ()
    change(other)
    found = compared(compare_settings(tmp_path))
    assert found.runs == 1 and found.entrants[0].run_dirs == (str(whole.path),)
    (remark,) = found.remarks
    assert other.name in remark and re.search(said, remark) and "changed=use" in remark
    with pytest.raises(ConfigError, match=said):
        compared(compare_settings(tmp_path, runs=[str(whole.path), str(other.path)]))


def test_a_changed_run_is_used_where_asked_and_said(tmp_path: Path) -> None:
    sealed_run(tmp_path, "mlp", 20)
    other = sealed_run(tmp_path, "cnn", 40)
    better_predictions(other)
    found = compared(compare_settings(tmp_path, changed="use"))
    assert found.runs == 2 and found.entrants[0].run_dirs == (str(other.path),)
    (remark,) = found.remarks
    assert remark.startswith(f"{other.name} is used, though predictions/val.parquet")


def test_runs_without_a_seal_are_compared_as_before(tmp_path: Path) -> None:
    finished_run(tmp_path, "mlp", 20)
    sealed_run(tmp_path, "cnn", 40)
    found = compared(compare_settings(tmp_path))
    assert found.runs == 2 and found.remarks == ()
