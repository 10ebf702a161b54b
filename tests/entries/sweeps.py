"""Sweeps as real processes: begin one, look at its study from outside, find its workers."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from functools import lru_cache
from pathlib import Path

import optuna
import psutil
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial

from tests.entries.commands import wait_until
from tests.warm_python import Command

STUDY = "s"
# One small family, trials of a second, one after another, nothing measured that need not be.
OVERRIDES = [
    *("families=[mlp]", "runtime=float32", "runtime.threads=1", "workers.threads=1"),
    *("workers.count=1", "tracking.figures=false"),
    *("trainer.accelerator=cpu", "data.batch_size=32", "trainer.max_epochs=3", "budget.trials=4"),
    *("finalists=1", "finalist_seeds=2", f"study={STUDY}"),
]
RACE = [*(override for override in OVERRIDES if not override.startswith("finalist")), "finalists=0"]


def folder(output_dir: Path) -> Path:
    return output_dir / "sweeps" / STUDY


def trials(output_dir: Path) -> list[FrozenTrial]:
    """Those that began, as Optuna itself reads them from outside."""
    path = folder(output_dir) / "study.journal"
    try:
        return _trials(path, path.stat().st_size)
    except (FileNotFoundError, KeyError, ValueError):  # it is not there yet, or just being made
        return []


@lru_cache(1)  # whoever waits asks again and again, and nothing is ever taken out of a journal
def _trials(journal: Path, _size: int) -> list[FrozenTrial]:
    storage = JournalStorage(JournalFileBackend(str(journal)))
    found = optuna.load_study(study_name=STUDY, storage=storage).get_trials()
    return [trial for trial in found if trial.state.name != "WAITING"]


def states(output_dir: Path) -> list[str]:
    return [trial.state.name for trial in trials(output_dir)]


def wait_for(
    moment: Callable[[list[FrozenTrial]], bool], output_dir: Path, process: Command
) -> list[FrozenTrial]:
    """The trials, as soon as `moment(trials)` is true."""

    def found() -> list[FrozenTrial] | None:
        known = trials(output_dir)
        return known if moment(known) else None

    return wait_until(found, process, pause=0.01) or []


def trains(number: int, epochs: int = 1) -> Callable[[list[FrozenTrial]], bool]:
    """A moment: the trial runs and has so many epochs."""

    def moment(found: list[FrozenTrial]) -> bool:
        return (
            len(found) > number
            and found[number].state.name == "RUNNING"
            and len(found[number].intermediate_values) >= epochs
        )

    return moment


def children(process: Command) -> list[psutil.Process]:
    """All that a command has started, but for the standbys that forked them for the tests."""
    found = []
    for child in psutil.Process(process.pid).children(recursive=True):
        with suppress(psutil.NoSuchProcess):  # it has just ended
            if child.cmdline()[:1] != ["standby"]:
                found.append(child)
    return found


def workers(process: Command) -> list[psutil.Process]:
    """Those in processes of their own, and those forked from one that has imported for them."""
    return [
        child
        for child in children(process)
        if "src.search.workers.local" in child.cmdline()
        or ("src.search.workers.forking" in child.cmdline() and child.ppid() != process.pid)
    ]


def worker_of(process: Command, run_dir: str) -> psutil.Process:
    """The worker that writes this run's folder."""
    for worker in workers(process):
        if any(file.path.startswith(f"{run_dir}/") for file in worker.open_files()):
            return worker
    raise AssertionError(f"nobody writes {run_dir}")
