"""Measure the latencies of the models in question again, in turns.

Each run measured its own when it was trained, on a machine that was more or less busy at that
moment. Where the cheapest is to be taken and several may be it, they are timed side by side.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

from ..config.checks import ConfigError
from ..records.comparison import Comparison, Standing
from ..runs.folder import RunFolder
from ..statistics.verdict import cheapest

__all__ = ["in_turns", "may_be_cheapest", "with_latencies"]

_ROUNDS = 15
# Ratio of latencies up to which a busy machine may have caused the difference.
_AS_CHEAP = 2.0
_MOST_TIMED = 8


def in_turns(comparison: Comparison, choose: str) -> Comparison:
    """Return the comparison with its choice by latencies that were measured in turns.

    The same one where there is nothing to time: one candidate alone may be the cheapest, a latency
    is not known, or a model cannot be timed by a picture of its own size.

    Args:
        comparison: of finished runs.
        choose: "one_se" or "cheapest", what is asked for.
    """
    verdict = comparison.verdict
    among = may_be_cheapest(verdict.near if choose == "one_se" else verdict.tied)
    if comparison.folds is not None or len(among) < 2:
        return comparison
    places = {one.standing.name: Path(one.run_dirs[0]) for one in comparison.entrants}
    try:
        found = _latencies({one.name: places[one.name] for one in among})
    except (ConfigError, OSError, ValueError) as error:
        print(f"latencies: as measured in the runs, because timing them again failed: {error}")
        return comparison
    if not found:
        return comparison
    latencies = ", ".join(f"{name} {latency:.3g} ms" for name, latency in found.items())
    print(f"latencies, measured in turns: {latencies}")
    return with_latencies(comparison, found)


def may_be_cheapest(standings: Sequence[Standing]) -> list[Standing]:
    """Return those whose latency is at most twice the least, the first eight; none if one lacks."""
    costs = [one.cost for one in standings if one.cost is not None]
    if len(costs) < len(standings) or not costs:
        return []
    most = _AS_CHEAP * min(costs)
    return [one for one, cost in zip(standings, costs, strict=True) if cost <= most][:_MOST_TIMED]


def with_latencies(comparison: Comparison, latencies: Mapping[str, float]) -> Comparison:
    """Return the comparison with other latencies of some candidates, and what follows.

    The cheapest, and the choice, are of these candidates if they were before.

    Args:
        comparison: of finished runs.
        latencies: milliseconds, by name.
    """
    verdict = comparison.verdict
    renewed = {
        one.name: replace(one, cost=latencies.get(one.name, one.cost)) for one in verdict.standings
    }

    def of(standings: Sequence[Standing]) -> tuple[Standing, ...]:
        return tuple(renewed[one.name] for one in standings)

    def best(standings: Sequence[Standing], before: Standing) -> Standing:
        timed = [one for one in of(standings) if one.name in latencies]
        return (cheapest(timed) if before.name in latencies else None) or renewed[before.name]

    verdict = replace(
        verdict,
        standings=of(verdict.standings),
        winner=renewed[verdict.winner.name],
        tied=of(verdict.tied),
        near=of(verdict.near),
        cheapest=None if verdict.cheapest is None else best(verdict.tied, verdict.cheapest),
        choice=best(verdict.near, verdict.choice),
    )
    entrants = tuple(
        replace(
            one,
            standing=renewed[one.standing.name],
            disturbed=one.disturbed and one.standing.name not in latencies,
        )
        for one in comparison.entrants
    )
    return replace(comparison, verdict=verdict, entrants=entrants)


def _latencies(places: Mapping[str, Path]) -> dict[str, float]:
    """Return milliseconds for one picture by name; empty where pictures are taken in windows."""
    # Imports torch, for which a refused command should not wait.
    from ..runs.candidates.choose import load_trained
    from ..serving.variant_choice import times_in_turns

    calls: dict[str, Callable[[], object]] = {}
    generator = np.random.default_rng(0)
    for name, place in places.items():
        predictor = load_trained(RunFolder.open(place).chosen_checkpoint()).predictor(1)
        if any(form.windowed for form in predictor.formats):
            return {}
        images = [
            (255 * generator.random((1, form.channels, *form.image_size))).astype(form.dtype)
            for form in predictor.formats
        ]
        calls[name] = partial(predictor.probabilities, *images)
    return {name: 1e3 * min(seconds) for name, seconds in times_in_turns(calls, _ROUNDS).items()}
