"""A second process for work beside this one, where a core is free."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable
from concurrent.futures import BrokenExecutor, Future, ProcessPoolExecutor
from contextlib import suppress
from importlib import import_module
from typing import Any

from .cpu_load import CpuLoad, threads_beside
from .parallel import follow_parent

__all__ = ["Helper"]


class Helper:
    """A process for work beside this one, which ends with a `with` block.

    Args:
        module: that it imports as soon as it is started.
        least: of fewer things than this it would take longer to begin than to do without it.
    """

    def __init__(self, module: str, least: int = 0) -> None:
        self._module, self._least = module, least
        self._load = CpuLoad()
        self._pool: ProcessPoolExecutor | None = None

    def __enter__(self) -> Helper:
        self._load.__enter__()
        return self

    def start(self, things: int) -> None:
        """Start it for so many things, where others have left a core free since the block began."""
        self._load.__exit__()
        free = threads_beside(self._load.others, 2) > 1
        if things < self._least or not free or multiprocessing.current_process().daemon:
            return  # a daemon may start none
        context = multiprocessing.get_context("spawn")
        self._pool = ProcessPoolExecutor(1, context, initializer=_begin, initargs=(self._module,))
        self._pool.submit(int)  # a process is started for the first task

    def submit(self, work: Callable[..., Any], *values: Any) -> Future[Any] | None:
        """Let it do this; None where there is no such process, or it was ended."""
        with suppress(BrokenExecutor):
            return None if self._pool is None else self._pool.submit(work, *values)
        return None

    def __exit__(self, *_: object) -> None:
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)


def _begin(module: str) -> None:
    follow_parent()
    import_module(module)
