"""Parallel work on many items, with results in order and few of them in memory."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from typing import TypeVar

__all__ = ["a_window", "available_cores", "in_order"]

Item = TypeVar("Item")
Result = TypeVar("Result")


def available_cores() -> int:
    """Return the number of CPU cores that this process may use, at least 1."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def in_order(
    work: Callable[[Item], Result], items: Iterable[Item], workers: int
) -> Iterator[Result]:
    """Yield work(item) for each item, in order, while threads work on the next ones.

    At most twice as many items as workers are in work or done but not consumed, so memory is
    bounded however slowly results are consumed.
    """
    yield from a_window(ThreadPoolExecutor(workers), work, items, 2 * workers)


def a_window(
    pool: Executor, work: Callable[[Item], Result], items: Iterable[Item], most: int
) -> Iterator[Result]:
    """Yield work(item) for each item, in order, at most so many of them in work at a time.

    Args:
        pool: does the work; shut down at the end.
    """
    waiting: deque[Future[Result]] = deque()
    try:
        for item in items:
            waiting.append(pool.submit(work, item))
            if len(waiting) == most:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)
