"""Pictures as arrays, and labelled ones for inspection: guesses, suspects and class maps."""

from __future__ import annotations

import hashlib
import heapq
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..machine.arrays import Float32Array, Int64Array, UInt8Array
from ..machine.text import csv_text
from ..storage.files import write_atomically

__all__ = [
    "SURE_SCORE",
    "ClassMaps",
    "Guess",
    "GuessSample",
    "LabelReview",
    "LabelRow",
    "Pixels",
    "Suspect",
    "shown",
    "write_labels",
    "write_suspects",
]

# Pictures (..., C, H, W) from 0 to 255: uint8, or float32 where the files have more than 8 bits.
Pixels = NDArray[np.uint8 | np.float32]
# Of labels that models contradicted with such a score, three of four were wrong where 2 % of all
# had been changed; with any score, one of seven (docs/figures.md, "Contradicted labels").
SURE_SCORE = 0.9
_LABEL_COLUMNS = ("path", "label", "split", "group", "suggested", "score")
_SUSPECT_COLUMNS = ("part", "index", "path", "label", "kind", "score", "suggested_label", "like")


def shown(pixels: Pixels) -> UInt8Array:
    """Return a picture (C, H, W) as it is drawn: uint8, C 1 or 3.

    Of more than three bands the first three are taken for red, green and blue; of two, the first.
    """
    some = pixels[:3] if len(pixels) >= 3 else pixels[:1]
    return np.floor(np.clip(some, 0, 255) + 0.5).astype(np.uint8)


@dataclass(frozen=True)
class ClassMaps:
    """Maps of a trained model.

    Attributes:
        of: pictures (B, C, H, W) and classes (B, M) int64 to look for in each
            -> (B, M, H, W) in [0, 1].
        title: of the maps, and the meaning of bright places.
    """

    of: Callable[[Pixels, Int64Array], Float32Array]
    title: str


@dataclass(frozen=True, order=True)
class Guess:
    """A predicted label of a picture, with its probability in [0, 1], by which guesses sort."""

    probability: float
    path: str
    label: str


class GuessSample:
    """The least certain guesses, where mistakes are, and a random sample of the others.

    Holds a bounded number of guesses. The sample is drawn by the hash of each path, so that equal
    pictures give equal samples.

    Args:
        class_names: all that a label may be.
        limit: how many of each.

    Attributes:
        count: number of guesses added.
    """

    def __init__(self, class_names: Sequence[str], limit: int = 30) -> None:
        self.class_names = tuple(class_names)
        self.count = 0
        self._limit = limit
        # Heaps, at whose front is what has to go next.
        self._unsure: list[tuple[float, Guess]] = []
        # Twice as many, since the least certain ones may be among them.
        self._drawn: list[tuple[int, Guess]] = []

    def add(self, guess: Guess) -> None:
        """Add a guess."""
        self.count += 1
        _keep_largest(self._unsure, (-guess.probability, guess), self._limit)
        path = guess.path.encode("utf-8", "surrogateescape")
        rank = int.from_bytes(hashlib.blake2b(path, digest_size=8).digest())
        _keep_largest(self._drawn, (rank, guess), 2 * self._limit)

    @property
    def least_certain(self) -> list[Guess]:
        """At most `limit`, least certain first."""
        return sorted(guess for _, guess in self._unsure)

    def few(self, limit: int = 24) -> list[Guess]:
        """At most `limit`: the least certain ones as half of them, then some of all the others."""
        unsure, others = self.least_certain, self.others
        half = max(limit // 2, limit - len(others))
        places = min(limit - min(half, len(unsure)), len(others))
        spread = [others[len(others) * place // places] for place in range(places)]
        return unsure[:half] + spread

    @property
    def others(self) -> list[Guess]:
        """At most `limit` of the rest, least certain first."""
        unsure = set(self.least_certain)
        rest = [guess for _, guess in sorted(self._drawn, reverse=True) if guess not in unsure]
        return sorted(rest[: self._limit])


def _keep_largest(heap: list[Any], item: Any, limit: int) -> None:
    if len(heap) < limit:
        heapq.heappush(heap, item)
    else:
        heapq.heappushpop(heap, item)


@dataclass(frozen=True)
class Suspect:
    """A picture that should be inspected; it is used all the same.

    Attributes:
        part: "train", "val" or "test".
        index: in the data set.
        path: None where the pictures are no files.
        label, suggested: names of its class and of a more plausible one; "" for none.
        kind: what is suspicious about it.
        score: in [0, 1], 1 the worst; comparable within a kind.
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

    @property
    def name(self) -> str:
        """Its path, or its number where the pictures are no files."""
        return self.path or f"picture {self.index}"


@dataclass(frozen=True)
class LabelReview:
    """The labels of held-out pictures, compared with what a model answers.

    Attributes:
        suspects: pictures whose labels the model confidently contradicts, by score.
        pictures: that were held out.
        agreement: share of them that the model gives their own label, in [0, 1].
        odd: pictures of any part whose labels most nearly equal pictures contradict, by score.
    """

    suspects: tuple[Suspect, ...]
    pictures: int
    agreement: float
    odd: tuple[Suspect, ...] = ()

    @property
    def listed(self) -> tuple[Suspect, ...]:
        """All of them, each picture once, those first that nearly equal ones contradict."""
        known = {suspect.index for suspect in self.odd}
        return (*self.odd, *(one for one in self.suspects if one.index not in known))

    @property
    def sure(self) -> int:
        """Number of suspects with a score of `SURE_SCORE` or more."""
        return sum(suspect.score >= SURE_SCORE for suspect in self.suspects)


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
        odd: whether it is that of most nearly equal pictures, and not of a model.
    """

    path: str
    label: str
    split: str
    group: str = ""
    suggested: str = ""
    score: float = 0.0
    odd: bool = False


def write_labels(path: Path, rows: Sequence[LabelRow]) -> None:
    """Write a CSV file to correct labels in, the likeliest mistakes first, atomically.

    Odd labels come before others. It is a table of pictures as `data.root` takes it, with the
    columns `suggested` and `score` beside. The column `group` is there where a picture has one.

    Raises:
        OSError: the file cannot be written.
    """
    grouped = any(row.group for row in rows)
    header = [name for name in _LABEL_COLUMNS if grouped or name != "group"]
    cells = (
        (
            *(row.path, row.label, row.split, *((row.group,) if grouped else ())),
            *(row.suggested, f"{row.score:.4f}" if row.score else ""),
        )
        for row in sorted(rows, key=lambda row: (not row.odd, -row.score))
    )
    write_atomically(path, csv_text(header, cells))


def write_suspects(path: Path, suspects: Sequence[Suspect]) -> None:
    """Write a CSV file with a line for each suspect, atomically.

    Raises:
        OSError: the file cannot be written.
    """
    rows = (
        (
            *(s.part, s.index, s.path or "", s.label, s.kind),
            *(f"{s.score:.4f}", s.suggested, s.like),
        )
        for s in suspects
    )
    write_atomically(path, csv_text(_SUSPECT_COLUMNS, rows))
