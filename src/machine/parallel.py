"""Parallel work on many items, with results in order and few of them in memory."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import contextmanager
from importlib import import_module
from typing import TypeVar

__all__ = ["available_cores", "follow_parent", "has_free_core", "helper_process", "in_order"]

Item = TypeVar("Item")
Result = TypeVar("Result")


def available_cores() -> int:
    """Return the number of CPU cores that this process may use, at least 1."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def has_free_core() -> bool:
    """Return whether a second process would have a core, by the load of the last minute."""
    cores = available_cores()
    return cores > 1 and (not hasattr(os, "getloadavg") or os.getloadavg()[0] < cores)


def in_order(
    work: Callable[[Item], Result],
    items: Iterable[Item],
    workers: int,
    pool: Executor | None = None,
) -> Iterator[Result]:
    """Yield work(item) for each item, in order, while others are worked on.

    At most twice as many items as workers are in work or done but not consumed, so memory is
    bounded however slowly results are consumed.

    The pool has so many workers and is shut down at the end; None is for threads.
    """
    pool = pool or ThreadPoolExecutor(workers)
    waiting: deque[Future[Result]] = deque()
    try:
        for item in items:
            waiting.append(pool.submit(work, item))
            if len(waiting) == 2 * workers:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


@contextmanager
def helper_process(module: str) -> Iterator[Executor | None]:
    """Run a process for work beside this one, which imports a module at once.

    None in a process that may start none.
    """
    if multiprocessing.current_process().daemon:
        yield None
        return
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(1, context, initializer=_begin, initargs=(module,))
    try:
        pool.submit(int)  # a process is started for the first task
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)


def follow_parent() -> None:
    """In a process of a pool: leave Ctrl-C to the parent, and do not outlive it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)

    def follow() -> None:
        parent = multiprocessing.parent_process()
        if parent is not None:
            parent.join()
            os._exit(1)

    threading.Thread(target=follow, daemon=True).start()


def _begin(module: str) -> None:
    follow_parent()
    import_module(module)
