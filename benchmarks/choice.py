"""What it costs to take a faster candidate instead of the winner, on fields of known truth.

Eight candidates, each trained once, whose latencies differ by a factor of e (the standard
deviation of the logarithm) and are the higher the better the candidate is. Both rules are held
against the winner, which costs what it costs: the choice of the verdict, which is behind by 0.5
points and one standard error at most, and one standard error alone.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from benchmarks.simulated_fields import Setting, drawn, generator_of
from benchmarks.table import Row
from src.statistics.verdict import judge

__all__ = ["measure"]

_FIELDS = 1_000
_BAND = 0.005
_PICTURES = (150, 350, 1_000, 5_000)
_SETTING = Setting(
    candidates=(8, 8), accuracy=(0.85, 0.95), gaps=(0.02,), repeats=(1, 1), mixed=0.0
)
_BAR = 0.001
_BETTER_IS_SLOWER = 25.0  # by so many logarithms of the latency for each unit of accuracy


class _Taken(NamedTuple):
    """How much less accurate the choice truly is than the winner, and how many times as fast."""

    loss: float
    faster: float


def measure() -> list[Row]:
    """Compare the choice with the winner, by the number of pictures."""
    rows = []
    for pictures in _PICTURES:
        both = [_field(pictures, seed) for seed in range(_FIELDS)]
        choice, alone = ([one[rule] for one in both] for rule in (0, 1))
        loss = float(np.mean([one.loss for one in choice]))
        rows.append(
            Row(
                f"the choice of 8 candidates against the winner, {pictures:,} pictures",
                f"{_text(choice)}; by one standard error alone {_text(alone)}",
                f"at most {100 * _BAR:.1f} points lost in the mean",
                loss <= _BAR,
            )
        )
    return rows


def _field(pictures: int, seed: int) -> tuple[_Taken, _Taken]:
    """Return what the choice of a field is worth, with the band and without."""
    setting = replace(_SETTING, pictures=(pictures, pictures))
    generator = generator_of(f"choice {pictures}", seed)
    field = drawn(setting, generator)
    better = _BETTER_IS_SLOWER * (field.truth - field.truth.mean())
    costs = np.exp(generator.standard_normal(len(field.truth)) + better)
    candidates = [
        replace(one, costs=np.full(len(one.right), cost))
        for one, cost in zip(field.candidates, costs, strict=True)
    ]
    truth = {one.name: true for one, true in zip(candidates, field.truth, strict=True)}

    def taken(band: float) -> _Taken:
        verdict = judge(candidates, band=band, draws=200)
        winner, choice = verdict.winner, verdict.choice
        assert winner.cost is not None and choice.cost is not None
        return _Taken(float(truth[winner.name] - truth[choice.name]), winner.cost / choice.cost)

    return taken(_BAND), taken(math.inf)


def _text(rule: list[_Taken]) -> str:
    changed = [one for one in rule if one.faster > 1]
    speed = math.exp(float(np.mean([math.log(one.faster) for one in changed])))
    return (
        f"{len(changed) / len(rule):.0%} take another one, {speed:.1f} times as fast and "
        f"{100 * float(np.mean([one.loss for one in changed])):.2f} points worse; in the mean of "
        f"all {100 * float(np.mean([one.loss for one in rule])):.2f}"
    )
