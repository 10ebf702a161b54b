"""Parallel work on many items, with results in order and few of them in memory."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sized
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import ContextVar
from multiprocessing.context import SpawnContext, SpawnProcess
from typing import Any, TypeVar

__all__ = [
    "TooSlow",
    "available_cores",
    "follow_parent",
    "in_order",
    "in_time",
    "new_processes",
]

Item = TypeVar("Item")
Result = TypeVar("Result")
# Deadline on `time.perf_counter`, a description of the work, and the start of the work.
_deadline: ContextVar[tuple[float, str, float] | None] = ContextVar("deadline", default=None)
# Seconds below which a part of an item is short: two threads that take turns at Python take longer
# for parts of 0.2 ms than one of them alone, as each waits for the other at every file it opens.
_SHORT_SECONDS = 0.0003
# Lower bound of the time left, as a fraction of the estimate by the pace so far.
_CERTAIN_SHARE_OF_ESTIMATE = 0.8


def available_cores() -> int:
    """Return the number of CPU cores that this process may use, at least 1."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


class TooSlow(Exception):
    """Work will not end in time: `what` would take `seconds` in all."""

    def __init__(self, what: str, seconds: float) -> None:
        super().__init__(f"{what} would take {seconds:.0f} s")
        self.seconds = seconds


@contextmanager
def in_time(deadline: float | None, what: str) -> Iterator[None]:
    """Have `in_order` end with `TooSlow` where it is clear that not all items will be done by then.

    It holds for what this thread begins in the block, where the number of items is known.

    Args:
        deadline: on `time.perf_counter`; None for no limit.
        what: is done, for the message.
    """
    limit = None if deadline is None else (deadline, what, time.perf_counter())
    token = _deadline.set(limit)
    try:
        yield
    finally:
        _deadline.reset(token)


def in_order(
    work: Callable[[Item], Result],
    items: Iterable[Item],
    workers: int,
    pool: Executor | None = None,
    parts: Callable[[Item], int] | None = None,
) -> Iterator[Result]:
    """Yield work(item) for each item, in order, while others are worked on.

    At most twice as many items as workers are in work or done but not consumed, so memory is
    bounded however slowly results are consumed.

    Args:
        work: on an item.
        items: to work on.
        workers: of the pool.
        pool: is shut down at the end; None for threads.
        parts: number of parts, such as files, that an item has: as long as they are short, this
            thread works on all of them, since others would only delay it. None if items are long.
    """
    watch, left = _Watch(items, workers), iter(items)
    if parts is not None and workers > 1:
        for result in _while_short(work, left, parts):
            yield watch.seen(result)
    pool = pool or ThreadPoolExecutor(workers)
    waiting: deque[Future[Result]] = deque()
    try:
        for item in left:
            waiting.append(pool.submit(work, item))
            if len(waiting) == 2 * workers:
                yield watch.seen(waiting.popleft().result())
        while waiting:
            yield watch.seen(waiting.popleft().result())
    finally:
        pool.shutdown(cancel_futures=True)


def _while_short(
    work: Callable[[Item], Result], items: Iterator[Item], parts: Callable[[Item], int]
) -> Iterator[Result]:
    """Yield work(item) for each item, until the parts of two items in a row are not short.

    The time that a file of a slow disk is waited for counts, which threads would use. One item may
    be late by chance, and the first one by what it imports.
    """
    late = 0
    for item in items:
        began = time.perf_counter()
        result = work(item)
        short = time.perf_counter() - began < _SHORT_SECONDS * parts(item)
        late = 0 if short else late + 1
        yield result
        if late == 2:
            return


class _Watch:
    """Watches work on items, as many as may be known, for the deadline of `in_time`."""

    def __init__(self, items: Iterable[Any], workers: int) -> None:
        self._limit = _deadline.get()
        self._left = len(items) if isinstance(items, Sized) else 0
        self._warm_up = 2 * workers
        self._done, self._first = 0, 0.0

    def seen(self, result: Result) -> Result:
        """Return a result, the next of them all; `TooSlow` where the others will come too late."""
        self._left, self._done = self._left - 1, self._done + 1
        if self._limit is None:
            return result
        now, (deadline, what, began) = time.perf_counter(), self._limit
        self._first = self._first or now
        # Items in work when the first result arrives are counted as done.
        if self._left > 0 and self._done > self._warm_up:
            left = self._left * (now - self._first) / (self._done - 1)
            if now + _CERTAIN_SHARE_OF_ESTIMATE * left > deadline:
                raise TooSlow(what, now - began + left)
        return result


class _Process(SpawnProcess):
    """A new process that runs what it is given, and not the main module of this one at first.

    Python imports that there, for functions that it may have. A script without
    `if __name__ == "__main__"` would begin anew in each process, and wait for what this one does.
    """

    _starting = threading.Lock()

    def start(self) -> None:
        main = vars(sys.modules["__main__"])
        with self._starting:
            found: dict[str, Any] = {
                name: main[name] for name in ("__spec__", "__file__") if name in main
            }
            main.update(dict.fromkeys(found))
            try:
                super().start()
            finally:
                main.update(found)


class _Processes(SpawnContext):
    Process = _Process


def new_processes() -> SpawnContext:
    """Return the context of processes that start from nothing and have their work from modules."""
    return _Processes()


def follow_parent() -> None:
    """In a process of a pool: leave signals to the parent, and do not outlive it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    if parent is None:
        return
    if parent.pid is not None and hasattr(signal, "sigwaitinfo"):  # neither Windows nor macOS
        _obey_alone(parent.pid)

    def follow() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=follow, daemon=True).start()


def _obey_alone(parent: int) -> None:
    """Let SIGTERM and SIGHUP of the parent alone end this process.

    Who ends a command with all its processes, as systemd does, signals each of them; the parent
    needs this one to come to a place where it can save.
    """
    signals = {signal.SIGTERM, signal.SIGHUP}
    # Threads that begin later have the mask of this one.
    signal.pthread_sigmask(signal.SIG_BLOCK, signals)

    def wait() -> None:
        while signal.sigwaitinfo(signals).si_pid != parent:
            continue
        os._exit(0)

    threading.Thread(target=wait, daemon=True).start()
