"""Checksums of a large file by block, checked once a process before the file is mapped.

CRC-32 runs at several GB/s, so that checking takes less than the first pass over the pixels; it
finds every flipped byte and every block of zeros that a disk may give in place of what it was told.
"""

from __future__ import annotations

import zlib
from functools import partial
from pathlib import Path

from src.machine.parallel import available_cores, in_order
from src.storage.digests import DamagedLine, checked_line, line_content

__all__ = ["block_checksums", "check_again", "has_its_checksums", "is_whole", "write_checksums"]

_CHECKSUMS = "checksums.json"
_BLOCK_BYTES = 4 << 20
# Files that this process has checked, as they were then.
_checked: set[tuple[str, int, int, int]] = set()


def block_checksums(path: Path) -> list[int]:
    """Return the CRC-32 of each block of 4 MB of a file, the last one as long as it is.

    Raises:
        OSError: it cannot be read.
    """
    starts = range(0, path.stat().st_size, _BLOCK_BYTES)
    return [*in_order(partial(_checksum, path), starts, available_cores())]


def is_whole(path: Path, expected: list[int]) -> bool:
    """Return whether a file has these checksums, as far as this process has not seen that it has.

    Args:
        path: of the file.
        expected: what `block_checksums` gave when it was written.

    Raises:
        OSError: it cannot be read.
    """
    status = path.stat()
    state = (str(path), status.st_ino, status.st_size, status.st_mtime_ns)
    if state in _checked:
        return True
    if block_checksums(path) != expected:
        return False
    _checked.add(state)
    return True


def check_again() -> None:
    """Have every file checked again that this process has checked already."""
    _checked.clear()


def write_checksums(path: Path) -> None:
    """Write the checksums of a file into another one beside it.

    Raises:
        OSError: it cannot be read, or they cannot be written.
    """
    path.with_name(_CHECKSUMS).write_bytes(checked_line({"blocks": block_checksums(path)}))


def has_its_checksums(path: Path) -> bool:
    """Return whether a file is what `write_checksums` was called for; see `is_whole`."""
    try:
        kept = line_content(path.with_name(_CHECKSUMS).read_bytes(), strict=True)
        return is_whole(path, kept["blocks"])
    except (OSError, DamagedLine, KeyError):
        return False


def _checksum(path: Path, start: int) -> int:
    with path.open("rb") as file:
        file.seek(start)
        return zlib.crc32(file.read(_BLOCK_BYTES))
