"""Latencies in turns, of stand-ins whose answers take a known time, and of real runs."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from src.data.decoding.picture_format import PictureFormat
from src.records.comparison import Comparison
from src.reporting.comparison_verdict import verdict_sentences
from src.runs.candidates import choose as choosing
from src.runs.folder import RunFolder
from src.selection.turns import in_turns, may_be_cheapest, with_latencies
from tests.reporting.comparisons import comparison


def costing(costs: list[float | None], disturbed: bool = False) -> Comparison:
    """Level candidates with these latencies, of which all are within reach."""
    found = comparison(len(costs))
    standings = [
        dataclasses.replace(one.standing, cost=cost, tied=True, figure=0.9)
        for one, cost in zip(found.entrants, costs, strict=True)
    ]
    verdict = dataclasses.replace(
        found.verdict,
        standings=tuple(standings),
        winner=standings[0],
        tied=tuple(standings),
        near=tuple(standings),
        cheapest=standings[1],
        choice=standings[1],
    )
    entrants = tuple(
        dataclasses.replace(entrant, standing=one, disturbed=disturbed)
        for entrant, one in zip(found.entrants, standings, strict=True)
    )
    return dataclasses.replace(found, verdict=verdict, entrants=entrants, folds=None)


def test_those_count_that_a_busy_machine_may_have_made_dearer() -> None:
    standings = costing([1.9, 1.0, 2.1, 2.0]).verdict.standings
    assert [one.cost for one in may_be_cheapest(standings)] == [1.9, 1.0, 2.0]
    assert may_be_cheapest(costing([1.0, None]).verdict.standings) == []
    assert may_be_cheapest([]) == [] and len(may_be_cheapest([standings[0]] * 12)) == 8


def test_the_choice_and_the_sentences_go_by_the_latencies_in_turns() -> None:
    before = costing([1.5, 1.0, 9.0], disturbed=True)
    first, second, third = (one.name for one in before.verdict.standings)
    after = with_latencies(before, {first: 0.5, second: 1.0})
    verdict = after.verdict
    assert verdict.choice.name == first and verdict.choice is verdict.winner
    assert verdict.cheapest is verdict.winner and verdict.winner.cost == 0.5
    assert [one.cost for one in verdict.standings] == [0.5, 1.0, 9.0]
    assert [one.disturbed for one in after.entrants] == [False, False, True]
    said = " ".join(verdict_sentences(after))
    assert "No tied candidate is at least 1.5 times as fast." in said
    # The first of two that cost about the same is taken; the dear third never was a candidate.
    assert with_latencies(before, {first: 1.4, second: 1.0}).verdict.choice.name == first
    assert with_latencies(before, {first: 1.6, second: 1.0}).verdict.choice.name == second
    assert with_latencies(before, {third: 0.1}).verdict.choice.name == second


@pytest.fixture
def answers(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Give the runs of a comparison models that take so many milliseconds."""

    def given(found: Comparison, *milliseconds: float, fit: str = "squeeze") -> None:
        form = PictureFormat((8, 8), 1, fit=fit)
        taken = {}
        for one, needed in zip(found.entrants, milliseconds, strict=False):

            def answer(images: np.ndarray, needed: float = needed) -> None:
                assert images.shape == (1, 1, 8, 8)
                end = time.perf_counter() + needed / 1e3
                while time.perf_counter() < end:
                    continue

            predictor = SimpleNamespace(formats=(form,), probabilities=answer)
            taken[Path(one.run_dirs[0]).name] = SimpleNamespace(
                predictor=lambda _, predictor=predictor: predictor
            )
        monkeypatch.setattr(choosing, "load_trained", lambda name: taken[name])
        monkeypatch.setattr(
            RunFolder, "open", lambda path: SimpleNamespace(chosen_checkpoint=lambda: path.name)
        )

    return given


def test_models_are_timed_side_by_side(
    answers: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    found = costing([1.5, 1.0, 9.0])
    answers(found, 0.4, 2.0)
    verdict = in_turns(found, "one_se").verdict
    assert verdict.choice.name == found.verdict.winner.name
    assert verdict.winner.cost == pytest.approx(0.4, rel=0.5)
    assert "latencies, measured in turns:" in capsys.readouterr().out
    answers(found, 0.4, 2.0, fit="windows")
    assert in_turns(found, "cheapest") is found


def test_a_model_that_cannot_be_loaded_leaves_the_choice_to_what_the_runs_measured(
    capsys: pytest.CaptureFixture[str],
) -> None:
    found = costing([1.5, 1.0])
    assert in_turns(found, "one_se") is found
    assert "as measured in the runs" in capsys.readouterr().out
    assert in_turns(costing([1.0, 9.0]), "one_se").verdict.choice.cost == 9.0
    assert "latencies" not in capsys.readouterr().out
