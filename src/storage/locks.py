"""Locks that other processes may hold."""

from __future__ import annotations

import errno
import hashlib
import logging
import os
import socket
import sys
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from filelock import BaseFileLock, FileLock, Timeout

from ..config.checks import ConfigError

__all__ = ["ProcessLock", "alone", "holder_of", "if_free", "only_writer"]

_log = logging.getLogger(__name__)

# What `flock` says on network file systems that were mounted without it.
_HAS_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)
# Where the system knows no `flock` at all, filelock tells processes apart by files, as it should.
warnings.filterwarnings("ignore", "flock not supported", UserWarning, "filelock")

# In which `if_free` lets go of what it looks at.
_MOMENT_SECONDS = 1.0
# Until it is said what a process waits for.
_QUIET_SECONDS = 10.0
_LONGEST_RECORD = 1024
_MAY_NOT_WRITE = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOENT, errno.ENOTDIR)


class ProcessLock(FileLock):
    """The lock of a file that one process at a time holds; logs whom it waits for, if it does.

    Raises:
        Timeout: as filelock's own, when it is not had in time.
        OSError: the file cannot be opened; ENOLCK with the file's name where its file system has no
            locks.
    """

    def acquire(self, timeout: float | None = None, *args: Any, **options: Any) -> Any:
        patience = self.timeout if timeout is None else timeout
        try:
            if 0 <= patience <= _QUIET_SECONDS:
                return super().acquire(patience, *args, **options)
            try:
                return super().acquire(_QUIET_SECONDS, *args, **options)
            except Timeout:
                _log.warning("waiting for the lock %s of %s", self.lock_file, holder_of(self))
            left = patience - _QUIET_SECONDS if patience > 0 else patience
            # Not by `super()`: before 4.3, filelock makes another class of it without `flock`.
            return BaseFileLock.acquire(self, left, *args, **options)
        except OSError as error:
            if error.errno not in _HAS_NO_LOCKS:
                raise
            reason = os.strerror(errno.ENOLCK)
            raise OSError(errno.ENOLCK, reason, str(self.lock_file)) from error


def holder_of(lock: BaseFileLock) -> str:
    """Return who holds a lock that was not had, for messages, with its number where it is known.

    Where the file system has no `flock` the lock is a file, which a machine that went away leaves
    behind: the text says whose it is and what to do then. filelock itself removes those of
    processes of this machine that have ended.
    """
    file, who = str(lock.lock_file), "another process"
    # The class does not tell: filelock 4.3 keeps that of a lock which is a file.
    if not hasattr(lock, "pid"):
        holder = _number_of_holder(file)
        return who if holder is None else f"{who} ({holder})"
    try:
        with open(file, encoding="utf-8") as stream:
            number, host = stream.read(_LONGEST_RECORD).split("\n")[:2]
        who = f"process {int(number)} on {host}"
    except (OSError, ValueError):  # it is gone, or not written yet
        pass
    return f"{who} (if that has ended, remove {file})"


@contextmanager
def alone(path: Path, what: str) -> Iterator[None]:
    """Hold the lock of a file throughout the block, or refuse at once where another holder has it.

    Args:
        path: of the lock.
        what: is being done under it, such as "RUN is being exported".

    Raises:
        ConfigError: another process holds it.
        OSError: the file cannot be opened.
    """
    lock = ProcessLock(path)
    try:
        lock.acquire(timeout=_MOMENT_SECONDS)
    except Timeout:
        raise ConfigError(f"{what} by {holder_of(lock)}: wait for it to end.") from None
    try:
        yield
    finally:
        lock.release()


@contextmanager
def only_writer(output: Path, key: str) -> Iterator[None]:
    """Refuse to write what another process of this machine is writing, throughout the block.

    No file is left of it: a name of the kernel is taken, which Linux alone has. Elsewhere, and
    between machines, the last writer wins.

    Args:
        output: file or folder; devices and pipes take several writers.
        key: of the setting that names it.

    Raises:
        ConfigError: another process is writing it.
    """
    special = output.exists() and not (output.is_file() or output.is_dir())
    if special or sys.platform != "linux" or not hasattr(socket, "AF_UNIX"):
        yield
        return
    name = hashlib.blake2b(os.fsencode(os.path.realpath(output)), digest_size=16).hexdigest()
    with socket.socket(socket.AF_UNIX) as taken:
        try:
            taken.bind(f"\0bakeoff-{name}")
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                raise ConfigError(
                    f"{key}: {output} is being written by another process: wait for it to end, or "
                    "name another place."
                ) from None
        yield


@contextmanager
def if_free(*paths: Path) -> Iterator[bool]:
    """Hold the locks of these files, and yield True; yield False where another holder has one.

    A lock that this process may not write, or whose folder is missing, is looked at and not held.

    Raises:
        OSError: a lock cannot be opened for another reason, such as too many open files.
    """
    with ExitStack() as held:
        free = True
        for path in paths:
            lock = ProcessLock(path, thread_local=False)
            try:
                lock.acquire(timeout=0)
                held.callback(lock.release)
            except Timeout:
                free = False
            except OSError as error:
                if error.errno not in _MAY_NOT_WRITE:
                    raise
                free = not _is_held(path)
            if not free:
                break
        yield free


def _number_of_holder(file: str) -> int | None:
    """Return the number of the process that holds the `flock` of a file; None where unknown.

    Linux alone has such a list. Of a process outside of this one's container it says 0.
    """
    try:
        state = os.stat(file)
        place = f"{os.major(state.st_dev):02x}:{os.minor(state.st_dev):02x}:{state.st_ino}"
        lines = Path("/proc/locks").read_text(encoding="ascii").splitlines()
    except (OSError, ValueError):
        return None
    # As `1: FLOCK ADVISORY WRITE 4711 fe:00:1234 0 EOF`; those that wait have an arrow before it.
    held = (fields for fields in map(str.split, lines) if fields[1:2] == ["FLOCK"])
    numbers = [int(fields[4]) for fields in held if fields[5] == place]
    return next((number for number in numbers if Path("/proc", str(number)).exists()), None)


def _is_held(path: Path) -> bool:
    """Return whether a process holds a lock of which the file may at most be read."""
    try:
        import fcntl

        descriptor = os.open(path, os.O_RDONLY)
    except (ImportError, OSError):  # Windows has other locks; without a file nobody holds it
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:  # a file system without locks
        return False
    finally:
        os.close(descriptor)
    return False
