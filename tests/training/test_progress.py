"""What a terminal and a file get to see of a training."""

from __future__ import annotations

import io
import re
import time
from types import SimpleNamespace

import pytest
import torch

from src.training import progress as module
from src.training.progress import Progress
from src.training.totals import RunningTotals

METRICS = {
    "train/loss": 0.5,
    "train/accuracy": 0.75,
    "val/loss": 0.25,
    "val/accuracy": 1.0,
    "train/images_per_second": 1234.0,
}


class Terminal(io.StringIO):
    gone = False

    def isatty(self) -> bool:
        return True

    def write(self, text: str) -> int:
        if self.gone:
            raise OSError("the terminal is gone")
        return super().write(text)


@pytest.fixture
def totals() -> RunningTotals:
    totals = RunningTotals()
    totals.add(torch.tensor(0.5), torch.eye(4), torch.arange(4))
    return totals


def test_a_file_gets_a_plain_line_an_epoch(totals: RunningTotals) -> None:
    file = io.StringIO()
    progress = Progress(10, 5, stream=file)
    progress.step(0, 1, totals)
    progress.epoch(0, METRICS)
    progress.close()
    assert file.getvalue() == (
        "epoch  1/10  train loss 0.5000 accuracy 75.0 %  val loss 0.2500 accuracy 100.0 %  "
        "1,234 images/s\n"
    )


def test_of_label_sets_an_epoch_shows_exact_matches_and_no_accuracy() -> None:
    file = io.StringIO()
    Progress(10, 5, stream=file).epoch(0, METRICS | {"val/map": 0.5})
    assert "exact match 100.0 % mAP 50.0 %" in file.getvalue()
    assert "accuracy" not in file.getvalue()


def test_an_epoch_shows_what_the_training_watches() -> None:
    file = io.StringIO()
    watched = {"val/auc": 0.9126, "val/balanced_accuracy": 0.8, "val/cost": 1.25}
    Progress(10, 5, stream=file).epoch(0, METRICS | watched)
    line = "accuracy 100.0 % AUC 0.913 balanced accuracy 80.0 % mean cost 1.250"
    assert line in file.getvalue()


def test_an_epoch_shows_metrics_in_the_units_of_the_pages() -> None:
    file = io.StringIO()
    watched = {"val/hamming_loss": 0.125, "val/calibration_error": 0.0416, "val/log_loss": 0.5}
    Progress(10, 5, stream=file).epoch(0, METRICS | watched)
    assert "Hamming loss 12.5 % calibration error 4.2 % log-loss 0.500" in file.getvalue()


def test_kappa_is_no_percentage() -> None:
    file = io.StringIO()
    Progress(10, 5, stream=file).epoch(0, METRICS | {"val/kappa": 0.5468})
    assert "accuracy 100.0 % kappa 0.547" in file.getvalue()


def test_a_terminal_shows_the_time_left_of_the_whole_training(
    totals: RunningTotals, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_REFRESH_SECONDS", 1e-9)
    monkeypatch.setenv("COLUMNS", "200")
    terminal = Terminal()
    progress = Progress(2, 5, stream=terminal)
    for step in range(1, 6):
        progress.step(0, step, totals)
        time.sleep(0.05)
    last = terminal.getvalue().rpartition("epoch 1/2")[2]
    assert "5/5  loss 0.500  accuracy 100.0 %" in last
    assert re.search(r"\d:\d\d:\d\d", last), "no time is left to be seen"
    progress.close()


def test_a_terminal_that_is_gone_stops_no_training(
    totals: RunningTotals, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_REFRESH_SECONDS", 1e-9)
    terminal = Terminal()
    progress = Progress(2, 5, stream=terminal)
    progress.step(0, 1, totals)
    terminal.gone = True
    progress.step(0, 2, totals)
    progress.epoch(0, METRICS)
    progress.close()


def test_a_file_gets_a_line_a_minute_and_the_time_that_is_left(
    totals: RunningTotals, monkeypatch: pytest.MonkeyPatch
) -> None:
    seconds = [0.0]
    monkeypatch.setattr(module, "time", SimpleNamespace(perf_counter=lambda: seconds[0]))
    file = io.StringIO()
    progress = Progress(2, 10, stream=file)
    for step in range(1, 11):
        seconds[0] += 20
        progress.step(0, step, totals)
    progress.epoch(0, METRICS)
    within, last = file.getvalue().splitlines()[:-1], file.getvalue().splitlines()[-1]
    assert [line.split()[:3] for line in within] == [
        ["epoch", "1/2", f"{step}/10"] for step in (3, 6, 9)
    ]
    # The first batch is where its clock begins.
    assert within[0].endswith("  3 min 47 s left") and last.endswith(
        "1,234 images/s  3 min 0 s left"
    )
    quiet = io.StringIO()
    progress = Progress(2, 10, moving=False, stream=quiet)
    for step in range(1, 11):
        seconds[0] += 20
        progress.step(0, step, totals)
    progress.epoch(0, METRICS)
    assert quiet.getvalue().count("\n") == 1 and "left" not in quiet.getvalue()
