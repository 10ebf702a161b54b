from __future__ import annotations

import math
from typing import Any

import optuna
import pytest
from hypothesis import given
from hypothesis import strategies as st

from src.search.space import Family, Parameter, Value, parse_space

SPACE: dict[str, Any] = {
    # Written before what its conditions look at.
    "optimizer.lr": [
        {"when": {"optimizer": "sgd"}, "low": 0.01, "high": 0.5, "log": True},
        {"when": {"optimizer": ["adamw", "muon"]}, "low": 1e-4, "high": 1e-2, "log": True},
    ],
    "optimizer.momentum": {"when": {"optimizer": "sgd"}, "low": 0.8, "high": 0.98},
    "optimizer": {"choices": ["adamw", "muon", "sgd"]},
    "model.hidden": {"choices": [[128], [256, 128], None]},
    "model.depth": {"low": 1, "high": 9, "step": 2},
    "model.dropout": {"low": 0.0, "high": 0.5, "step": 0.25},
}

OWN: dict[str, Any] = {
    "optimizer": "adamw",
    "optimizer.lr": 1e-3,
    "model.hidden": None,
    "model.depth": 3,
    "model.dropout": 0.5,
}


def family(space: dict[str, Any] = SPACE, name: str = "mlp", **constants: Any) -> Family:
    return Family(name, (f"model={name}",), tuple(parse_space(space)), constants)


def test_conditions_come_after_what_they_look_at() -> None:
    names = [parameter.name for parameter in parse_space(SPACE)]
    assert sorted(names) == sorted(
        [
            *("optimizer", "optimizer.lr@optimizer=sgd", "optimizer.lr@optimizer=adamw|muon"),
            *("optimizer.momentum", "model.hidden", "model.depth", "model.dropout"),
        ]
    )
    for name in names:
        if "momentum" in name or "lr" in name:
            assert names.index("optimizer") < names.index(name)


@given(st.integers(0, 2**32 - 1))
def test_what_is_drawn_lies_in_the_space_and_is_stored_and_read_back(seed: int) -> None:
    one = family()
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=seed))
    trial = study.ask()
    values = one.draw(trial)
    assert ("optimizer.momentum" in values) == (values["optimizer"] == "sgd")
    low, high = (0.01, 0.5) if values["optimizer"] == "sgd" else (1e-4, 1e-2)
    rate = values["optimizer.lr"]
    assert isinstance(rate, float) and low <= rate <= high
    assert values["model.hidden"] in ([128], [256, 128], None)
    assert values["model.depth"] in (1, 3, 5, 7, 9) and values["model.dropout"] in (0, 0.25, 0.5)
    stored = one.stored_values(values)
    assert stored.keys() == trial.params.keys()
    for name, value in trial.params.items():
        same = stored[name] == value
        assert same or math.isclose(stored[name], value, rel_tol=1e-5)
    again = {
        p.key: p.value(stored[one.stored_name(p)]) for p in one.parameters if p.applies(values)
    }
    assert again == values


plain_values = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.text(max_size=9),
    st.lists(st.integers(), max_size=4),
)


@given(st.lists(plain_values, min_size=1, unique_by=lambda v: v if isinstance(v, str) else repr(v)))
def test_choices_of_any_kind_are_stored_and_read_back(choices: list[Any]) -> None:
    try:
        (parameter,) = parse_space({"key": {"choices": choices}})
    except ValueError:
        # Two of them look the same when written: 1 and "1", null and "null".
        written = (v if isinstance(v, str) else _written(v) for v in choices)
        assert len(set(written)) < len(choices)
        return
    for choice in choices:
        trial = optuna.trial.FixedTrial({"key": parameter.stored(choice)})
        value = parameter.value(parameter.suggest(trial, "key"))
        assert value == choice and type(value) is type(choice)


def _written(value: Any) -> str:
    return "null" if value is None else str(value).lower()


@given(st.floats(1e-9, 1e9), st.floats(1e-9, 1e9), st.floats(0, 1), st.booleans())
def test_a_float_range_keeps_its_bounds_in_six_digits(
    one: float, other: float, place: float, log: bool
) -> None:
    low, high = sorted((float(f"{one:.6g}"), float(f"{other:.6g}")))
    if low == high:
        return
    (parameter,) = parse_space({"key": {"low": low, "high": high, "log": log}})
    value = parameter.value(min(max(low + place * (high - low), low), high))
    assert isinstance(value, float) and low <= value <= high
    assert parameter.stored(value) == value


def test_constants_open_and_close_conditions() -> None:
    space = {"optimizer.momentum": {"when": {"optimizer": "sgd"}, "low": 0.8, "high": 0.98}}
    (parameter,) = parse_space(space)
    assert parameter.applies({"optimizer": "sgd"})
    assert not parameter.applies({"optimizer": "adamw"}) and not parameter.applies({})
    study = optuna.create_study()
    assert family(space, optimizer="sgd").draw(study.ask()).keys() == {"optimizer.momentum"}
    assert family(space, optimizer="adamw").draw(study.ask()) == {}


def test_whole_numbers_stay_whole_and_floats_stay_floats() -> None:
    whole, real = parse_space({"a": {"low": 1, "high": 3}, "b": {"low": 1.0, "high": 3}})
    assert (whole.extremes(), real.extremes()) == ((1, 3), (1.0, 3))
    assert type(whole.value(2.0)) is int and type(real.value(2)) is float
    with pytest.raises(ValueError, match="true does not lie in 1 to 3"):
        whole.stored(True)


@pytest.mark.parametrize(
    ("space", "message"),
    [
        ({"a": 3}, "a is 3: it must be choices, or low and high"),
        ({"a": {"hgih": 3}}, "a: hgih is not known: there are choices, high, log, low, step, when"),
        ({"a": {"choices": []}}, "choices must not be empty"),
        ({"a": {"choices": [1, 2], "log": True}}, "go without low, high, log and step"),
        ({"a": {"choices": [1, "1"]}}, "a: one of the choices is there twice"),
        ({"a": {"choices": 3}}, "a: choices must be a list"),
        ({"a": {"choices": "adam"}}, "a: choices must be a list"),
        ({"a": {"low": 1}}, "a: it needs choices, or numbers as low and high"),
        ({"a": {"low": True, "high": 3}}, "a: it needs choices, or numbers as low and high"),
        ({"a": {"low": 3, "high": 3}}, r"a: low \(3\) must be below high \(3\)"),
        ({"a": {"low": 0.0, "high": math.inf}}, "a: it needs choices, or numbers as low and high"),
        ({"a": {"low": 0.0, "high": math.nan}}, "a: it needs choices, or numbers as low and high"),
        ({"a": {"low": 0, "high": 3, "log": True}}, "log needs a low above 0"),
        ({"a": {"low": 1, "high": 3, "log": True, "step": 1}}, "goes without step"),
        ({"a": {"low": 1, "high": 3, "log": "yes"}}, "a: log must be true or false"),
        ({"a": {"low": 1, "high": 3, "step": 0}}, r"a: step \(0\) must be a number above 0"),
        ({"a": {"low": 1, "high": 3, "step": "2"}}, r"a: step \(2\) must be a number above 0"),
        ({"a": {"low": 1, "high": 3, "step": 0.5}}, "must be a whole number, as low and high are"),
        ({"a": {"low": 1, "high": 4, "step": 2}}, r"a: high \(4\) is no step of 2 from low \(1\)"),
        ({"a": {"low": 1, "high": 3, "when": "b"}}, "a: when must name other keys"),
        (
            {"a": [{"low": 1, "high": 3}, {"low": 4, "high": 6}]},
            "ranges of one key need conditions that differ",
        ),
        (
            {
                "a": {"choices": [1, 2], "when": {"b": 1}},
                "b": {"choices": [1, 2], "when": {"a": 1}},
            },
            "the conditions of a and others go in a circle",
        ),
        ({"a": {"choices": [1, 2], "when": {"a": 1}}}, "go in a circle"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_makes_no_sense_is_refused(space: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse_space(space)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"optimizer": "lion"}, "optimizer: lion is none of adamw, muon, sgd"),
        ({"optimizer": "sgd", "model.depth": 1, "model.hidden": [128]}, "has no value"),
        (OWN | {"optimizer.lr": 0.1}, "optimizer.lr: 0.1 does not lie in 0.0001 to 0.01"),
        (OWN | {"model.depth": 4}, "model.depth: 4 is no step of 2 from 1"),
        (OWN | {"model.dropout": 0.3}, "model.dropout: 0.3 is no step of 0.25 from 0"),
    ],
)
def test_values_that_are_none_of_the_space_are_refused(
    values: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        family().stored_values(values)


def test_numbers_are_the_same_however_they_are_written_and_truth_is_no_number() -> None:
    ratio, flag = parse_space({"a": {"choices": [2.0, 3.0]}, "b": {"choices": [True, False]}})
    assert ratio.value(ratio.stored(2)) == 2.0
    with pytest.raises(ValueError, match="1 is none of true, false"):
        flag.stored(1)


def test_a_family_is_known_by_its_plain_values() -> None:
    one, other = family(), family(SPACE | {"model.depth": {"low": 1, "high": 11, "step": 2}})
    assert one.plain() == family().plain() != other.plain()
    assert one.plain()["space"]["optimizer.momentum"]["when"] == {"optimizer": ["sgd"]}
    assert isinstance(one.parameters[0], Parameter)


def test_a_space_is_open_until_all_of_it_was_tried() -> None:
    """Steps of floats are the same however they were added, and other keys may be fixed."""
    space = {
        "kind": {"choices": ["auto", "x"]},
        "share": {"when": {"kind": "x"}, "low": 0.0, "high": 0.3, "step": 0.1},
        "depth": {"when": {"kind": "x"}, "low": 1, "high": 2},
    }
    one = Family("mlp", (), tuple(parse_space(space)), {})
    every = [
        {"mlp/kind": "x", "mlp/share": sum([0.1] * tenths), "mlp/depth": depth}
        for tenths in range(4)
        for depth in (1, 2)
    ]
    tried = [{"mlp/kind": "auto"}, *every[:-1]]
    assert one.is_open([], {}) and one.is_open(tried, {})
    assert not one.is_open(tried, {"mlp/kind": "auto"})
    assert not one.is_open(tried, {"mlp/depth": 1})
    assert one.is_open(tried, {"mlp/depth": 2})
    assert not one.is_open(tried, {"mlp/share": 0.2})
    assert one.is_open(tried, {"mlp/share": 0.3})
    assert not one.is_open([*tried, every[-1]], {})


def test_a_range_of_floats_is_always_open() -> None:
    space = {"kind": {"choices": ["x"]}, "rate": {"low": 0.0, "high": 1.0}}
    one = Family("mlp", (), tuple(parse_space(space)), {})
    tried = [{"mlp/kind": "x", "mlp/rate": value / 100} for value in range(100)]
    assert one.is_open(tried, {"mlp/kind": "x"})


def test_what_has_a_range_of_floats_is_endless() -> None:
    space = {
        "kind": {"choices": ["x", "y"]},
        "rate": {"when": {"kind": "x"}, "low": 0.0, "high": 1.0},
        "size": {"low": 1, "high": 5},
        "part": {"low": 0.0, "high": 1.0, "step": 0.5},
    }
    one = family(space)
    assert one.is_endless({"mlp/kind": "x"}) and one.is_endless({"mlp/kind": "x", "mlp/size": 2})
    assert not one.is_endless({}) and not one.is_endless({"mlp/kind": "y"})
    tried = [
        {"mlp/kind": "y", "mlp/size": size, "mlp/part": part}
        for size in range(1, 6)
        for part in (0.0, 0.5, 1.0)
    ]
    assert one.is_open(tried, {}) and one.is_open(tried, {"mlp/kind": "x"})
    assert not one.is_open(tried, {"mlp/kind": "y"}) and one.is_open(tried[1:], {"mlp/kind": "y"})


def test_configurations_are_near_that_differ_in_numbers_alone_by_a_tenth_of_their_range() -> None:
    space = {
        "kind": {"choices": ["x", "y"]},
        "rate": {"when": {"kind": "x"}, "low": 0.001, "high": 1.0, "log": True},
        "part": {"when": {"kind": "y"}, "low": 0.0, "high": 1.0},
        "size": {"low": 1, "high": 5},
        "keep": {"low": 0, "high": 100},
    }
    one = family(space)
    first: dict[str, Value] = {"kind": "x", "rate": 0.1, "size": 3, "keep": 50}

    def near(**changes: Value) -> bool:
        return one.are_near(first, {**first, **changes})

    assert near() and near(rate=0.19, keep=60) and near(rate=0.06, keep=40)
    assert not near(rate=0.21) and not near(rate=0.04) and not near(keep=61)
    assert not near(size=4), "a step is a quarter of its range"
    assert one.are_near(first, {**first, "rate": 0.001, "size": 5}, 1.0)
    second: dict[str, Value] = {"kind": "y", "part": 0.5, "size": 3, "keep": 50}
    assert not one.are_near(first, second) and not one.are_near(second, first)
    other = {"kind": "y", "size": 3, "keep": 50}
    assert not one.are_near({**other, "kind": "x"}, other, 1.0), "a choice is no number"
    assert one.are_near(second, {**second, "part": 0.6})
    assert not one.are_near(second, {**second, "part": 0.61})


@pytest.mark.parametrize(
    ("plain", "one", "other", "apart"),
    [
        ({"low": 0.0, "high": 2.0}, 0.5, 1.0, 0.25),
        ({"low": 1.0, "high": 100.0, "log": True}, 1.0, 10.0, 0.5),
        ({"low": 1, "high": 5}, 5, 1, 1.0),
        ({"choices": [[1], [1, 2]]}, [1], [1, 2], 1.0),
        ({"choices": [[1], [1, 2]]}, [1], [1], 0.0),
        ({"low": 0.0, "high": 2.0}, None, 1.0, 1.0),
    ],
)
def test_values_are_apart_by_parts_of_their_range(
    plain: dict[str, Any], one: Value, other: Value, apart: float
) -> None:
    (parameter,) = parse_space({"a": plain})
    assert parameter.distance(one, other) == parameter.distance(other, one) == pytest.approx(apart)
