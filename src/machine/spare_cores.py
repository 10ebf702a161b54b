"""Processes for work on cores that other programs leave free."""

from __future__ import annotations

import copy
import multiprocessing
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import BrokenExecutor, Future, ProcessPoolExecutor
from contextlib import suppress
from importlib import import_module
from multiprocessing.context import BaseContext
from multiprocessing.process import BaseProcess
from typing import Any, TypeVar

from .cpu_load import CpuLoad, threads_beside
from .imports import has_plugins
from .parallel import available_cores, follow_parent, in_order

__all__ = ["SpareCores"]

Item = TypeVar("Item")
Result = TypeVar("Result")

_MOST = 4
# Items that go to a process, and results that come back, at a time.
_AT_A_TIME = 10
# A process that has loaded one of these has threads, whose locks a fork would copy.
_WITH_THREADS = ("torch", "pyarrow", "mlflow")
# What libraries of linear algebra read when they are loaded.
_THREADS = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
)


class SpareCores:
    """Processes for work beside this one, which end with a `with` block.

    They are started by a `map` of many items, where others have left two cores free since the block
    began. On Linux they are forks, which need not import anything that this process has imported,
    unless it has code of plugins, which may have begun threads of their own. Where the system gives
    no processes, all is done by this one.

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
            with suppress(BrokenExecutor):  # one was ended, as where memory is short
                for one in self._results(work, items):
                    done += 1
                    yield one
        yield from in_order(work, items[done:], available_cores())

    def _results(self, work: Callable[[Item], Result], items: Sequence[Item]) -> Iterator[Result]:
        """Yield their results, none where the system gives no processes."""
        assert self._pool is not None
        try:  # all are submitted at once, by which the processes begin
            results = self._pool.map(work, items, chunksize=_AT_A_TIME)
        except (OSError, RuntimeError):
            self._give_up()
            return
        yield from results
        with suppress(OSError, RuntimeError):
            for _ in range(self._count):
                self._pool.submit(_import, self._module)

    def share(self, work: Callable[..., Result], *values: Any) -> list[Future[Result]]:
        """Let each of them do work(*values, its place, their number); [] where there are none."""
        if self._pool is None:
            return []
        try:
            return [
                self._pool.submit(work, *values, one, self._count) for one in range(self._count)
            ]
        except (OSError, RuntimeError):
            self._give_up()
            return []

    def _start(self) -> bool:
        """Start them where cores are free, and return whether there are some."""
        self._load.__exit__()
        self._count = threads_beside(self._load.others, _MOST)
        if self._count < 2 or multiprocessing.current_process().daemon:  # which may start none
            return False
        forks = sys.platform == "linux" and sys.modules.keys().isdisjoint(_WITH_THREADS)
        context = multiprocessing.get_context("fork" if forks and not has_plugins() else "spawn")
        from threadpoolctl import threadpool_limits  # which only this needs

        self._begun: list[BaseProcess] = []
        context = _noting(context, self._begun.append)
        try:
            self._pool = ProcessPoolExecutor(self._count, context, initializer=_begin)
        except (OSError, NotImplementedError):  # no queue between processes
            return False
        # Where each core has a process, threads of a library would spin while they wait for others.
        self._limits = threadpool_limits(1)
        return True

    def _give_up(self) -> None:
        """End what has begun of the processes, of which the system gives no more."""
        if self._pool is not None:
            self._pool.shutdown(wait=False, cancel_futures=True)
            for child in multiprocessing.active_children():
                if child in self._begun:  # others may be another thread's
                    child.terminate()
                    child.join()
            self._limits.restore_original_limits()
            self._pool = None

    def __exit__(self, *_: object) -> None:
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)
            self._limits.restore_original_limits()


def _noting(context: BaseContext, note: Callable[[BaseProcess], None]) -> BaseContext:
    """Return a copy of the context that calls `note` with every process that it makes."""
    usual = context.Process  # type: ignore[attr-defined]

    def made(*args: Any, **options: Any) -> BaseProcess:
        process = usual(*args, **options)
        note(process)
        return process

    noting = copy.copy(context)
    noting.Process = made  # type: ignore[attr-defined]
    return noting


def _begin() -> None:
    """Begin a process, in which libraries of linear algebra have one thread, as in this one."""
    os.environ.update(dict.fromkeys(_THREADS, "1"))
    from threadpoolctl import threadpool_limits

    threadpool_limits(1)  # of those that are loaded
    follow_parent()


def _import(module: str) -> None:
    import_module(module)
