"""The one event loop: jobs go to free slots, reports are answered, and what was lost is retried.

Races, finals and single jobs run in it. What they differ in is their `Work`: which job is next, and
what becomes of its messages.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from src.search.jobs import Ending, Job, Note, Report
from src.search.pool import Event, Pool

__all__ = ["TooManyFailures", "Work", "run_jobs", "run_single"]

_MOST_ATTEMPTS = 2
_POLL_SECONDS = 0.25
# After the end of the time: until what reports nothing is interrupted, and until its worker ends.
_LATE_SECONDS, _ABANDON_SECONDS = 1.0, 6.0

K = TypeVar("K")


class TooManyFailures(RuntimeError):
    """So many jobs fail, or one for want of what all need, that the search itself is at fault."""


class Work(Generic[K]):
    """The jobs of one run of the loop, each known by a key.

    A subclass gives the jobs, by `next` and `job`, and keeps what comes of them. All methods are
    called on the thread of the loop.
    """

    @property
    def is_exhausted(self) -> bool:
        """Whether `next` has nothing more to give."""
        raise NotImplementedError

    def next(self) -> K | None:
        """Return the key of the next job, or None where there is none."""
        raise NotImplementedError

    def job(self, key: K) -> Job:
        """Return the job. Called again before every attempt, as `retried` may change it."""
        raise NotImplementedError

    def lost(self, key: K) -> int:
        """Return how many attempts were lost before this run of the loop."""
        return 0

    def began(self, key: K, slot: int, job: Job) -> None:
        """A slot runs the job."""

    def noted(self, key: K, facts: Mapping[str, Any]) -> None:
        """The job sent facts to keep."""

    def judge(self, key: K, slot: int, report: Report, seconds: float) -> str | None:
        """Return why the job is to stop after this report, or None to go on.

        Args:
            key, slot: of the job.
            report: of the job.
            seconds: since this attempt began.
        """
        return None

    def retried(self, key: K, lost: int, again: Mapping[str, Any] | None) -> None:
        """Another attempt follows, with these facts; `lost` attempts came to nothing so far."""

    def ended(self, key: K, slot: int, ending: Ending, seconds: float) -> str | None:
        """The job is over, after so many seconds in all attempts.

        Returns:
            why the loop is to end as failed, or None.
        """
        return None

    def tick(self, running: int) -> None:
        """Time went by, with so many jobs running. What is raised here ends the loop at once."""


def run_jobs(
    pool: Pool,
    work: Work[K],
    *,
    interrupted: Callable[[], bool] = lambda: False,
    seconds_left: Callable[[], float | None] = lambda: None,
) -> bool:
    """Run all jobs of a work in the free slots of a pool.

    A job that is lost with its worker, or interrupted though nobody asked for it, or that names
    what to do differently, is tried once more.

    Args:
        pool: started; without other jobs.
        work: see `Work`.
        interrupted: asked all the time; True to save what runs, and end.
        seconds_left: until jobs must have ended, negative after it; None for no limit. What goes
            on, because it reports nothing, is interrupted and in the end killed: it is pruned.

    Returns:
        whether all jobs ran; False after `interrupted`.

    Raises:
        TooManyFailures: `Work.ended` said so, or a job lacks what every other would.
        WorkersFail: there are no workers.
    """
    return _Loop(pool, work, interrupted, seconds_left).run()


def run_single(
    pool: Pool,
    job: Job,
    check: Callable[[], None],
    noted: Callable[[Mapping[str, Any]], None] = lambda facts: None,
) -> Ending:
    """Run one job, while no other runs, on the first worker to be ready.

    Args:
        pool: started; without other jobs.
        job: whose reports are all answered with going on.
        check: called all the time; what it raises ends the wait.
        noted: called with the facts that the job notes.

    Raises:
        TooManyFailures, WorkersFail: see `run_jobs`.
    """
    work = _Single(job, check, noted)
    run_jobs(pool, work)
    assert work.ending is not None
    return work.ending


class _Single(Work[int]):
    def __init__(
        self,
        job: Job,
        check: Callable[[], None],
        noted: Callable[[Mapping[str, Any]], None],
    ) -> None:
        self._job = job
        self._check = check
        self._noted = noted
        self._given = False
        self.ending: Ending | None = None

    @property
    def is_exhausted(self) -> bool:
        return self._given

    def next(self) -> int | None:
        given, self._given = self._given, True
        return None if given else 0

    def job(self, key: int) -> Job:
        return self._job

    def noted(self, key: int, facts: Mapping[str, Any]) -> None:
        self._noted(facts)

    def ended(self, key: int, slot: int, ending: Ending, seconds: float) -> str | None:
        self.ending = ending
        return None

    def tick(self, running: int) -> None:
        self._check()


@dataclass
class _Loop(Generic[K]):
    pool: Pool
    work: Work[K]
    interrupted: Callable[[], bool]
    seconds_left: Callable[[], float | None]
    _running: dict[int, K] = field(default_factory=dict)  # by slot
    _retries: deque[K] = field(default_factory=deque)
    _lost: dict[K, int] = field(default_factory=dict)
    _seconds: dict[K, float] = field(default_factory=dict)  # of earlier attempts
    _late: set[int] = field(default_factory=set)
    _fault: str | None = None
    _stopping: bool = False

    def run(self) -> bool:
        while True:
            if not self._stopping and (self._fault is not None or self.interrupted()):
                self._stopping = True
                self.pool.interrupt(self.pool.busy)
            if not self._stopping:
                self._fill()
            if not self._running and (self._stopping or self._is_over()):
                break
            for event in self.pool.events(_POLL_SECONDS):
                self._take(event)
            if not self._stopping:
                self._end_what_is_late()
            self.work.tick(len(self._running))
        if self._fault is not None:
            raise TooManyFailures(self._fault)
        return not self._stopping

    def _is_over(self) -> bool:
        return not self._retries and self.work.is_exhausted

    def _fill(self) -> None:
        for slot in self.pool.free():
            key = self._retries.popleft() if self._retries else self.work.next()
            if key is None:
                return
            job = self.work.job(key)
            self.pool.give(slot, job)
            self._running[slot] = key
            self.work.began(key, slot, job)

    def _take(self, event: Event) -> None:
        key = self._running[event.slot]
        match event.message:
            case Note(facts):
                self.work.noted(key, facts)
            case Report() as report:
                if self._stopping:  # a job that was just beginning may have missed it
                    self.pool.interrupt([event.slot])
                stop = self.work.judge(key, event.slot, report, event.seconds)
                self.pool.answer(event.slot, stop)
            case Ending() as ending:
                del self._running[event.slot]
                self._end(key, event, ending)

    def _end(self, key: K, event: Event, ending: Ending) -> None:
        if ending.state == "interrupted" and self._stopping:
            return  # it goes on with the next start
        lost = ending.state in ("interrupted", "lost")
        if lost and event.slot in self._late:
            ending, lost = Ending("pruned", reason="the time was over"), False
        if ending.state == "starved":  # so does this one: no other would fare better now
            self._fault = self._fault or ending.reason or "a job lacks what all need"
            return
        self._seconds[key] = self._seconds.get(key, 0.0) + event.seconds
        if (lost or ending.again is not None) and self._deserves_another(key):
            self.work.retried(key, self._lost[key], ending.again)
            self._retries.appendleft(key)
            return
        fault = self.work.ended(key, event.slot, ending, self._seconds.pop(key))
        self._fault = self._fault or fault

    def _deserves_another(self, key: K) -> bool:
        self._lost[key] = self._lost.get(key, self.work.lost(key)) + 1
        return self._lost[key] < _MOST_ATTEMPTS

    def _end_what_is_late(self) -> None:
        """Stop jobs that go on after the end of the time because they report nothing meanwhile."""
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
