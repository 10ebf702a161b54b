"""A fault of a file, and lines that are put aside."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from src.storage.digests import DamagedLine
from src.storage.files import write_atomically

__all__ = ["Fault", "damaged_lines", "put_aside"]

_ASIDE = ".damaged"


@dataclass(frozen=True)
class Fault:
    """Something that is not what was written.

    Attributes:
        place: the file or folder.
        what: is wrong with it, in a clause.
        remedy: what to do, or what was done, in a clause.
        repaired: whether it is well again.
    """

    place: Path
    what: str
    remedy: str
    repaired: bool = False


def damaged_lines(content: bytes, read: Callable[[bytes], object]) -> dict[int, str]:
    """What is wrong with lines, by number from 1; a last one without its end is among them.

    Args:
        content: of a file of lines.
        read: raises DamagedLine for a line that is not whole.
    """
    found = {}
    for number, line in enumerate(content.splitlines(keepends=True), start=1):
        try:
            if not line.endswith(b"\n"):
                raise DamagedLine("it has no end")
            read(line)
        except DamagedLine as error:
            found[number] = str(error)
    return found


def put_aside(path: Path, lines: dict[int, bytes], whole: bytes) -> Path:
    """Give a file other content, and keep the lines that it loses in another one beside it.

    Args:
        path: of the file.
        lines: those that it loses, by their number from 1.
        whole: its new content.

    Returns:
        the file that has them, each after its number; earlier ones stay in it.

    Raises:
        OSError: one of them cannot be written; the file is then as it was.
    """
    aside = path.with_name(path.name + _ASIDE)
    before = aside.read_bytes() if aside.exists() else b""
    added = b"".join(b"%d: %s\n" % (number, line.rstrip(b"\n")) for number, line in lines.items())
    write_atomically(aside, before + added)
    write_atomically(path, whole)
    return aside
