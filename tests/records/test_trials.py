from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from src.records.trials import COMPLETE, PRUNED, Finalist, SweepRecord, TrialRecord


def trial(number: int, value: float | None, state: str = COMPLETE) -> TrialRecord:
    objectives = (value,) if state == COMPLETE and value is not None else None
    curve = () if value is None else ((1, value),)
    return TrialRecord(number, "cnn", state, {}, objectives=objectives, curve=curve)


def record(*trials: TrialRecord, direction: str = "maximize") -> SweepRecord:
    return SweepRecord("s", ("val/accuracy",), (direction,), ("cnn",), trials)


@given(st.lists(st.floats()), st.sampled_from(["maximize", "minimize"]))
def test_ranking_is_by_what_is_finite(values: list[float], direction: str) -> None:
    ranked = record(*(trial(i, v) for i, v in enumerate(values)), direction=direction).ranked()
    assert {t.number for t in ranked} == {i for i, v in enumerate(values) if math.isfinite(v)}
    found = [values[t.number] for t in ranked]
    assert found == sorted(found, reverse=direction == "maximize")


def test_equal_trials_are_ranked_by_number_and_pruned_ones_not_at_all() -> None:
    ranked = record(trial(2, 0.5), trial(0, 0.5), trial(1, 0.9, PRUNED)).ranked()
    assert [t.number for t in ranked] == [0, 2]


def test_a_trial_is_judged_by_its_objective_or_else_by_its_last_value() -> None:
    assert trial(0, 0.9, PRUNED).value == 0.9
    assert trial(0, math.nan).value is None
    assert trial(0, None).value is None
    whole = TrialRecord(0, "cnn", COMPLETE, {}, curve=((1, 0.7),), objectives=(0.0, 3.0))
    assert whole.value == 0.0


def test_a_finalist_is_described_by_the_seeds_that_ended_well() -> None:
    finalist = Finalist(3, {0: 0.5, 1: None, 2: 0.7})
    assert finalist.mean == 0.6
    assert finalist.spread is not None and math.isclose(finalist.spread, 0.1414213562373095)
    assert Finalist(3, {0: 0.5}).spread is None
    assert Finalist(3, {0: None}).mean is None
