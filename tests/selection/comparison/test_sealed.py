"""Runs that were changed after they had been sealed: left out and named, or used where asked."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from src.config.checks import ConfigError
from src.records.run import Predictions, RunSummary
from src.runs.folder import RunFolder
from src.runs.seal import amending, seal
from src.selection.comparison import compared
from tests.data.pictures import flip
from tests.selection.comparison.runs import compare_settings, finished_run


def sealed_run(output_dir: Path, model: str, wrong: int) -> RunFolder:
    """A run with a split, and sealed as a run is at its end."""
    folder = finished_run(output_dir, model, wrong)
    folder.split.write_text("path,split,label\n1.png,train,0\n2.png,val,0\n3.png,test,1\n")
    replace(RunSummary.read(folder.summary), sealed=True).write(folder.summary)
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


def other_parts(folder: RunFolder) -> None:
    text = folder.split.read_text().replace("test", "TMP").replace("val", "test")
    folder.split.write_text(text.replace("TMP", "val"))


def one_bit_of_the_split(folder: RunFolder) -> None:
    flip(folder.split)


def no_split(folder: RunFolder) -> None:
    folder.split.unlink()


def edited_without_its_seal(folder: RunFolder) -> None:
    (folder.path / "seal.json").unlink()
    cheaper(folder)


@pytest.mark.parametrize(
    "name", ["run.json", "summary.json", "config.yaml", "predictions/val.parquet"]
)
@pytest.mark.parametrize("left", ["nothing", "folder"])
def test_a_run_that_lost_a_file_is_missed(tmp_path: Path, name: str, left: str) -> None:
    whole, other = sealed_run(tmp_path, "mlp", 20), sealed_run(tmp_path, "cnn", 40)
    (other.path / name).unlink()
    if left == "folder":
        (other.path / name).mkdir()
    found = compared(compare_settings(tmp_path))
    assert [one.run_dirs for one in found.entrants] == [(str(whole.path),)]
    (remark,) = found.remarks
    assert str(other.path) in remark and name.rpartition("/")[2] in remark


def test_a_repeat_that_is_gone_is_missed(tmp_path: Path) -> None:
    other = finished_run(tmp_path, "cnn", 40)
    for number in range(2):
        repeat = other.predictions / f"val-repeat{number}.parquet"
        repeat.write_bytes((other.predictions / "val.parquet").read_bytes())
    seal(other.path, run_id=other.run_id, name=other.name)
    assert compared(compare_settings(tmp_path)).remarks == ()
    repeat.unlink()
    with pytest.raises(ConfigError, match=r"val-repeat1\.parquet is gone since it was sealed"):
        compared(compare_settings(tmp_path))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (better_predictions, r"val\.parquet"),
        (cheaper, r"summary\.json"),
        (killed, r"summary\.json"),
        (other_settings, r"config\.yaml"),
        (damaged_seal, r"seal\.json is damaged"),
        (other_identity, r"run\.json"),
        (other_parts, r"split\.csv has other contents"),
        (one_bit_of_the_split, r"split\.csv has other contents"),
        (no_split, r"split\.csv is gone"),
        (edited_without_its_seal, r"seal\.json is gone"),
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


@pytest.mark.parametrize("change", [other_parts, no_split, edited_without_its_seal, damaged_seal])
def test_what_is_used_all_the_same_is_said_once(
    tmp_path: Path, change: Callable[[RunFolder], None]
) -> None:
    sealed_run(tmp_path, "mlp", 20)
    change(sealed_run(tmp_path, "cnn", 40))
    found = compared(compare_settings(tmp_path, changed="use"))
    assert found.runs == 2
    (remark,) = found.remarks
    assert remark.count("seal.json") + remark.count("split.csv") == 1


def test_a_split_is_checked_also_after_an_equal_one(tmp_path: Path) -> None:
    """The digest of bytes that runs share is computed once, and every file is read."""
    folders = [sealed_run(tmp_path, model, 20 + n) for n, model in enumerate(["a", "b", "c", "d"])]
    other_parts(folders[2])
    found = compared(compare_settings(tmp_path))
    assert found.runs == 3 and folders[2].name in found.remarks[0]


def test_a_split_that_nobody_wrote_to_is_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = finished_run(tmp_path, "mlp", 20)
    whole.split.write_text("path,split,label\n1.png,train,0\n2.png,val,0\n3.png,test,1\n")
    time.sleep(0.05)  # as in a run, whose split is written long before its end
    seal(whole.path, run_id=whole.run_id, name=whole.name)
    with amending(whole.path, "summary.json"):
        whole.summary.write_text(whole.summary.read_text())
    usual = Path.open

    def opened(path: Path, *arguments: Any, **options: Any) -> Any:
        assert path.name != "split.csv"
        return usual(path, *arguments, **options)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "open", opened)
        assert compared(compare_settings(tmp_path)).remarks == ()
    flip(whole.split)  # size and time of change are as they were
    sealed_run(tmp_path, "cnn", 40)
    (remark,) = compared(compare_settings(tmp_path)).remarks
    assert whole.name in remark and "split.csv has other contents" in remark
    flip(whole.split)  # back: of another state, and of the same content
    assert compared(compare_settings(tmp_path)).remarks == ()
