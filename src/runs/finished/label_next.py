"""Which of many pictures without labels, or without masks, are worth labelling first."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import NamedTuple

from ...config.checks import ConfigError
from ...config.console import written_to
from ...data.sources.written_answers import next_folder, next_table
from ...machine.arrays import UInt8Array
from ...machine.text import counted, csv_text
from ...records.pictures import LabelRow, write_labels
from ...serving.predictor import Labelled
from ...storage.files import temporary_folder, write_atomically
from ...targets.labels import labels_text
from .shortlist import RankedPicture, Shortlist

__all__ = ["LabelNext", "MasksNext"]

# In a folder of copies until its table is there.
_UNFINISHED = ".unfinished"
_LONGEST_NAME = 200  # bytes of a name that are kept; file systems take 255
_NO_NAME = {*'<>:"/\\|?*', *map(chr, range(32))}  # refused by one system or another
# Devices of Windows, whatever follows a dot.
_DEVICES = {f"{port}{number}" for port in ("com", "lpt") for number in range(10)}
_DEVICES |= {"con", "prn", "aux", "nul"}


class _Labels(NamedTuple):
    """The label of a picture by the model, and its second most probable class; "" for none."""

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
        self.folder = next_folder(out.with_suffix(""))
        self.table = next_table(self.folder)
        if (self.folder / _UNFINISHED).is_file() and not os.path.lexists(self.table):
            shutil.rmtree(self.folder)  # a call was killed between the two
        for place in (self.table, self.folder):
            if os.path.lexists(place):
                raise ConfigError(
                    f"label_next: {place} is there already, perhaps with labels that were "
                    "corrected: move it away, or name another file with out."
                )
        self._shortlist: Shortlist[_Labels] = Shortlist(count)

    def add(self, item: Labelled) -> None:
        """Add a picture, see `Shortlist.add`."""
        if item.every:  # a set of labels has no second most probable one
            label, suggested = labels_text(item.labels), ""
        else:
            label, suggested = item.labels[0], (*item.labels, "")[1]
        unlike = item.judged is not None and bool(item.judged.unlike)
        self._shortlist.add(item.path, item.uncertainty, _Labels(label, suggested), unlike=unlike)

    def write(self, shown: Callable[[str], UInt8Array], *, sets: bool) -> str:
        """Write the table and the copies, both or none; return lines on them.

        Args:
            shown: returns a thumbnail (3, H, W) uint8 of a path.
            sets: whether the pictures have sets of labels, for which there are no folders.

        Raises:
            ConfigError: a file cannot be written, or a picture has gone meanwhile.
        """
        chosen = self._shortlist.chosen(shown)
        if not chosen:
            return "\n".join(["to label next: no picture.", *self._shortlist.remarks(chosen)])
        rows = [
            LabelRow(
                path=os.path.abspath(one.file),
                label=one.answer.label,
                split="train",
                suggested=one.answer.suggested,
                score=one.uncertainty,
            )
            for one in chosen
        ]
        unfit = None if sets else _without_folder({one.answer.label for one in chosen})
        copied = not sets and unfit is None
        with (
            written_to("label_next", self.folder if copied else self.table),
            self._copies(chosen) if copied else nullcontext() as copies,
        ):
            self._write(rows, copies)
        where = f", and in copies in {self.folder}" if copied else ""
        lines = [
            f"to label next: {counted(len(chosen), 'picture')}, in {self.table}{where}. Correct "
            "the labels, which are the model's, and add the pictures to the training part alone."
        ]
        if unfit is not None:
            lines.append(f"  There are no copies, for {unfit}.")
        return "\n".join([*lines, *self._shortlist.remarks(chosen)])

    def _write(self, rows: list[LabelRow], copies: Path | None) -> None:
        """Put finished copies in their place, and write the table: both, or none of them.

        Either alone would be in the way of the next call.
        """
        if copies is None:
            write_labels(self.table, rows)
            return
        mark = self.folder / _UNFINISHED
        copies.joinpath(_UNFINISHED).touch()
        copies.rename(self.folder)
        try:
            write_labels(self.table, rows)
        except BaseException:
            shutil.rmtree(self.folder, ignore_errors=True)
            raise
        mark.unlink()

    @contextmanager
    def _copies(self, chosen: list[RankedPicture[_Labels]]) -> Iterator[Path]:
        """Yield a folder of copies in folders of their labels, by name in the table's order.

        It is deleted after the block, unless it was moved.
        """
        digits = len(str(len(chosen)))
        self.folder.parent.mkdir(parents=True, exist_ok=True)
        with temporary_folder(self.folder.parent) as unfinished:
            whole = unfinished / self.folder.name
            for place, one in enumerate(chosen, start=1):
                # The end of a long name, without the rest of a letter that was cut.
                name = os.fsencode(one.file.name)[-_LONGEST_NAME:].decode(errors="ignore")
                copy = whole / one.answer.label / f"{place:0{digits}}_{name}"
                copy.parent.mkdir(parents=True, exist_ok=True)
                self._copy(one.file, copy)
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


class MasksNext:
    """The pictures about whose pixels a model is least certain, as `LabelNext` has them.

    The table has no copies beside it: a predicted mask has the numbers of classes for pixels, and
    masks to learn from may have other values.

    Args:
        out: the folder of all masks; the table lies beside it.
        count: pictures wanted.

    Attributes:
        table: CSV file with `path`, `mask` and `score`.

    Raises:
        ConfigError: it is there already.
    """

    def __init__(self, out: Path, count: int) -> None:
        self.table = next_table(next_folder(out))
        if os.path.lexists(self.table):
            raise ConfigError(
                f"label_next: {self.table} is there already: move it away, or name another folder "
                "with out."
            )
        self._out = out
        self._shortlist: Shortlist[str] = Shortlist(count)

    def add(self, path: str, uncertainty: float, mask: str) -> None:
        """Add a picture with its mask, a path relative to `out`; see `Shortlist.add`."""
        self._shortlist.add(path, uncertainty, mask)

    def write(self, shown: Callable[[str], UInt8Array]) -> str:
        """Write the table, and return lines on it.

        Args:
            shown: returns a thumbnail (3, H, W) uint8 of a path.

        Raises:
            ConfigError: it cannot be written.
        """
        chosen = self._shortlist.chosen(shown)
        remarks = self._shortlist.remarks(chosen)
        if not chosen:
            return "\n".join(["to label next: no picture.", *remarks])
        rows = [
            (os.path.abspath(one.file), str(self._out / one.answer), f"{one.uncertainty:.4f}")
            for one in chosen
        ]
        with written_to("label_next", self.table):
            write_atomically(self.table, csv_text(("path", "mask", "score"), rows))
        done = (
            f"to label next: {counted(len(chosen), 'picture')}, in {self.table}. Draw their masks, "
            "or correct copies of the model's, in the values that your other masks have, and add "
            "them to the training part alone."
        )
        return "\n".join([done, *remarks])


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
    """Return whether every system can have a folder of this name."""
    fits = 0 < len(os.fsencode(label)) <= _LONGEST_NAME
    device = label.partition(".")[0].rstrip().casefold() in _DEVICES
    return fits and not device and not set(label) & _NO_NAME and label == label.strip(" .")
