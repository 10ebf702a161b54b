from __future__ import annotations

import csv
import io
import json

import pytest

from src.reporting.comparison import (
    comparison_csv,
    comparison_plain,
    comparison_table,
    format_comparison,
)
from tests.reporting.comparisons import comparison


def test_a_terminal_shows_the_best_with_every_figure_and_counts_the_others() -> None:
    whole = comparison(20)
    said = format_comparison(whole, 200)
    first = whole.verdict.winner
    assert f"{100 * first.accuracy:.2f} %" in said and str(first.interval) in said
    assert "and 5 more, in leaderboard.csv" in said
    assert whole.sentences[0] in said and whole.remarks[0] in said
    assert "The test part of this split has been measured 2 times." in said
    headers = said.splitlines()[1].split()
    assert headers[-4:] == ["ms", "trained", "tied", "candidate"]


def test_json_and_csv_hold_every_candidate_with_what_is_known_of_it() -> None:
    whole = comparison(8)
    plain = json.loads(json.dumps(comparison_plain(whole), allow_nan=False))
    rows = list(csv.DictReader(io.StringIO(comparison_csv(whole))))
    assert [row["candidate"] for row in rows] == [one["candidate"] for one in plain["candidates"]]
    for one, found, row in zip(whole.entrants, plain["candidates"], rows, strict=True):
        standing = one.standing
        assert found["accuracy"] == standing.accuracy == float(row["accuracy"])
        assert found["spread"] == standing.spread
        assert (found["low"], found["high"]) == (standing.interval.low, standing.interval.high)
        assert found["log_loss"] == standing.log_loss
        assert found["calibration_error"] == standing.calibration_error
        assert found["latency_ms"] == standing.cost
        assert found["training_seconds"] == one.training_seconds
        assert found["parameters"] == one.parameters
        assert row["latency_ms"] == ("" if standing.cost is None else str(standing.cost))
        assert found["run_ids"] == row["run_ids"].split() == list(standing.run_ids)
    assert plain["tied"] == [one.name for one in whole.verdict.tied]
    assert any(row["latency_ms"] == "" for row in rows)


def test_a_table_is_as_long_as_it_is_asked_to_be() -> None:
    whole = comparison(5)
    assert [len(comparison_table(whole, most).rows) for most in (2, 9, None)] == [2, 5, 5]
    assert "the val part of pictures, 400 pictures" in comparison_table(whole).title


@pytest.mark.parametrize("times", [0, 1])
def test_how_often_the_test_part_was_measured_is_always_said(times: int) -> None:
    import dataclasses

    said = dataclasses.replace(comparison(2), test_measurements=times).closing[-1]
    assert said == f"The test part of this split has {'been' if times else 'not been'} measured" + (
        " once." if times else "."
    )
