"""A pool whose trials are recorded or made up, on a clock of its own."""

from __future__ import annotations

import heapq
import random
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from src.search.jobs import Ending, Job, Report
from src.search.pool import Event, Pool

__all__ = ["Preemption", "SimulatedPool"]

_HOUR = 3600.0


@dataclass(frozen=True)
class Preemption:
    """How machines come and go, each with one slot.

    Attributes:
        hourly: share of the machines that are taken away within an hour, at times that do not
            depend on what they do.
        absence: seconds until another one has a worker that is ready.
    """

    hourly: float
    absence: float


class SimulatedPool(Pool):
    """Slots whose trials take no time but on a clock of their own.

    What the driver does between two events takes its real time, and moves that clock; meanwhile
    slots that wait for an answer or for a trial are idle, as real ones would be. A job brings the
    number of its `trial`, its `curve`, a value for each epoch, and the `seconds` that it takes in
    all.

    Args:
        slots: how many.
        preemption: of their machines; a job whose machine goes is gone, with all its epochs.
        timer: seconds that the driver takes: of a clock, or of its processor alone.

    Attributes:
        last_begin: when the last trial began: that others are tried again later, after their
            machines went, is no work for all slots.
        timer_then: what the driver's timer said at that time.
        trained: how long the slots had trained until then, all together.
        absent: how long slots had no machine until then, all together.
        preempted: jobs whose machine went.
        own_seconds: of the timer that the figures above took, which are no work of the driver.
    """

    def __init__(
        self,
        slots: int,
        preemption: Preemption | None = None,
        timer: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._slots = slots
        self._free = set(range(slots))  # asked for at every event, as of a real pool
        self._jobs: dict[int, Job] = {}
        self._begun: set[int] = set()  # trials
        self._epochs: dict[int, int] = {}
        self._stops: dict[int, str | None] = {}
        self._interrupted: set[int] = set()
        self._due: list[tuple[float, int]] = []  # when, slot
        self._timer = timer
        self.own_seconds = 0.0
        self._clock = 0.0
        self._left_at = timer()
        self._training = 0.0
        self.trained = 0.0
        self.last_begin = 0.0
        self.timer_then = self._left_at
        self._preemption = preemption
        self._random = random.Random(0)
        self._moves: list[tuple[float, int]] = []  # when a slot's machine goes, or another comes
        self._away: dict[int, float] = {}  # since when, by slot
        self._absent = 0.0
        self.absent = 0.0
        self.preempted = 0
        for slot in range(slots if preemption is not None else 0):
            self._plan_move(slot)

    @property
    def clock(self) -> float:
        """Seconds on the clock of the slots."""
        return self._clock

    @property
    def size(self) -> int:
        return self._slots

    @property
    def busy(self) -> list[int]:
        return list(self._jobs)

    def free(self) -> list[int]:
        return sorted(self._free)

    def give(self, slot: int, job: Job) -> None:
        self._jobs[slot], self._epochs[slot], self._stops[slot] = job, 0, None
        self._free.remove(slot)
        if job.task["trial"] not in self._begun:
            self._begun.add(job.task["trial"])
            self.last_begin = begun = self._now()
            self.timer_then = self._seconds()
            coming = sum(max(0.0, when - begun) for when, _ in self._due)
            self.trained = self._training - coming
            self.absent = self._absent + sum(begun - since for since in self._away.values())
            self.own_seconds += self._seconds() - self.timer_then
        self._train(slot)

    def answer(self, slot: int, stop: str | None) -> None:
        self._stops[slot] = stop
        if stop is None and self._epochs[slot] < len(self._jobs[slot].task["curve"]):
            self._train(slot)
        else:
            heapq.heappush(self._due, (self._now(), slot))

    def interrupt(self, slots: Iterable[int], reason: str | None = None) -> None:
        for slot in slots:
            self._interrupted.add(slot)
            self._due = [(when, other) for when, other in self._due if other != slot]
            self._due.append((self._now(), slot))
        heapq.heapify(self._due)

    def events(self, seconds: float) -> Iterator[Event]:
        self._clock = self._now()
        self._left_at = self._seconds()
        coming = min((*self._moves[:1], *self._due[:1]), default=None)
        if coming is None or (not seconds and coming[0] > self._clock):
            return
        if self._moves[:1] == [coming]:
            yield from self._move()
        else:
            self._clock = max(self._clock, coming[0])
            while self._due and self._due[0][0] <= self._now():  # what came meanwhile as well
                yield self._step(heapq.heappop(self._due)[1])

    def _step(self, slot: int) -> Event:
        job, stop = self._jobs[slot], self._stops[slot]
        curve = job.task["curve"]
        if slot in self._interrupted:
            self._end(slot)
            return Event(slot, job, Ending("interrupted"), 0.0)
        if stop is not None or self._epochs[slot] == len(curve):
            self._end(slot)
            metrics = {"val/accuracy": curve[-1]}
            ending = Ending("complete", metrics) if stop is None else Ending("pruned", reason=stop)
            return Event(slot, job, ending, float(job.task["seconds"]))
        self._epochs[slot] += 1
        epoch = self._epochs[slot]
        seconds = float(job.task["seconds"]) * epoch / len(curve)
        return Event(slot, job, Report(epoch, {"val/accuracy": curve[epoch - 1]}), seconds)

    def _end(self, slot: int) -> None:
        del self._jobs[slot]
        self._free.add(slot)

    def _train(self, slot: int) -> None:
        job = self._jobs[slot]
        seconds = float(job.task["seconds"]) / len(job.task["curve"])
        self._training += seconds
        heapq.heappush(self._due, (self._now() + seconds, slot))

    def _plan_move(self, slot: int) -> None:
        assert self._preemption is not None
        stays = self._random.expovariate(self._preemption.hourly / _HOUR)
        heapq.heappush(self._moves, (self._clock + stays, slot))

    def _move(self) -> Iterator[Event]:
        """Take a slot's machine away, or give it another one."""
        assert self._preemption is not None
        when, slot = heapq.heappop(self._moves)
        self._clock = max(self._clock, when)
        if slot in self._away:
            self._absent += self._clock - self._away.pop(slot)
            self._free.add(slot)
            self._plan_move(slot)
            return
        self._away[slot] = self._clock
        self._free.discard(slot)
        heapq.heappush(self._moves, (self._clock + self._preemption.absence, slot))
        job = self._jobs.pop(slot, None)
        if job is not None:
            self.preempted += 1
            self._training -= sum(max(0.0, t - self._clock) for t, s in self._due if s == slot)
            self._due = [(t, s) for t, s in self._due if s != slot]
            heapq.heapify(self._due)
            yield Event(slot, job, Ending("gone", reason="its machine went"), 0.0)

    def _now(self) -> float:
        return self._clock + self._seconds() - self._left_at

    def _seconds(self) -> float:
        return self._timer() - self.own_seconds
