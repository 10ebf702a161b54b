"""What every measurement ends as: a row of one table."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

__all__ = ["Row", "print_table", "spread"]


@dataclass(frozen=True)
class Row:
    """One measured claim.

    Attributes:
        what: was measured.
        measured: with its unit, and how far the rounds lay apart.
        bar: what it should be.
        met: whether it is.
    """

    what: str
    measured: str
    bar: str
    met: bool


def spread(values: Iterable[float], unit: str = "x", digits: int = 2) -> str:
    """The median of the rounds with the lowest and the highest."""
    found = sorted(values)
    middle = (found[(len(found) - 1) // 2] + found[len(found) // 2]) / 2
    low, high = found[0], found[-1]
    return f"{middle:.{digits}f}{unit} ({low:.{digits}f} to {high:.{digits}f})"


def print_table(rows: Iterable[Row]) -> None:
    """As Markdown, so that it can be pasted into the README."""
    print("| what | measured | bar | |\n| --- | --- | --- | --- |")
    for row in rows:
        print(f"| {row.what} | {row.measured} | {row.bar} | {'met' if row.met else 'MISSED'} |")
