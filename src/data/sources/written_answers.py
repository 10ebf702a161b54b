"""Files that `predict` writes: their names, and which of those found are left out for being so."""

from __future__ import annotations

import os
import re
from collections import defaultdict
from collections.abc import Iterable
from functools import cache
from pathlib import Path

from ...machine.text import counted
from ..decoding.picture_files import PICTURE_ENDINGS
from .picture_paths import FoundPictures

__all__ = [
    "EXPLAINED",
    "MASKS",
    "OVERLAYS",
    "SHARES",
    "is_table_of_answers",
    "next_folder",
    "next_table",
    "table_of_copies",
    "without_answers",
]

# How names end: of the contact sheet with class maps, and of the folder and the table to label.
EXPLAINED, _NEXT = "_explained", "_next"
# Of a model with a class for every pixel: the table, and the folders beside it.
SHARES, MASKS, OVERLAYS = "shares.csv", "masks", "overlays"
# First columns, also as a spreadsheet writes them.
_BETWEEN = '"?[,;\t]"?'
_ANSWERS = re.compile(f'"?path{_BETWEEN}(labels|label{_BETWEEN}probability)\\b')
_SHARES = re.compile(f'"?path{_BETWEEN}mask\\b')


def next_folder(answers: Path) -> Path:
    """Return the folder for copies of the pictures to label first.

    Args:
        answers: the folder of masks, or the table of labels without its ending.
    """
    return answers.with_name(f"{answers.name}{_NEXT}")


def next_table(folder: Path) -> Path:
    """Return the table of the pictures to label first, beside the folder for their copies."""
    return folder.with_name(f"{folder.name}.csv")


def table_of_copies(folder: Path) -> Path | None:
    """Return the table beside a folder of copies; None for a folder of anything else."""
    table = next_table(folder)
    return table if folder.name.endswith(_NEXT) and table.is_file() else None


def is_table_of_answers(path: Path) -> bool:
    """Return whether a file begins as the table of labels that `predict` writes."""
    return _begins(path, _ANSWERS)


def without_answers(found: FoundPictures, images: str) -> tuple[FoundPictures, str]:
    """Return files without those that earlier calls wrote: sheets, copies, masks and tables.

    Args:
        found: the files of `images`.
        images: path or pattern; in a folder of copies or masks that it names, all are wanted, as is
            a file that it names.

    Returns:
        What is left, and the end of a sentence on what is not; "" where that is nothing.
    """
    others = [one.path for one in found.left_out]
    written = _written([*found.pictures, *others], images)
    if not written:
        return found, ""
    left = FoundPictures(
        [path for path in found.pictures if path not in written],
        [one for one in found.left_out if one.path not in written],
        found.hidden,
    )
    return left, f"; left out: {counted(len(written), 'file')} that predict had written"


def _written(files: Iterable[str], images: str) -> set[str]:
    """Return those of some files that earlier calls wrote; `images` as of `without_answers`."""
    exact = images if os.path.exists(images) else re.split("[*?[]", images, maxsplit=1)[0]
    named = Path(exact).absolute()

    @cache
    def written(folder: Path) -> bool:
        """Return whether `predict` wrote all files of a folder."""
        if named.is_relative_to(folder):
            return False
        masks = folder.name in (MASKS, OVERLAYS) and _begins(folder.with_name(SHARES), _SHARES)
        return masks or table_of_copies(folder) is not None or written(folder.parent)

    @cache
    def others(folder: Path) -> dict[str, list[Path]]:
        """Return the files that may be tables, by their names without the ending."""
        found = defaultdict(list)
        for name in os.listdir(folder):
            stem, ending = os.path.splitext(name)
            if ending.lower() not in PICTURE_ENDINGS:
                found[stem].append(folder / name)
        return found

    def is_sheet(path: Path) -> bool:
        stems = {path.stem, path.stem.removesuffix(EXPLAINED)}
        tables = (table for stem in stems for table in others(path.parent).get(stem, ()))
        return path.suffix == ".png" and any(map(is_table_of_answers, tables))

    def is_table(path: Path) -> bool:
        copies = path.with_suffix("")
        return (
            is_table_of_answers(path)
            or (_is_of_masks(path) and _begins(path, _SHARES))
            or (copies.is_dir() and table_of_copies(copies) == path)
        )

    def is_written(path: Path) -> bool:
        if path == named:
            return False
        picture = path.suffix.lower() in PICTURE_ENDINGS
        return written(path.parent) or (is_sheet(path) if picture else is_table(path))

    return {file for file in files if is_written(Path(file).absolute())}


def _is_of_masks(table: Path) -> bool:
    """Return whether a table has the name of one on masks: their shares, or those to draw first."""
    return table.name == SHARES or (table.suffix == ".csv" and table.stem.endswith(_NEXT))


def _begins(path: Path, header: re.Pattern[str]) -> bool:
    if not path.is_file():  # nor does a pipe wait for its writer
        return False
    try:
        with path.open("rb") as stream:
            start = stream.read(100)
    except OSError:
        return False
    return header.match(start.decode("utf-8-sig", errors="ignore")) is not None
