"""What every measurement ends as: a row of one table."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

__all__ = ["Row", "print_table", "spread", "table_text"]


@dataclass(frozen=True)
class Row:
    """One measured claim.

    Attributes:
        what: was measured.
        measured: with its unit, and how far the rounds lay apart; or why nothing was measured.
        bar: what it should be.
        met: whether it is; None where nothing was measured.
    """

    what: str
    measured: str
    bar: str
    met: bool | None

    @property
    def result(self) -> str:
        return {True: "met", False: "MISSED", None: "skipped"}[self.met]


def spread(values: Iterable[float], unit: str = "x", digits: int = 2) -> str:
    """The median of the rounds with the lowest and the highest."""
    found = sorted(values)
    middle = (found[(len(found) - 1) // 2] + found[len(found) // 2]) / 2
    low, high = found[0], found[-1]
    return f"{middle:.{digits}f}{unit} ({low:.{digits}f} to {high:.{digits}f})"


def table_text(rows: Iterable[Row]) -> str:
    """As Markdown, so that it can be pasted into the README."""
    return "\n".join(_lines(rows))


def print_table(rows: Iterable[Row]) -> None:
    """Print `table_text`, each row as soon as it is known."""
    for line in _lines(rows):
        print(line, flush=True)


def _lines(rows: Iterable[Row]) -> Iterator[str]:
    yield "| what | measured | bar | |"
    yield "| --- | --- | --- | --- |"
    for row in rows:
        yield f"| {row.what} | {row.measured} | {row.bar} | {row.result} |"
