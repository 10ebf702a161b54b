"""Whether content is still what it was: digests, checksums, and what `stat` says of a file."""

from __future__ import annotations

import hashlib
import json
import os
import re
import struct
import time
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

__all__ = [
    "FILE_STATE",
    "NEVER",
    "DamagedLine",
    "HashingWriter",
    "checked_json",
    "checked_line",
    "digest_of",
    "file_digest",
    "file_state",
    "line_content",
    "was_settled",
    "zip_is_whole",
]

# Of those in the standard library, the fastest on processors with its own code.
_ALGORITHM = "sha256"
# The end of a line that carries the checksum of all before it.
_CHECK = re.compile(rb',\s?"check": ?"([0-9a-f]{8})"\n?\}\n?\Z')
# Those of `checked_line` and of `checked_json`, by their lengths without the last line's end.
_CHECK_SIZES = (len(b',"check":"01234567"}'), len(b',\n"check": "01234567"\n}'))
# A zip archive ends with a record whose last two bytes are the length of a comment behind it.
_COMMENT_LENGTH = 2
_MARK = b"bakeoff " + _ALGORITHM.encode() + b" "
_COMMENT_SIZE = len(_MARK) + 64
_CHUNK = 1 << 20
# The names of the values of `file_state`, which tell a file from another one at its path: many
# tools set the time of change (tar, rsync, unzip), and none the time at which the file system last
# changed the entry, or its number.
FILE_STATE = ("bytes", "mtime_ns", "ctime_ns", "inode")
# A time of change that no file has.
NEVER = -1
# A file that changes twice within a tick of the file system's clock may keep its size and time.
_CLOCK_TICK_NS = 20_000_000
# Times without a fraction of a second come from a file system that counts seconds, or two of them.
_COARSE_TICK_NS = 2_000_000_000
_SECOND_NS = 1_000_000_000


def digest_of(content: bytes) -> str:
    """Return the SHA-256 of bytes, 64 hex digits."""
    return hashlib.new(_ALGORITHM, content).hexdigest()


def file_digest(path: Path) -> str:
    """Return the SHA-256 of a file, 64 hex digits.

    Raises:
        OSError: it cannot be read.
    """
    with path.open("rb") as file:
        return hashlib.file_digest(file, _ALGORITHM).hexdigest()


def file_state(status: os.stat_result) -> tuple[int, int, int, int]:
    """Return the `FILE_STATE` of a file: size in bytes, two times in ns, and the inode's number."""
    # Some network file systems have numbers of 64 bits without a sign.
    inode = status.st_ino & 0x7FFF_FFFF_FFFF_FFFF
    return status.st_size, status.st_mtime_ns, status.st_ctime_ns, inode


def was_settled(mtime_ns: int, ctime_ns: int) -> bool:
    """Return whether a file with these times would have others if it changed now."""
    now = time.time_ns()
    for past in (mtime_ns, ctime_ns):
        tick = _CLOCK_TICK_NS if past % _SECOND_NS else _COARSE_TICK_NS
        if past == NEVER or abs(now - past) <= tick:
            return False
    return True


class DamagedLine(ValueError):
    """A line is no JSON object, or its checksum is not that of its content."""


def checked_line(values: Mapping[str, Any]) -> bytes:
    """Return a JSON object as one line that ends with its own checksum (CRC-32), the key `check`.

    `values` are plain, not empty, and without that key.
    """
    text = json.dumps(values, separators=(",", ":")).encode()
    return b'%s,"check":"%08x"}\n' % (text[:-1], zlib.crc32(text[:-1]))


def checked_json(values: Mapping[str, Any]) -> bytes:
    """Return a JSON object on several lines, which `line_content` reads as well.

    Raises:
        ValueError: a number that JSON does not know.
    """
    text = json.dumps(values, indent=1, allow_nan=False).encode().removesuffix(b"\n}")
    return b'%s,\n"check": "%08x"\n}\n' % (text, zlib.crc32(text))


def line_content(line: bytes, *, strict: bool = False) -> dict[str, Any]:
    """Return what `checked_line` or `checked_json` wrote, without the checksum.

    Args:
        line: with or without its end; a whole file of `checked_json`.
        strict: whether a line without a checksum, as Optuna writes those of a journal, is damaged.
            One whose checksum is there, and what marks it as one is not, is damaged in any case.

    Raises:
        DamagedLine: it is not what was written.
    """
    found = _CHECK.search(line)
    if found is None and (strict or _lost_its_mark(line)):
        raise DamagedLine("its checksum is missing")
    if found is not None and int(found[1], 16) != zlib.crc32(line[: found.start()]):
        raise DamagedLine("its checksum is not that of its content")
    try:
        values = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise DamagedLine(f"it is no JSON: {error}") from error
    if not isinstance(values, dict):
        raise DamagedLine("it is no JSON object")
    if ("check" in values) != (found is not None):
        raise DamagedLine("its checksum is damaged")
    values.pop("check", None)
    return values


def _lost_its_mark(line: bytes) -> bool:
    """Return whether the end of a line holds the checksum of what is before that end."""
    line = line.removesuffix(b"\n")
    return any(b"%08x" % zlib.crc32(line[:-size]) in line[-size:] for size in _CHECK_SIZES)


class HashingWriter:
    """An empty file to write a zip archive to, which gets its content's digest as its comment.

    A reader of archives sees the same archive; `zip_is_whole` sees whether it still is.
    """

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._hash = hashlib.new(_ALGORITHM)

    def write(self, data: Any) -> int:
        self._hash.update(data)
        return self._file.write(data)

    def flush(self) -> None:
        self._file.flush()

    def close_archive(self) -> None:
        """Add the comment, once the archive is complete and ends without one."""
        comment = _MARK + self._hash.hexdigest().encode()
        self._file.flush()
        self._file.seek(-_COMMENT_LENGTH, 2)
        self._file.write(struct.pack("<H", len(comment)) + comment)


def zip_is_whole(path: Path) -> bool | None:
    """Return whether an archive is what was written; None for one that carries no digest.

    A file that is cut off carries none.

    Raises:
        OSError: it cannot be read.
    """
    size = path.stat().st_size - _COMMENT_SIZE
    if size < _COMMENT_LENGTH:
        return None
    with path.open("rb") as file:
        file.seek(size - _COMMENT_LENGTH)
        length, comment = file.read(_COMMENT_LENGTH), file.read()
        if not comment.startswith(_MARK):
            return None
        file.seek(0)
        content, left = hashlib.new(_ALGORITHM), size - _COMMENT_LENGTH
        while left:
            chunk = file.read(min(left, _CHUNK))
            if not chunk:
                return False
            content.update(chunk)
            left -= len(chunk)
    content.update(bytes(_COMMENT_LENGTH))  # as it ended before the comment was added
    same = content.hexdigest().encode() == comment[len(_MARK) :]
    return same and length == struct.pack("<H", _COMMENT_SIZE)
