"""One experiment in this process: its numbers, its interruptions, its failures."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import pytest
import torch

from src.config.checks import ConfigError
from src.config.resume import read_run_settings
from src.experiment import run_experiment
from src.records import RunSummary

SMALL = ["model=mlp", "trainer.max_epochs=4", "tracking=none", "trainer.progress=false"]
REPEATABLE = ("loss", "accuracy", "log_loss", "brier")


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BAKEOFF_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("BAKEOFF_RUN_FOLDER", raising=False)


def train(output_dir: Path, *words: str, on_epoch=None) -> RunSummary:
    settings = read_run_settings([*SMALL, f"output_dir={output_dir}", *words])
    summary = run_experiment(settings, on_epoch)
    assert summary is not None
    return summary


def qualities(summary: RunSummary) -> dict[str, float]:
    return {k: v for k, v in summary.metrics.items() if k.rpartition("/")[2] in REPEATABLE}


def history(folder: Path) -> list[tuple[str, int, float]]:
    """(key, step, value) of every training metric in the spool, in order."""
    events = map(json.loads, (folder / "tracking" / "spool.jsonl").read_text().splitlines())
    return [
        (key, event["step"], value)
        for event in events
        for key, value in (event["values"].items() if "step" in event else ())
        if not key.startswith("cost/") and not key.endswith("images_per_second")
    ]


def test_the_same_command_gives_the_same_numbers(tmp_path: Path) -> None:
    first, second = train(tmp_path / "a"), train(tmp_path / "b")
    assert qualities(first) == qualities(second) and len(qualities(first)) >= 8
    other = train(tmp_path / "a", "seed=1")
    assert qualities(other) != qualities(first)
    assert other.split_fingerprint == first.split_fingerprint


def test_a_run_that_was_stopped_goes_on_as_if_it_had_not_been(tmp_path: Path) -> None:
    whole = train(tmp_path / "whole", "model.dropout=0.3", "trainer.ema_decay=0.9")

    def stop(epoch: int, metrics: dict[str, float]) -> None:
        if epoch == 1:
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(Exception, match="SIGTERM"):
        train(tmp_path / "cut", "model.dropout=0.3", "trainer.ema_decay=0.9", on_epoch=stop)
    (folder,) = (tmp_path / "cut" / "runs").iterdir()
    assert RunSummary.read(folder / "summary.json").status == "KILLED"
    resumed = run_experiment(read_run_settings([f"resume={folder}"]))
    assert resumed is not None and resumed.status == "FINISHED"
    assert qualities(resumed) == qualities(whole)
    assert history(folder) == history(Path(whole.run_dir))
    last = [Path(s.run_dir) / "checkpoints" / "last.ckpt" for s in (whole, resumed)]
    weights = [torch.load(file, weights_only=True)["state_dict"] for file in last]
    torch.testing.assert_close(weights[0], weights[1], rtol=0, atol=0)


def test_a_resumed_run_keeps_its_settings(tmp_path: Path) -> None:
    folder = train(tmp_path, "trainer.max_epochs=1").run_dir
    with pytest.raises(ConfigError, match=r"optimizer\.lr: a resumed run keeps its settings"):
        read_run_settings([f"resume={folder}", "optimizer.lr=1"])
    longer = run_experiment(read_run_settings([f"resume={folder}", "trainer.max_epochs=2"]))
    assert longer is not None
    assert [s for key, s, _ in history(Path(folder)) if key == "train/loss"] == [1, 2]


def test_an_exploding_loss_fails_the_run_and_keeps_the_last_good_checkpoint(
    tmp_path: Path,
) -> None:
    with pytest.raises(ArithmeticError, match="loss became"):
        train(tmp_path, "optimizer=sgd", "optimizer.lr=1e30", "trainer.gradient_clip=null")
    (folder,) = (tmp_path / "runs").iterdir()
    summary = RunSummary.read(folder / "summary.json")
    assert summary.status == "FAILED" and "learning rate" in str(summary.reason)
    state = torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
    assert all(v.isfinite().all() for v in state.values() if torch.is_tensor(v))


def test_the_test_part_is_left_alone_when_told_so(tmp_path: Path) -> None:
    summary = train(tmp_path, "evaluate_test=false")
    assert not any(key.startswith("test/") for key in summary.metrics)
    assert summary.test_measurements is None
    assert not (tmp_path / "test_measurements.jsonl").exists()


def test_early_stopping_and_best_weights(tmp_path: Path) -> None:
    summary = train(
        tmp_path,
        "trainer.max_epochs=50",
        "trainer.early_stopping=2",
        "trainer.final_weights=best",
        "scheduler=constant",
    )
    folder = Path(summary.run_dir)
    curve = {step: value for key, step, value in history(folder) if key == "val/accuracy"}
    assert len(curve) < 50
    assert summary.checkpoint == str(folder / "checkpoints" / "best.ckpt")
    assert summary.metrics["val/accuracy"] == pytest.approx(max(curve.values()))


def test_max_time_ends_the_training_early_but_whole(tmp_path: Path) -> None:
    summary = train(tmp_path, "trainer.max_epochs=100000", "trainer.max_time=2s")
    assert summary.status == "FINISHED"
    assert 2 <= summary.metrics["cost/training_seconds"] < 30


@pytest.mark.parametrize(
    "words",
    [
        ["augment=strong"],
        ["loss=focal", "loss.class_weights=balanced"],
        ["optimizer=muon", "scheduler=cosine"],
        ["trainer.accumulate_batches=3", "scheduler=linear"],
        ["runtime.precision=bfloat16"],
        ["trainer.tta=shift"],
        ["model.freeze_epochs=1", "model.backbone_lr_scale=0.1"],
        ["data.cache_limit_gb=0", "data.image_size=12"],
    ],
)
def test_every_refinement_trains(tmp_path: Path, words: list[str]) -> None:
    summary = train(tmp_path, "trainer.max_epochs=2", *words)
    assert summary.status == "FINISHED" and summary.metrics["val/accuracy"] > 0.15
