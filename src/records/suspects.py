"""Suspicious pictures of a data set, and the CSV file that lists them."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from src.machine.text import csv_row
from src.storage.files import write_atomically

__all__ = ["Suspect", "write_suspects"]

_COLUMNS = ("part", "index", "path", "label", "kind", "score", "suggested_label", "like")


@dataclass(frozen=True)
class Suspect:
    """A picture that should be inspected; it is used all the same.

    Attributes:
        part: "train", "val" or "test".
        index: in the data set.
        path: None where the pictures are no files.
        label: the name of its class.
        kind: what is suspicious about it.
        score: in [0, 1], 1 the worst; comparable within a kind.
        suggested: the name of a more plausible class; "" for none.
        like: path or number of the picture that it is nearly equal to; "" for none.
    """

    part: str
    index: int
    path: str | None
    label: str
    kind: str
    score: float
    suggested: str = ""
    like: str = ""


def write_suspects(path: Path, suspects: Sequence[Suspect]) -> None:
    """Write a CSV file with a line for each suspect, atomically.

    Raises:
        OSError: the file cannot be written.
    """
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(_COLUMNS)
    for s in suspects:
        place = (s.part, s.index, s.path or "", s.label)
        rows.writerow(csv_row((*place, s.kind, f"{s.score:.4f}", s.suggested, s.like)))
    write_atomically(path, text.getvalue())
