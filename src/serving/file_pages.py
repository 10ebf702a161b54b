"""Pages of files that hold several pictures, and frames of videos, read in their order."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, NamedTuple

from ..data.decoding.picture_files import PictureError, PictureFile, file_errors, pages_of

__all__ = ["OpenPages", "Page", "page_of", "pages_in"]


class Page(NamedTuple):
    """A picture of a file that has several.

    Attributes:
        file: the file.
        number: of the picture, from 0.
        followed: whether a later one of the file is asked for after it.
    """

    file: Path
    number: int
    followed: bool = False

    def __str__(self) -> str:
        return f"{self.file}#{self.number + 1}"


def page_of(path: str) -> Path | Page:
    """Return the page or the file that `str` of it names."""
    file, _, number = path.rpartition("#")
    if not file or not number.isdigit() or os.path.isfile(path):
        return Path(path)
    return Page(Path(file), int(number) - 1)


def pages_in(file: Path, *, all_pages: bool, frames: int | None) -> list[Path | Page]:
    """Return the pictures of a file that has several, else the file, also one that is unreadable.

    Arguments as of `pages_of`, in the attributes of a `Predictor`.
    """
    if not (all_pages or frames):
        return [file]
    try:
        with file.open("rb") as stream:
            numbers = pages_of(stream, all_pages=all_pages, frames=frames)
    except (OSError, PictureError):  # said when it is read
        return [file]
    if len(numbers) == 1:
        return [file]
    return [Page(file, number, number != numbers[-1]) for number in numbers]


class OpenPages:
    """Keeps a file open while its pages are read in order, for one thread.

    The way to a page of a TIFF, a GIF or a video leads through all before: opened anew for each
    page, a file of n pages would take n times as long.
    """

    def __init__(self) -> None:
        self._last: Page | None = None
        self._stream: BinaryIO | None = None
        self._file: PictureFile | None = None

    @contextmanager
    def opened(self, page: Page) -> Iterator[PictureFile]:
        """Yield the file of a page.

        Raises:
            PictureError: it cannot be opened.
        """
        last = self._last
        if last is None or last.file != page.file or last.number >= page.number:
            self._close()
            with file_errors():
                self._stream = page.file.open("rb")
        try:
            if self._file is None:
                assert self._stream is not None
                self._file = PictureFile(self._stream)
            yield self._file
            self._last = page
        finally:
            if self._last is not page or not page.followed:
                self._close()

    def _close(self) -> None:
        if self._stream is not None:
            self._stream.close()
        self._last = self._stream = self._file = None
