"""Notes on the files that archives and addresses left in the cache, made when they came."""

from __future__ import annotations

import os
import zlib
from pathlib import Path

import numpy as np

from ...machine.parallel import available_cores, in_order
from ...storage.array_files import load_arrays, packed_texts, unpacked_texts
from ...storage.digests import FILE_STATE, file_state
from ...storage.files import replacing

__all__ = ["NOTES", "FileNotes", "shortened_names"]

# The usual name of the file with the notes, beside the folder of the files.
NOTES = "files.npz"
_CHUNK_BYTES = 1 << 20
# A file's state, and the CRC-32 of its content.
_NUMBERS = len(FILE_STATE) + 1


class FileNotes:
    """The state and checksum of files in a folder, by their paths in it with slashes."""

    def __init__(self) -> None:
        self._rows: dict[str, tuple[int, ...]] = {}

    def __contains__(self, name: str) -> bool:
        return name in self._rows

    def __len__(self) -> int:
        return len(self._rows)

    @classmethod
    def read(cls, file: Path) -> FileNotes | None:
        """Return what `write` wrote; None where it is missing or damaged."""
        try:
            stored = load_arrays(file)
            rows = map(tuple, stored["rows"].reshape(-1, _NUMBERS).tolist())
            notes = cls()
            notes._rows = dict(zip(unpacked_texts(stored["names"]), rows, strict=True))
        except (OSError, ValueError, KeyError):
            return None
        return notes

    def write(self, file: Path) -> None:
        """Write the notes, whole or not at all.

        Raises:
            OSError: the file cannot be written.
        """
        rows = np.array([*self._rows.values()], np.int64).reshape(-1, _NUMBERS)
        with replacing(file) as temporary:
            np.savez(temporary, names=packed_texts(self._rows), rows=rows, allow_pickle=False)

    def add(self, name: str, path: str | Path, checksum: int | None = None) -> None:
        """Note a file as it is now.

        Args:
            name: its path in the folder.
            path: of the file.
            checksum: the CRC-32 of its content, where that is known; otherwise the file is read.

        Raises:
            OSError: it cannot be read.
        """
        state = file_state(os.stat(path))
        self._rows[name] = *state, _checksum(path) if checksum is None else checksum

    def changed(self, folder: Path, *, content: bool) -> list[str]:
        """Return the noted files that are gone or not as they were, in the order of the notes.

        Args:
            folder: with the files.
            content: whether files are read, also those whose size, times and inode are the same.

        Raises:
            OSError: a file cannot be read.
        """
        base = str(folder)

        def differs(name: str) -> bool:
            *state, checksum = self._rows[name]
            path = f"{base}/{name}"
            try:
                if list(file_state(os.stat(path))) != state:
                    return True
                return content and _checksum(path) != checksum
            except (FileNotFoundError, NotADirectoryError):
                return True

        names = self._rows
        found = in_order(differs, names, available_cores()) if content else map(differs, names)
        return [name for name, other in zip(names, found, strict=True) if other]


def shortened_names(names: list[str]) -> str:
    """Return the first of several names, and how many more there are."""
    return names[0] + (f" and {len(names) - 1:,} more" if names[1:] else "")


def _checksum(path: str | Path) -> int:
    checksum = 0
    with open(path, "rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            checksum = zlib.crc32(chunk, checksum)
    return checksum
