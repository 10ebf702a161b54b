"""Locks that other processes may hold."""

from __future__ import annotations

import errno
import os
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

__all__ = ["ProcessLock", "if_free"]

# What `flock` says on network file systems that were mounted without it.
_HAS_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)
# Where the system knows no `flock` at all, filelock tells processes apart by files, as it should.
warnings.filterwarnings("ignore", "flock not supported", UserWarning, "filelock")

_MAY_NOT_WRITE = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOENT, errno.ENOTDIR)


class ProcessLock(FileLock):
    """The lock of a file that one process at a time holds.

    Raises:
        Timeout: as filelock's own, when it is not had in time.
        OSError: the file cannot be opened; ENOLCK with the file's name where its file system has no
            locks.
    """

    def acquire(self, *args: Any, **options: Any) -> Any:
        try:
            return super().acquire(*args, **options)
        except (NotImplementedError, OSError) as error:  # the former from earlier filelocks
            if isinstance(error, OSError) and error.errno not in _HAS_NO_LOCKS:
                raise
            reason = os.strerror(errno.ENOLCK)
            raise OSError(errno.ENOLCK, reason, str(self.lock_file)) from error


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
