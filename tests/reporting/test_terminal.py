from __future__ import annotations

import dataclasses

import pytest

from src.records.run import RunSummary
from src.reporting.terminal import format_summary

SUMMARY = RunSummary(
    run_id="0f3a",
    status="FINISHED",
    name="calm-otter",
    model="cnn",
    data="digits",
    seed=1,
    split_fingerprint="ab12",
    metrics={
        "val/accuracy": 0.98611,
        "val/accuracy_low": 0.968,
        "val/accuracy_high": 0.994,
        "test/accuracy": 0.98333,
        "test/accuracy_low": 0.964,
        "test/accuracy_high": 0.9923,
        "cost/latency_ms": 1.3344,
    },
    num_parameters=1_234_567,
    duration_seconds=24.3,
    test_measurements=3,
    run_dir="/runs/calm-otter",
    command="python -m src.train",
)


def test_everything_a_finished_run_has_to_say() -> None:
    assert format_summary(SUMMARY, "make ui").splitlines() == [
        "calm-otter: cnn on digits, seed 1, finished in 24 s",
        "",
        "  validation accuracy  98.6 %  (95 % interval 96.8 to 99.4)",
        "  test accuracy        98.3 %  (95 % interval 96.4 to 99.2)",
        "  test part measured   3 times on this split",
        "  parameters           1.2 M",
        "  latency              1.33 ms for one picture",
        "  run folder           /runs/calm-otter",
        "  open the UI          make ui",
    ]


def test_what_was_not_measured_has_no_line() -> None:
    bare = dataclasses.replace(
        SUMMARY,
        status="FAILED",
        metrics={},
        num_parameters=None,
        test_measurements=None,
        reason="the loss became NaN in epoch 2",
    )
    assert format_summary(bare, "make ui").splitlines() == [
        "calm-otter: cnn on digits, seed 1, failed after 24 s",
        "",
        "  reason       the loss became NaN in epoch 2",
        "  run folder   /runs/calm-otter",
        "  open the UI  make ui",
    ]


def test_a_stopped_run_says_so() -> None:
    text = format_summary(dataclasses.replace(SUMMARY, status="KILLED"), "make ui")
    assert text.splitlines()[0].endswith("stopped after 24 s")


def test_an_accuracy_without_its_interval_stands_alone() -> None:
    text = format_summary(dataclasses.replace(SUMMARY, metrics={"val/accuracy": 0.5}), "make ui")
    assert "  validation accuracy  50.0 %\n" in text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.04, "0.0 s"),
        (9.94, "9.9 s"),
        (9.96, "10 s"),
        (59.4, "59 s"),
        (59.6, "1 min 0 s"),
        (3599.4, "59 min 59 s"),
        (3599.6, "1 h 0 min"),
        (7530, "2 h 6 min"),
        (200_000, "55 h 33 min"),
    ],
)
def test_durations(seconds: float, text: str) -> None:
    first = format_summary(dataclasses.replace(SUMMARY, duration_seconds=seconds), "").split("\n")[
        0
    ]
    assert first.endswith(f"finished in {text}")


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (0, "0"),
        (999, "999"),
        (1000, "1.0 K"),
        (68_349, "68.3 K"),
        (999_949, "999.9 K"),
        (999_950, "1.0 M"),
        (86_567_656, "86.6 M"),
        (1_400_000_000, "1.4 G"),
    ],
)
def test_numbers_of_parameters(number: int, text: str) -> None:
    summary = dataclasses.replace(SUMMARY, num_parameters=number)
    assert f"  parameters           {text}\n" in format_summary(summary, "make ui")


def test_one_measurement_of_the_test_part() -> None:
    summary = dataclasses.replace(SUMMARY, test_measurements=1)
    assert "test part measured   once on this split" in format_summary(summary, "make ui")


def test_a_cross_validation_shows_the_spread_of_its_folds() -> None:
    metrics = SUMMARY.metrics | {"val/accuracy_sd": 0.0123}
    folds = {"val/accuracy": [0.91, 0.95, 0.934]}
    whole = dataclasses.replace(SUMMARY, metrics=metrics, folds=folds)
    shown = format_summary(whole, "make ui")
    assert "over folds" in shown
    assert "3 folds, 91.0 to 95.0 %, standard deviation 1.2 points" in shown
    assert "over folds" not in format_summary(SUMMARY, "make ui")
