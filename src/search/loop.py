"""The one event loop: jobs go to free slots, reports are answered, and what was lost is retried."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Generic, TypeVar

from src.records.trials import TrialRecord
from src.search.jobs import Ending, Job, Note, Report
from src.search.pool import Event, Pool

__all__ = ["JobLoop", "Observer", "TooManyFailures", "run_single"]

_MOST_ATTEMPTS = 2
_POLL_SECONDS = 0.25
# After the end of the time: until what reports nothing is interrupted, and until its worker ends.
_LATE_SECONDS, _ABANDON_SECONDS = 1.0, 6.0

K = TypeVar("K")


class TooManyFailures(RuntimeError):
    """So many jobs fail, or one for want of what all need, that the search itself is at fault."""


class Observer:
    """What is called while jobs run, such as a display; a subclass overrides what it needs."""

    def began(self, slot: int, trial: TrialRecord, epochs: int) -> None:
        """A slot runs a trial, or a training of its configuration, for so many epochs at most."""

    def noted(self, trial: TrialRecord, facts: Mapping[str, Any]) -> None:
        """The job of a trial sent facts, such as the folder of its run."""

    def reported(self, slot: int, step: int, metrics: Mapping[str, float]) -> None:
        """An epoch or a fold ended, counted from 1."""

    def ended(self, slot: int, trial: TrialRecord, best: TrialRecord | None) -> None:
        """A trial is over, and `best` is the best complete one of the study."""

    def freed(self, slot: int) -> None:
        """A job of a slot is over; its trial may follow in another attempt."""

    def tick(self, counts: Mapping[str, int], left: str) -> None:
        """Time went by: trials by state, and what is left to do."""


class JobLoop(ABC, Generic[K]):
    """Runs jobs in the free slots of a pool. Races, finals and single jobs are its subclasses.

    A subclass gives jobs, each known by a key, and keeps what comes of them. A job that is lost
    with its worker, or ends as interrupted by itself, or that names what to do
    differently, is tried once more. Everything happens on the thread that calls `run_jobs`.

    Args:
        pool: started; without other jobs.
        observers: called for each job, and by the subclass.
        interrupted: called all the time; True to save what runs, and end.
    """

    def __init__(
        self,
        pool: Pool,
        observers: Sequence[Observer] = (),
        interrupted: Callable[[], bool] = lambda: False,
    ) -> None:
        self.pool = pool
        self.observers = observers
        self._interrupted = interrupted
        self._running: dict[int, K] = {}  # by slot
        self._retries: deque[K] = deque()
        self._lost: dict[K, int] = {}
        self._seconds: dict[K, float] = {}  # of earlier attempts
        self._late: set[int] = set()  # slots
        self._fault: str | None = None
        self._stopping = False

    # What a subclass overrides.

    @abstractmethod
    def next(self) -> K | None:
        """Return the key of the next job, or None where no further one follows."""

    @abstractmethod
    def job(self, key: K) -> Job:
        """Return the job. Called before every attempt, since `retried` may change it."""

    def lost(self, key: K) -> int:
        """Return how many attempts earlier loops have lost."""
        return 0

    def seconds_left(self) -> float | None:
        """Return the time in which jobs must end, negative after it; None for no limit.

        What goes on after it, because it reports nothing, is interrupted and in the end killed.
        """
        return None

    @abstractmethod
    def trial(self, key: K) -> TrialRecord:
        """Return the trial that the job is about, for observers."""

    def noted(self, key: K, facts: Mapping[str, Any]) -> None:
        """The job sent facts to keep."""

    def judge(self, key: K, job: Job, report: Report, seconds: float) -> str | None:
        """Return why the job is to stop after a report, in its so many seconds, or None."""
        return None

    def retried(self, key: K, lost: int, again: Mapping[str, Any] | None) -> None:
        """Another attempt follows, with these facts; `lost` attempts came to nothing so far."""

    def ended(self, key: K, slot: int, ending: Ending, seconds: float) -> str | None:
        """The job is over; return why the loop is to end as failed, or None."""
        return None

    def tick(self, running: int) -> None:
        """Time went by, with so many jobs running. What this raises ends the loop at once."""

    # The loop.

    def run_jobs(self) -> bool:
        """Run all jobs; return whether all ran, False after an interruption.

        Raises:
            TooManyFailures: `ended` gave a reason, or a job lacks what every other would.
            WorkersFail: there are no workers.
        """
        more = True
        while True:
            if not self._stopping and (self._fault is not None or self._interrupted()):
                self._stopping = True
                self.pool.interrupt(self.pool.busy)
            if not self._stopping:
                more = self._fill(more)
            if not self._running and (self._stopping or not (more or self._retries)):
                break
            for event in self.pool.events(_POLL_SECONDS):
                self._take(event)
            if not self._stopping:
                self._end_what_is_late()
            self.tick(len(self._running))
        if self._fault is not None:
            raise TooManyFailures(self._fault)
        return not self._stopping

    def _fill(self, more: bool) -> bool:
        """Give jobs to free slots; return whether there may be further ones."""
        for slot in self.pool.free():
            key = self._retries.popleft() if self._retries else self.next() if more else None
            if key is None:
                return False
            job = self.job(key)
            self.pool.give(slot, job)
            self._running[slot] = key
            for observer in self.observers:
                observer.began(slot, self.trial(key), job.epochs)
        return more

    def _take(self, event: Event) -> None:
        key = self._running[event.slot]
        match event.message:
            case Note(facts):
                self.noted(key, facts)
                for observer in self.observers:
                    observer.noted(self.trial(key), facts)
            case Report() as report:
                for observer in self.observers:
                    observer.reported(event.slot, report.step, report.metrics)
                if self._stopping:  # a job that was just beginning may have missed it
                    self.pool.interrupt([event.slot])
                stop = self.judge(key, event.job, report, event.seconds)
                self.pool.answer(event.slot, stop)
            case Ending() as ending:
                del self._running[event.slot]
                for observer in self.observers:
                    observer.freed(event.slot)
                self._end(key, event, ending)

    def _end(self, key: K, event: Event, ending: Ending) -> None:
        if ending.state == "interrupted" and self._stopping:
            return  # it goes on with the next start
        if ending.state == "starved":  # so does this one: no other would fare better now
            self._fault = self._fault or ending.reason or "a job lacks what all need"
            return
        lost = ending.state in ("interrupted", "lost")
        if lost and event.slot in self._late:
            ending, lost = Ending("pruned", reason="the time was over"), False
        self._seconds[key] = self._seconds.get(key, 0.0) + event.seconds
        if lost or ending.again is not None:
            self._lost[key] = self._lost.get(key, self.lost(key)) + 1
            if self._lost[key] < _MOST_ATTEMPTS:
                self.retried(key, self._lost[key], ending.again)
                self._retries.appendleft(key)
                return
        fault = self.ended(key, event.slot, ending, self._seconds.pop(key))
        self._fault = self._fault or fault

    def _end_what_is_late(self) -> None:
        left = self.seconds_left()
        if left is None:
            return
        if -left > _LATE_SECONDS and (new := set(self.pool.busy) - self._late):
            self.pool.interrupt(new)
            self._late |= new
        if -left > _ABANDON_SECONDS:
            for slot in self.pool.busy:
                for event in self.pool.abandon(slot):
                    self._take(event)


def run_single(
    pool: Pool,
    job: Job,
    check: Callable[[], None],
    trial: TrialRecord | None = None,
    observers: Sequence[Observer] = (),
) -> Ending:
    """Run one job that no report stops, while no other runs, on the first worker to be ready.

    Args:
        pool, job: see `JobLoop`.
        check: called all the time; what it raises ends the wait.
        trial: that the job is about, for observers, which are not called without one.

    Raises:
        TooManyFailures, WorkersFail: see `JobLoop.run_jobs`.
    """
    endings: list[Ending] = []

    class Single(JobLoop[int]):
        given = False

        def next(self) -> int | None:
            given, self.given = self.given, True
            return None if given else 0

        def job(self, key: int) -> Job:
            return job

        def trial(self, key: int) -> TrialRecord:
            assert trial is not None
            return trial

        def ended(self, key: int, slot: int, ending: Ending, seconds: float) -> None:
            endings.append(ending)

        def tick(self, running: int) -> None:
            check()

    Single(pool, observers if trial is not None else ()).run_jobs()
    return endings[0]
