"""Locks that other processes may hold."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

__all__ = ["if_free"]


@contextmanager
def if_free(*paths: Path) -> Iterator[bool]:
    """Hold the locks of these files, and yield True; yield False where another holder has one.

    Where this process may not write it cannot hold a lock, and the lock counts as free: so does one
    in a folder that is mounted read-only, or gone.
    """
    with ExitStack() as held:
        free = True
        for path in paths:
            lock = FileLock(path, thread_local=False)
            try:
                lock.acquire(timeout=0)
            except Timeout:
                free = False
                break
            except OSError:
                continue
            held.callback(lock.release)
        yield free
