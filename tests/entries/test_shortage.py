"""Too little memory, a full disk, a lost loss: one sentence, and nothing that was there is lost."""

from __future__ import annotations

import re
import shutil
import sys
from pathlib import Path

import pytest
import torch

from tests.entries.commands import complaints, complete, only_run, points, summary_of
from tests.entries.conftest import Run, Train
from tests.entries.small_disk import on_a_full_disk

# Starts a command with at most so many bytes of memory (of addresses: what an allocation takes).
_WITH_LITTLE_MEMORY = """
import os, resource, sys
resource.setrlimit(resource.RLIMIT_AS, (int(sys.argv[1]), int(sys.argv[1])))
os.execv(sys.executable, [sys.executable, "-m", "src.train", *sys.argv[2:]])
"""


def lines_of(error: str) -> list[str]:
    """Standard error without the lines of the epochs, the slow steps and the warnings."""
    told = ("epoch ", "warning: ", "resume with: ")
    return [line for line in complaints(error) if line.strip() and not line.startswith(told)]


def test_a_lost_loss_is_told_with_step_and_rate(run: Run, tmp_path: Path) -> None:
    overrides = ["model=mlp", "optimizer=sgd", "optimizer.lr=1e30", "trainer.gradient_clip=null"]
    result = run("src.train", *overrides, "tracking=none", f"output_dir={tmp_path}")
    assert result.returncode == 1
    (line,) = lines_of(result.stderr)
    assert re.match(
        r"error: the loss became (nan|inf) in epoch 1, step \d+, at learning rate [\d.e+]+: lower",
        line,
    ), line
    folder = only_run(tmp_path)
    summary = summary_of(folder)
    assert summary["status"] == "FAILED" and "learning rate" in summary["reason"]
    state = torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
    assert all(v.isfinite().all() for v in state.values() if torch.is_tensor(v))


@pytest.mark.slow
def test_too_little_memory_is_told_with_the_batch_size_to_try(
    environment: dict[str, str], tmp_path: Path
) -> None:
    overrides = ["data.image_size=96", "data.batch_size=1024", "model.widths=[512,512,512]"]
    overrides += ["runtime=float32", "tracking=none"]
    limited = [sys.executable, "-c", _WITH_LITTLE_MEMORY, str(6 << 30), *overrides]
    result = complete([*limited, f"output_dir={tmp_path}"], environment)
    assert result.returncode == 1, result.stderr
    # After what says that the pictures are decoded.
    assert lines_of(result.stderr)[-1:] == [
        "error: there is not enough memory for batches of 1024 pictures: try data.batch_size=512"
    ]
    summary = summary_of(only_run(tmp_path))
    assert summary["status"] == "FAILED" and "data.batch_size=512" in summary["reason"]


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_full_disk_is_told_and_the_run_goes_on_when_there_is_room(
    run: Run, train: Train, environment: dict[str, str], tmp_path: Path
) -> None:
    overrides = ["model=mlp", "trainer.max_epochs=60", "trainer.ema_decay=0.9", "runtime=float32"]
    overrides += ["tracking=none", "tracking.figures=false", "data.batch_size=256"]
    second_epoch = """'"step":2' "$out"/runs/*/tracking/spool.jsonl"""
    typed = [*overrides, "output_dir=DISK"]
    result, disk, kept = on_a_full_disk(
        "40m", tmp_path, environment, "src.train", *typed, sign=second_epoch
    )
    assert result.returncode == 1, result.stderr
    (line,) = lines_of(result.stderr)
    folder = only_run(kept)
    assert re.fullmatch(
        rf"error: there is no room for another file in {re.escape(str(disk))}/runs/{folder.name}"
        r"/checkpoints: \d+\.\d MB of its disk are free, some \d+\.\d MB are needed; what was "
        r"there before is whole, so make room and try again",
        line,
    ), line
    assert f"resume with: python -m src.train resume={disk}/runs/{folder.name}" in result.stderr

    saved = torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)
    assert saved["epoch"] >= 1
    outputs = tmp_path / "outputs"
    shutil.copytree(kept / "runs", outputs / "runs")
    folder = outputs / "runs" / folder.name
    result = run("src.train", f"resume={folder}")
    assert result.returncode == 0, result.stderr
    whole = train(tmp_path / "whole", *overrides)
    assert losses(folder) == losses(whole)
    for part in ("val", "test"):
        mine, theirs = (f / "predictions" / f"{part}.parquet" for f in (folder, whole))
        assert mine.read_bytes() == theirs.read_bytes()


def losses(folder: Path) -> list[float]:
    """The loss of each epoch in the run's diary, which has each of them once."""
    found = [(step, value) for key, step, value in points(folder) if key == "train/loss"]
    assert [step for step, _ in found] == [*range(1, 61)]
    return [value for _, value in found]
