"""Which of many pictures without labels are worth labelling first."""

from __future__ import annotations

import heapq
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import numpy as np
from PIL import Image

from ...config.checks import ConfigError
from ...config.console import written_to
from ...data.quality.near_duplicates import near_pairs
from ...data.sources.answers import copies_of
from ...machine.arrays import UInt8Array
from ...machine.status import with_progress
from ...machine.text import text_fault
from ...records.pictures import LabelRow, write_labels
from ...serving.file_pages import Page, page_of
from ...serving.predictor import Labelled
from ...targets.labels import labels_text

__all__ = ["LabelNext"]

# So many candidates are kept for each picture that is wanted: near-duplicates are among them.
_CANDIDATES = 4
_COMPARED_SIDE = 32
_LONGEST_NAME = 200  # bytes of a name that are kept; file systems take 255
_NO_NAME = {*'<>:"/\\|?*', *map(chr, range(32))}  # refused by one system or another
# Devices of Windows, whatever follows a dot.
_DEVICES = {f"{port}{number}" for port in ("com", "lpt") for number in range(10)}
_DEVICES |= {"con", "prn", "aux", "nul"}


class _Candidate(NamedTuple):
    """A picture, ordered by how much its label would teach; of equals the first comes first."""

    uncertainty: float
    place: int
    path: str
    label: str
    suggested: str


class LabelNext:
    """The pictures about which a model is least certain, of any number in bounded memory.

    Their labels teach a model more than those of pictures drawn at random (uncertainty sampling:
    Scheffer, Decomain & Wrobel, "Active Hidden Markov Models for Information Extraction", 2001, for
    one class a picture). Of near-duplicates one is taken.

    Args:
        out: the table of all labels; what is written lies beside it.
        count: pictures wanted.

    Attributes:
        table: CSV file of the pictures, as `data.root` takes it.
        folder: of copies, a folder for each class.

    Raises:
        ConfigError: either is there already: labels may have been corrected in it.
    """

    def __init__(self, out: Path, count: int) -> None:
        self.folder = copies_of(out)
        self.table = self.folder.with_name(f"{self.folder.name}.csv")
        for place in (self.table, self.folder):
            if os.path.lexists(place):
                raise ConfigError(
                    f"label_next: {place} is there already, perhaps with labels that were "
                    "corrected: move it away, or name another file with out."
                )
        self._count = count
        self._seen = self._unnamed = 0
        self._heap: list[_Candidate] = []

    def add(self, item: Labelled) -> None:
        """Add a picture; its path is that of a file, or of a page as `str(Page)` writes it.

        One whose path is no valid UTF-8 is counted alone: no table can name it.
        """
        if text_fault(os.path.abspath(item.path)) is not None:
            self._unnamed += 1
            return
        if item.every:  # a set of labels has no second most probable one
            label, suggested = labels_text(item.labels), ""
        else:
            label, suggested = item.labels[0], (*item.labels, "")[1]
        self._seen += 1
        one = _Candidate(item.uncertainty, -self._seen, item.path, label, suggested)
        if len(self._heap) < _CANDIDATES * self._count:
            heapq.heappush(self._heap, one)
        else:
            heapq.heappushpop(self._heap, one)

    def write(self, shown: Callable[[str], UInt8Array], *, sets: bool) -> str:
        """Write the table and the copies, both or none; return lines on them.

        Args:
            shown: returns a thumbnail (3, H, W) uint8 of a path.
            sets: whether the pictures have sets of labels, for which there are no folders.

        Raises:
            ConfigError: a file cannot be written, or a picture has gone meanwhile.
        """
        if not self._heap:
            return f"to label next: no picture.\n{self._not_named()}"
        chosen = self._chosen(shown)
        rows = [
            LabelRow(
                path=os.path.abspath(_file(one)),
                label=one.label,
                split="train",
                suggested=one.suggested,
                score=one.uncertainty,
            )
            for one in chosen
        ]
        unfit = None if sets else _without_folder({one.label for one in chosen})
        copied = not sets and unfit is None
        with (
            written_to("label_next", self.folder if copied else self.table),
            self._copies(chosen) if copied else nullcontext() as copies,
        ):
            self._write(rows, copies)
        pictures = "picture" if len(chosen) == 1 else "pictures"
        where = f", and in copies in {self.folder}" if copied else ""
        lines = [
            f"to label next: {len(chosen):,} {pictures}, in {self.table}{where}. Correct the "
            "labels, which are the model's, and add the pictures to the training part alone."
        ]
        if len(chosen) < self._count:
            lines.append(
                f"  label_next={self._count} is more than there are: of near-duplicates, and of "
                "the pages of a file, one is taken."
            )
        if unfit is not None:
            lines.append(f"  There are no copies, for {unfit}.")
        if self._unnamed:
            lines.append(self._not_named())
        return "\n".join(lines)

    def _not_named(self) -> str:
        return (
            f"  Left out, for no table can name them: {self._unnamed:,} with paths that are no "
            "valid UTF-8; rename them."
        )

    def _write(self, rows: list[LabelRow], copies: Path | None) -> None:
        """Write the table, and put finished copies in their place: both, or none of them.

        Either alone would be in the way of the next call.
        """
        try:
            write_labels(self.table, rows)
            if copies is not None:
                copies.rename(self.folder)
        except BaseException:
            self.table.unlink(missing_ok=True)
            raise

    def _chosen(self, shown: Callable[[str], UInt8Array]) -> list[_Candidate]:
        """Return the least certain pictures, of near-duplicates and of a file's pages the first."""
        ranked = sorted(self._heap, reverse=True)
        grey: list[UInt8Array] = []
        chosen: list[_Candidate] = []
        size = 0
        while len(chosen) < self._count and size < len(ranked):
            size = min(max(2 * size, self._count), len(ranked))
            for one in with_progress(ranked[len(grey) : size], None, "pictures compared"):
                pixels = Image.fromarray(shown(one.path).transpose(1, 2, 0)).convert("L")
                grey.append(np.asarray(pixels.resize((_COMPARED_SIDE, _COMPARED_SIDE))))
            later = set(near_pairs(np.stack(grey)).pairs[:, 1].tolist())
            files: dict[Path, _Candidate] = {}
            for place, one in enumerate(ranked[:size]):
                if place not in later:
                    files.setdefault(_file(one), one)
            chosen = [*files.values()][: self._count]
        return chosen

    @contextmanager
    def _copies(self, chosen: list[_Candidate]) -> Iterator[Path]:
        """Yield a folder of copies in folders of their labels, by name in the table's order.

        It is deleted after the block, unless it was moved.
        """
        digits = len(str(len(chosen)))
        self.folder.parent.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(prefix=".", dir=self.folder.parent) as unfinished:
            whole = Path(unfinished) / self.folder.name
            for place, one in enumerate(chosen, start=1):
                # The end of a long name, without the rest of a letter that was cut.
                name = os.fsencode(_file(one).name)[-_LONGEST_NAME:].decode(errors="ignore")
                copy = whole / one.label / f"{place:0{digits}}_{name}"
                copy.parent.mkdir(parents=True, exist_ok=True)
                self._copy(_file(one), copy)
            yield whole

    def _copy(self, picture: Path, copy: Path) -> None:
        try:
            shutil.copyfile(picture, copy)
        except OSError as error:
            if error.filename == str(picture) and error.filename2 is None:
                raise ConfigError(
                    f"label_next: {picture} cannot be read any more: {error.strerror}."
                ) from error
            # The unfinished copies are gone when the message is read.
            error.filename, error.filename2 = str(self.folder), None
            raise


def _file(one: _Candidate) -> Path:
    """Return the file that a picture is, or is a page of."""
    found = page_of(one.path)
    return found.file if isinstance(found, Page) else found


def _without_folder(labels: set[str]) -> str | None:
    """Return why these labels are no names of folders beside each other on every system."""
    alike: dict[str, str] = {}
    for label in sorted(labels):
        if not _is_folder_name(label):
            return f"not every system can have a folder called {label}"
        other = alike.setdefault(label.casefold(), label)
        if other != label:
            return f"{other} and {label} would be one folder on some systems"
    return None


def _is_folder_name(label: str) -> bool:
    """Whether every system can have a folder of this name."""
    fits = 0 < len(os.fsencode(label)) <= _LONGEST_NAME
    device = label.partition(".")[0].rstrip().casefold() in _DEVICES
    return fits and not device and not set(label) & _NO_NAME and label == label.strip(" .")
