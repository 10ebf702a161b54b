"""Small studies for tests: plain spaces, plans, and trials that run to their end."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from optuna.pruners import BasePruner, NopPruner

from src.config.sweep import PrunerSettings
from src.records.trials import TrialRecord
from src.search.pruning import make_pruner
from src.search.rules import Rules
from src.search.space import Family, StudySpec, parse_space
from src.search.study import SweepStudy

NUMBERS = {"a": {"low": 0.0, "high": 1.0}, "b": {"low": 1, "high": 100}}
CHOICES = {"a": {"choices": ["x", "y", "z"]}, "b": {"low": 0.0, "high": 1.0, "step": 0.5}}
CONDITIONS = {
    "optimizer": {"choices": ["adamw", "sgd"]},
    "momentum": {"when": {"optimizer": "sgd"}, "low": 0.5, "high": 0.9},
    "rate": {"low": 1e-4, "high": 1.0, "log": True},
}


def family(space: dict[str, Any], name: str = "mlp") -> Family:
    return Family(name, (f"model={name}",), tuple(parse_space(space)), {})


def plan(*families: Family, sampler: str = "random", **changes: Any) -> StudySpec:
    directions: Sequence[str] = changes.pop("directions", ["maximize"])
    pruner: BasePruner = changes.pop("pruner", NopPruner())
    identity = {"space": {f.name: f.plain() for f in families}, "direction": list(directions)}
    keys = ("val/accuracy", "val/loss")[: len(directions)]
    return StudySpec(
        name=changes.pop("name", "s"),
        families=families,
        metrics=changes.pop("metrics", dict(zip(keys, keys, strict=True))),
        directions=directions,
        identity=identity | changes.pop("identity", {}),
        sampler=sampler,
        startup_trials=changes.pop("startup_trials", 3),
        seed=changes.pop("seed", 0),
        pruner=pruner,
    )


def rules(**given: Callable[..., Any]) -> Rules:
    """Rules with a function in the place of each method of its name."""
    methods = {name: staticmethod(one) for name, one in given.items()}
    made: Rules = type("Given", (Rules,), methods)()
    return made


def pruner(name: str, max_epochs: int = 9, **changes: Any) -> BasePruner:
    return make_pruner(PrunerSettings(name=name, **({"min_epochs": 1} | changes)), max_epochs)


def value_of(trial: TrialRecord) -> float:
    """Anything that depends on what was chosen."""
    numbers = [v for v in trial.values.values() if isinstance(v, int | float)]
    return 1.0 / (1.0 + sum(abs(float(v)) for v in numbers))


def run(study: SweepStudy, count: int) -> list[TrialRecord]:
    """So many trials, one after another."""
    for _ in range(count):
        trial = study.ask()
        if trial is None:
            break
        value = value_of(trial)
        study.complete(trial.number, [value] * len(study.spec.directions))
    return study.trials()


def proposals(folder: Path, one: StudySpec, *counts: int) -> list[dict[str, Any]]:
    """What is tried, with the study closed and opened again after each of these numbers."""
    trials: list[TrialRecord] = []
    for count in counts:
        with SweepStudy(folder, one) as study:
            trials = run(study, count)
    return [{"family": trial.family, **trial.values} for trial in trials]
