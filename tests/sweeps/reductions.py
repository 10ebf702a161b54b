"""A reduction of families whose pool answers at once, and a study of trials of ten seconds."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from src.config.sweep import read_sweep_settings
from src.records.trials import COMPLETE, TrialRecord
from src.search.jobs import Ending, Job
from src.search.pool import Event
from src.search.space import Family
from src.sweeps.clock import Clock
from src.sweeps.reduction import Reduction
from src.sweeps.tasks import SweepJobs


class Answers:
    """A pool that answers each preparation by what `cost` makes of its overrides."""

    size = 1

    def __init__(self, cost: Callable[[list[str]], dict[str, Any]]) -> None:
        self.cost = cost
        self.jobs: list[Job] = []

    def free(self) -> list[int]:
        return [0]

    def give(self, slot: int, job: Job) -> None:
        self.jobs.append(job)

    def events(self, seconds: float) -> Iterator[Event]:
        job = self.jobs[-1]
        found = self.cost(list(job.overrides))
        failed = found.pop("failed", None)
        result = {"overrides": ["data.batch_size=64"], "epochs": 12, "notes": []} | found
        ending = Ending("failed", result=failed, reason="no such thing")
        yield Event(0, job, Ending("complete", result=result) if failed is None else ending, 0.1)


class Study:
    """What a study keeps, and trials of ten seconds each."""

    def __init__(self) -> None:
        self.kept: dict[str, Any] = {}
        self.count = 0
        self.recall, self.remember = self.kept.get, self.kept.__setitem__

    def trials(self) -> list[Any]:
        one = TrialRecord(0, "embedding", COMPLETE, {}, objectives=(0.9,), seconds=10.0)
        return [one] * self.count

    def facts(self, number: int) -> dict[str, Any]:
        return {}


def reduction(
    pool: Any,
    seconds: float | None,
    *base: str,
    study: Any = None,
    folds: int | None = None,
    **families: Family,
) -> Reduction:
    clock = Clock(seconds, finals=False, earlier=0, note=lambda _: None, now=lambda: 0.0)
    overrides = [
        "study=s",
        "output_dir=out",
        *([] if folds is None else [f"cv.folds={folds}", "pruner=none"]),
    ]
    settings = read_sweep_settings(overrides, "default")
    jobs = SweepJobs(settings, study or Study(), families, base, {}, "0" * 32)
    return Reduction(pool, clock, jobs, lambda: None, lambda _: None, lambda seconds, family: 0.0)


def family(name: str, *overrides: str) -> Family:
    return Family(name, overrides or (f"model={name}",), (), {})


def of_size(large: float, small: float) -> Callable[[list[str]], dict[str, Any]]:
    """Seconds an epoch at the usual size of pictures, and at a smaller one."""

    def cost(overrides: list[str]) -> dict[str, Any]:
        shrunk = any(w.startswith(("data.image_size=", "model.input_size=")) for w in overrides)
        return {"seconds_per_epoch": small if shrunk else large}

    return cost
