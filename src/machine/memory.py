"""The memory of this machine and of this process, and whether freed memory is kept."""

from __future__ import annotations

import ctypes
import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import psutil

__all__ = ["available_memory", "memory_kept", "peak_memory", "total_memory"]

# Of mallopt(3), by which GNU's C library is set; what a person set by these variables stays.
_TRIM_THRESHOLD, _MMAP_THRESHOLD, _MMAP_MAX = -1, -3, -4
_CHOICES = ("MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_", "MALLOC_MMAP_MAX_")
# Number of bytes that its own rules end up with, and its largest number of mapped blocks.
_USUAL_RULES = ((_TRIM_THRESHOLD, 2**26), (_MMAP_THRESHOLD, 2**25), (_MMAP_MAX, 65536))
# Nothing is given back, and nothing is mapped by itself.
_KEEPING_RULES = ((_TRIM_THRESHOLD, -1), (_MMAP_MAX, 0))
_lock = threading.Lock()
_blocks: list[None] = []  # that have begun and not ended


def available_memory() -> int:
    """Return the bytes that programs can have before the system puts others on the disk."""
    return int(psutil.virtual_memory().available)


def total_memory() -> int:
    """Return the bytes of memory that the machine has."""
    return int(psutil.virtual_memory().total)


def peak_memory() -> int:
    """Return the peak of this process's resident memory so far, in bytes.

    Interpreter, libraries and data are included. It never goes down, so in a process that does one
    thing after another it is the largest so far.
    """
    # On Linux getrusage reports the parent's peak where that was higher, as it survives the start
    # of a new program; the high-water mark of the address space does not.
    status = Path("/proc/self/status")
    if status.exists():
        for line in status.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    memory = psutil.Process().memory_info()
    if hasattr(memory, "peak_wset"):  # Windows, which has no module `resource`
        return int(memory.peak_wset)
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


@contextmanager
def memory_kept() -> Iterator[None]:
    """Keep memory that is freed for what is allocated next; give it back at the end of the block.

    The activations of a batch are tens of megabytes each, and those of the next batch are as large.
    By its own rules GNU's C library maps what is larger than 32 MB anew each time, and gives the
    end of its heap back, so that the system clears and maps the same pages in every step. What that
    takes is in docs/figures.md. Blocks may lie within each other and in several threads. Other
    libraries of C, and one whose rules are set by variables of the environment, are left alone.
    """
    library = _gnu_library()
    if library is None:
        yield
        return
    with _lock:
        _blocks.append(None)
        _set(library, _KEEPING_RULES)
    try:
        yield
    finally:
        with _lock:
            _blocks.pop()
            if not _blocks:
                _set(library, _USUAL_RULES)
                library.malloc_trim(0)


def _set(library: ctypes.CDLL, options: tuple[tuple[int, int], ...]) -> None:
    for option, value in options:
        library.mallopt(option, value)


@cache
def _gnu_library() -> ctypes.CDLL | None:
    """Return the C library of this process, if it is GNU's and has no rules that a person set."""
    if sys.platform != "linux" or any(name in os.environ for name in _CHOICES):
        return None
    library = ctypes.CDLL(None)
    names = ("gnu_get_libc_version", "mallopt", "malloc_trim")
    return library if all(hasattr(library, name) for name in names) else None
