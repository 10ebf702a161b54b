"""The file of what an audit has found, so that files which are as they were are not read again.

It is no entry of `src.storage.cache`, whose key is a hash of the content that an entry is made of:
here that is the bytes of all pictures, whose reading the file saves. It is found by the root of the
pictures, grows with them, is replaced as a whole, and its archive has checksums of its own.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ...machine.arrays import Int64Array
from ...storage.array_files import load_arrays, packed_texts, unpacked_texts
from ...storage.digests import FILE_STATE
from ...storage.files import replacing

__all__ = ["HASH_DTYPE", "Findings"]

# To be raised when the same file would be found otherwise.
_VERSION = 3
HASH_DTYPE = np.dtype("S32")
_ROW = np.dtype(
    [
        *((name, "i8") for name in FILE_STATE),
        ("known", "?"),
        ("hash", HASH_DTYPE),
        ("height", "i4"),
        ("width", "i4"),
        ("bands", "i4"),
        ("low", "f8"),
        ("high", "f8"),
        ("windowed", "?"),
        ("group", HASH_DTYPE),
        ("reason", "i4"),
    ]
)


@dataclass(eq=False)
class Findings:
    """Rows of findings, one a path.

    Attributes:
        paths: N distinct paths.
        rows: (N,) of `FILE_STATE`, known, hash, height, width, bands, low, high, windowed, group
            and reason, the last an index into `reasons`.
        reasons: texts; the first is empty and means that nothing is wrong.
    """

    paths: tuple[str, ...] = ()
    rows: npt.NDArray[np.void] = field(default_factory=lambda: np.zeros(0, _ROW))
    reasons: list[str] = field(default_factory=lambda: [""])

    @classmethod
    def load(cls, file: Path) -> Findings | None:
        """Return the findings in a file; None where it is missing or damaged."""
        try:
            stored = load_arrays(file)
            rows, paths = stored["rows"], unpacked_texts(stored["paths"])
            if rows.dtype != _ROW or len(paths) != len(rows):
                return None
            rows["known"] &= stored["version"] == _VERSION
            return cls(tuple(paths), rows, unpacked_texts(stored["reasons"]))
        except (OSError, ValueError, KeyError, MemoryError):
            return None

    def save(self, file: Path) -> None:
        """Write the findings, whole or not at all.

        Raises:
            OSError: the file cannot be written; it is then as it was.
        """
        with replacing(file) as temporary, temporary.open("wb") as stream:
            paths, reasons = packed_texts(self.paths), packed_texts(self.reasons)
            np.savez(stream, rows=self.rows, paths=paths, reasons=reasons, version=_VERSION)

    def of(self, paths: tuple[str, ...], states: Int64Array, *, forget: bool) -> Findings:
        """Return the rows of M distinct paths, known where the files' `states` (M, 4) are the same.

        With `forget`, all are unknown.
        """
        rows = np.zeros(len(paths), _ROW)
        if paths == self.paths:
            rows[:] = self.rows
        else:
            places = {path: row for row, path in enumerate(self.paths)}
            found = np.array([places.get(path, -1) for path in paths], np.int64)
            rows[found >= 0] = self.rows[found[found >= 0]]
        same = [rows[name] == now for name, now in zip(FILE_STATE, states.T, strict=True)]
        known = np.logical_and.reduce([rows["known"], *same]) & (not forget)
        rows[~known] = np.zeros((), _ROW)
        for name, now in zip(FILE_STATE, states.T, strict=True):
            rows[name] = now
        return Findings(paths, rows, list(self.reasons))

    def fill(self, index: int, columns: dict[str, Any], reason: str) -> None:
        """Write a row that was unknown."""
        if reason not in self.reasons:
            self.reasons.append(reason)
        columns = columns | {"known": True, "reason": self.reasons.index(reason)}
        for name, value in columns.items():
            self.rows[index][name] = value

    def joined(self, before: Findings) -> Findings:
        """Return these findings and, after them, those of other paths in earlier ones.

        Two lists of files may share a root, such as two CSV files in one folder.
        """
        mine = set(self.paths)
        kept = [row for row, path in enumerate(before.paths) if path not in mine]
        # `of` copied the earlier reasons, and `fill` only appends, so the indices still hold.
        return Findings(
            (*self.paths, *(before.paths[row] for row in kept)),
            np.concatenate([self.rows, before.rows[kept]]),
            self.reasons,
        )
