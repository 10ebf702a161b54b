"""Slots with warm workers: give a job to a free slot, and receive the messages of all of them."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from multiprocessing.connection import wait

from src.search.jobs import (
    Answer,
    Ending,
    Interrupt,
    Job,
    Message,
    Note,
    Ready,
    Report,
    decode,
    encode,
)
from src.search.workers.engine import Connection, Engine, Worker, WorkersFail

__all__ = ["Event", "Pool", "WorkersFail"]

# Workers that die this often in a row before they are ready will not do better the next time.
_MOST_DEATHS = 3
_POLL_SECONDS = 0.25
_CHECK_SECONDS = 5.0


@dataclass(frozen=True)
class Event:
    """A message of a worker about its job.

    Attributes:
        slot: number of the worker's slot.
        job: that it runs.
        message: a `Report` waits for `Pool.answer`; after an `Ending` the slot is free.
        seconds: since the job was given.
    """

    slot: int
    job: Job
    message: Note | Report | Ending
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
        self._by_connection: dict[Connection, int] = {}
        self._checked = time.monotonic()

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
        for number in range(self.size if count is None else min(count, self.size)):
            if self._places[number].worker is None:
                self._start(number)

    def gather(self, seconds: float, check: Callable[[], None]) -> None:
        """Wait until all workers are ready, but no longer than this after the first one is.

        What is measured next then has the machine to itself; and all of them import in the time
        that one takes.

        Args:
            seconds: after the first worker is ready.
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
        self._send(slot, job)

    def answer(self, slot: int, stop: str | None) -> None:
        """Answer a `Report`: go on, or stop for this reason."""
        self._send(slot, Answer(stop))

    def interrupt(self, slots: Iterable[int]) -> None:
        """Ask the jobs of these slots to save and end."""
        for slot in slots:
            self._send(slot, Interrupt())

    def abandon(self, slot: int) -> Iterator[Event]:
        """End the worker of a slot, whatever it does; its job is lost."""
        if self._places[slot].job is not None:
            yield from self._died(slot)

    def events(self, seconds: float) -> Iterator[Event]:
        """Yield what workers sent, waiting at most this long for the first message.

        Raises:
            WorkersFail: a slot's workers die again and again before they are ready, or none can
                start any more.
        """
        if time.monotonic() - self._checked >= _CHECK_SECONDS:
            self._check()
        connections = {one.fileno(): one for one in self._by_connection}
        for descriptor in wait(list(connections), seconds):
            assert isinstance(descriptor, int)
            connection = connections[descriptor]
            slot = self._by_connection.get(connection)
            if slot is None:
                continue
            try:
                content = connection.recv_bytes()
            except (EOFError, OSError):
                yield from self._died(slot)
                continue
            if not content:  # the worker has not connected yet
                continue
            message = decode(content)
            if isinstance(message, Ready):
                self._places[slot].ready, self._places[slot].deaths = True, 0
            else:
                yield self._event(slot, message)

    def close(self) -> None:
        """End all workers."""
        workers = [place.worker for place in self._places if place.worker is not None]
        for worker in workers:  # they end by this, all at the same time
            worker.connection.close()
        try:
            for worker in workers:
                worker.end()
        except BaseException:  # a second signal: wait for the rest no longer than it takes
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

    def _event(self, slot: int, message: Message) -> Event:
        place = self._places[slot]
        job = place.job
        assert job is not None and isinstance(message, Note | Report | Ending)
        if isinstance(message, Ending):
            place.job = None
        return Event(slot, job, message, time.monotonic() - place.since)

    def _died(self, slot: int) -> Iterator[Event]:
        self._check()
        place = self._places[slot]
        assert place.worker is not None
        del self._by_connection[place.worker.connection]
        how = place.worker.end()
        if place.job is not None:
            event = self._event(slot, Ending("lost", reason=f"its worker {how}"))
            self._start(slot)
            yield event
            return
        place.deaths += 1
        if place.deaths >= _MOST_DEATHS:
            raise WorkersFail(f"the worker of slot {slot} {how} before it was ready")
        self._start(slot)

    def _send(self, slot: int, message: Message) -> None:
        worker = self._places[slot].worker
        assert worker is not None
        try:
            worker.connection.send_bytes(encode(message))
        except OSError:
            return  # it died; its connection ends next
