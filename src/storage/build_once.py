"""Folders that are made once, whole or not at all, however many processes want them."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from src.config.checks import ConfigError
from src.machine.disk import refusal
from src.storage.shortage import shortage

__all__ = ["cache_complaint", "locked", "made_once"]

_log = logging.getLogger(__name__)


def made_once(
    folder: Path, make: Callable[[Path], None], *, usable: Callable[[Path], bool], what: str
) -> bool:
    """Have `folder` made unless it is usable; other processes wait meanwhile.

    It is made under another name and renamed when complete, so a process that dies leaves nothing
    that is ever used, and the next one sweeps up.

    Args:
        folder: the folder wanted; its parents are created.
        make: fills the empty folder that it is given.
        usable: whether the folder at a path, which may be missing, can be used.
        what: what is in it, for messages.

    Returns:
        Whether it was made now.

    Raises:
        ConfigError: the disk is full or cannot be written, or memory or files run short.
    """
    if usable(folder):
        return False
    unfinished = folder.with_name(folder.name + ".unfinished")
    try:
        with locked(folder, what):
            if usable(folder):
                return False
            # Only the holder of the lock writes here, so this was left by one that died.
            shutil.rmtree(unfinished, ignore_errors=True)
            unfinished.mkdir()
            try:
                make(unfinished)
                shutil.rmtree(folder, ignore_errors=True)
                unfinished.rename(folder)
            except BaseException:
                shutil.rmtree(unfinished, ignore_errors=True)
                raise
    except (OSError, MemoryError) as error:
        short = shortage(error, f"{what} were made")
        if short is not None or not isinstance(error, OSError):
            raise short or error from error
        raise cache_complaint(what, folder.parent, error) from error
    return True


def cache_complaint(what: str, folder: Path, error: OSError) -> ConfigError:
    """What to tell a person of an error in a cache's folder."""
    reason = refusal(error, folder) or f"{error.strerror or error} ({folder})"
    return ConfigError(
        f"{what} cannot be kept: {reason}. The cache may also lie elsewhere: say "
        "data.cache_dir=FOLDER, or set BAKEOFF_CACHE."
    )


@contextmanager
def locked(path: Path, what: str) -> Iterator[None]:
    """Hold the lock on `path` that processes share; says so when it has to wait."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(path.with_name(path.name + ".lock"))
    try:
        lock.acquire(timeout=1)
    except Timeout:
        _log.info("waiting for another process, which is at work on %s", what)
        lock.acquire()
    try:
        yield
    finally:
        lock.release()
