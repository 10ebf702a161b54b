"""Failures of a run that are no faults of the code, such as too little memory or a full disk.

The user gets one sentence with the remedy, not a traceback.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from .disk import NO_ROOM, refusal
from .imports import is_foreign

__all__ = [
    "DiskRefuses",
    "NotLoaded",
    "OutOfMemory",
    "ProcessLost",
    "RunFailed",
    "explained",
    "require_folder",
]

# Messages of torch's CPU allocator, of CUDA, cuBLAS, memory maps and oneDNN, which have no type.
_NO_MEMORY = re.compile(
    r"out of memory|can't allocate memory|cannot allocate memory|not enough memory"
    r"|ALLOC_FAILED|could not create a memory object|bad_alloc",
    re.IGNORECASE,
)
# Messages of torch's and Python's pools of processes, of which the former has no type.
_PROCESS_LOST = re.compile(
    r"DataLoader worker .*(is killed by signal|exited unexpectedly)|terminated abruptly"
)
# Messages of the system about shared libraries: the first where memory is short.
_NOT_MAPPED = "failed to map segment from shared object"
_LIBRARY = re.compile(rf"\S+: ({_NOT_MAPPED}|cannot open shared object file|undefined symbol)")


class RunFailed(Exception):
    """A run cannot continue; the message is a sentence with the remedy."""


class OutOfMemory(RunFailed):
    """The machine or the GPU has too little memory."""


class ProcessLost(RunFailed):
    """A process that works for this one was killed; what was saved is whole."""


class NotLoaded(RunFailed):
    """An installed package, or a library of one, cannot be loaded."""


class DiskRefuses(RunFailed):
    """A file could not be written: no room, no permission; the old one is kept."""


def require_folder(folder: Path) -> None:
    """Raise `DiskRefuses` if the folder of a run is gone: to make it anew would divide the run."""
    if not folder.is_dir():
        raise DiskRefuses(
            f"{folder} was moved or removed while its run wrote into it: move it back, and "
            f"resume={folder} goes on with the run"
        )


@contextmanager
def explained(folder: Path, batch_size: int | None = None) -> Iterator[None]:
    """Turn errors of memory, disks, lost processes and packages into a kind of `RunFailed`.

    Args:
        folder: named where the error names no file.
        batch_size: pictures per step, half of which is advised; None without batches.
    """
    try:
        yield
    except (MemoryError, RuntimeError, OSError, ImportError) as error:
        if isinstance(error, OSError | ImportError) and (reason := _not_loaded(error)):
            raise NotLoaded(reason) from error
        if isinstance(error, OSError):
            # Only those of a full disk are the disk's without a file that they name.
            place = folder if error.errno in NO_ROOM else None
            if reason := refusal(error, place):
                raise DiskRefuses(reason) from error
        if isinstance(error, MemoryError) or _NO_MEMORY.search(str(error)):
            raise OutOfMemory(_advice(batch_size)) from error
        if isinstance(error, RuntimeError) and _PROCESS_LOST.search(str(error)):
            raise ProcessLost(
                "a process that reads or describes pictures was killed, as the system does for "
                "lack of memory: end other programs or set data.num_workers=1, and try again"
            ) from error
        raise


def _not_loaded(error: ImportError | OSError) -> str | None:
    """Return why an installed package, or a library of one, cannot be loaded, and the remedy.

    None for a part of the project, and for errors that are none of loading.
    """
    library = _LIBRARY.match(str(error))
    name = (getattr(error, "name", None) or "").partition(".")[0]
    if library is None and (not name or not is_foreign(name)):
        return None
    what = f"the package {name}" if name else str(error).partition(":")[0]
    if library is not None and library[1] == _NOT_MAPPED and "not permitted" not in str(error):
        return f"there is not enough memory to load {what}: end other programs, or raise ulimit -v"
    return f"{what} cannot be loaded ({error}): install it again, as the lock file states it"


def _advice(batch_size: int | None) -> str:
    missing = "there is not enough memory"
    if batch_size is not None and batch_size > 1:
        what = f"batches of {batch_size} pictures"
        return f"{missing} for {what}: try data.batch_size={batch_size // 2}"
    what = " for a single picture" if batch_size == 1 else ""
    return f"{missing}{what}: choose a smaller data.image_size or a smaller model"
