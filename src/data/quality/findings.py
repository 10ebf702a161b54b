"""The table, kept on disk, of what was found in files that may not have changed since."""

from __future__ import annotations

import os
import struct
import time
import zipfile
import zlib
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

__all__ = [
    "HASH_DTYPE",
    "NEVER",
    "NOT_WHOLE",
    "STATE",
    "Findings",
    "file_state",
    "was_settled",
]

HASH_DTYPE = np.dtype("S32")
# What numpy and zipfile raise for an archive of arrays that is missing or damaged anywhere.
NOT_WHOLE = (
    *(OSError, ValueError, KeyError, EOFError, RuntimeError, MemoryError, OverflowError),
    *(zipfile.BadZipFile, zlib.error, struct.error),
)
# A time of change that no file has: nothing is known about it.
NEVER = -1
# What tells a file from another one at its path: many tools set the time of change (tar, rsync,
# unzip), and none the time at which the file system last changed the entry, or its number.
STATE = ("bytes", "mtime_ns", "ctime_ns", "inode")
# A file that changes twice within a tick of the file system's clock may keep its size and time.
_CLOCK_TICK_NS = 20_000_000
# Times without a fraction of a second come from a file system that counts seconds, or two of them.
_COARSE_TICK_NS = 2_000_000_000
_SECOND_NS = 1_000_000_000
_ROW = np.dtype(
    [
        *((name, "i8") for name in STATE),
        ("known", "?"),
        ("hash", HASH_DTYPE),
        ("height", "i4"),
        ("width", "i4"),
        ("grey", "?"),
        ("low", "f8"),
        ("high", "f8"),
        ("deep_colour", "?"),
        ("reason", "i4"),
    ]
)


def file_state(status: os.stat_result) -> tuple[int, int, int, int]:
    """The values of `STATE` of a file: size in bytes, two times in ns, and the inode's number."""
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


def _no_rows() -> npt.NDArray[np.void]:
    return np.zeros(0, _ROW)


@dataclass(eq=False)
class Findings:
    """Rows of findings, one a path.

    Attributes:
        paths: N distinct paths.
        rows: (N,) of `STATE`, known, hash, height, width, grey, low, high, deep_colour and reason,
            the last an index into `reasons`.
        reasons: texts; the first is empty and means that nothing is wrong.
    """

    paths: tuple[str, ...] = ()
    rows: npt.NDArray[np.void] = field(default_factory=_no_rows)
    reasons: list[str] = field(default_factory=lambda: [""])

    @classmethod
    def load(cls, file: Path) -> Findings:
        """The findings in a file; an empty one if it is missing or damaged."""
        try:
            with np.load(file, allow_pickle=False) as stored:
                rows = stored["rows"]
                paths = _texts(stored["paths"])
                reasons = _texts(stored["reasons"])
            if rows.dtype != _ROW or len(paths) != len(rows):
                raise ValueError("not a table of this kind")
        except NOT_WHOLE:
            return cls()
        return cls(paths, rows, list(reasons))

    def save(self, file: Path) -> None:
        """Write the findings; whoever reads meanwhile sees the old one or the new one whole."""
        unfinished = file.with_name(file.name + ".unfinished")
        with unfinished.open("wb") as stream:
            np.savez(stream, rows=self.rows, paths=_blob(self.paths), reasons=_blob(self.reasons))
            stream.flush()
            os.fsync(stream.fileno())
        unfinished.replace(file)

    def of(self, paths: tuple[str, ...], state: npt.NDArray[np.int64]) -> Findings:
        """The rows of these paths, known only where the files' state is the same.

        Args:
            paths: M distinct paths.
            state: (M, 4) their present `file_state`.
        """
        if paths == self.paths:
            rows = self.rows.copy()
        else:
            rows = np.zeros(len(paths), _ROW)
            places = {path: row for row, path in enumerate(self.paths)}
            found = np.array([places.get(path, -1) for path in paths], np.int64)
            rows[found >= 0] = self.rows[found[found >= 0]]
        known = rows["known"].copy()
        for name, present in zip(STATE, state.T, strict=True):
            known &= rows[name] == present
        rows[~known] = np.zeros((), _ROW)
        rows["known"] = known
        for name, present in zip(STATE, state.T, strict=True):
            rows[name] = present
        return Findings(paths, rows, list(self.reasons))

    def forget(self) -> None:
        """Know nothing about any of these paths."""
        self.rows["known"] = False

    def unknown(self) -> npt.NDArray[np.int64]:
        """The indices of the rows about which nothing is known."""
        return np.flatnonzero(~self.rows["known"])

    def fill(
        self,
        index: int,
        *,
        settled: bool,
        hash: bytes,
        height: int,
        width: int,
        grey: bool,
        low: float,
        high: float,
        deep_colour: bool,
        reason: str,
    ) -> None:
        """Write a row; one that is not settled is written for now, and not known next time."""
        if reason not in self.reasons:
            self.reasons.append(reason)
        row = self.rows[index]
        row["known"] = True
        row["hash"], row["height"], row["width"], row["grey"] = hash, height, width, grey
        row["low"], row["high"], row["deep_colour"] = low, high, deep_colour
        row["reason"] = self.reasons.index(reason)
        if not settled:
            row["mtime_ns"] = NEVER

    def joined(self, before: Findings) -> Findings:
        """These findings and, after them, those of other paths that stood in earlier ones.

        Two lists of files may share a root, such as two CSV files in one folder.
        """
        mine = set(self.paths)
        kept = [row for row, path in enumerate(before.paths) if path not in mine]
        rows = before.rows[kept]
        # `of` copied the earlier reasons, and `fill` only appends, so the indices still hold.
        return Findings(
            (*self.paths, *(before.paths[row] for row in kept)),
            np.concatenate([self.rows, rows]),
            self.reasons,
        )


def _blob(texts: tuple[str, ...] | list[str]) -> npt.NDArray[np.uint8]:
    return np.frombuffer("\0".join(texts).encode(), np.uint8)


def _texts(blob: npt.NDArray[np.uint8]) -> tuple[str, ...]:
    return tuple(blob.tobytes().decode().split("\0"))
