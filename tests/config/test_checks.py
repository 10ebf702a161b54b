"""Settings check themselves and say in one sentence what is wrong."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from src.config.checks import (
    ConfigError,
    Settings,
    from_plain,
    input_of,
    setting,
    to_plain,
    variant,
)


@dataclass(frozen=True)
class Inner(Settings):
    rate: float = setting("a rate", above=0, at_most=1)
    sizes: list[int] = setting("sizes", at_least=2)
    minutes: float = setting("a time", 1.0)
    shift: float = setting("a share of a side", 0.0, at_least=0, at_most=0.5)


@dataclass(frozen=True)
class Shape(Settings):
    _target_: str = setting("what to build")


@variant(Shape, "shapes.circle")
@dataclass(frozen=True)
class Circle(Shape):
    radius: float = setting("metres", above=0)


@dataclass(frozen=True)
class Outer(Settings):
    name: Literal["red", "green"] = setting("a name")
    count: int | None = setting("how many", at_least=1)
    either: int | str = setting("a number or a word")
    inner: Inner
    shape: Shape


GOOD = {
    "name": "red",
    "count": None,
    "either": "auto",
    "inner": {"rate": 1, "sizes": [2, 3]},
    "shape": {"_target_": "shapes.circle", "radius": 2.0},
}


def changed(path: str, value: object) -> dict:
    plain = {k: dict(v) if isinstance(v, dict) else v for k, v in GOOD.items()}
    *folders, leaf = path.split(".")
    node = plain
    for folder in folders:
        node = node[folder]
    node[leaf] = value
    return plain


def test_good_values_become_typed_objects() -> None:
    outer = from_plain(Outer, GOOD)
    assert outer.inner.rate == 1.0 and isinstance(outer.inner.rate, float)
    assert isinstance(outer.shape, Circle)
    assert from_plain(Outer, to_plain(outer)) == outer


@pytest.mark.parametrize(
    ("path", "value", "parts"),
    [
        ("name", "gren", ["name is 'gren'", "red, green", "did you mean green?"]),
        ("count", 0, ["count is 0", "at least 1"]),
        ("count", True, ["count is True", "a whole number"]),
        ("count", 1.5, ["count is 1.5", "a whole number"]),
        ("inner.rate", 0, ["inner.rate is 0", "above 0"]),
        ("inner.rate", 1.5, ["inner.rate is 1.5", "at most 1"]),
        ("inner.rate", 90, ["inner.rate is 90", "at most 1; 90 % is 0.9."]),
        ("inner.shift", 10, ["at most 0.5; 10 % is 0.1."]),
        ("inner.rate", float("nan"), ["inner.rate is nan"]),
        ("inner.rate", "fast", ["inner.rate is 'fast'", "a number"]),
        ("inner.rate", "5%", ["as in inner.rate=0.05."]),
        ("inner.minutes", "1.5h", ["as in inner.minutes=90."]),
        ("inner.minutes", "30 s", ["as in inner.minutes=0.5."]),
        ("inner.minutes", "10k", ["it must be a number."]),
        ("inner.sizes", [2, 1], ["inner.sizes", "at least 2"]),
        ("inner.sizes", 3, ["inner.sizes is 3", "a list"]),
        ("inner.rat", 1, ["inner.rat", "no such key", "did you mean rate?"]),
        ("inner", 3, ["inner is 3", "inner.rate=3"]),
        ("shape._target_", "os.system", ["shape._target_", "os.system", "allowlist"]),
        ("shape.radius", -1, ["shape.radius is -1", "above 0"]),
        ("shape.radius", "???", ["shape.radius is missing"]),
        ("either", [1], ["either is [1]", "a whole number or text"]),
        ("either", "", ["either is empty"]),
        ("name", " \t", ["name is empty"]),
    ],
)
def test_a_wrong_value_is_named(path: str, value: object, parts: list[str]) -> None:
    with pytest.raises(ConfigError) as caught:
        from_plain(Outer, changed(path, value))
    assert all(part in str(caught.value) for part in parts), str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("said", "sentence"),
    [("no file", "key: no file."), ("no file.", "key: no file."), ("a file?", "key: a file?")],
)
def test_a_refusal_is_one_sentence_about_its_key(said: str, sentence: str) -> None:
    with pytest.raises(ConfigError) as refused, input_of("key"):
        raise ValueError(said)
    assert str(refused.value) == sentence


def test_a_missing_key_is_named() -> None:
    plain = {k: v for k, v in GOOD.items() if k != "count"}
    with pytest.raises(ConfigError, match="count is missing: set count=VALUE"):
        from_plain(Outer, plain)


@given(st.one_of(st.integers(), st.floats(), st.text(), st.none(), st.booleans()))
def test_a_bounded_number_is_in_bounds_or_refused(value: object) -> None:
    try:
        rate = from_plain(Inner, {"rate": value, "sizes": []}).rate
    except ConfigError:
        return
    assert 0 < rate <= 1


@given(st.one_of(st.integers(), st.text()))
@example("???")  # OmegaConf's own mark
@example(" ")
def test_a_union_keeps_the_value_as_it_is(value: object) -> None:
    if value == "???" or (isinstance(value, str) and not value.strip()):
        with pytest.raises(ConfigError, match=r"either is (missing|empty)"):
            from_plain(Outer, changed("either", value))
        return
    kept = from_plain(Outer, changed("either", value)).either
    assert kept == value and type(kept) is type(value)
