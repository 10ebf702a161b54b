"""Small studies for measuring the machinery around trials."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from src.records.trials import TrialRecord
from src.search.pruning import make_pruner
from src.search.space import Family, parse_space
from src.search.study import Plan, SweepStudy

__all__ = ["Silent", "open_study"]

_SPACE = {
    "optimizer": {"choices": ["muon", "adamw", "sgd"]},
    "optimizer.lr": {"low": 1e-4, "high": 1e-1, "log": True},
    "optimizer.momentum": {"when": {"optimizer": "sgd"}, "low": 0.8, "high": 0.98},
    "optimizer.weight_decay": {"low": 1e-4, "high": 1e-1, "log": True},
    "model.blocks": {"low": 1, "high": 4},
    "model.dropout": {"low": 0.0, "high": 0.5},
}


def open_study(folder: Path, sampler: str = "random", pruner: str = "none") -> SweepStudy:
    """A study of two families with six keys each."""
    space = tuple(parse_space(_SPACE))
    families = [Family(name, (f"model={name}",), space, {}) for name in ("cnn", "mlp")]
    plan = Plan(
        name="bench",
        families=families,
        directions=("maximize",),
        identity={},
        sampler=sampler,
        startup_trials=10,
        seed=0,
        pruner=make_pruner(
            pruner, min_epochs=1, max_epochs=5, reduction_factor=3, across_families=False
        ),
    )
    return SweepStudy(folder, plan)


class Silent:
    """A `Watcher` who keeps nothing to himself but when trials ended."""

    def __init__(self) -> None:
        self.ends: list[float] = []

    def began(self, slot: int, trial: TrialRecord, epochs: int) -> None:
        return None

    def noted(self, trial: TrialRecord, facts: Mapping[str, Any]) -> None:
        return None

    def reported(self, slot: int, trial: int, epoch: int, value: float | None) -> None:
        return None

    def ended(self, slot: int, trial: TrialRecord) -> None:
        import time

        self.ends.append(time.perf_counter())

    def tick(self, counts: Mapping[str, int], left: str) -> None:
        return None
