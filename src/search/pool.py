"""Slots with warm workers: give a job to a free one, hear what all of them say."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from multiprocessing.connection import wait
from typing import Any

from src.search.workers.engine import Engine, Line, Worker, WorkersFail
from src.search.workers.process import Ending, Job

__all__ = ["Ended", "Event", "Noted", "Pool", "Reported", "WorkersFail"]

# Workers that die this often in a row before they are ready will not do better the next time.
_MOST_DEATHS = 3
_POLL_SECONDS = 0.25
_CHECK_SECONDS = 5.0


@dataclass(frozen=True)
class Event:
    """Something that a worker said about its job.

    Attributes:
        slot: number of the worker's slot.
        job: what it runs.
    """

    slot: int
    job: Job


@dataclass(frozen=True)
class Noted(Event):
    """Facts worth keeping."""

    facts: dict[str, Any]


@dataclass(frozen=True)
class Reported(Event):
    """An epoch, counted from 1; the worker waits for `Pool.answer`."""

    epoch: int
    metrics: dict[str, float]


@dataclass(frozen=True)
class Ended(Event):
    """The job is over and the slot free.

    Attributes:
        ending: how; of a worker that died, a failure with what is known.
        died: whether the worker died.
        seconds: since the job was given.
    """

    ending: Ending
    died: bool
    seconds: float


@dataclass
class _Place:
    worker: Worker | None = None
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
        self._by_connection: dict[Line, int] = {}
        self._checked = time.monotonic()

    @property
    def size(self) -> int:
        """Slots, whatever they do."""
        return len(self._places)

    @property
    def busy(self) -> list[int]:
        """Slots with a job."""
        return [number for number, place in enumerate(self._places) if place.job is not None]

    def start(self, count: int | None = None) -> None:
        """Start the workers of the first `count` slots (all, if None) that have none."""
        for number in range(self.size if count is None else min(count, self.size)):
            if self._places[number].worker is None:
                self._start(number)

    def gather(self, seconds: float, check: Callable[[], None]) -> None:
        """Wait until all workers are up, but no longer than this after the first one is.

        What is measured next then has the machine to itself; and to import takes all of them no
        longer than it takes one.

        Args:
            check: called all the time; what it raises ends the wait.
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
        self._send(slot, {"do": "run", "job": dict(job)})

    def answer(self, slot: int, stop: str | None) -> None:
        """After `Reported`: go on, or stop for this reason."""
        self._send(slot, {"do": "go_on", "stop": stop})

    def interrupt(self, slots: Iterable[int]) -> None:
        """Ask the jobs of these slots to save and end."""
        for slot in slots:
            self._send(slot, {"do": "interrupt"})

    def abandon(self, slot: int) -> Iterator[Event]:
        """End the worker of a slot, whatever it does; its job has died of it."""
        if self._places[slot].job is not None:
            yield from self._died(slot)

    def events(self, seconds: float) -> Iterator[Event]:
        """What was said, waiting at most so long for the first of it.

        Raises:
            WorkersFail: a slot's workers die again and again before they are ready, or nobody can
                start any more.
        """
        if time.monotonic() - self._checked >= _CHECK_SECONDS:
            self._check()
        lines = {line.fileno(): line for line in self._by_connection}
        for descriptor in wait(list(lines), seconds):
            assert isinstance(descriptor, int)
            connection = lines[descriptor]
            slot = self._by_connection.get(connection)
            if slot is None:
                continue
            try:
                message = json.loads(connection.recv_bytes())
            except (EOFError, OSError):
                yield from self._died(slot)
                continue
            event = self._heard(slot, message)
            if event is not None:
                yield event

    def run_alone(
        self,
        job: Job,
        check: Callable[[], None],
        noted: Callable[[Mapping[str, Any]], None] = lambda facts: None,
    ) -> Ended:
        """Run a job that reports nothing while no other runs, on the first worker to be ready.

        A worker that dies of it costs one attempt.

        Args:
            check: called all the time; what it raises ends the wait.
            noted: is told what the job notes.
        """
        given, deaths = False, 0
        while True:
            check()
            if not given and (free := self.free()):
                self.give(free[0], job)
                given = True
            for event in self.events(_POLL_SECONDS):
                if isinstance(event, Noted):
                    noted(event.facts)
                if not isinstance(event, Ended):
                    continue
                if not event.died or deaths:
                    return event
                given, deaths = False, 1

    def close(self) -> None:
        """End all workers."""
        workers = [place.worker for place in self._places if place.worker is not None]
        for worker in workers:  # they end by this, all at the same time
            worker.connection.close()
        try:
            for worker in workers:
                worker.end()
        except BaseException:  # a signal: who insists waits for the rest no longer than it takes
            for worker in workers:
                worker.end()
            raise
        finally:
            self._by_connection.clear()
            self._engine.close()

    def _check(self) -> None:
        self._engine.check()
        self._checked = time.monotonic()

    def _start(self, slot: int) -> None:
        place = self._places[slot]
        place.worker = self._engine.start(slot)
        place.ready, place.job = False, None
        self._by_connection[place.worker.connection] = slot

    def _heard(self, slot: int, message: dict[str, Any]) -> Event | None:
        place = self._places[slot]
        if message["said"] == "ready":
            place.ready, place.deaths = True, 0
            return None
        if message["said"] == "waiting":
            return None
        job = place.job
        assert job is not None
        match message["said"]:
            case "noted":
                return Noted(slot, job, message["facts"])
            case "reported":
                return Reported(slot, job, message["epoch"], message["metrics"])
        ending = Ending(message["state"], message["result"], message["reason"], message["again"])
        return self._over(slot, ending, died=False)

    def _over(self, slot: int, ending: Ending, *, died: bool) -> Ended:
        place = self._places[slot]
        job, place.job = place.job, None
        assert job is not None
        return Ended(slot, job, ending, died, time.monotonic() - place.since)

    def _died(self, slot: int) -> Iterator[Event]:
        self._check()
        place = self._places[slot]
        assert place.worker is not None
        del self._by_connection[place.worker.connection]
        how = place.worker.end()
        if place.job is not None:
            ending = Ending("failed", reason=f"its worker {how}")
            event = self._over(slot, ending, died=True)
            self._start(slot)
            yield event
            return
        place.deaths += 1
        if place.deaths >= _MOST_DEATHS:
            raise WorkersFail(f"the worker of slot {slot} {how} before it was ready")
        self._start(slot)

    def _send(self, slot: int, message: dict[str, Any]) -> None:
        worker = self._places[slot].worker
        assert worker is not None
        try:
            worker.connection.send_bytes(json.dumps(message).encode())
        except OSError:
            return  # it died; its connection says so next
