"""Are slots kept busy: four real ones, and 256 and 1,024 simulated ones."""

from __future__ import annotations

import random
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from benchmarks.simulated_pool import Preemption, SimulatedPool
from benchmarks.studies import Jobs, open_study
from benchmarks.table import Row
from src.records.trials import FAILED, TrialRecord
from src.search.driver import Driver
from src.search.jobs import Job
from src.search.loop import Observer
from src.search.pool import Pool
from src.search.study import JOURNAL
from src.search.workers.local import LocalEngine
from src.search.workers.slots import Slot

__all__ = ["measure"]

_EPOCHS = 5
_REAL_TRIALS, _REAL_SECONDS = 80, (0.3, 4.0)
_MANY_SLOTS, _MANY_TRIALS, _MANY_SECONDS = 256, 2500, (5.0, 60.0)
_MOST_SLOTS, _MOST_TRIALS, _MOST_EPOCHS = 1024, 3000, 10
# Seconds of long trials, and of trials so short that tens of them begin in a second.
_MOST_SECONDS = ((300.0, 1200.0), (37.5, 150.0))
# Machines that are cheap because they are taken away: a fifth of them an hour.
_PREEMPTION = Preemption(hourly=0.2, absence=60.0)


def measure() -> list[Row]:
    """The share of the time in which slots train, from the first trial to the last one's begin."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        real = _four_slots(folder / "four")
        simulated = _many_slots(folder / "many")
        clusters = [
            (seconds, _cluster(folder / f"cluster-{number}", seconds))
            for number, seconds in enumerate(_MOST_SECONDS)
        ]
    return [
        Row(
            f"4 slots kept busy, trials of {_REAL_SECONDS[0]} to {_REAL_SECONDS[1]} s",
            f"{100 * real:.1f} %",
            "at least 95 %",
            real >= 0.95,
        ),
        Row(
            f"{_MANY_SLOTS} slots (simulated), trials of 5 to 60 s, TPE, one driver",
            f"{100 * simulated:.1f} % over {_MANY_TRIALS} trials",
            "at least 95 %",
            simulated >= 0.95,
        ),
        *(
            Row(
                f"{_MOST_SLOTS:,} slots (simulated), a fifth of their machines taken away an hour, "
                f"trials of {seconds[0]:g} to {seconds[1]:g} s, TPE, asha",
                f"{100 * cluster.busy:.1f} % busy, driver {cluster.cores:.3f} cores, "
                f"{cluster.preempted} of {cluster.trials:,} trials moved, {cluster.failed} failed; "
                f"{1e3 * cluster.seconds:.0f} ms and {cluster.kilobytes:.1f} kB of journal a trial",
                "at least 95 % busy, at most half a core",
                cluster.busy >= 0.95 and cluster.cores <= 0.5,
            )
            for seconds, cluster in clusters
        ),
    ]


def _seconds(trial: int, between: tuple[float, float]) -> float:
    """Of a trial, by its number."""
    return random.Random(trial).uniform(*between)


class _Begins(Observer):
    """Notes when trials began."""

    def __init__(self) -> None:
        self.begins: dict[int, float] = {}

    def began(self, slot: int, trial: TrialRecord, steps: int) -> None:
        self.begins[trial.number] = time.perf_counter()


def _four_slots(folder: Path) -> float:
    def job_of(trial: TrialRecord) -> Job:
        seconds = _seconds(trial.number, _REAL_SECONDS)
        return Job({"seconds": seconds}, _EPOCHS)

    watcher = _Begins()
    with open_study(folder) as study:
        engine = LocalEngine([Slot(None, 1)] * 4, "benchmarks.stand_ins:Sleeper", folder / "logs")
        pool = Pool(engine)
        pool.start()
        while len(pool.free()) < 4:
            list(pool.events(0.1))
        Driver(
            study,
            pool,
            Jobs(job_of),
            trials=_REAL_TRIALS,
            observers=[watcher],
        ).race()
        pool.close()
    first, last = min(watcher.begins.values()), max(watcher.begins.values())
    within = 0.0
    for number, began in watcher.begins.items():
        within += min(_seconds(number, _REAL_SECONDS), last - began)
    return within / (4 * (last - first))


def _many_slots(folder: Path) -> float:
    def job_of(trial: TrialRecord) -> Job:
        seconds = _seconds(trial.number, _MANY_SECONDS)
        curve = [random.Random(trial.number).random()] * _EPOCHS
        return Job({"trial": trial.number, "seconds": seconds, "curve": curve}, _EPOCHS)

    pool = SimulatedPool(_MANY_SLOTS)
    with open_study(folder, "tpe") as study:
        Driver(
            study,
            pool,
            Jobs(job_of),
            trials=_MANY_TRIALS,
        ).race()
    return pool.trained / (_MANY_SLOTS * pool.last_begin)


@dataclass(frozen=True)
class _Cluster:
    """A race on many machines that come and go.

    Attributes:
        busy: share of the time in which the slots that had a machine trained.
        cores: share of one that the driver needed until the last trial began.
        trials, failed, preempted: how many there were, came to nothing, and lost a machine.
        seconds, kilobytes: that the driver and its journal took a trial.
    """

    busy: float
    cores: float
    trials: int
    failed: int
    preempted: int
    seconds: float
    kilobytes: float


def _cluster(folder: Path, between: tuple[float, float]) -> _Cluster:
    def job_of(trial: TrialRecord) -> Job:
        draw = random.Random(trial.number)
        end = draw.random()
        curve = [end * (1 - 0.5 ** (epoch + 1)) for epoch in range(_MOST_EPOCHS)]
        seconds = draw.uniform(*between)
        return Job({"trial": trial.number, "seconds": seconds, "curve": curve}, _MOST_EPOCHS)

    # Other programs on this machine take none of the driver's time.
    pool = SimulatedPool(_MOST_SLOTS, _PREEMPTION, timer=time.process_time)
    with open_study(folder, "tpe", prunes=True) as study:
        began = time.process_time()
        Driver(
            study,
            pool,
            Jobs(job_of),
            trials=_MOST_TRIALS,
        ).race()
        seconds = time.process_time() - began - pool.own_seconds
        trials = study.trials()
    return _Cluster(
        busy=pool.trained / (_MOST_SLOTS * pool.last_begin - pool.absent),
        cores=(pool.timer_then - began) / pool.last_begin,
        trials=len(trials),
        failed=sum(trial.state == FAILED for trial in trials),
        preempted=pool.preempted,
        seconds=seconds / len(trials),
        kilobytes=(folder / JOURNAL).stat().st_size / len(trials) / 1e3,
    )
