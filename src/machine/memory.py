"""The memory of this machine and of this process."""

from __future__ import annotations

import sys
from pathlib import Path

import psutil

__all__ = ["available_memory", "peak_memory", "total_memory"]


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
