"""Slots with warm workers, which receive jobs and send messages about them."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from .jobs import (
    Death,
    Ending,
    Engine,
    Interrupt,
    Job,
    Note,
    Ready,
    Reply,
    Report,
    State,
    WorkersFail,
)

__all__ = ["POLL_SECONDS", "Event", "Pool"]

# Number of successive deaths of a starting worker after which no further one is started.
_MOST_DEATHS = 3
# Seconds to wait for a message before other work is done.
POLL_SECONDS = 0.25


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
        # Kept, since it is asked for at every message, of which a thousand slots send many.
        self._free: set[int] = set()

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
            for _ in self.events(POLL_SECONDS):
                pass

    def free(self) -> list[int]:
        """Slots whose worker waits for a job."""
        return sorted(self._free)

    def give(self, slot: int, job: Job) -> None:
        """Let the worker of a free slot run this."""
        place = self._places[slot]
        assert place.ready and place.job is None
        place.job, place.since = job, time.monotonic()
        self._free.remove(slot)
        self._engine.send(slot, job)

    def answer(self, slot: int, stop: str | None) -> None:
        """Answer a `Report`: go on, or stop for this reason."""
        self._engine.send(slot, Reply(stop))

    def interrupt(self, slots: Iterable[int], reason: str | None = None) -> None:
        """Ask the jobs of these slots to save and end, for this reason, if any."""
        for slot in slots:
            self._engine.send(slot, Interrupt(reason))

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
                    self._free.add(slot)
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
            if place.ready:
                self._free.add(slot)
        return Event(slot, job, message, time.monotonic() - place.since)

    def _died(self, slot: int, death: Death) -> Iterator[Event]:
        place = self._places[slot]
        place.ready = False
        self._free.discard(slot)
        if place.job is not None:
            state: State = "gone" if death.outside else "lost"
            yield self._event(slot, Ending(state, reason=f"its worker {death.how}"))
        else:
            place.deaths += 1
            if place.deaths >= _MOST_DEATHS:
                raise WorkersFail(f"the worker of slot {slot} {death.how} before it was ready")
        self._engine.start(slot)
