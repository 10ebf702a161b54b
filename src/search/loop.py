"""The event loop that assigns jobs to slots and answers reports."""

from __future__ import annotations

import math
import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Generic, TypeVar

from ..records.trials import TrialRecord
from .jobs import Ending, Job, Note, Report
from .pool import POLL_SECONDS, Event, Pool

__all__ = ["OVER", "JobLoop", "Observer", "TooManyFailures", "run_single"]

_MAX_ATTEMPTS = 2
# Attempts at a job whose machines are lost: after so many, the job may be the cause.
_MAX_MACHINES = 10
# Jobs that are started before reports are answered again: a proposal takes some 50 ms, and a worker
# that waits for an answer is idle.
_MAX_STARTS = 4
# Seconds after the end of the time until a job is interrupted, and until its worker is killed.
_LATE_SECONDS, _ABANDON_SECONDS = 1.0, 6.0
# Additional seconds for a job after its last report, which is being measured and written.
_WRITING_SECONDS = 10.0

# Reason of a job that was ended by the time limit, whatever its worker recorded.
OVER = "the time was over"

K = TypeVar("K")


class TooManyFailures(RuntimeError):
    """Many jobs fail, or one for a reason that concerns all, so that the search cannot continue."""


class Observer:
    """A listener to jobs that run, such as a display; a subclass overrides what it needs."""

    def began(self, slot: int, trial: TrialRecord, steps: int) -> None:
        """A slot begins a trial or a training of its configuration, of at most `steps` reports."""

    def noted(self, slot: int, trial: TrialRecord, facts: Mapping[str, Any]) -> None:
        """The job of a trial sent facts, such as the folder of its run."""

    def reported(self, slot: int, step: int, metrics: Mapping[str, float]) -> None:
        """An epoch or a fold ended, counted from 1."""

    def ended(self, slot: int, trial: TrialRecord, best: TrialRecord | None) -> None:
        """A trial ended; `best` is the best complete one of the study."""

    def freed(self, slot: int) -> None:
        """A job of a slot ended and what it wrote is here; another attempt at it may follow."""

    def tick(self, counts: Mapping[str, int], left: str) -> None:
        """Called regularly, with the numbers of trials by state and a text on the work left."""


class JobLoop(ABC, Generic[K]):
    """Runs jobs in the free slots of a pool. Races, finals and single jobs are its subclasses.

    A subclass gives jobs, each known by a key, and keeps what comes of them. A job that is lost
    with its worker, or ends as interrupted by itself, is tried once more; so is one that names what
    to do differently, whatever came before; and one whose machine went, some times. Everything
    happens on the thread that calls `run_jobs`.

    Args:
        pool: started; without other jobs.
        observers: called for each job, and by the subclass.
        interrupted: called all the time; True to save what runs, and end.
        at_once: jobs that run at the same time at most; None for as many as there are slots.
    """

    def __init__(
        self,
        pool: Pool,
        observers: Sequence[Observer] = (),
        interrupted: Callable[[], bool] = lambda: False,
        at_once: int | None = None,
    ) -> None:
        self.pool = pool
        self._at_once = at_once
        self.observers = observers
        self._interrupted = interrupted
        self._running: dict[int, K] = {}  # by slot
        self._retries: deque[K] = deque()
        self._facts: dict[K, dict[str, Any]] = {}
        self._late: set[int] = set()  # slots
        self._written: set[int] = set()  # slots of jobs after their last report
        self._over_since: float | None = None
        self._fault: str | None = None
        self._stopping = False
        self._more = True
        self._waits = False  # whether slots were left free that jobs are to be given to at once

    # What a subclass overrides.

    @abstractmethod
    def next(self) -> K | None:
        """Return the key of the next job; None if no job may begin before another one has ended."""

    @abstractmethod
    def job(self, key: K) -> Job:
        """Return the job. Called before every attempt, since stored facts may change it."""

    def facts(self, key: K) -> Mapping[str, Any]:
        """Return the stored facts of the job, those of earlier loops included."""
        return self._facts.get(key, {})

    def keep(self, key: K, facts: Mapping[str, Any]) -> None:
        """Store facts that the job noted, or that a further attempt needs."""
        self._facts.setdefault(key, {}).update(facts)

    def seconds_left(self) -> float | None:
        """Return the seconds in which jobs should end, 0 or less after that; None for no limit."""
        return None

    def seconds_to_end(self) -> float | None:
        """Return the seconds in which jobs must end, which may be more; None for no limit.

        Jobs that still run after that are interrupted, and finally killed.
        """
        return self.seconds_left()

    @abstractmethod
    def trial(self, key: K) -> TrialRecord:
        """Return the trial that the job is about, for observers."""

    def judge(self, key: K, job: Job, report: Report, seconds: float) -> str | None:
        """Return the reason to stop the job after a report, given its seconds so far, or None."""
        return None

    def ended(self, key: K, slot: int, ending: Ending) -> str | None:
        """Handle the end of a job (`facts` has its seconds); return why the loop fails, or None."""
        return None

    def tick(self, running: int) -> None:
        """Called regularly with the number of running jobs; an exception ends the loop at once."""

    # The loop.

    def run_jobs(self) -> bool:
        """Run all jobs; return whether all ran, False after an interruption.

        Raises:
            TooManyFailures: `ended` gave a reason, or a job lacks what every other would.
            WorkersFail: there are no workers.
        """
        self._more = True
        while True:
            if not self._stopping and (self._fault is not None or self._interrupted()):
                self._stopping = True
                self.pool.interrupt(self.pool.busy)
            if not self._stopping:
                self._more = self._fill(self._more)
            more = not self._stopping and (self._more or self._retries)
            waits = more and self._waits
            if not self._running and not more:
                break
            for event in self.pool.events(0.0 if waits else POLL_SECONDS):
                self._take(event)
            if not self._stopping:
                self._end_late_jobs()
            self.tick(len(self._running))
        if self._fault is not None:
            raise TooManyFailures(self._fault)
        return not self._stopping

    def _fill(self, more: bool) -> bool:
        """Assign jobs to free slots; return whether there may be further jobs."""
        free = self.pool.free()
        if self._at_once is not None:
            free = free[: max(0, self._at_once - len(self._running))]
        self._waits = len(free) > _MAX_STARTS
        for slot in free[:_MAX_STARTS]:
            key = self._retries.popleft() if self._retries else self.next() if more else None
            if key is None:
                return False
            job = self.job(key)
            self.pool.give(slot, job)
            self._running[slot] = key
            self._late.discard(slot)
            for observer in self.observers:
                observer.began(slot, self.trial(key), job.steps)
        return more

    def _take(self, event: Event) -> None:
        key = self._running[event.slot]
        match event.message:
            case Note(facts):
                self.keep(key, facts)
                for observer in self.observers:
                    observer.noted(event.slot, self.trial(key), facts)
            case Report() as report:
                for observer in self.observers:
                    observer.reported(event.slot, report.step, report.metrics)
                if self._stopping:  # a job that was just beginning may have missed it
                    self.pool.interrupt([event.slot])
                if report.step >= event.job.steps:
                    self._written.add(event.slot)
                stop = self.judge(key, event.job, report, event.seconds)
                self.pool.answer(event.slot, stop)
            case Ending() as ending:
                del self._running[event.slot]
                self._written.discard(event.slot)
                for observer in self.observers:
                    observer.freed(event.slot)
                self._end(key, event, ending)

    def _end(self, key: K, event: Event, ending: Ending) -> None:
        # With those of earlier attempts, also of earlier loops.
        earlier = float(self.facts(key).get("seconds", 0.0))
        self.keep(key, {"seconds": earlier + event.seconds})
        if ending.state == "interrupted" and self._stopping:
            return  # it goes on with the next start
        if ending.state == "starved":  # so does this one: no other would fare better now
            self._fault = self._fault or ending.reason or "a job lacks what all need"
            return
        lost = ending.state in ("interrupted", "lost", "gone")
        # A library may take what interrupts it for a fault of its own.
        if event.slot in self._late and (lost or ending.state == "failed"):
            ending, lost = Ending("pruned", reason=OVER), False
        if lost or ending.again is not None:
            # Each kind has its own attempts.
            counted, most = ("lost" if lost else "eased", _MAX_ATTEMPTS)
            if ending.state == "gone":
                counted, most = ("gone", _MAX_MACHINES)
            count = int(self.facts(key).get(counted, 0)) + 1
            if count < most:
                # What is to be done otherwise is done in a run of its own.
                anew = {"run_id": None, "run_dir": None, **ending.again} if ending.again else {}
                self.keep(key, {**anew, counted: count})
                self._retries.appendleft(key)
                return
        fault = self.ended(key, event.slot, ending)
        self._fault = self._fault or fault
        self._more = True  # what could not begin beside it, or not before it was known, may now

    def _end_late_jobs(self) -> None:
        left, now = self.seconds_to_end(), time.monotonic()
        if left is None or left > 0:
            self._over_since = None
            return
        self._over_since = self._over_since or now
        late = now - self._over_since
        for slot in self.pool.busy:
            own = late - _WRITING_SECONDS * (slot in self._written)
            if own > _LATE_SECONDS and slot not in self._late:
                self.pool.interrupt([slot], OVER)
                self._late.add(slot)
            if own > _ABANDON_SECONDS:
                for event in self.pool.abandon(slot):
                    self._take(event)


def run_single(
    pool: Pool,
    job: Job,
    check: Callable[[], None],
    trial: TrialRecord | None = None,
    *,
    observers: Sequence[Observer] = (),
    seconds: float | None = None,
    doing: Callable[[str], None] = lambda _: None,
) -> Ending:
    """Run one job that no report stops, while no other runs, on the first worker to be ready.

    `check` is called all the time; what it and `JobLoop.run_jobs` raise ends the wait. Observers
    are called with the trial that the job is about, if any. A job that takes longer than `seconds`
    is stopped, and ends as pruned; None for no limit. `doing` is called with
    what the job notes that it does.
    """
    endings: list[Ending] = []

    class Single(JobLoop[int]):
        given = False
        began = math.inf

        def next(self) -> int | None:
            given, self.given = self.given, True
            return None if given else 0

        def job(self, key: int) -> Job:
            self.began = time.monotonic()
            return job

        def seconds_left(self) -> float | None:
            return None if seconds is None else self.began + seconds - time.monotonic()

        def trial(self, key: int) -> TrialRecord:
            assert trial is not None
            return trial

        def keep(self, key: int, facts: Mapping[str, Any]) -> None:
            super().keep(key, facts)
            if "doing" in facts:
                doing(facts["doing"])

        def ended(self, key: int, slot: int, ending: Ending) -> None:
            endings.append(ending)

        def tick(self, running: int) -> None:
            check()

    Single(pool, observers if trial is not None else ()).run_jobs()
    return endings[0]
