"""The least certain of any number of pictures, none of them twice, in bounded memory."""

from __future__ import annotations

import heapq
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Generic, NamedTuple, TypeVar

import numpy as np
from PIL import Image

from ...machine.arrays import UInt8Array
from ...machine.status import with_progress
from ...machine.text import text_fault
from ...serving.file_pages import Page, page_of

__all__ = ["RankedPicture", "Shortlist"]

# Pictures that are kept: so many for each picture that is wanted, and so many at least. Whole
# bursts of near-duplicates are among them, of each of which one is taken.
_FOR_EACH, _AT_LEAST = 4, 20_000
_COMPARED_SIDE = 32
# 2^32 by the golden ratio: multiples of it, taken modulo 2^32, are spread evenly (Knuth).
_GOLDEN, _RANGE = 2_654_435_769, 2**32

T = TypeVar("T")


class RankedPicture(NamedTuple, Generic[T]):
    """A picture, ordered by how much its label would teach.

    Attributes:
        familiar: whether it is not flagged as unlike the training pictures.
        uncertainty: in [0, 1], see `TargetKind.uncertainties`.
        turn: orders equals.
        place: how many were added before it.
        path: of the file, or of its page as `str(Page)` writes it.
        answer: of the model.
    """

    familiar: bool
    uncertainty: float
    turn: int
    place: int
    path: str
    answer: T

    @property
    def file(self) -> Path:
        """The file that the picture is, or is a page of."""
        found = page_of(self.path)
        return found.file if isinstance(found, Page) else found


class Shortlist(Generic[T]):
    """The least certain of the pictures that are added; of the pages of a file, one.

    Of equally uncertain ones, such as those of which a model is wholly certain or whose neighbours
    vote alike, those that are taken are spread over all: in a folder neighbours are often alike.

    Pictures unlike the training pictures, such as noise, come after all others: a model is
    uncertain of them whatever it has learnt of its classes. Where most are unlike, as those of
    another camera, they are what the model has to learn, and count as the others do.

    Args:
        count: pictures wanted.
    """

    def __init__(self, count: int) -> None:
        self._count = count
        self._room = max(_FOR_EACH * count, _AT_LEAST)
        self._added = self._unnamed = self._unlike = 0
        self._last: RankedPicture[T] | None = None  # of its file, whose further pages may follow
        # Those that are familiar, and those that are not.
        self._heaps: dict[bool, list[RankedPicture[T]]] = {True: [], False: []}

    def add(self, path: str, uncertainty: float, answer: T, *, unlike: bool = False) -> None:
        """Add a picture; the pages of a file follow one another.

        One whose path is no valid UTF-8 is counted alone: no table can name it.
        """
        if text_fault(os.path.abspath(path)) is not None:
            self._unnamed += 1
            return
        turn = self._added * _GOLDEN % _RANGE
        one = RankedPicture(not unlike, uncertainty, -turn, self._added, path, answer)
        self._added += 1
        self._unlike += unlike
        if self._last is not None and self._last.file == one.file:
            self._last = max(self._last, one)
        else:
            self._keep()
            self._last = one

    def chosen(self, shown: Callable[[str], UInt8Array]) -> list[RankedPicture[T]]:
        """Return those wanted in order, and of near-duplicates the first.

        Args:
            shown: returns a thumbnail (3, H, W) uint8 of a path.
        """
        from ...data.quality.near_duplicates import near_pairs  # torch, which takes seconds

        self._keep()
        kept = [*self._heaps[True], *self._heaps[False]]
        # By their fields in order, of which `familiar`, the first, may not count.
        first = 0 if self._unlike_last else 1
        ranked = sorted(kept, key=lambda one: one[first:], reverse=True)
        grey: list[UInt8Array] = []
        chosen: list[RankedPicture[T]] = []
        size = 0
        while len(chosen) < self._count and size < len(ranked):
            size = min(max(2 * size, self._count), len(ranked))
            for one in with_progress(ranked[len(grey) : size], None, "pictures compared"):
                pixels = Image.fromarray(shown(one.path).transpose(1, 2, 0)).convert("L")
                grey.append(np.asarray(pixels.resize((_COMPARED_SIDE, _COMPARED_SIDE))))
            later = set(near_pairs(np.stack(grey)).pairs[:, 1].tolist())
            different = [one for place, one in enumerate(ranked[:size]) if place not in later]
            chosen = different[: self._count]
        return chosen

    @property
    def _unlike_last(self) -> bool:
        return 2 * self._unlike <= self._added

    def remarks(self, taken: Sequence[RankedPicture[T]]) -> list[str]:
        """Return a line on each reason why so many were chosen, or why some were not."""
        lines = []
        if self._unlike:
            among = sum(not one.familiar for one in taken)
            counts = f"{self._unlike:,} of {self._added:,}, {among:,} of them named"
            line = f"  Unlike the training pictures: {counts}."
            if self._unlike_last:
                line += (
                    " They come after all others: where they show the classes, label some of them "
                    "too (column unlike of the table of all labels)."
                )
            lines.append(line)
        if 0 < len(taken) < self._count:
            alike = "of near-duplicates, and of the pages of a file, one is taken"
            short = f"label_next={self._count} is more than there are"
            if any(len(heap) == self._room for heap in self._heaps.values()):
                short = f"The {self._room:,} least certain ones show no more than these"
            lines.append(f"  {short}: {alike}.")
        if self._unnamed:
            lines.append(
                f"  Left out, for no table can name them: {self._unnamed:,} with paths that are no "
                "valid UTF-8; rename them."
            )
        return lines

    def _keep(self) -> None:
        """Put the last one among the candidates."""
        last, self._last = self._last, None
        if last is None:
            return
        heap = self._heaps[last.familiar]
        if len(heap) < self._room:
            heapq.heappush(heap, last)
        else:
            heapq.heappushpop(heap, last)
