"""Processes for work on cores that other programs do not use."""

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
from .parallel import available_cores, follow_parent, in_order, new_processes

__all__ = ["SpareCores"]

Item = TypeVar("Item")
Result = TypeVar("Result")

_MAX_PROCESSES = 4
# Number of items sent to a process, and of results returned, at a time.
_CHUNK_ITEMS = 10
# Modules that start threads, whose locks a fork would copy.
_WITH_THREADS = ("torch", "pyarrow", "mlflow")
# Environment variables that libraries of linear algebra read when they are loaded.
_THREADS = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
)


class SpareCores:
    """A pool of processes on free cores, which ends with a `with` block.

    The processes are started by a `map` of many items, if other programs have left at least two
    cores free since the block began. On Linux they are forks, which need not import again what this
    process has imported, unless it has plugins, which may have started threads. If the system
    refuses to start processes, this process does all the work.

    Args:
        module: that the processes import after the items, for later calls of `share`.
        least: number of items below which starting the processes does not pay.
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
        """Yield work(item) for each item, in order; by threads of this process without a pool.

        `work`, items and results must be picklable.
        """
        done = 0
        if len(items) >= self._least and (self._pool or self._start()):
            with suppress(BrokenExecutor):  # a process was killed, as for lack of memory
                for one in self._results(work, items):
                    done += 1
                    yield one
        yield from in_order(work, items[done:], available_cores())

    def _results(self, work: Callable[[Item], Result], items: Sequence[Item]) -> Iterator[Result]:
        """Yield the results of the pool, none if the system refuses to start processes."""
        assert self._pool is not None
        try:  # submits all items, which starts the processes
            results = self._pool.map(work, items, chunksize=_CHUNK_ITEMS)
        except (OSError, RuntimeError):
            self._terminate()
            return
        yield from results
        with suppress(OSError, RuntimeError):
            for _ in range(self._count):
                self._pool.submit(_import, self._module)

    def share(self, work: Callable[..., Result], *values: Any) -> list[Future[Result]]:
        """Submit work(*values, index, count) once for each process; return [] without a pool."""
        if self._pool is None:
            return []
        try:
            return [
                self._pool.submit(work, *values, one, self._count) for one in range(self._count)
            ]
        except (OSError, RuntimeError):
            self._terminate()
            return []

    def _start(self) -> bool:
        """Start the pool if cores are free; return whether it was started."""
        self._load.__exit__()
        self._count = threads_beside(self._load.others, _MAX_PROCESSES)
        if self._count < 2 or multiprocessing.current_process().daemon:  # daemons cannot start any
            return False
        forks = sys.platform == "linux" and sys.modules.keys().isdisjoint(_WITH_THREADS)
        forks = forks and not has_plugins()
        context: BaseContext = multiprocessing.get_context("fork") if forks else new_processes()
        from threadpoolctl import threadpool_limits  # imported only if needed

        self._started: list[BaseProcess] = []
        context = _recording_processes(context, self._started.append)
        try:
            self._pool = ProcessPoolExecutor(self._count, context, initializer=_initialise)
        except (OSError, NotImplementedError):  # no queue between processes
            return False
        # With a process on each core, threads of a library would spin while they wait for others.
        self._limits = threadpool_limits(1)
        return True

    def _terminate(self) -> None:
        """End the processes that were started, since the system refuses to start the others."""
        if self._pool is not None:
            self._pool.shutdown(wait=False, cancel_futures=True)
            for child in multiprocessing.active_children():
                if child in self._started:  # others may belong to another thread
                    child.terminate()
                    child.join()
            self._limits.restore_original_limits()
            self._pool = None

    def __exit__(self, *_: object) -> None:
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)
            self._limits.restore_original_limits()


def _recording_processes(context: BaseContext, note: Callable[[BaseProcess], None]) -> BaseContext:
    """Return a copy of the context that calls `note` with every process that it creates."""
    usual = context.Process  # type: ignore[attr-defined]

    def create(*args: Any, **options: Any) -> BaseProcess:
        process = usual(*args, **options)
        note(process)
        return process

    copied = copy.copy(context)
    copied.Process = create  # type: ignore[attr-defined]
    return copied


def _initialise() -> None:
    """Initialise a process: libraries of linear algebra use one thread, as in this process."""
    os.environ.update(dict.fromkeys(_THREADS, "1"))
    from threadpoolctl import threadpool_limits

    threadpool_limits(1)  # of those that are loaded
    follow_parent()


def _import(module: str) -> None:
    import_module(module)
