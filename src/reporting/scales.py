"""Scales that figures and pages share: colours of families, and axes of settings and metrics."""

from __future__ import annotations

import math
import sys
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..records.trials import TrialRecord
from .formatting import metric_text, tick_text, value_text

__all__ = [
    "ValueAxis",
    "distinct_colors",
    "family_colors",
    "metric_axis",
    "range_worth_showing",
    "round_numbers",
    "value_axes",
]

_LOG_FROM = 30  # an axis is logarithmic whose highest value is so many times the lowest
_MOST_TICKS = 12
_NEAREST_TICKS = 0.05
# Where a key plays no part in a trial, its line runs below the axis proper.
_UNUSED_HEIGHT, _LEAST_USED_HEIGHT = 0.0, 0.14


# Of middle lightness, so that they show on white and on black. A family has its colour on every
# page and figure, whatever it is shown with.
_FAMILY_COLORS = {
    "cnn": "#2f6bea",  # blue
    "embedding": "#e08a00",  # orange
    "handcrafted": "#0f9d76",  # green
    "finetuned": "#d6336c",  # pink
    "vit": "#8453d6",  # violet
    "mlp": "#12a5c4",  # cyan
    "gru": "#7a9a1e",  # olive
    "fcn": "#c2410c",  # rust
    "rnn": "#6b7f95",  # slate
    "lstm": "#b8860b",  # gold
    "renet": "#b35cc8",  # orchid
    "ensemble": "#8d6e63",  # brown
    "timm": "#c94f4f",  # brick
    "torchvision": "#4f7f52",  # moss
    "efficientnet_lite0": "#f0568a",  # light pink
    "efficientnet_lite1": "#e0679b",  # rose
    "efficientnet_lite2": "#9c2f5f",  # wine
}
# Of families that others add.
_FURTHER_COLORS = ("#4c5fb0", "#2e8b8b", "#a8742a", "#7d5ba6", "#5f8f3e", "#b0566f")


def family_colors(families: Sequence[str]) -> dict[str, str]:
    """Return a colour "#rrggbb" for each family, the same wherever it is shown.

    Families of plugins take one of six more by their name, the next where another one has it.
    """
    colors: dict[str, str] = {}
    for name in families:
        if name in _FAMILY_COLORS:
            colors[name] = _FAMILY_COLORS[name]
            continue
        first = zlib.crc32(name.encode()) % len(_FURTHER_COLORS)
        turned = (*_FURTHER_COLORS[first:], *_FURTHER_COLORS[:first])
        colors[name] = next((c for c in turned if c not in colors.values()), turned[0])
    return colors


def distinct_colors(count: int) -> list[str]:
    """Return different colours "#rrggbb" for things that are no families, sixteen at most."""
    return list(_FAMILY_COLORS.values())[:count]


@dataclass(frozen=True)
class ValueAxis:
    """An axis of parallel coordinates, from 0 at its lower end to 1 at its upper one.

    Attributes:
        label: the key, and "log" where it is logarithmic.
        ticks: (place, text), lowest first.
        places: by trial number.
    """

    label: str
    ticks: tuple[tuple[float, str], ...]
    places: Mapping[int, float]


def value_axes(
    trials: Sequence[TrialRecord], metric: str, *, higher_is_better: bool
) -> list[ValueAxis]:
    """Return an axis for each searched key, and one for the metric with the best on top.

    Numbers that span decades stand on a logarithmic axis, other numbers on an even one, and
    anything else in categories. Trials (of one family) without a finite value are left out.
    """
    shown = [trial for trial in trials if trial.value is not None]
    keys = list(dict.fromkeys(key for trial in shown for key in trial.values))
    axes = [_axis_of_key(key, shown) for key in keys]
    last = metric_axis(metric, shown, higher_is_better=higher_is_better)
    return [*axes, last] if shown else []


def metric_axis(metric: str, trials: Sequence[TrialRecord], *, higher_is_better: bool) -> ValueAxis:
    """Return the axis of the metric, the best on top; outliers lie at the bottom, below its values.

    The best has a tick of its own: the next round number may be far below it.
    Trials without a finite value have no place.
    """
    values = {trial.number: trial.value for trial in trials if trial.value is not None}
    if not values:
        return ValueAxis(metric, (), {})
    low, high = range_worth_showing(list(values.values()), higher_is_better=higher_is_better)

    def place(value: float) -> float:
        upwards = min(1.0, max(0.0, _place(value, low, high)))
        return upwards if higher_is_better else 1 - upwards

    best = high if higher_is_better else low
    near = 1 - _NEAREST_TICKS
    rounded = [one for one in round_numbers(low, high) if place(one) <= near and one != best]
    # No round number: it is written as everywhere else, unless the others need more digits.
    usual = [metric_text(metric, tick) for tick in (*rounded, best)]
    text = usual[-1] if len({*usual}) == len(usual) else tick_text(metric, best)
    ticks = sorted((place(tick), tick_text(metric, tick)) for tick in rounded)
    ticks.append((place(best), text))
    places = {number: place(value) for number, value in values.items()}
    outside = {n: _UNUSED_HEIGHT for n, value in values.items() if not low <= value <= high}
    if outside:  # they have a place of their own: at the edge they would seem to have its value
        ticks, places = _raised("worse", ticks, places)
        places |= outside
    return ValueAxis(metric, tuple(ticks), places)


def range_worth_showing(values: Sequence[float], *, higher_is_better: bool) -> tuple[float, float]:
    """Return the lowest and highest value to show, so that outliers do not flatten the others.

    Of the values, finite and at least one: from the best as far as one and a half times the way to
    the worst but a tenth.
    """
    low, high = min(values), max(values)
    if len(values) < 10:
        return low, high
    if higher_is_better:
        return max(low, high - 1.5 * (high - float(np.quantile(values, 0.1)))), high
    return low, min(high, low + 1.5 * (float(np.quantile(values, 0.9)) - low))


def _axis_of_key(key: str, trials: Sequence[TrialRecord]) -> ValueAxis:
    found = {trial.number: trial.values[key] for trial in trials if key in trial.values}
    label, ticks, places = key, *_categories(found)
    if all(map(_is_number, found.values())):
        low, high = min(found.values()), max(found.values())
        whole = all(isinstance(value, int) for value in found.values())
        log = low > 0 and high / low >= _LOG_FROM
        rounded = _decades(low, high) if log else round_numbers(low, high, whole)
        label = f"{key} (log)" if log else key
        ticks = _thinned([(_place(tick, low, high, log), value_text(tick)) for tick in rounded])
        places = {number: _place(value, low, high, log) for number, value in found.items()}
    if len(found) == len(trials):
        return ValueAxis(label, tuple(ticks), places)
    ticks, used = _raised("not used", ticks, places)
    unused = {trial.number: _UNUSED_HEIGHT for trial in trials}
    return ValueAxis(label, tuple(ticks), unused | used)


def _raised(
    below: str, ticks: Sequence[tuple[float, str]], places: Mapping[int, float]
) -> tuple[list[tuple[float, str]], dict[int, float]]:
    """Return ticks and places moved up, for trials that have a place and a tick below them."""
    scale = 1 - _LEAST_USED_HEIGHT
    raised = [(_LEAST_USED_HEIGHT + scale * at, text) for at, text in ticks]
    moved = {number: _LEAST_USED_HEIGHT + scale * at for number, at in places.items()}
    return [(_UNUSED_HEIGHT, below), *raised], moved


def _place(value: float, low: float, high: float, log: bool = False) -> float:
    """Return a number's place between two others; in the middle where there is one number only."""
    if low == high:
        return 0.5
    if log:
        return math.log(value / low) / math.log(high / low)
    return (value - low) / (high - low)


def _is_number(value: Any) -> bool:
    plain = isinstance(value, int | float) and not isinstance(value, bool)
    return plain and math.isfinite(value)


def _categories(found: Mapping[int, Any]) -> tuple[list[tuple[float, str]], dict[int, float]]:
    texts = {number: value_text(value) for number, value in found.items()}
    names = sorted(set(texts.values()), key=lambda name: (len(name), name))
    last = max(1, len(names) - 1)
    places = {name: 0.5 if len(names) == 1 else i / last for i, name in enumerate(names)}
    every = math.ceil(len(names) / _MOST_TICKS)
    ticks = [(places[name], name) for name in names[::every]]
    return ticks, {number: places[text] for number, text in texts.items()}


def round_numbers(low: float, high: float, whole: bool = False) -> list[float]:
    """Return some four multiples of 1, 2 or 5 times a power of ten between two numbers.

    The number itself where they are the same; whole ones alone on request.
    """
    if low == high:
        return [low]
    # Of the smallest numbers there are, a quarter is none.
    quarter = max((high - low) / 4, sys.float_info.min)
    magnitude = 10.0 ** math.floor(math.log10(quarter))
    steps = [factor * magnitude for factor in (1, 2, 5, 10)]
    step = next(step for step in steps if (high - low) / step <= 5)
    step = max(1.0, step) if whole else step
    first, last = math.ceil(low / step), math.floor(high / step)
    # To six digits, for 3 times 0.1 is not 0.3.
    return [float(f"{index * step:.6g}") for index in range(first, last + 1)] or [low, high]


def _decades(low: float, high: float) -> list[float]:
    first, last = math.ceil(math.log10(low) - 1e-9), math.floor(math.log10(high) + 1e-9)
    every = max(1, math.ceil((last - first) / 5))
    powers = [10.0**exponent for exponent in range(first, last + 1, every)]
    return powers if len(powers) > 1 else sorted({low, *powers, high})


def _thinned(ticks: Sequence[tuple[float, str]]) -> list[tuple[float, str]]:
    """Return the ticks without those that would overlap the one before."""
    kept: list[tuple[float, str]] = []
    for tick in ticks:
        if not kept or tick[0] - kept[-1][0] >= _NEAREST_TICKS:
            kept.append(tick)
    return kept
