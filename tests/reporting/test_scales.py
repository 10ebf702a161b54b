from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from src.records.trials import COMPLETE, TrialRecord
from src.reporting.scales import (
    ValueAxis,
    distinct_colors,
    family_colors,
    metric_axis,
    range_worth_showing,
    value_axes,
)
from tests.reporting.races import race


def trials_of(*values: dict[str, Any]) -> list[TrialRecord]:
    return [
        TrialRecord(n, "cnn", COMPLETE, given, objectives=(0.1 * n,), curve=((1, 0.1 * n),))
        for n, given in enumerate(values)
    ]


def axis_of(*values: Any) -> ValueAxis:
    axes = value_axes(trials_of(*({"x": v} for v in values)), "val/loss", higher_is_better=False)
    return axes[0]


def test_numbers_lie_evenly() -> None:
    axis = axis_of(10, 20, 30)
    assert axis.places == {0: 0.0, 1: 0.5, 2: 1.0}
    assert axis.ticks == ((0.0, "10"), (0.25, "15"), (0.5, "20"), (0.75, "25"), (1.0, "30"))


def test_numbers_that_span_decades_lie_by_their_logarithm() -> None:
    axis = axis_of(1e-4, 1e-2, 1e-3)
    assert axis.label == "x (log)"
    assert axis.places == pytest.approx({0: 0.0, 1: 1.0, 2: 0.5})
    assert [text for _, text in axis.ticks] == ["0.0001", "0.001", "0.01"]
    assert axis_of(0.0, 1e-4, 1e-1).label == "x"


def test_everything_else_is_a_category() -> None:
    axis = axis_of("sgd", "adamw", None, [64, 32], True, "sgd")
    assert [text for _, text in axis.ticks] == ["sgd", "null", "true", "adamw", "[64, 32]"]
    assert axis.places[0] == axis.places[5] == 0.0
    assert axis_of(1, None, 2).ticks == ((0.0, "1"), (0.5, "2"), (1.0, "null"))
    assert axis_of(math.nan, 1.0).places == {0: 1.0, 1: 0.0}


def test_a_single_value_stands_in_the_middle() -> None:
    assert axis_of(3, 3).places == {0: 0.5, 1: 0.5}
    assert axis_of(3, 3).ticks == ((0.5, "3"),)


def test_where_a_key_plays_no_part_the_line_runs_below() -> None:
    axes = value_axes(trials_of({"x": 1}, {"x": 2}, {}), "val/loss", higher_is_better=False)
    assert axes[0].ticks[0] == (0.0, "not used")
    assert axes[0].places[2] == 0.0 < axes[0].places[0] < axes[0].places[1] == 1.0


@pytest.mark.parametrize("higher", [True, False])
def test_the_best_is_on_top(higher: bool) -> None:
    axis = metric_axis("val/loss", trials_of({}, {}, {}), higher_is_better=higher)
    assert axis.places[2 if higher else 0] == 1.0
    assert axis.places[0 if higher else 2] == 0.0
    assert [place for place, _ in axis.ticks] == sorted(place for place, _ in axis.ticks)


@pytest.mark.parametrize(
    ("values", "metric", "higher", "ticks"),
    [
        ((0.3, 0.9926), "val/accuracy", True, ["40 %", "60 %", "80 %", "99.3 %"]),
        ((0.2, 0.81), "val/accuracy", True, ["20 %", "40 %", "60 %", "81.0 %"]),  # 80 % is too near
        ((0.99, 1.0), "val/accuracy", True, ["99 %", "99.5 %", "100.0 %"]),
        ((0.24811, 0.2485), "val/miou", True, ["24.82 %", "24.83 %", "24.84 %", "24.85 %"]),
        ((0.07, 1.0), "val/loss", False, ["1", "0.8", "0.6", "0.4", "0.2", "0.07000"]),
    ],
)
def test_the_best_has_a_tick_of_its_own(
    values: tuple[float, ...], metric: str, higher: bool, ticks: list[str]
) -> None:
    trials = [TrialRecord(n, "cnn", COMPLETE, {}, objectives=(v,)) for n, v in enumerate(values)]
    axis = metric_axis(metric, trials, higher_is_better=higher)
    assert [text for _, text in axis.ticks] == ticks and axis.ticks[-1][0] == 1.0


@pytest.mark.parametrize("higher", [True, False])
def test_a_value_outside_of_the_axis_has_no_place_on_it(higher: bool) -> None:
    trials = [
        TrialRecord(n, "cnn", COMPLETE, {}, objectives=(value if higher else -value,), curve=())
        for n, value in enumerate([-50.0, *(0.1 + 0.01 * i for i in range(20))])
    ]
    axis = metric_axis("val/score", trials, higher_is_better=higher)
    assert axis.ticks[0] == (0.0, "worse") and axis.places[0] == 0.0
    others = [axis.places[n] for n in range(1, 21)]
    assert min(others) > 0.1 and max(others) == 1.0 and others == sorted(others)
    assert all(place > 0.1 for place, _ in axis.ticks[1:])
    inside = metric_axis("val/score", trials[1:], higher_is_better=higher)
    assert "worse" not in [name for _, name in inside.ticks]


def test_a_few_very_bad_values_do_not_flatten_the_others() -> None:
    losses = [0.1 + 0.01 * i for i in range(20)] + [1e6]
    low, high = range_worth_showing(losses, higher_is_better=False)
    assert low == 0.1 and 0.29 <= high < 0.5
    assert range_worth_showing(losses[-3:], higher_is_better=False) == (0.28, 1e6)


@given(st.integers(0, 30), st.integers(0, 99), st.sampled_from(["val/accuracy", "val/loss"]))
def test_every_trial_with_a_value_crosses_every_axis(trials: int, seed: int, metric: str) -> None:
    whole = race(trials, 1, metric=metric, seed=seed)
    judged = {t.number for t in whole.trials if t.value is not None}
    axes = value_axes(whole.trials, metric, higher_is_better=whole.higher_is_better)
    assert bool(axes) == bool(judged)
    for axis in axes:
        assert set(axis.places) == judged
        assert all(-1e-9 <= place <= 1 + 1e-9 for place in axis.places.values())
        assert all(-1e-9 <= place <= 1 + 1e-9 for place, _ in axis.ticks)


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=20))
def test_places_are_in_the_order_of_the_values(values: list[float]) -> None:
    axis = axis_of(*values)
    order = sorted(range(len(values)), key=lambda i: values[i])
    places = [axis.places[i] for i in order]
    assert places == sorted(places)
    assert all(-1e-6 <= place <= 1 + 1e-6 for place, _ in axis.ticks)


def test_a_family_has_one_colour_whatever_it_is_shown_with() -> None:
    known = ["cnn", "mlp", "vit", "handcrafted", "embedding"]
    together = family_colors([*known, "mine", "yours"])
    assert len(set(together.values())) == len(together)
    for name in (*known, "mine"):
        assert family_colors([name]) == {name: together[name]}
    plugins = [f"plugin{i}" for i in range(6)]
    assert len(set(family_colors(plugins).values())) == 6
    assert len(set(distinct_colors(3))) == 3
