from __future__ import annotations

import math
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from src.records.standings import (
    at_equal_time,
    at_equal_trials,
    best_of_families,
    leaderboard,
)
from src.records.trials import COMPLETE, FAILED, PRUNED, RUNNING, Finalist, SweepRecord, TrialRecord
from tests.reporting.races import race


def trial(
    number: int, family: str, value: float, state: str = COMPLETE, seconds: float = 1.0, **more: Any
) -> TrialRecord:
    objectives = (value,) if state == COMPLETE else None
    given = {"curve": ((1, value),), "objectives": objectives, "seconds": seconds} | more
    return TrialRecord(number, family, state, {}, **given)


def record(*trials: TrialRecord, direction: str = "maximize") -> SweepRecord:
    return SweepRecord("s", ("val/accuracy",), (direction,), ("a", "b"), trials)


def numbers(trials: list[TrialRecord]) -> list[int]:
    return [t.number for t in trials]


def test_complete_then_pruned_then_running_then_failed() -> None:
    trials = (
        trial(0, "a", 0.9, FAILED), trial(1, "a", 0.7, RUNNING), trial(2, "a", 0.5, PRUNED),
        trial(3, "b", 0.6, PRUNED), trial(4, "b", 0.2), trial(5, "b", 0.3), trial(6, "b", math.nan),
    )  # fmt: skip
    assert numbers(leaderboard(record(*trials))) == [5, 4, 3, 2, 1, 6, 0]
    assert numbers(leaderboard(record(*trials, direction="minimize"))) == [4, 5, 2, 3, 1, 6, 0]


def test_families_by_their_best_and_those_without_last() -> None:
    found = best_of_families(record(trial(0, "a", 0.9, FAILED, 2.0), trial(1, "b", 0.1)))
    assert [(s.family, s.best and s.best.number, s.trials, s.seconds) for s in found] == [
        ("b", 1, 1, 1.0),
        ("a", None, 1, 2.0),
    ]


def test_a_pruned_trial_stands_for_its_family_only_where_none_is_complete() -> None:
    trials = (trial(0, "a", 0.9, PRUNED), trial(1, "a", 0.2), trial(2, "b", 0.8, PRUNED))
    best = {s.family: s.best and s.best.number for s in best_of_families(record(*trials))}
    assert best == {"a": 1, "b": 2}


def test_equal_trials_are_the_first_of_each() -> None:
    trials = (
        trial(0, "a", 0.1), trial(1, "b", 0.2, FAILED), trial(2, "b", 0.3),
        trial(3, "a", 0.4, RUNNING), trial(4, "a", 0.5), trial(5, "a", 0.9),
    )  # fmt: skip
    most, found = at_equal_trials(record(*trials))
    assert most == 2
    assert {s.family: s.best and s.best.number for s in found} == {"a": 4, "b": 2}


def test_equal_time_is_that_of_the_quickest_family() -> None:
    trials = (
        trial(0, "a", 0.1, seconds=3.0), trial(1, "a", 0.4, seconds=3.0),
        trial(2, "a", 0.9, seconds=3.0), trial(3, "b", 0.2, seconds=7.0),
    )  # fmt: skip
    seconds, found = at_equal_time(record(*trials))
    assert seconds == 7.0
    assert [(s.family, s.best and s.best.number, s.seconds) for s in found] == [
        ("a", 1, 6.0),
        ("b", 3, 7.0),
    ]


@given(st.integers(0, 40), st.integers(1, 12), st.integers(0, 99))
def test_equal_terms_never_flatter(trials: int, families: int, seed: int) -> None:
    whole = race(trials, families, seed=seed)
    best = {s.family: s for s in best_of_families(whole)}
    ranks = {t.number: rank for rank, t in enumerate(leaderboard(whole))}
    for limit, found in (at_equal_trials(whole), at_equal_time(whole)):
        assert {s.family for s in found} == set(whole.families)
        for standing in found:
            overall = best[standing.family]
            assert standing.trials <= overall.trials
            assert standing.seconds <= overall.seconds
            assert standing.trials <= limit or isinstance(limit, float)
            if standing.best is not None:
                assert overall.best is not None
                assert ranks[overall.best.number] <= ranks[standing.best.number]


def test_nothing_has_ended() -> None:
    empty = record(trial(0, "a", 0.5, RUNNING))
    assert at_equal_trials(empty)[0] == 0
    assert at_equal_time(empty)[0] == 0.0
    assert [s.best for s in best_of_families(empty)] == [None, None]


@given(st.lists(st.floats()), st.sampled_from(["maximize", "minimize"]))
def test_ranking_is_by_what_is_finite(values: list[float], direction: str) -> None:
    ranked = record(*(trial(i, "a", v) for i, v in enumerate(values)), direction=direction).ranked()
    assert {t.number for t in ranked} == {i for i, v in enumerate(values) if math.isfinite(v)}
    found = [values[t.number] for t in ranked]
    assert found == sorted(found, reverse=direction == "maximize")


def test_equal_trials_are_ranked_by_number_and_pruned_ones_not_at_all() -> None:
    ranked = record(trial(2, "a", 0.5), trial(0, "a", 0.5), trial(1, "a", 0.9, PRUNED)).ranked()
    assert [t.number for t in ranked] == [0, 2]


def test_a_trial_is_judged_by_its_objective_or_else_by_its_last_value() -> None:
    assert trial(0, "a", 0.9, PRUNED).value == 0.9
    assert trial(0, "a", math.nan).value is None
    assert TrialRecord(0, "cnn", COMPLETE, {}).value is None
    whole = TrialRecord(0, "cnn", COMPLETE, {}, curve=((1, 0.7),), objectives=(0.0, 3.0))
    assert whole.value == 0.0


def test_a_finalist_is_described_by_the_seeds_that_ended_well() -> None:
    finalist = Finalist(3, {0: 0.5, 1: None, 2: 0.7})
    assert finalist.mean == 0.6
    assert finalist.spread is not None and math.isclose(finalist.spread, 0.1414213562373095)
    assert Finalist(3, {0: 0.5}).spread is None
    diverged = Finalist(3, {0: 0.5, 1: math.inf})
    assert diverged.mean == math.inf and math.isnan(diverged.spread or 0)
    assert Finalist(3, {0: None}).mean is None
