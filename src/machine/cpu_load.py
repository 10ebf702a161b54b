"""The load of the CPU by other programs, and the number of threads beside it."""

from __future__ import annotations

import os
import time
from typing import Any

import psutil

from .parallel import available_cores

__all__ = ["CpuLoad", "ThreadCount", "is_idle", "others_load", "slowdown", "threads_beside"]

# Load of a core, as a fraction, that every idle system stays below.
_NOTICEABLE = 0.25
_LOOK_SECONDS = 0.2
# Smallest fraction of a core's time that a thread with a core of its own gets.
_WHOLE_CORE_SHARE = 0.9


class CpuLoad:
    """Measures `others`, how many cores of its own other programs use on average in a block."""

    def __init__(self) -> None:
        self.others = 0.0

    @property
    def disturbed(self) -> bool:
        """Whether others used more than a quarter of a core on average."""
        return self.others > _NOTICEABLE

    def __enter__(self) -> CpuLoad:
        self._began, self._busy, self._own = _clocks()
        return self

    def __exit__(self, *_: object) -> None:
        ended, busy, own = _clocks()
        used = (busy - self._busy) - (own - self._own)
        self.others = max(0.0, used / max(ended - self._began, 1e-6))


def others_load() -> float:
    """Return how many cores other programs use, measured for a fifth of a second."""
    with CpuLoad() as load:
        time.sleep(_LOOK_SECONDS)
    return load.others


def is_idle() -> bool:
    """Return whether no other program uses the cores, measured for a fifth of a second."""
    return others_load() <= _NOTICEABLE


def slowdown() -> float:
    """Return wall-clock seconds per CPU second of a thread, 1 or more, by the current load.

    It is measured by a fifth of a second's work. The share of a core that this work gets shows how
    many threads of other programs compete, which may be more than the cores that they use. Call it
    while nothing else of the project works; the result holds for work on every core.
    """
    with CpuLoad() as load:
        began, worked = time.perf_counter(), time.thread_time()
        while (wall := time.perf_counter() - began) < _LOOK_SECONDS:
            pass
        share = (time.thread_time() - worked) / wall
    cores = available_cores()
    others = load.others if share > _WHOLE_CORE_SHARE else cores / max(share, 1e-3) - 1
    return 1 + others / cores


def threads_beside(others: float, most: int) -> int:
    """Return how many threads, from 1 to `most`, have a core where programs use `others` of them.

    Threads that share a training wait for each other many times a step. One without a core delays
    all of them, so a thread too many costs far more than a thread too few.
    """
    return max(1, min(most, int(available_cores() - others + 0.5)))


class ThreadCount:
    """The number of threads that have a core beside other programs, followed while they work.

    Args:
        most: where no other program runs.
    """

    def __init__(self, most: int) -> None:
        self._most = self._count = most
        self._load = CpuLoad()
        self._load.__enter__()
        self._looked = time.perf_counter()

    def now(self) -> int:
        """Return the number by the load since the last call; to be called repeatedly."""
        if time.perf_counter() - self._looked >= _LOOK_SECONDS:
            self._load.__exit__(None, None, None)
            self._count = threads_beside(self._load.others, self._most)
            self._load.__enter__()
            self._looked = time.perf_counter()
        return self._count


def _clocks() -> tuple[float, float, float]:
    """Return seconds of the wall clock, of the cores that this process may use, and of itself."""
    cores = psutil.cpu_times(percpu=True)
    if hasattr(os, "sched_getaffinity"):
        cores = [cores[core] for core in os.sched_getaffinity(0) if core < len(cores)] or cores
    own = os.times()
    return time.perf_counter(), sum(map(_busy, cores)), own.user + own.system


def _busy(core: Any) -> float:
    """Return the seconds that a core has worked, by what psutil counts of it."""
    idle = core.idle + getattr(core, "iowait", 0.0)
    # guest time is part of user time already
    guest = getattr(core, "guest", 0.0) + getattr(core, "guest_nice", 0.0)
    return float(sum(core) - idle - guest)
