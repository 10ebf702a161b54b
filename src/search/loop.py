"""Slots with warm workers, and the one event loop that gives them jobs and answers reports."""

from __future__ import annotations

import math
import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from ..records.trials import TrialRecord
from .jobs import (
    Answer,
    Death,
    Ending,
    Engine,
    Interrupt,
    Job,
    Note,
    Ready,
    Report,
    State,
    WorkersFail,
)

__all__ = ["Event", "JobLoop", "Observer", "Pool", "TooManyFailures", "run_single"]

# Workers that die this often in a row before they are ready will not do better the next time.
_MOST_DEATHS = 3
_MOST_ATTEMPTS = 2
# Of a job whose machines go: more than bad luck, it may be what brings them down.
_MOST_MACHINES = 10
_POLL_SECONDS = 0.25
# Jobs that are given before reports are answered again: a proposal takes some 50 ms, and those that
# wait for an answer train nothing.
_MOST_AT_ONCE = 4
# After the end of the time: until what reports nothing is interrupted, and until its worker ends.
_LATE_SECONDS, _ABANDON_SECONDS = 1.0, 6.0

K = TypeVar("K")


class TooManyFailures(RuntimeError):
    """So many jobs fail, or one for want of what all need, that the search itself is at fault."""


@dataclass(frozen=True)
class Event:
    """A message of the worker in a slot about its job, given so many seconds before.

    A `Report` waits for `Pool.answer`; after an `Ending` the slot is free.
    """

    slot: int
    job: Job
    message: Note | Report | Ending
    seconds: float


@dataclass
class _Place:
    started: bool = False
    ready: bool = False
    deaths: int = 0
    job: Job | None = None
    since: float = 0.0


class Pool:
    """The slots of an engine. To be used by one thread.

    A slot is free as soon as its worker is ready; one whose worker dies gets a new one.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._places = [_Place() for _ in range(engine.size)]

    @property
    def size(self) -> int:
        """The number of slots, free or not."""
        return len(self._places)

    @property
    def busy(self) -> list[int]:
        """Slots with a job."""
        return [number for number, place in enumerate(self._places) if place.job is not None]

    def start(self, count: int | None = None) -> None:
        """Start the workers of the first `count` slots (all, if None) that have none."""
        for number, place in enumerate(self._places[:count]):
            if not place.started:
                place.started = True
                self._engine.start(number)

    def gather(self, seconds: float, check: Callable[[], None]) -> None:
        """Wait until all workers are ready, but no longer than this after the first one is.

        What is measured next then has the machine to itself; and all of them import in the time
        that one takes. `check` is called all the time; what it raises ends the wait.
        """
        first: float | None = None
        while len(self.free()) < self.size:
            check()
            if first is None and self.free():
                first = time.monotonic()
            if first is not None and time.monotonic() - first >= seconds:
                return
            for _ in self.events(_POLL_SECONDS):
                pass

    def free(self) -> list[int]:
        """Slots whose worker waits for a job."""
        return [n for n, place in enumerate(self._places) if place.ready and place.job is None]

    def give(self, slot: int, job: Job) -> None:
        """Let the worker of a free slot run this."""
        place = self._places[slot]
        assert place.ready and place.job is None
        place.job, place.since = job, time.monotonic()
        self._engine.send(slot, job)

    def answer(self, slot: int, stop: str | None) -> None:
        """Answer a `Report`: go on, or stop for this reason."""
        self._engine.send(slot, Answer(stop))

    def interrupt(self, slots: Iterable[int]) -> None:
        """Ask the jobs of these slots to save and end."""
        for slot in slots:
            self._engine.send(slot, Interrupt())

    def abandon(self, slot: int) -> Iterator[Event]:
        """End the worker of a slot, whatever it does; its job is lost."""
        if self._places[slot].job is not None:
            yield from self._died(slot, self._engine.stop(slot))

    def events(self, seconds: float) -> Iterator[Event]:
        """Yield what workers sent, waiting at most this long for the first message.

        WorkersFail if a slot's workers die again and again before they are ready, or none can start
        any more.
        """
        for slot, message in self._engine.messages(seconds):
            match message:
                case Death():
                    yield from self._died(slot, message)
                case Ready():
                    self._places[slot].ready, self._places[slot].deaths = True, 0
                case Note() | Report() | Ending():
                    yield self._event(slot, message)

    def close(self) -> None:
        """End all workers."""
        self._engine.close()

    def _event(self, slot: int, message: Note | Report | Ending) -> Event:
        place = self._places[slot]
        job = place.job
        assert job is not None
        if isinstance(message, Ending):
            place.job = None
        return Event(slot, job, message, time.monotonic() - place.since)

    def _died(self, slot: int, death: Death) -> Iterator[Event]:
        place = self._places[slot]
        place.ready = False
        if place.job is not None:
            state: State = "gone" if death.outside else "lost"
            yield self._event(slot, Ending(state, reason=f"its worker {death.how}"))
        else:
            place.deaths += 1
            if place.deaths >= _MOST_DEATHS:
                raise WorkersFail(f"the worker of slot {slot} {death.how} before it was ready")
        self._engine.start(slot)


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
    with its worker, or ends as interrupted by itself, is tried once more; so is one that names what
    to do differently, whatever came before; and one whose machine went, some times. Everything
    happens on the thread that calls `run_jobs`.

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
        self._facts: dict[K, dict[str, Any]] = {}
        self._late: set[int] = set()  # slots
        self._over_since: float | None = None
        self._fault: str | None = None
        self._stopping = False

    # What a subclass overrides.

    @abstractmethod
    def next(self) -> K | None:
        """Return the key of the next job, or None where no further one follows."""

    @abstractmethod
    def job(self, key: K) -> Job:
        """Return the job. Called before every attempt, since what is kept may change it."""

    def facts(self, key: K) -> Mapping[str, Any]:
        """Return what is kept with the job, of earlier loops as well."""
        return self._facts.get(key, {})

    def keep(self, key: K, facts: Mapping[str, Any]) -> None:
        """Keep what the job noted, and what a further attempt at it is to know."""
        self._facts.setdefault(key, {}).update(facts)

    def seconds_left(self) -> float | None:
        """Return the time in which jobs must end, 0 or less after it; None for no limit.

        What goes on after it, because it reports nothing, is interrupted and in the end killed.
        """
        return None

    @abstractmethod
    def trial(self, key: K) -> TrialRecord:
        """Return the trial that the job is about, for observers."""

    def judge(self, key: K, job: Job, report: Report, seconds: float) -> str | None:
        """Return why the job is to stop after a report, so many seconds after it began, or None."""
        return None

    def ended(self, key: K, slot: int, ending: Ending) -> str | None:
        """The job is over, and `facts` have its seconds; return why the loop fails, or None."""
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
            waits = not self._stopping and (more or self._retries) and self.pool.free()
            if not self._running and (self._stopping or not (more or self._retries)):
                break
            for event in self.pool.events(0.0 if waits else _POLL_SECONDS):
                self._take(event)
            if not self._stopping:
                self._end_what_is_late()
            self.tick(len(self._running))
        if self._fault is not None:
            raise TooManyFailures(self._fault)
        return not self._stopping

    def _fill(self, more: bool) -> bool:
        """Give jobs to some free slots; return whether there may be further ones."""
        for slot in self.pool.free()[:_MOST_AT_ONCE]:
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
                self.keep(key, facts)
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
            ending, lost = Ending("pruned", reason="the time was over"), False
        if lost or ending.again is not None:
            # Each kind has its own attempts.
            counted, most = ("lost" if lost else "eased", _MOST_ATTEMPTS)
            if ending.state == "gone":
                counted, most = ("gone", _MOST_MACHINES)
            count = int(self.facts(key).get(counted, 0)) + 1
            if count < most:
                # What is to be done otherwise is done in a run of its own.
                anew = {"run_id": None, "run_dir": None, **ending.again} if ending.again else {}
                self.keep(key, {**anew, counted: count})
                self._retries.appendleft(key)
                return
        fault = self.ended(key, event.slot, ending)
        self._fault = self._fault or fault

    def _end_what_is_late(self) -> None:
        left, now = self.seconds_left(), time.monotonic()
        if left is None or left > 0:
            self._over_since = None
            return
        self._over_since = self._over_since or now
        late = now - self._over_since
        if late > _LATE_SECONDS and (new := set(self.pool.busy) - self._late):
            self.pool.interrupt(new)
            self._late |= new
        if late > _ABANDON_SECONDS:
            for slot in self.pool.busy:
                for event in self.pool.abandon(slot):
                    self._take(event)


def run_single(
    pool: Pool,
    job: Job,
    check: Callable[[], None],
    trial: TrialRecord | None = None,
    observers: Sequence[Observer] = (),
    seconds: float | None = None,
) -> Ending:
    """Run one job that no report stops, while no other runs, on the first worker to be ready.

    `check` is called all the time; what it and `JobLoop.run_jobs` raise ends the wait. Observers
    are called with the trial that the job is about, if any. A job that takes longer than `seconds`
    is stopped, and ends as pruned; None for no limit.
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

        def ended(self, key: int, slot: int, ending: Ending) -> None:
            endings.append(ending)

        def tick(self, running: int) -> None:
            check()

    Single(pool, observers if trial is not None else ()).run_jobs()
    return endings[0]
