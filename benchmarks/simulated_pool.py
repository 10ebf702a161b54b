"""A pool whose trials are recorded or made up, on a clock of its own."""

from __future__ import annotations

import heapq
import time
from collections.abc import Iterable, Iterator

from src.search.jobs import Ending, Job, Report
from src.search.loop import Event, Pool

__all__ = ["SimulatedPool"]


class SimulatedPool(Pool):
    """Slots whose trials take no time but on a clock of their own.

    What the driver does between two events takes its real time, and moves that clock; meanwhile
    slots that wait for an answer or for a trial are idle, as real ones would be. A job brings its
    `curve`, a value for each epoch, and the `seconds` that it takes in all.

    Attributes:
        last_begin: when the last trial began.
        trained: how long the slots had trained until then, all together.
    """

    def __init__(self, slots: int) -> None:
        self._slots = slots
        self._jobs: dict[int, Job] = {}
        self._epochs: dict[int, int] = {}
        self._stops: dict[int, str | None] = {}
        self._interrupted: set[int] = set()
        self._due: list[tuple[float, int]] = []  # when, slot
        self._clock = 0.0
        self._left_at = time.perf_counter()
        self._training = 0.0
        self.trained = 0.0
        self.last_begin = 0.0

    @property
    def size(self) -> int:
        return self._slots

    @property
    def busy(self) -> list[int]:
        return list(self._jobs)

    def free(self) -> list[int]:
        return [slot for slot in range(self._slots) if slot not in self._jobs]

    def give(self, slot: int, job: Job) -> None:
        self._jobs[slot], self._epochs[slot], self._stops[slot] = job, 0, None
        self.last_begin = begun = self._now()
        coming = sum(max(0.0, when - begun) for when, _ in self._due)
        self.trained = self._training - coming
        self._train(slot)

    def answer(self, slot: int, stop: str | None) -> None:
        self._stops[slot] = stop
        if stop is None and self._epochs[slot] < len(self._jobs[slot].task["curve"]):
            self._train(slot)
        else:
            heapq.heappush(self._due, (self._now(), slot))

    def interrupt(self, slots: Iterable[int]) -> None:
        for slot in slots:
            self._interrupted.add(slot)
            self._due = [(when, other) for when, other in self._due if other != slot]
            self._due.append((self._now(), slot))
        heapq.heapify(self._due)

    def events(self, seconds: float) -> Iterator[Event]:
        self._clock = self._now()
        self._left_at = time.perf_counter()
        if not self._due:
            return
        when, slot = heapq.heappop(self._due)
        self._clock = max(self._clock, when)
        job, stop = self._jobs[slot], self._stops[slot]
        curve = job.task["curve"]
        if slot in self._interrupted:
            del self._jobs[slot]
            yield Event(slot, job, Ending("interrupted"), 0.0)
        elif stop is not None or self._epochs[slot] == len(curve):
            del self._jobs[slot]
            metrics = {"val/accuracy": curve[-1]}
            ending = Ending("complete", metrics) if stop is None else Ending("pruned", reason=stop)
            yield Event(slot, job, ending, float(job.task["seconds"]))
        else:
            self._epochs[slot] += 1
            epoch = self._epochs[slot]
            seconds = float(job.task["seconds"]) * epoch / len(curve)
            yield Event(slot, job, Report(epoch, {"val/accuracy": curve[epoch - 1]}), seconds)

    def _train(self, slot: int) -> None:
        job = self._jobs[slot]
        seconds = float(job.task["seconds"]) / len(job.task["curve"])
        self._training += seconds
        heapq.heappush(self._due, (self._now() + seconds, slot))

    def _now(self) -> float:
        return self._clock + time.perf_counter() - self._left_at
