"""The table, kept on disk, of what was found in files that may not have changed since."""

from __future__ import annotations

import os
import struct
import zipfile
import zlib
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

__all__ = ["HASH_DTYPE", "NEVER", "NOT_WHOLE", "Findings"]

HASH_DTYPE = np.dtype("S32")
# What numpy and zipfile raise for an archive of arrays that is missing or damaged anywhere.
NOT_WHOLE = (
    *(OSError, ValueError, KeyError, EOFError, RuntimeError, MemoryError, OverflowError),
    *(zipfile.BadZipFile, zlib.error, struct.error),
)
# A time of change that no file has: nothing is known about it.
NEVER = -1
_ROW = np.dtype(
    [
        ("bytes", "i8"),
        ("mtime_ns", "i8"),
        ("known", "?"),
        ("hash", HASH_DTYPE),
        ("height", "i4"),
        ("width", "i4"),
        ("grey", "?"),
        ("reason", "i4"),
    ]
)


def _no_rows() -> npt.NDArray[np.void]:
    return np.zeros(0, _ROW)


@dataclass(eq=False)
class Findings:
    """Rows of findings, one a path.

    Attributes:
        paths: N distinct paths.
        rows: (N,) of bytes, mtime_ns, known, hash, height, width, grey and reason, the last an
            index into `reasons`.
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
        """The rows of these paths, known only where size and time of change are the same.

        Args:
            paths: M distinct paths.
            state: (M, 2) their present size in bytes and time of change in ns.
        """
        if paths == self.paths:
            rows = self.rows.copy()
        else:
            rows = np.zeros(len(paths), _ROW)
            places = {path: row for row, path in enumerate(self.paths)}
            found = np.array([places.get(path, -1) for path in paths], np.int64)
            rows[found >= 0] = self.rows[found[found >= 0]]
        known = rows["known"] & (rows["bytes"] == state[:, 0]) & (rows["mtime_ns"] == state[:, 1])
        rows[~known] = np.zeros((), _ROW)
        rows["known"] = known
        rows["bytes"], rows["mtime_ns"] = state.T
        return Findings(paths, rows, list(self.reasons))

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
        reason: str,
    ) -> None:
        """Write a row; one that is not settled is written for now, and not known next time."""
        if reason not in self.reasons:
            self.reasons.append(reason)
        row = self.rows[index]
        row["known"] = True
        row["hash"], row["height"], row["width"], row["grey"] = hash, height, width, grey
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
