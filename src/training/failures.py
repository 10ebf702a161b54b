"""What ends a run without being a fault of the code: too little memory, a full disk, a lost loss.

A person reads one sentence that says what to do, not a traceback.
"""

from __future__ import annotations

import errno
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["NO_ROOM", "DiskFull", "OutOfMemory", "RunFailed", "explained"]

# The errors of a full disk, of a quota, and of a limit on the size of files.
NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
# torch says it in words only: its CPU allocator, CUDA's and cuBLAS's, memory maps, oneDNN.
_NO_MEMORY = re.compile(
    r"out of memory|can't allocate memory|cannot allocate memory|not enough memory"
    r"|ALLOC_FAILED|could not create a memory object|bad_alloc",
    re.IGNORECASE,
)


class RunFailed(Exception):
    """A run cannot go on; the message is whole sentences and says what to do."""


class OutOfMemory(RunFailed):
    """The machine or the GPU has too little memory."""


class DiskFull(RunFailed):
    """A file could not be written for lack of room; what was there before is whole.

    Args:
        folder: where it was to be written.
        needed_bytes: what it takes, where known.
    """

    def __init__(self, folder: Path, needed_bytes: int | None = None) -> None:
        needed = "" if needed_bytes is None else f", some {_megabytes(needed_bytes)} are needed"
        super().__init__(
            f"there is no room for another file in {folder}: {_free(folder)} of its disk are free"
            f"{needed}; what was there before is whole, so make room and try again"
        )


@contextmanager
def explained(folder: Path, batch_size: int | None = None) -> Iterator[None]:
    """Turn what memory and disks refuse into `OutOfMemory` and `DiskFull`.

    Args:
        folder: named where the error does not say which file could not be written.
        batch_size: pictures a step, half of which is then advised; None where there are none.
    """
    try:
        yield
    except (MemoryError, RuntimeError, OSError) as error:
        if isinstance(error, OSError) and error.errno in NO_ROOM:
            named = error.filename
            raise DiskFull(Path(named).parent if isinstance(named, str) else folder) from error
        if isinstance(error, MemoryError) or _NO_MEMORY.search(str(error)):
            raise OutOfMemory(_advice(batch_size)) from error
        raise


def _advice(batch_size: int | None) -> str:
    if batch_size is None:
        return "there is not enough memory: choose a smaller data.image_size or a smaller model"
    if batch_size == 1:
        return (
            "there is not enough memory for a single picture: choose a smaller data.image_size or "
            "a smaller model"
        )
    pictures = f"there is not enough memory for batches of {batch_size} pictures"
    return f"{pictures}: try data.batch_size={batch_size // 2}"


def _free(folder: Path) -> str:
    while not folder.exists():
        folder = folder.parent
    return _megabytes(shutil.disk_usage(folder).free)


def _megabytes(size: int) -> str:
    return f"{size / 1e6:,.1f} MB"
