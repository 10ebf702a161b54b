"""A small table as text for a terminal, or as Markdown."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from rich.cells import cell_len, set_cell_size

from src.reporting.formatting import one_line

__all__ = ["Table"]

_GAP = "  "
_LEAST_LAST = 12  # cells that the last column keeps, however narrow the terminal
# What Markdown would read as more than text, `|` included.
_MARKS = re.compile(r"([\\`*_\[\]<>|~])")


@dataclass(frozen=True)
class Table:
    """Rows of text under headers.

    Attributes:
        title: what it shows, in one line.
        headers: one a column.
        rows: cells of each, as many as there are headers; line breaks become spaces.
        numbers: indices of the columns that are aligned to the right.

    Raises:
        ValueError: a row of another length.
    """

    title: str
    headers: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    numbers: frozenset[int] = frozenset()

    def __post_init__(self) -> None:
        for row in self.rows:
            if len(row) != len(self.headers):
                raise ValueError(f"{row} has {len(row)} cells for {len(self.headers)} headers.")

    def text(self, width: int) -> str:
        """Title and aligned columns; the last one is cut where a line would pass `width` cells."""
        lines = [tuple(map(one_line, row)) for row in (self.headers, *self.rows)]
        widths = [max(map(cell_len, column)) for column in zip(*lines)]
        before = sum(widths[:-1]) + len(_GAP) * len(widths)
        widths[-1] = min(widths[-1], max(width - before, _LEAST_LAST))
        return "\n".join([self.title, *(self._line(line, widths) for line in lines)])

    def _line(self, cells: Sequence[str], widths: Sequence[int]) -> str:
        parts = []
        for column, (cell, width) in enumerate(zip(cells, widths)):
            room = width - cell_len(cell)
            if room < 0:
                parts.append(set_cell_size(cell, width - 1) + "…")
            else:
                padding = " " * room
                parts.append(padding + cell if column in self.numbers else cell + padding)
        return f"{_GAP}{_GAP.join(parts)}".rstrip()

    def markdown(self) -> str:
        """Heading and pipe table, as GitHub reads it."""
        rule = ["---:" if i in self.numbers else "---" for i in range(len(self.headers))]
        rows = [_piped(map(_escaped, row)) for row in self.rows]
        head = [_piped(map(_escaped, self.headers)), _piped(rule)]
        return "\n".join([f"## {_escaped(self.title)}", "", *head, *rows])


def _piped(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _escaped(cell: str) -> str:
    return _MARKS.sub(r"\\\1", one_line(cell))
