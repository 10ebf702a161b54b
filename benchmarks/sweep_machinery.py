"""What a trial costs beside its training: asking, handing over, reports, telling, tracking."""

from __future__ import annotations

import itertools
import statistics
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.commands import trained_in
from benchmarks.studies import Ends, Jobs, open_study
from benchmarks.table import Row, spread
from src.records.trials import TrialRecord
from src.search.driver import Driver
from src.search.jobs import Job
from src.search.pool import Pool
from src.search.workers.local import LocalEngine
from src.search.workers.slots import Slot
from src.tracking.mirror_process import MirrorProcess

__all__ = ["measure"]

_TRIALS = 1000
_TRACKED = 200
_ROUNDS = 5


def measure() -> list[Row]:
    """One slot, so that nothing happens at the same time as something else."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        gaps = _gaps(folder / "random", "random", _TRIALS)
        early, late = statistics.median(gaps[10:110]), statistics.median(gaps[-100:])
        tpe = _gaps(folder / "tpe", "tpe", 300)
        reopened = [_reopened(folder / "random") for _ in range(_ROUNDS)]
        tracked = _tracked(folder / "tracked")
    processes = [_process_seconds() for _ in range(3)]
    ratio = statistics.median(processes) / statistics.median(gaps)
    return [
        Row(
            "an empty trial through the whole machinery, durable",
            f"{1e3 * statistics.median(gaps):.1f} ms; trials 900-1000 {late / early:.2f}x of "
            f"10-110; with TPE at trial 300 {1e3 * statistics.median(tpe[-50:]):.1f} ms",
            "at most 50 ms, flat from trial 10 to 1,000",
            statistics.median(gaps) <= 0.05 and late <= 1.5 * early,
        ),
        Row(
            "the same with its run in MLflow",
            f"{1e3 * tracked:.1f} ms",
            "at most 100 ms",
            tracked <= 0.1,
        ),
        Row(
            "an empty trial against a `python -m src.train` process",
            f"{ratio:.0f}x cheaper",
            "at least 20x",
            ratio >= 20,
        ),
        Row(
            "a study of 1,000 trials: reopen, list, ask for the next",
            spread(reopened, " s"),
            "at most 2 s",
            statistics.median(reopened) <= 2,
        ),
    ]


def _gaps(folder: Path, sampler: str, trials: int) -> list[float]:
    """Seconds from one trial's end to the next one's."""
    watcher = Ends()
    _race(folder, sampler, trials, watcher, "benchmarks.stand_ins:Empty")
    return [end - start for start, end in itertools.pairwise(watcher.ends)]


def _race(folder: Path, sampler: str, trials: int, watcher: Ends, runner: str, **task: Any) -> None:
    def job_of(trial: TrialRecord) -> Job:
        overrides = [f"{key}={value}" for key, value in trial.values.items()]
        return Job({"number": trial.number, **task}, epochs=5, overrides=overrides)

    with open_study(folder, sampler) as study:
        pool = Pool(LocalEngine([Slot(None, 1)], runner, folder / "workers"))
        pool.start()
        Driver(
            study,
            pool,
            Jobs(job_of),
            trials=trials,
            observers=[watcher],
        ).race()
        pool.close()


def _reopened(folder: Path) -> float:
    """Seconds until a finished study is open, listed and has given its next trial."""
    began = time.perf_counter()
    with open_study(folder) as study:
        study.trials()
        trial = study.ask()
        assert trial is not None
        seconds = time.perf_counter() - began
        study.failed(trial.number, "only asked for")
    return seconds


class _Mirrored(Ends):
    """Lets the mirror follow every run, as a sweep does."""

    def __init__(self, mirror: MirrorProcess, uri: str) -> None:
        super().__init__()
        self._mirror = mirror
        self._uri = uri
        self.run_dirs: list[Path] = []

    def noted(self, slot: int, trial: TrialRecord, facts: Mapping[str, Any]) -> None:
        self.run_dirs.append(Path(facts["run_dir"]))
        self._mirror.follow(self.run_dirs[-1], self._uri, None)


def _tracked(folder: Path) -> float:
    """Seconds a trial until MLflow has all of them; the first ones, with its start, left out."""
    uri = f"sqlite:///{folder}/mlflow.db"
    folder.mkdir()
    mirror = MirrorProcess(folder / "mirror.log")
    watcher = _Mirrored(mirror, uri)
    task = {"output_dir": str(folder)}
    runner = "benchmarks.stand_ins:Tracked"
    _race(folder / "study", "random", 5, watcher, runner, **task)
    for run_dir in watcher.run_dirs:
        mirror.wait(run_dir, 60)
    watcher.run_dirs.clear()
    began = time.perf_counter()
    _race(folder / "study", "random", 5 + _TRACKED, watcher, runner, **task)
    for run_dir in watcher.run_dirs:
        assert mirror.wait(run_dir, 60).done
    seconds = time.perf_counter() - began
    mirror.close()
    return seconds / _TRACKED


def _process_seconds() -> float:
    """A training of one epoch that is over at once."""
    with tempfile.TemporaryDirectory() as folder:
        began = time.perf_counter()
        overrides = ["model=mlp", "trainer.max_epochs=1", "runtime=float32", "tracking=none"]
        trained_in(folder, *overrides, "tracking.figures=false", "tracking.log_model=false")
        return time.perf_counter() - began
