"""A file that is written in blocks, of which a build that goes on finds those that are whole.

Beside it lies a journal with a line for each block: its length, its CRC-32 and what its writer says
of it. A folder of the cache that has such blocks outlives the process that fills it.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ..machine.disk import named_file
from .digests import DamagedLine, checked_line, line_content

__all__ = ["GrowingFile", "has_blocks"]

_JOURNAL = "blocks.jsonl"


def has_blocks(folder: Path) -> bool:
    """Return whether a folder has a growing file with a block, as one that was not closed."""
    journal = folder / _JOURNAL
    return journal.is_file() and journal.stat().st_size > 0


class GrowingFile:
    """The blocks of a file, those that an earlier process has written first.

    Args:
        file: in a folder that is being filled, and has no other growing file.
        of: what the blocks are of, a text; those of anything else are written anew.

    Attributes:
        blocks: the values of each block, in order.
    """

    def __init__(self, file: Path, of: str) -> None:
        self._file, self._journal, self._of = file, file.with_name(_JOURNAL), of
        self.blocks: list[dict[str, Any]] = []
        self._lengths: list[int] = []
        lines = 0
        for line, content, values in self._whole():
            lines += len(line)
            self._lengths.append(len(content))
            self.blocks.append(values)
        self._cut(lines)  # what follows was cut off, or is of something else

    @property
    def size(self) -> int:
        """The bytes of all blocks."""
        return sum(self._lengths)

    def contents(self) -> Iterator[bytes]:
        """Yield the bytes of each block, in order."""
        with self._file.open("rb") as stream:
            for length in self._lengths:
                yield stream.read(length)

    def add(self, content: bytes, values: dict[str, Any]) -> None:
        """Append a block and its values, which are plain.

        Raises:
            OSError: it cannot be written.
        """
        line = {"of": self._of, "length": len(content), "crc": zlib.crc32(content), "is": values}
        for file, what in ((self._file, content), (self._journal, checked_line(line))):
            with named_file(file), file.open("ab") as stream:
                stream.write(what)
        self._lengths.append(len(content))
        self.blocks.append(values)

    def clear(self) -> None:
        """Take out all blocks."""
        self.blocks.clear()
        self._lengths.clear()
        self._cut(0)

    def close(self) -> None:
        """Forget the blocks: the file is complete."""
        self._journal.unlink()

    def _cut(self, lines: int) -> None:
        """Cut the file to the length of its blocks, and the journal to that of their lines."""
        for path, length in ((self._file, self.size), (self._journal, lines)):
            with named_file(path), path.open("ab") as stream:
                stream.truncate(length)

    def _whole(self) -> Iterator[tuple[bytes, bytes, dict[str, Any]]]:
        """Yield the line, the content and the values of each whole block of the same."""
        if not (self._journal.is_file() and self._file.is_file()):
            return
        with self._journal.open("rb") as journal, self._file.open("rb") as stream:
            for line in journal:
                try:
                    found = line_content(line, strict=True)
                except DamagedLine:
                    return
                content = stream.read(found["length"])
                if found["of"] != self._of or len(content) != found["length"]:
                    return
                if zlib.crc32(content) != found["crc"]:
                    return
                yield line, content, found["is"]
