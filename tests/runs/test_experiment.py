"""One experiment in this process: its numbers, its interruptions, its failures."""

from __future__ import annotations

import csv
import itertools
import json
import os
import signal
import socket
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from src.config.checks import ConfigError
from src.config.compose import read_run_settings
from src.data.loading.loaders import Batch
from src.machine.failures import DiskRefuses
from src.machine.interruption import Interrupted
from src.records.run import RunSummary
from src.runs import experiment, lifecycle
from src.runs.build import build_data
from src.runs.experiment import run_experiment
from src.runs.folder import RunFolder
from src.runs.seal import break_seal
from src.runs.settings import read_resumed_settings
from src.tracking.spool import Spool
from src.training.task import ClassificationTask

pytestmark = pytest.mark.usefixtures("blank_figures")

SMALL = [
    *("model=mlp", "runtime=float32", "trainer.max_epochs=4", "data.batch_size=128"),
    # To draw a run's pictures takes five times as long as its training.
    *("tracking=none", "trainer.progress=false", "tracking.figures=false"),
]
slow = pytest.mark.slow
REPEATABLE = ("loss", "accuracy", "log_loss", "brier")


def train(output_dir: Path, *overrides: str, on_epoch=None) -> RunSummary:
    other = any(one.startswith("model=") for one in overrides)
    narrow = [] if other else ["model.hidden=[32]"]
    settings = read_run_settings([*SMALL, *narrow, f"output_dir={output_dir}", *overrides])
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


def checkpoint(folder: Path) -> dict[str, Any]:
    """The last checkpoint of a run."""
    return torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)


def test_the_same_command_gives_the_same_numbers(tmp_path: Path) -> None:
    first, second = train(tmp_path / "a"), train(tmp_path / "b")
    assert qualities(first) == qualities(second) and len(qualities(first)) >= 8
    other = train(tmp_path / "a", "seed=1")
    assert qualities(other) != qualities(first)
    assert other.split_fingerprint == first.split_fingerprint


def signal_at_step(monkeypatch: pytest.MonkeyPatch, number: int, times: int = 1) -> None:
    """Let SIGTERM come in the middle of the training step with this number, from 1."""
    steps = itertools.count(1)

    def step(self: ClassificationTask, batch: Batch, batch_index: int) -> torch.Tensor:
        if next(steps) == number:
            for _ in range(times):
                os.kill(os.getpid(), signal.SIGTERM)
        return original(self, batch, batch_index)

    original = ClassificationTask.training_step
    monkeypatch.setattr(ClassificationTask, "training_step", step)


@pytest.mark.parametrize(
    ("overrides", "number", "epoch", "step"),
    [
        pytest.param([], 1, 0, 1, marks=slow),
        ([], 6, 1, 2),
        pytest.param(["augment=strong"], 7, 1, 3, marks=slow),
        ([], 4, 0, 0),  # with the last batch: the epoch is gone through
        pytest.param([], 8, 1, 0, marks=slow),
        (["trainer.accumulate_batches=2"], 5, 1, 2),
        pytest.param(["trainer.accumulate_batches=3"], 8, 1, 0, marks=slow),
        pytest.param(["model.freeze_epochs=1", "optimizer=sgd"], 2, 0, 2, marks=slow),
        (["data.cache_limit_gb=0", "data.num_workers=2"], 6, 1, 2),
        (["model=lstm", "model.layers=2", "model.hidden_size=8"], 6, 1, 2),
        pytest.param(
            ["model=cnn", "model.widths=[8,8,8]", "scheduler=cosine"], 5, 1, 1, marks=slow
        ),
    ],
)
def test_a_signal_within_an_epoch_loses_nothing(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    overrides: list[str],
    number: int,
    epoch: int,
    step: int,
) -> None:
    overrides = ["data.batch_size=256", "trainer.max_epochs=2", "trainer.ema_decay=0.9", *overrides]
    if "model=cnn" not in overrides:
        overrides = ["model.dropout=0.3", *overrides]
    whole = train(tmp_path / "whole", *overrides)
    with monkeypatch.context() as patch:
        signal_at_step(patch, number)
        # After the last step there is nothing left to stop but the measuring.
        with pytest.raises(Interrupted, match="SIGTERM"):
            train(tmp_path / "cut", *overrides)
    (folder,) = (tmp_path / "cut" / "runs").iterdir()
    assert checkpoint(folder)["position"] == {"epoch": epoch, "step": step}
    assert RunSummary.read(folder / "summary.json").status == "KILLED"
    resumed = run_experiment(read_resumed_settings([f"resume={folder}"]))
    assert resumed is not None and resumed.status == "FINISHED"
    assert qualities(resumed) == qualities(whole)
    assert history(folder) == history(Path(whole.run_dir))
    mine, theirs = (checkpoint(f)["state_dict"] for f in (folder, Path(whole.run_dir)))
    torch.testing.assert_close(mine, theirs, rtol=0, atol=0)


@pytest.mark.parametrize(
    ("is_step", "said"),
    [
        (False, "resume with: python -m src.train resume="),
        (True, "repeat the command to go on"),
    ],
)
def test_a_stopped_run_names_the_command_that_goes_on(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    is_step: bool,
    said: str,
) -> None:
    signal_at_step(monkeypatch, 1)
    settings = read_run_settings([*SMALL, "model.hidden=[32]", f"output_dir={tmp_path}"])
    with pytest.raises(Interrupted):
        run_experiment(settings, is_step=is_step)
    assert capsys.readouterr().err.splitlines()[-1].startswith(said)


def test_a_second_signal_ends_at_once_and_the_last_epoch_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = train(tmp_path / "whole", "data.batch_size=256")
    with monkeypatch.context() as patch:
        signal_at_step(patch, 6, times=2)
        with pytest.raises(Interrupted, match="SIGTERM"):
            train(tmp_path / "cut", "data.batch_size=256")
    (folder,) = (tmp_path / "cut" / "runs").iterdir()
    assert checkpoint(folder)["position"] == {"epoch": 0, "step": 0}
    assert RunSummary.read(folder / "summary.json").status == "KILLED"
    resumed = run_experiment(read_resumed_settings([f"resume={folder}"]))
    assert resumed is not None and qualities(resumed) == qualities(whole)


@pytest.mark.parametrize(
    "overrides",
    [
        ["trainer.early_stopping=1", "scheduler=constant"],
        ["trainer.max_time=1s"],
        ["trainer.stop_after=2"],
    ],
)
def test_a_run_that_stopped_early_does_not_train_on(tmp_path: Path, overrides: list[str]) -> None:
    """It may have been killed while it was measured."""
    whole = train(tmp_path, "trainer.max_epochs=10000", "optimizer.lr=0.01", *overrides)
    assert whole.status == "FINISHED"
    if overrides[0].startswith("trainer.max_time"):
        assert 1 <= whole.metrics["cost/training_seconds"] < 30
    before = history(Path(whole.run_dir))
    again = run_experiment(read_resumed_settings([f"resume={whole.run_dir}"]))
    assert again is not None and qualities(again) == qualities(whole)
    assert history(Path(whole.run_dir)) == before


def test_a_training_that_time_ends_has_been_through_its_schedule(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ticks = itertools.count()
    clock = SimpleNamespace(perf_counter=lambda: next(ticks) / 100)
    monkeypatch.setattr("src.training.epochs.time", clock)
    overrides = ["trainer.max_epochs=10000", "optimizer=adamw", "optimizer.lr=0.01"]
    timed = train(tmp_path, *overrides, "trainer.max_time=5s")
    rates = [value for key, _, value in history(Path(timed.run_dir)) if key == "train/lr"]
    top = rates.index(max(rates))
    assert 5 < len(rates) < 1000 and 0 < top < len(rates) - 1, "up, and down again"
    assert rates[top] > 0.009 and rates[-1] < 0.001
    assert rates == [*sorted(rates[: top + 1]), *sorted(rates[top + 1 :], reverse=True)]


def test_metrics_that_a_full_disk_kept_out_of_the_diary_come_with_the_resumed_run(
    tmp_path: Path,
) -> None:
    whole = train(tmp_path)
    folder = Path(whole.run_dir)
    complete = history(folder)
    spool = folder / "tracking" / "spool.jsonl"
    lines = spool.read_text().splitlines(keepends=True)
    spool.write_text("".join(line for line in lines if '"step":2,' not in line))
    assert history(folder) != complete
    # Such a disk has kept the run from finishing too: a finished one is only shown.
    break_seal(folder)
    replace(whole, status="FAILED", reason="no room").write(folder / "summary.json")
    run_experiment(read_resumed_settings([f"resume={folder}"]))
    assert sorted(history(folder)) == sorted(complete)


def test_a_resumed_run_keeps_its_settings(tmp_path: Path) -> None:
    folder = train(tmp_path, "trainer.max_epochs=1").run_dir
    with pytest.raises(ConfigError, match=r"optimizer\.lr: a resumed run keeps its settings"):
        read_resumed_settings([f"resume={folder}", "optimizer.lr=1"])
    for override in (
        "seed=1",
        "model=cnn",
        "runtime=float32",
        "tracking=mlflow",
        "evaluate_test=false",
    ):
        with pytest.raises(ConfigError, match=r"beside resume only output_dir, tracking\.uri, "):
            read_resumed_settings([f"resume={folder}", override])
    allowed = ["trainer.max_time=1h", "tracking.uri=http://host:1", f"output_dir={tmp_path}"]
    settings = read_resumed_settings([f"resume={Path(folder).name}", *allowed])
    assert settings.trainer.max_time == "1h" and settings.tracking.uri == "http://host:1"
    longer = run_experiment(read_resumed_settings([f"resume={folder}", "trainer.max_epochs=2"]))
    assert longer is not None
    assert [s for key, s, _ in history(Path(folder)) if key == "train/loss"] == [1, 2]


def begun(output_dir: Path) -> Path:
    """The folder of a run that ended, by an exception of any kind, before it trained."""
    settings = read_run_settings([*SMALL, f"output_dir={output_dir}"])
    data = build_data(settings)
    with pytest.raises((Interrupted, OSError)):
        run_experiment(settings, data=data)
    (folder,) = (output_dir / "runs").iterdir()
    return folder


@pytest.mark.parametrize("overrides", [SMALL, ["model=handcrafted", *SMALL[4:5], *SMALL[6:]]])
def test_a_run_whose_folder_is_moved_ends_in_a_sentence_and_goes_on_where_it_is_put_back(
    tmp_path: Path, overrides: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    moved = tmp_path / "moved"

    def move(*_: object) -> None:
        (folder,) = (tmp_path / "out" / "runs").glob("*")
        folder.rename(moved)

    work = experiment._SingleRun.work
    if overrides is not SMALL:  # it has no epochs
        monkeypatch.setattr(experiment._SingleRun, "work", lambda *given: (move(), work(*given)))
    settings = read_run_settings([*overrides, f"output_dir={tmp_path / 'out'}"])
    with pytest.raises(DiskRefuses, match="was moved or removed") as told:
        run_experiment(settings, move if overrides is SMALL else None)
    monkeypatch.undo()
    folder = Path(str(told.value).partition(" was moved")[0])
    assert not folder.exists(), "no second half of the run"
    moved.rename(folder)
    summary = run_experiment(read_resumed_settings([f"resume={folder}"]))
    assert summary is not None and summary.status == "FINISHED"


def test_a_run_that_is_moved_after_its_seal_has_no_second_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sealed = lifecycle.seal

    def seal_and_move(folder: Path, **names: str) -> None:
        sealed(folder, **names)
        folder.rename(tmp_path / "moved")

    monkeypatch.setattr(lifecycle, "seal", seal_and_move)
    settings = read_run_settings([*SMALL, f"output_dir={tmp_path / 'out'}"])
    with pytest.raises(DiskRefuses, match="was moved or removed"):
        run_experiment(settings)
    assert not [*(tmp_path / "out" / "runs").iterdir()]
    assert RunSummary.read(tmp_path / "moved" / "summary.json").status == "FINISHED"


def close_unopened(_: object) -> str:
    """Be stopped as a library is that closes what it has not opened yet."""
    try:
        os.kill(os.getpid(), signal.SIGINT)
        opened = socket.socket()
    finally:
        opened.close()
    return ""


@pytest.mark.parametrize(
    "write", [lambda _: os.kill(os.getpid(), signal.SIGINT), close_unopened], ids=["", "masked"]
)
def test_a_run_that_is_stopped_while_its_record_begins_says_so(
    write: Callable[[object], object],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(lifecycle, "yaml_text", write)
    summary = RunSummary.read(begun(tmp_path) / "summary.json")
    assert (summary.status, summary.reason) == ("KILLED", "stopped by SIGINT")
    assert "resume with" not in capsys.readouterr().err, "there are no settings to go on with"


def test_a_run_whose_first_line_nobody_reads_has_its_whole_record(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    read, write = os.pipe()
    os.close(read)
    stdout = os.fdopen(write, "w", buffering=1)
    with monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", stdout)
        folder = begun(tmp_path)
    with suppress(BrokenPipeError):  # of what its buffer holds
        stdout.close()
    summary = RunSummary.read(folder / "summary.json")
    assert summary.status == "FAILED" and "BrokenPipe" in str(summary.reason)
    assert f"resume with: python -m src.train resume={folder}\n" in capsys.readouterr().err
    *_, end = map(json.loads, (folder / "tracking" / "spool.jsonl").read_text().splitlines())
    assert (end["event"], end["status"]) == ("finish", "FAILED")


def test_the_summary_of_a_run_that_another_process_writes_is_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may begin to write while the settings of this one are still measured."""
    folder = RunFolder.create(tmp_path, "mlp", "digits")
    settings = read_run_settings([*SMALL, f"output_dir={tmp_path}"])
    monkeypatch.setattr(experiment, "open_folder", lambda _: folder)
    other = Spool(folder.path)
    monkeypatch.setattr(Spool.__init__, "__defaults__", (0.1,))  # seconds that it waits
    with pytest.raises(ConfigError, match="is being written by another process"):
        run_experiment(settings, data=build_data(settings))
    other.close()
    assert not folder.summary.exists()


def test_no_test_is_measured_and_no_model_written_where_none_is_wanted(tmp_path: Path) -> None:
    summary = train(tmp_path, "evaluate_test=false", "tracking.log_model=false")
    assert not any(key.startswith("test/") for key in summary.metrics)
    assert summary.test_measurements is None
    assert not (tmp_path / "test_measurements.jsonl").exists()
    folder = Path(summary.run_dir)
    assert (folder / "checkpoints").is_dir() and not (folder / "model").exists()
    assert '"event":"model"' not in (folder / "tracking" / "spool.jsonl").read_text()


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


def test_epochs_whose_validation_is_not_finite_are_no_improvement(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def forward(self: ClassificationTask, images: torch.Tensor) -> torch.Tensor:
        logits = original(self, images)
        spoilt = self.current_epoch and self.trainer.validating
        return logits * float("nan") if spoilt else logits

    original = ClassificationTask.forward
    monkeypatch.setattr(ClassificationTask, "forward", forward)
    overrides = ["trainer.max_epochs=9", "trainer.early_stopping=2", "trainer.monitor=val/loss"]
    folder = Path(train(tmp_path, *overrides, "evaluate_test=false").run_dir)
    losses = [value for key, _, value in history(folder) if key == "val/loss"]
    assert len(losses) == 3 and losses[0] > 0
    best = torch.load(folder / "checkpoints" / "best.ckpt", weights_only=True)
    assert best["callbacks"]["EpochKeeper"]["best_value"] == losses[0]


@pytest.mark.parametrize(
    "overrides",
    [
        ["augment=strong", "optimizer=muon", "scheduler=cosine"],
        ["loss=focal", "loss.class_weights=balanced", "runtime.precision=bfloat16"],
        ["trainer.accumulate_batches=3", "scheduler=linear", "trainer.tta=shift"],
        ["model.freeze_epochs=1", "model.backbone_lr_scale=0.1"],
        ["data.cache_limit_gb=0", "data.image_size=12"],
    ],
)
def test_every_refinement_trains(tmp_path: Path, overrides: list[str]) -> None:
    # As wide as usual, for two epochs are to teach it something.
    summary = train(tmp_path, "trainer.max_epochs=2", "model.hidden=[256,256]", *overrides)
    assert summary.status == "FINISHED" and summary.metrics["val/accuracy"] > 0.15


def test_suspects_are_listed_and_shown(tmp_path: Path) -> None:
    summary = train(tmp_path, "trainer.max_epochs=3", "tracking.figures=true")
    folder = Path(summary.run_dir)
    with (folder / "suspects.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    # A network that hardly knows the digits yet contradicts some of their labels.
    assert rows and {row["kind"] for row in rows} == {"label"}
    assert {row["part"] for row in rows} <= {"val", "test"}
    assert all(row["suggested_label"] != row["label"] for row in rows)
    assert (folder / "figures" / "suspects.png").is_file()
    spool = (folder / "tracking" / "spool.jsonl").read_text()
    assert '"suspects.csv"' in spool and '"figures/suspects.png"' in spool
