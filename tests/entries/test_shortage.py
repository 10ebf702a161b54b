"""Too little memory, a full disk, a lost loss: one sentence, and nothing that was there is lost."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tests.entries.conftest import ROOT, Run
from tests.entries.small_disk import on_a_small_disk

# Starts a command with at most so many bytes of memory (of addresses: what an allocation takes).
_WITH_LITTLE_MEMORY = """
import os, resource, sys
resource.setrlimit(resource.RLIMIT_AS, (int(sys.argv[1]), int(sys.argv[1])))
os.execv(sys.executable, [sys.executable, "-m", "src.train", *sys.argv[2:]])
"""


def lines_of(error: str) -> list[str]:
    """Standard error without the lines of the epochs and the warnings."""
    told = ("epoch ", "warning: ", "go on with: ")
    return [line for line in error.splitlines() if line.strip() and not line.startswith(told)]


def test_a_lost_loss_is_told_with_step_and_rate(run: Run, tmp_path: Path) -> None:
    words = ["model=mlp", "optimizer=sgd", "optimizer.lr=1e30", "trainer.gradient_clip=null"]
    result = run("src.train", *words, "tracking=none", f"output_dir={tmp_path}")
    assert result.returncode == 1
    (line,) = lines_of(result.stderr)
    assert re.match(
        r"error: the loss became (nan|inf) in epoch 1, step \d+, at learning rate [\d.e+]+: lower",
        line,
    ), line
    (folder,) = (tmp_path / "runs").iterdir()
    assert json.loads((folder / "summary.json").read_text())["status"] == "FAILED"
    state = torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
    assert all(v.isfinite().all() for v in state.values() if torch.is_tensor(v))


@pytest.mark.slow
def test_too_little_memory_is_told_with_the_batch_size_to_try(
    environment: dict[str, str], tmp_path: Path
) -> None:
    words = ["data.image_size=96", "data.batch_size=1024", "model.widths=[512,512,512]"]
    words += ["runtime=float32", "tracking=none"]
    result = subprocess.run(
        [sys.executable, "-c", _WITH_LITTLE_MEMORY, str(6 << 30), *words, f"output_dir={tmp_path}"],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert result.returncode == 1, result.stderr
    # After what says that the pictures are decoded.
    assert lines_of(result.stderr)[-1:] == [
        "error: there is not enough memory for batches of 1024 pictures: try data.batch_size=512"
    ]
    (folder,) = (tmp_path / "runs").iterdir()
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["status"] == "FAILED" and "data.batch_size=512" in summary["reason"]


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_full_disk_is_told_and_the_run_goes_on_when_there_is_room(
    run: Run, environment: dict[str, str], tmp_path: Path
) -> None:
    words = ["model=mlp", "trainer.max_epochs=200", "trainer.ema_decay=0.9", "runtime=float32"]
    words += ["tracking=none", "data.batch_size=256"]
    second_epoch = """'"step":2' "$out"/runs/*/tracking/spool.jsonl"""
    result, disk, kept = on_a_small_disk(
        "40m", second_epoch, tmp_path, environment, "src.train", *words
    )
    assert result.returncode == 1, result.stderr
    (line,) = lines_of(result.stderr)
    (folder,) = (kept / "runs").iterdir()
    assert re.fullmatch(
        rf"error: there is no room for another file in {re.escape(str(disk))}/runs/{folder.name}"
        r"/checkpoints: \d+\.\d MB of its disk are free, some \d+\.\d MB are needed; what was "
        r"there before is whole, so make room and try again",
        line,
    ), line
    assert f"go on with: python -m src.train resume={disk}/runs/{folder.name}" in result.stderr

    saved = torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)
    assert saved["epoch"] >= 1
    outputs = tmp_path / "outputs"
    shutil.copytree(kept / "runs", outputs / "runs")
    folder = outputs / "runs" / folder.name
    result = run("src.train", f"resume={folder}")
    assert result.returncode == 0, result.stderr
    whole = run("src.train", *words, f"output_dir={tmp_path / 'whole'}")
    assert whole.returncode == 0, whole.stderr
    (other,) = (tmp_path / "whole" / "runs").iterdir()
    assert epochs(folder) == epochs(other) and len(epochs(folder)) == 200
    for part in ("val", "test"):
        mine, theirs = (f / "predictions" / f"{part}.parquet" for f in (folder, other))
        assert mine.read_bytes() == theirs.read_bytes()


def epochs(folder: Path) -> dict[int, float]:
    """The loss of each epoch in the run's diary; an epoch that is there twice is an error."""
    losses: dict[int, float] = {}
    for line in (folder / "tracking" / "spool.jsonl").read_text().splitlines():
        event = json.loads(line)
        if "train/loss" in event.get("values", {}) and event["event"] == "metrics":
            assert event["step"] not in losses
            losses[event["step"]] = event["values"]["train/loss"]
    return dict(sorted(losses.items()))
