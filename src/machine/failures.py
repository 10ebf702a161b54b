"""What ends a run without being a fault of the code: too little memory, a full disk, a lost loss.

A person reads one sentence that says what to do, not a traceback.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from src.machine.disk import NO_ROOM, refusal

__all__ = ["DiskRefuses", "OutOfMemory", "RunFailed", "explained"]

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


class DiskRefuses(RunFailed):
    """A file could not be written: no room, no permission; what was there before is whole."""


@contextmanager
def explained(folder: Path, batch_size: int | None = None) -> Iterator[None]:
    """Turn what memory and disks refuse into `OutOfMemory` and `DiskRefuses`.

    Args:
        folder: named where the error does not say which file could not be written.
        batch_size: pictures a step, half of which is then advised; None where there are none.
    """
    try:
        yield
    except (MemoryError, RuntimeError, OSError) as error:
        if isinstance(error, OSError) and (reason := _refused(error, folder)):
            raise DiskRefuses(reason) from error
        if isinstance(error, MemoryError) or _NO_MEMORY.search(str(error)):
            raise OutOfMemory(_advice(batch_size)) from error
        raise


def _refused(error: OSError, folder: Path) -> str | None:
    """`refusal`, where only an error of room may concern a file that it does not name."""
    return refusal(error, folder if error.errno in NO_ROOM else None)


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
