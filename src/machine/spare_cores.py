"""Processes for work on cores that other programs leave free."""

from __future__ import annotations

import multiprocessing
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import BrokenExecutor, Future, ProcessPoolExecutor
from contextlib import suppress
from importlib import import_module
from typing import Any, TypeVar

from .cpu_load import CpuLoad, threads_beside
from .parallel import available_cores, follow_parent, in_order

__all__ = ["SpareCores"]

Item = TypeVar("Item")
Result = TypeVar("Result")

_MOST = 4
# Items that go to a process, and results that come back, at a time.
_AT_A_TIME = 10
# A process that has loaded one of these has threads, whose locks a fork would copy.
_WITH_THREADS = ("torch", "pyarrow", "mlflow")


class SpareCores:
    """Processes for work beside this one, which end with a `with` block.

    They are started by a `map` of many items, where others have left two cores free since the block
    began. On Linux they are forks, which need not import anything that this process has imported.

    Args:
        module: that they import once the items are done, for what is to be done then.
        least: of fewer items than this they would take longer to begin than to do without them.
    """

    def __init__(self, module: str, least: int = 0) -> None:
        self._module, self._least = module, least
        self._load = CpuLoad()
        self._pool: ProcessPoolExecutor | None = None
        self._count = 0

    def __enter__(self) -> SpareCores:
        self._load.__enter__()
        return self

    def map(self, work: Callable[[Item], Result], items: Sequence[Item]) -> Iterator[Result]:
        """Yield work(item) for each item, in order; by threads of this process if there are none.

        `work`, items and results travel between processes.
        """
        done = 0
        if len(items) >= self._least and (self._pool or self._start()):
            assert self._pool is not None
            with suppress(BrokenExecutor):  # one was ended, as where memory is short
                for one in self._pool.map(work, items, chunksize=_AT_A_TIME):
                    done += 1
                    yield one
                for _ in range(self._count):
                    self._pool.submit(_import, self._module)
        yield from in_order(work, items[done:], available_cores())

    def share(self, work: Callable[..., Result], *values: Any) -> list[Future[Result]]:
        """Let each of them do work(*values, its place, their number); [] where there are none."""
        with suppress(BrokenExecutor):
            if self._pool is not None:
                places = range(self._count)
                return [self._pool.submit(work, *values, one, self._count) for one in places]
        return []

    def _start(self) -> bool:
        """Start them where cores are free, and return whether there are some."""
        self._load.__exit__()
        self._count = threads_beside(self._load.others, _MOST)
        if self._count < 2 or multiprocessing.current_process().daemon:  # which may start none
            return False
        forks = sys.platform == "linux" and sys.modules.keys().isdisjoint(_WITH_THREADS)
        context = multiprocessing.get_context("fork" if forks else "spawn")
        from threadpoolctl import threadpool_limits  # which only this needs

        # Where each core has a process, threads of a library would spin while they wait for others.
        self._limits = threadpool_limits(1)
        self._pool = ProcessPoolExecutor(self._count, context, initializer=follow_parent)
        return True

    def __exit__(self, *_: object) -> None:
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)
            self._limits.restore_original_limits()


def _import(module: str) -> None:
    import_module(module)
