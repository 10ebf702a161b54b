"""The table, stored on disk, of what was found in files that may not have changed since."""

from __future__ import annotations

import struct
import zipfile
import zlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from src.storage.digests import FILE_STATE, NEVER
from src.storage.files import replacing

__all__ = ["HASH_DTYPE", "Finding", "Findings"]

HASH_DTYPE = np.dtype("S32")
# What numpy and zipfile raise for an archive of arrays that is missing or damaged anywhere.
_NOT_WHOLE = (
    *(OSError, ValueError, KeyError, EOFError, RuntimeError, MemoryError, OverflowError),
    *(zipfile.BadZipFile, zlib.error, struct.error),
)
_ROW = np.dtype(
    [
        *((name, "i8") for name in FILE_STATE),
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


class Finding(NamedTuple):
    """What was found in one file; see `Survey` for what most fields mean.

    Attributes:
        settled: whether a change of the file from now on would show in its `FILE_STATE`.
        low, high: smallest and largest pixel of more than 8 bits.
        reason: why the picture cannot be used; "" where it can.
    """

    settled: bool
    hash: bytes = b""
    height: int = 0
    width: int = 0
    grey: bool = False
    low: float = np.nan
    high: float = np.nan
    deep_colour: bool = False
    reason: str = ""


def _no_rows() -> npt.NDArray[np.void]:
    return np.zeros(0, _ROW)


@dataclass(eq=False)
class Findings:
    """Rows of findings, one a path.

    Attributes:
        paths: N distinct paths.
        rows: (N,) of `FILE_STATE`, known, hash, height, width, grey, low, high, deep_colour and
            reason, the last an index into `reasons`.
        reasons: texts; the first is empty and means that nothing is wrong.
    """

    paths: tuple[str, ...] = ()
    rows: npt.NDArray[np.void] = field(default_factory=_no_rows)
    reasons: list[str] = field(default_factory=lambda: [""])

    @classmethod
    def load(cls, file: Path) -> Findings | None:
        """Return the findings in a file; None where it is missing or damaged."""
        try:
            with np.load(file, allow_pickle=False) as stored:
                rows = stored["rows"]
                paths = _texts(stored["paths"])
                reasons = _texts(stored["reasons"])
            if rows.dtype != _ROW or len(paths) != len(rows):
                raise ValueError("not a table of this kind")
        except _NOT_WHOLE:
            return None
        return cls(paths, rows, list(reasons))

    def save(self, file: Path) -> None:
        """Write the findings, whole or not at all.

        Raises:
            OSError: the file cannot be written; it is then as it was.
        """
        with replacing(file) as temporary, temporary.open("wb") as stream:
            np.savez(stream, rows=self.rows, paths=_blob(self.paths), reasons=_blob(self.reasons))

    def of(self, paths: tuple[str, ...], state: npt.NDArray[np.int64]) -> Findings:
        """Return the rows of these paths, known only where the files' state is the same.

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
        for name, present in zip(FILE_STATE, state.T, strict=True):
            known &= rows[name] == present
        rows[~known] = np.zeros((), _ROW)
        rows["known"] = known
        for name, present in zip(FILE_STATE, state.T, strict=True):
            rows[name] = present
        return Findings(paths, rows, list(self.reasons))

    def forget(self) -> None:
        """Mark all rows as unknown."""
        self.rows["known"] = False

    def unknown(self) -> npt.NDArray[np.int64]:
        """Return the indices of the unknown rows."""
        return np.flatnonzero(~self.rows["known"])

    def fill(self, index: int, found: Finding) -> None:
        """Write a row; one that is not settled is written for now, and not known next time."""
        if found.reason not in self.reasons:
            self.reasons.append(found.reason)
        row = self.rows[index]
        for name, value in found._asdict().items():
            if name not in ("settled", "reason"):
                row[name] = value
        row["known"], row["reason"] = True, self.reasons.index(found.reason)
        if not found.settled:
            row["mtime_ns"] = NEVER

    def joined(self, before: Findings) -> Findings:
        """Return these findings and, after them, those of other paths in earlier ones.

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
