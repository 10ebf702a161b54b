"""Suspicious pictures of a data set, and the CSV file that lists them."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from src.machine.text import csv_row
from src.storage.files import write_atomically

__all__ = ["LabelReview", "LabelRow", "Suspect", "write_labels", "write_suspects"]

_LABEL_COLUMNS = ("path", "label", "split", "group", "suggested", "score")
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


@dataclass(frozen=True)
class LabelReview:
    """The labels of held-out pictures, compared with what a model answers.

    Attributes:
        suspects: pictures whose labels are likely wrong, the likeliest first.
        pictures: that were held out.
        agreement: share of them that the model gives their own label, in [0, 1].
        weak: whether that is too little for its objections to say much about labels.
    """

    suspects: tuple[Suspect, ...]
    pictures: int
    agreement: float
    weak: bool


@dataclass(frozen=True)
class LabelRow:
    """A picture with its label, as a table of pictures names it.

    Attributes:
        path: absolute.
        label: the name of its class.
        split: "train", "val" or "test".
        group: what keeps it together with others; "" for none.
        suggested: the name of a more plausible class; "" for none.
        score: of the suggestion, in (0, 1]; 0 for none.
    """

    path: str
    label: str
    split: str
    group: str = ""
    suggested: str = ""
    score: float = 0.0


def write_labels(path: Path, rows: Sequence[LabelRow]) -> None:
    """Write a CSV file to correct labels in, the likeliest mistakes first, atomically.

    It is a table of pictures as `data.root` takes it, with the columns `suggested` and `score`
    beside. The column `group` is there where a picture has one.

    Raises:
        OSError: the file cannot be written.
    """
    grouped = any(row.group for row in rows)
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow([name for name in _LABEL_COLUMNS if grouped or name != "group"])
    for row in sorted(rows, key=lambda row: -row.score):
        group = (row.group,) if grouped else ()
        score = f"{row.score:.4f}" if row.score else ""
        table.writerow(csv_row((row.path, row.label, row.split, *group, row.suggested, score)))
    write_atomically(path, text.getvalue())


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
