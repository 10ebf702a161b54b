"""Faults of files, and damaged lines, which are found and put aside."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from src.storage.digests import DamagedLine
from src.storage.files import write_atomically

__all__ = ["DamagedLines", "Fault", "find_damaged_lines"]

_ASIDE = ".damaged"


@dataclass(frozen=True)
class Fault:
    """A file or folder that differs from what was written.

    Attributes:
        what: what is wrong with it, in a clause.
        remedy: what to do, or what was done (where it is `repaired`), in a clause.
    """

    place: Path
    what: str
    remedy: str
    repaired: bool = False


@dataclass(frozen=True)
class DamagedLines:
    """The lines of a file with their ends, and what is wrong with damaged ones by number from 1."""

    path: Path
    lines: list[bytes]
    reasons: dict[int, str]

    @property
    def what(self) -> str:
        """The fault in a clause."""
        numbers = ", ".join(map(str, self.reasons))
        return f"line {numbers} is damaged ({next(iter(self.reasons.values()))})"

    def put_aside(self, content: bytes) -> str:
        """Give the file new content, and add the damaged lines to a file beside it.

        Returns:
            the name of the file with the damaged lines, each after its number.

        Raises:
            OSError: one of them cannot be written; the file is then unchanged.
        """
        aside = self.path.with_name(self.path.name + _ASIDE)
        before = aside.read_bytes() if aside.exists() else b""
        added = b"".join(
            b"%d: %s\n" % (number, self.lines[number - 1].rstrip(b"\n")) for number in self.reasons
        )
        write_atomically(aside, before + added)
        write_atomically(self.path, content)
        return aside.name


def find_damaged_lines(path: Path, read: Callable[[bytes], object]) -> DamagedLines | None:
    """Return the damaged lines of a file; None where there are none, or no file.

    A last line without its end is damaged, and one for which `read` raises DamagedLine.
    """
    try:
        lines = path.read_bytes().splitlines(keepends=True)
    except FileNotFoundError:
        return None
    reasons = {}
    for number, line in enumerate(lines, start=1):
        try:
            if not line.endswith(b"\n"):
                raise DamagedLine("it has no end")
            read(line)
        except DamagedLine as error:
            reasons[number] = str(error)
    return DamagedLines(path, lines, reasons) if reasons else None
