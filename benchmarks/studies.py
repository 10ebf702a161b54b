"""Small studies for measuring the machinery around trials."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from optuna.pruners import NopPruner

from src.config.sweep import PrunerSettings
from src.records.trials import TrialRecord
from src.search.jobs import Job
from src.search.loop import Observer
from src.search.pruning import make_pruner
from src.search.rules import Rules
from src.search.space import Family, StudySpec, parse_space
from src.search.study import SweepStudy

__all__ = ["Ends", "Jobs", "open_study"]

_PRUNER = PrunerSettings(name="asha", min_epochs=1)
_SPACE = {
    "optimizer": {"choices": ["muon", "adamw", "sgd"]},
    "optimizer.lr": {"low": 1e-4, "high": 1e-1, "log": True},
    "optimizer.momentum": {"when": {"optimizer": "sgd"}, "low": 0.8, "high": 0.98},
    "optimizer.weight_decay": {"low": 1e-4, "high": 1e-1, "log": True},
    "model.blocks": {"low": 1, "high": 4},
    "model.dropout": {"low": 0.0, "high": 0.5},
}


def open_study(folder: Path, sampler: str = "random", *, prunes: bool = False) -> SweepStudy:
    """A study of two families with six keys each; with the usual pruner if it `prunes`."""
    space = tuple(parse_space(_SPACE))
    families = [Family(name, (f"model={name}",), space, {}) for name in ("cnn", "mlp")]
    spec = StudySpec(
        name="bench",
        families=families,
        metrics={"val/accuracy": "accuracy"},
        directions=("maximize",),
        identity={},
        sampler=sampler,
        startup_trials=10,
        seed=0,
        pruner=make_pruner(_PRUNER, 10) if prunes else NopPruner(),
    )
    return SweepStudy(folder, spec)


class Jobs(Rules):
    """Rules of a race without limits, of trials with these jobs."""

    def __init__(self, job_of: Callable[[TrialRecord], Job]) -> None:
        self._job_of = job_of

    def job(self, trial: TrialRecord) -> Job:
        return self._job_of(trial)


class Ends(Observer):
    """Notes when trials ended."""

    def __init__(self) -> None:
        self.ends: list[float] = []

    def ended(self, slot: int, trial: TrialRecord, best: TrialRecord | None) -> None:
        self.ends.append(time.perf_counter())
