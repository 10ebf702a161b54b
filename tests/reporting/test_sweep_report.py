from __future__ import annotations

import csv
import dataclasses
from typing import Any

import pytest

from src.records.standings import (
    leaderboard,
)
from src.records.trials import COMPLETE, FAILED, PRUNED, Finalist, SweepRecord, TrialRecord
from src.reporting.sweep_report import format_result, leaderboard_csv, leaderboard_table
from tests.reporting.races import race

COMMAND = "python -m src.train model=cnn 'data.root=my  pics' optimizer.lr=0.003"


def trial(number: int, family: str, state: str, *values: float, **more: Any) -> TrialRecord:
    curve = tuple(enumerate(values, 1))
    objectives = values[-1:] if state == COMPLETE else None
    settings = {"optimizer.lr": 0.003, "model.width": 32}
    return TrialRecord(
        number, family, state, settings, curve=curve, objectives=objectives, seconds=4.0, **more
    )


RECORD = SweepRecord(
    study="digits",
    metrics=("val/accuracy",),
    directions=("maximize",),
    families=("cnn", "mlp"),
    trials=(
        trial(0, "cnn", COMPLETE, 0.5, 0.97, is_default=True),
        trial(1, "mlp", PRUNED, 0.4, reason="behind"),
        trial(2, "mlp", FAILED, reason="out of\nmemory"),
        trial(3, "cnn", COMPLETE, 0.5, 0.98),
    ),
    commands={3: COMMAND},
    finalists=(Finalist(3, {0: 0.98, 1: 0.96, 2: None}),),
    winner=3,
    test={"test/accuracy": 0.9751, "test/accuracy_low": 0.95, "test/accuracy_high": 0.9871},
    test_measurements=2,
    seconds=16.2,
)


def test_the_whole_result() -> None:
    assert format_result(RECORD).splitlines() == [
        "digits: 4 trials (2 complete, 1 pruned, 1 failed) of 2 families in 16 s",
        "",
        "Leaderboard: trials by val/accuracy, highest first",
        "  rank  trial  family  val/accuracy  state              epochs   time  settings",
        "     1      3  cnn          98.00 %  complete                2  4.0 s  lr=0.003 width=32",
        "     2      0  cnn          97.00 %  complete, default       2  4.0 s  lr=0.003 width=32",
        "            1  mlp          40.00 %  pruned                  1  4.0 s  lr=0.003 width=32",
        "            2  mlp                   failed                  0  4.0 s  out of memory",
        "",
        "Families by val/accuracy: the best of each, at equal trials and at equal time",
        "  family               best  trial     first 2 trials        first 8.0 s  trials   time",
        "  cnn               98.00 %      3            98.00 %            98.00 %       2  8.0 s",
        "  mlp     pruned at 40.00 %      1  pruned at 40.00 %  pruned at 40.00 %       2  8.0 s",
        "",
        "Finalists by val/accuracy, trained again over seeds: mean ± standard deviation",
        "  trial  family  mean            by seed",
        "      3  cnn     97.00 % ± 1.41  0: 98.00 %, 1: 96.00 %, 2: failed",
        "",
        "winner              trial 3, cnn",
        "test accuracy       97.5 %  (95 % interval 95.0 to 98.7)",
        "test part measured  2 times on this split",
        f"train it again      {COMMAND}",
    ]


def test_what_there_is_not_has_no_line() -> None:
    empty = dataclasses.replace(RECORD, trials=(), finalists=(), winner=None, test={}, seconds=0.0)
    assert format_result(empty) == "digits: 0 trials of 2 families in 0.0 s"


def test_a_long_race_shows_its_ten_best() -> None:
    lines = format_result(race(1000, 12), width=90).splitlines()
    assert lines[2] == "Leaderboard: the best 10 of 1000 trials by val/accuracy, highest first"
    assert [int(line.split()[0]) for line in lines[4:14]] == list(range(1, 11))
    assert all(len(line) <= 90 for line in lines[3:14])


def test_several_metrics_have_a_column_each_and_a_front() -> None:
    pairs = ((0.9, 5.0), (0.8, 1.0), (0.7, 3.0))
    trials = tuple(
        TrialRecord(n, "cnn", COMPLETE, {}, objectives=pair) for n, pair in enumerate(pairs)
    )
    several = dataclasses.replace(
        RECORD, metrics=("val/accuracy", "cost/latency_ms"),
        directions=("maximize", "minimize"), trials=trials,
    )  # fmt: skip
    rows = [row[3:6] for row in leaderboard_table(several).rows]
    assert rows == [
        ("90.00 %", "5 ms", "complete, in front"),
        ("80.00 %", "1 ms", "complete, in front"),
        ("70.00 %", "3 ms", "complete"),
    ]


@pytest.mark.parametrize("trials", [0, 1, 30])
def test_the_table_for_programs_has_every_trial(trials: int) -> None:
    whole = race(trials, 3)
    rows = list(csv.DictReader(leaderboard_csv(whole).splitlines()))
    assert [int(row["trial"]) for row in rows] == [t.number for t in leaderboard(whole)]
    for row in rows:
        of = whole.trials[int(row["trial"])]
        assert row["val/accuracy"] == ("" if of.objectives is None else str(of.objectives[0]))
        assert (row["rank"] != "") == (of.state == COMPLETE)
        assert row["optimizer.momentum"] == "" or row["optimizer"] == "sgd"
        assert row["command"] == whole.commands[of.number]
        assert (row["reason"] == "") == (of.state == COMPLETE)
