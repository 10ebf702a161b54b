"""How many epochs the default sweep spends to reach the best of 60 random full trials.

Learning curves (validation accuracy after every epoch) of random configurations of one family were
recorded once, each to its end; see benchmarks/record_curves.py. For each seed 60 of them are drawn:
what they cost in epochs, and the highest accuracy that one of them ends with, is what the sweep is
held against. Sampler and pruner of the default sweep then propose and stop with that seed, two
slots at a time. No curve is made up: a proposal stands for the recorded configuration that is
nearest to it (Gower's distance) and was not tried yet, so the sweep draws from the same
configurations as random search. The goal is reached when a trial that was not stopped ends at least
as high; epochs of stopped trials count as all others do, and a sweep that has tried the whole table
in vain says `never`.
"""

from __future__ import annotations

import json
import math
import random
import statistics
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.record_curves import CURVES, EPOCHS, FAMILY
from benchmarks.simulated_pool import SimulatedPool
from benchmarks.table import Row
from src.config.sweep import SweepSettings, read_sweep_settings
from src.records.trials import TrialRecord
from src.search.driver import Driver
from src.search.jobs import Job
from src.search.loop import Observer
from src.search.pruning import make_pruner
from src.search.rules import Rules
from src.search.space import Family, StudySpec, Value
from src.search.study import SweepStudy
from src.sweeps.families import load_families

__all__ = ["measure"]

_SEEDS = 5
_RANDOM_TRIALS = 60
_SLOTS = 2


def measure() -> list[Row]:
    """A row a data set: the median share over seeds, each with its own 60 random trials."""
    return [_row(path) for path in sorted(CURVES.glob("*.json"))]


def _row(path: Path) -> Row:
    # A training whose loss was lost has no end to be compared.
    recorded = [one for one in json.loads(path.read_text()) if len(one["curve"]) == EPOCHS]
    usual = read_sweep_settings([f"trainer.max_epochs={EPOCHS}"], "default")
    shares = [_share(recorded, seed, usual) for seed in range(_SEEDS)]
    median = statistics.median(shares)
    told = ", ".join(_told(share) for share in shares)
    return Row(
        f"epochs spent to reach the best of {_RANDOM_TRIALS} random full trials, {path.stem} "
        f"({len(recorded)} recorded)",
        f"{_told(median)} of theirs ({told})",
        "at most 1/4",
        median <= 0.25,
    )


def _told(share: float) -> str:
    return "never" if math.isinf(share) else f"{share:.2f}"


def _share(recorded: list[dict[str, Any]], seed: int, usual: SweepSettings) -> float:
    """Epochs until a trial ends as well as the best of the random ones, against theirs."""
    chosen = random.Random(seed).sample(recorded, _RANDOM_TRIALS)
    goal = max(one["curve"][-1] for one in chosen)
    (family,) = load_families([FAMILY], [])
    table = _Table(family, recorded)
    watcher = _UntilGoal(goal)
    spec = StudySpec(
        name="replay",
        families=[family],
        metrics={"val/accuracy": "accuracy"},
        directions=("maximize",),
        identity={},
        sampler=usual.sampler.name,
        startup_trials=usual.sampler.startup_trials,
        seed=seed,
        pruner=make_pruner(usual.pruner, EPOCHS),
    )
    with tempfile.TemporaryDirectory() as folder, SweepStudy(Path(folder), spec) as study:
        Driver(
            study,
            SimulatedPool(_SLOTS),
            table,
            trials=len(recorded),
            observers=[watcher],
            interrupted=lambda: watcher.spent is not None,
        ).race()
    spent = math.inf if watcher.spent is None else watcher.spent
    return spent / (_RANDOM_TRIALS * EPOCHS)


class _UntilGoal(Observer):
    """Counts epochs until the goal is reached."""

    def __init__(self, goal: float) -> None:
        self._goal = goal
        self._epochs = 0
        self.spent: int | None = None

    def reported(self, slot: int, step: int, metrics: Mapping[str, float]) -> None:
        self._epochs += 1

    def ended(self, slot: int, trial: TrialRecord, best: TrialRecord | None) -> None:
        reached = trial.objectives is not None and trial.objectives[0] >= self._goal
        if reached and self.spent is None:
            self.spent = self._epochs


class _Table(Rules):
    """Recorded configurations, each given out once."""

    def __init__(self, family: Family, recorded: list[dict[str, Any]]) -> None:
        self._family = family
        self._left = list(recorded)

    def job(self, trial: TrialRecord) -> Job:
        nearest = min(self._left, key=lambda one: self._distance(one["values"], trial.values))
        self._left.remove(nearest)
        task = {"trial": trial.number, "seconds": float(EPOCHS), "curve": nearest["curve"]}
        return Job(task, EPOCHS)

    def _distance(self, one: Mapping[str, Value], other: Mapping[str, Value]) -> float:
        """Gower's (1971): the mean over keys, each between 0 and 1."""
        known = {**self._family.constants, **other}
        used = [parameter for parameter in self._family.parameters if parameter.applies(known)]
        return statistics.mean(p.distance(one.get(p.key), other.get(p.key)) for p in used)
