"""Pictures named by a CSV file, in any of the forms in which such tables are usually written."""

from __future__ import annotations

import csv
import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ...config.checks import ConfigError, nearest
from ...machine.text import from_csv_cell
from .class_folders import FolderTree, part_named
from .json_lines import read_json_lines
from .label_sets import indicators, labels_of_columns, named_classes, split_labels
from .source import (
    PARTS,
    Problem,
    Source,
    case_remarks,
    clean_label,
    merged_remarks,
)

__all__ = ["TABLE_ENDINGS", "list_table"]

_JSON_LINES = ".jsonl"
TABLE_ENDINGS = (".csv", ".tsv", _JSON_LINES)
_COLUMNS = ("path", "label", "split", "group")
_VALID = "is_valid"
# What the columns of tables are called elsewhere, in letters and digits only. Of several for the
# path the first one here counts: a name with its folder and ending before one without.
_OTHER_NAMES = {
    "path": (
        *("filepath", "imagepath", "imgpath", "filename", "imagefilename", "imagefile", "file"),
        *(
            "imagename",
            "imageindex",
            "imgname",
            "fname",
            "image",
            "img",
            "picture",
            "photo",
            "imageid",
            "idcode",
        ),
    ),
    "label": (
        *("class", "classname", "category", "target", "diagnosis", "labelname", "labels"),
        *("classlabel", "dx", "species", "breed"),
    ),
    "split": ("set", "subset", "partition", "dataset", "phase", "usage"),
    _VALID: ("isvalid", "isval", "isvalidation"),
}
_SEPARATORS = (",", ";", "\t", "|")
_MEANS_VALID = {
    **dict.fromkeys(("true", "1", "1.0", "yes"), "val"),
    **dict.fromkeys(("false", "0", "0.0", "no"), "train"),
}
_WHOLE_NUMBER = re.compile(r"([+-]?[0-9]+)(\.0*)?")
# As many as an archive may have files; a line takes some 500 bytes of memory.
_MAX_ROWS = 2_000_000
_MAX_BYTES = 500_000_000
_HEADER_LETTERS = 1_000_000


def list_table(
    file: Path,
    columns: Sequence[str | None] | None = None,
    *,
    several: bool = False,
    separator: str | None = None,
) -> Source:
    """Return the pictures that a CSV file, or a file of JSON lines, names, in its order.

    The first line names the columns in any order, separated by commas, semicolons, tabs or bars:
    path (relative to the file's folder, or absolute), label, and optionally split (train, val or
    test, or another usual word for one) and group. Usual other names of the columns are understood
    (filename, image, class, target, ...), and so is `is_valid` for a validation part; further
    columns are left alone. Two columns without a header are a path and a label.

    Paths may have backslashes, lack the ending, start alike at a folder that is elsewhere, or be
    the bare name of a picture anywhere below the file's folder. A line that repeats another one
    counts once. Pictures that are no files are `missing` in what is returned. Labels such as 0 and
    0.0 are one where all are whole numbers.

    With `several` labels a picture, a cell of the label column holds all of them, or none; without
    such a column, each further column of 0 and 1 is a class. A line of JSON has the keys path,
    label or labels (a text, or with `several` a list), and if wanted split and group.

    Args:
        file: in UTF-8.
        columns: the names of the columns of path, label and, if wanted, split and group, None for
            one that there is not; without it, they are recognised.
        several: whether a picture has a set of labels.
        separator: between the labels in a cell, as of `split_labels`.

    Raises:
        ConfigError: the file is empty or malformed, columns are not there or not clear, a picture
            is named twice with different values, a value is missing or unknown; with the number
            of the line.
    """
    if file.suffix.lower() == _JSON_LINES:
        table = _of_json_lines(file, columns, several)
    else:
        table = _read(file, columns, several)
    spellings: dict[str, set[str]] = {}
    labels: list[Any]
    labels = [*(_label_sets(file, table, separator) if several else _labels(table))]
    for written in () if several else table.values["label"]:
        spellings.setdefault(clean_label(written), set()).add(written)
    paths, missing, found = _resolved(file, table)
    table.remarks += found
    kept = _without_repetitions(file, table, paths, labels)
    chosen: list[Any] = [labels[row] if several else (labels[row],) for row in kept]
    class_names = named_classes(chosen)
    if len(class_names) < 2:
        raise ConfigError(
            f"{file}: a classifier needs at least 2 labels, and there is {len(class_names)}."
        )
    targets: npt.NDArray[Any] = indicators(chosen, class_names)
    if not several:
        targets = targets.argmax(axis=1).astype(np.int64)
    parts, groups = _parts(file, table), table.values.get("group")
    if unused := [name for place, name in enumerate(table.header) if place not in table.used]:
        names = ", ".join(name or "one without a name" for name in unused)
        table.remarks.insert(0, f"has columns that mean nothing here: {names}")
    remarks = [*table.remarks, *merged_remarks(spellings), *case_remarks(class_names)]
    return Source(
        "folder",
        class_names,
        targets,
        root=file.parent,
        sample_paths=tuple(paths[row].replace(os.sep, "/") for row in kept),
        given_parts=None if parts is None else parts[kept],
        groups=None if groups is None else tuple(groups[row] for row in kept),
        problems=tuple(Problem(file.name, remark) for remark in remarks),
        missing={
            place: f"line {table.lines[row]}: {paths[row]}"
            for place, row in enumerate(kept)
            if row in missing
        },
        kind="multi" if several else "single",
    )


@dataclass
class _Table:
    """The lines of a table that name pictures.

    `values` are those of the columns that were recognised, by what these mean; `places` are their
    positions. A column is `used` once its values have proved to be what its name promises.
    """

    header: list[str]
    places: dict[str, int]
    lines: list[int] = field(default_factory=list)
    values: dict[str, list[str]] = field(default_factory=dict)
    used: set[int] = field(default_factory=set)
    remarks: list[str] = field(default_factory=list)
    several: bool = False
    cells: list[list[str]] = field(default_factory=list)  # where labels are columns
    sets: list[tuple[str, ...]] | None = None  # where labels came as lists


def _read(file: Path, columns: Sequence[str | None] | None, several: bool) -> _Table:
    """Return the lines of a file; path, label, split and group are there and not empty.

    With `several` labels a picture, none is one, and there may be no such column.
    """
    number = 1
    try:
        size = file.stat().st_size
        if size > _MAX_BYTES:
            raise ConfigError(
                f"{file} has {size / 1e6:,.0f} MB, more than a table of pictures has: the limit "
                f"is {_MAX_BYTES / 1e6:.0f} MB."
            )
        # utf-8-sig: spreadsheets put a mark before the first column's name.
        with file.open(encoding="utf-8-sig", newline="") as stream:
            first = stream.readline(_HEADER_LETTERS)
            skipped = 0
            announced = re.fullmatch(r"sep=(.)", first.rstrip("\r\n"), re.IGNORECASE)
            if announced:  # how Excel marks the separator
                skipped, first = 1, stream.readline(_HEADER_LETTERS)
            separators = (announced[1],) if announced else _SEPARATORS
            table, separator, headed = _opened(
                file, first, separators, columns, 1 + skipped, several
            )
            stream.seek(0)
            lines = csv.reader(stream, delimiter=separator, strict=True, skipinitialspace=True)
            for _ in range(skipped + headed):
                next(lines, None)
            for cells in lines:
                number = lines.line_num
                if any(cell.strip() for cell in cells):
                    _add(file, table, number, cells, separator)
    except UnicodeDecodeError:
        raise ConfigError(f"{file} is not written in UTF-8: save it as CSV UTF-8.") from None
    except csv.Error as error:
        raise ConfigError(f"{file}, line {lines.line_num}: {error}.") from None
    except OSError as error:
        raise ConfigError(f"{file} cannot be read: {error.strerror}.") from None
    if not table.lines:
        raise ConfigError(f"{file} has no line after its header: it names no pictures.")
    return table


def _add(file: Path, table: _Table, line: int, cells: list[str], separator: str) -> None:
    """Add a line to the table."""
    _check_cells(f"{file}, line {line}", cells, len(table.header), separator)
    for column, place in table.places.items():
        value = from_csv_cell(_value(column, cells[place]))
        if not value and place in table.used and not (table.several and column == "label"):
            raise ConfigError(f"{file}, line {line}: {column} is empty.")
        table.values.setdefault(column, []).append(value)
    if table.several and "label" not in table.places:
        table.cells.append(cells)
    if len(table.lines) == _MAX_ROWS:
        raise ConfigError(f"{file} names more than {_MAX_ROWS:,} pictures: divide it into several.")
    table.lines.append(line)


def _opened(
    file: Path,
    first: str,
    separators: Sequence[str],
    columns: Sequence[str | None] | None,
    at: int,
    several: bool,
) -> tuple[_Table, str, bool]:
    """Return a table without lines, its separator, and whether the line `first` is a header."""
    where = f"{file}, line {at}"
    headers: dict[str, list[str]] = {}
    for separator in separators:
        try:
            cells = next(csv.reader([first], delimiter=separator, skipinitialspace=True), [])
        except csv.Error:
            continue
        headers[separator] = [clean_label(name) for name in cells]
    # The separator that divides the line into most columns, the comma of several.
    separator = max(headers, key=lambda one: len(headers[one]))
    needed = {"path"} if several else {"path", "label"}
    for one, header in headers.items():
        if len(header) > 1 and needed <= set(_recognised(header, where, columns, strict=False)):
            separator = one
            break
    else:
        for one, header in headers.items():
            if columns is None and len(header) == 2 and os.path.isfile(file.parent / header[0]):
                places = {"path": 0, "label": 1}
                table = _Table(["", ""], places, used={0, 1}, several=several)
                table.remarks.append("has no header: its columns were taken for path and label")
                return table, one, False
    header = headers[separator]
    places = _recognised(header, where, columns, strict=True, several=several)
    table = _Table(header, places, several=several)
    for column, place in places.items():
        if columns is not None or column in ("path", "label") or header[place].lower() == column:
            table.used.add(place)
    table.used -= {places.get(_VALID)} - {None}
    usual = {"path": ("path",), "label": ("label", "labels") if several else ("label",)}
    others = [c for c in usual if c in places and header[places[c]].lower() not in usual[c]]
    if others and columns is None:
        taken = " and ".join(f"{header[places[c]]} for {c}" for c in others)
        table.remarks.append(f"took the column {taken} (data.columns says otherwise)")
    return table, separator, True


def _recognised(
    header: list[str],
    where: str,
    columns: Sequence[str | None] | None,
    *,
    strict: bool,
    several: bool = False,
) -> dict[str, int]:
    """Return the position of each known column; `strict` about what is missing or not clear.

    With `several` labels a picture there may be no column of labels.
    """
    names = [name.lower() for name in header]
    places: dict[str, int] = {}
    wanted: dict[str, Sequence[str]] = {}
    if columns is None:
        plain = [re.sub(r"[\W_]+", "", name) for name in names]
        for column in (*_COLUMNS, _VALID):
            here = [column] if column in names else []
            others = [one for one in _OTHER_NAMES.get(column, ()) if one in plain]
            wanted[column] = here or [names[plain.index(one)] for one in others]
    else:
        given = zip(_COLUMNS, columns, strict=False)
        wanted = {column: [clean_label(n).lower()] for column, n in given if n is not None}
    for column, candidates in wanted.items():
        there = [name for name in candidates if name in names]
        if strict and column == "label" and len(there) > 1:
            raise ConfigError(
                f"{where}: {' and '.join(there)} could each be the labels: say which, "
                f"data.columns=[{header[places.get('path', 0)]},{there[0]}]."
            )
        required = ("path",) if several else ("path", "label")
        if strict and not there and (columns is not None or column in required):
            raise ConfigError(_no_column(where, header, column, columns is None, candidates))
        if strict and there and names.count(there[0]) > 1:
            raise ConfigError(f"{where}: there are two columns {there[0]}.")
        if there:
            places[column] = names.index(there[0])
    return places


def _no_column(
    where: str, header: list[str], column: str, recognising: bool, candidates: Sequence[str]
) -> str:
    have = ", ".join(name or "one without a name" for name in header[:20]) or "none"
    if not recognising:
        hint = nearest(candidates[0], [name.lower() for name in header])
        return (
            f"{where}: data.columns names a column {candidates[0]}, and the columns are "
            f"{have}{hint}."
        )
    return (
        f"{where}: there is no column {column}; the columns are {have}. The first line names the "
        "columns: path,label or path,label,split or path,label,split,group. Of other names, "
        "data.columns=[NAME,NAME] says which are path and label."
    )


def _check_cells(where: str, cells: list[str], columns: int, separator: str) -> None:
    """Refuse a line that cannot be divided into its columns."""
    if len(cells) != columns:
        values = f"there {'is 1 value' if len(cells) == 1 else f'are {len(cells)} values'}"
        mark = {",": "comma", ";": "semicolon", "\t": "tab"}.get(separator, repr(separator))
        raise ConfigError(
            f"{where}: {values} for {columns} columns. Put what contains a {mark} into double "
            "quotes, and leave no column out."
        )
    if any("\0" in cell for cell in cells):
        raise ConfigError(f"{where}: there is a NUL character: save the table as CSV UTF-8.")


def _value(column: str, cell: str) -> str:
    """Return a cell without invisible characters; of a path only outer white space is removed."""
    cleaned = cell.strip()
    # A label is kept as it was written, for the remark on those that look alike.
    return clean_label(cell) if column == "group" or not clean_label(cell) else cleaned


def _labels(table: _Table) -> list[str]:
    """Return the labels without invisible characters, and whole numbers without decimals."""
    labels = [clean_label(label) for label in table.values["label"]]
    numbers = [_WHOLE_NUMBER.fullmatch(label) for label in labels]
    if not all(numbers):
        return labels
    plain = [number[1] for number in numbers if number]
    written = set(labels)
    for label, whole in zip(labels, plain, strict=True):
        if label != whole and whole in written:
            table.remarks.append(f"took labels such as {label} and {whole} for one")
            break
    return plain


def _label_sets(file: Path, table: _Table, separator: str | None) -> list[tuple[str, ...]]:
    """Return the labels of each row, from lists, from cells, or from columns of 0 and 1.

    Raises:
        ConfigError: a cell of such a column is neither, or there are fewer than two of them.
    """
    if table.sets is not None:
        return table.sets
    if "label" in table.values:
        places = [f"{file}, line {line}" for line in table.lines]
        return split_labels(table.values["label"], separator, places)
    found = labels_of_columns(
        file, table.header, set(table.places.values()), table.lines, table.cells
    )
    table.used |= set(found.columns)
    if found.unused:
        never = ", ".join(found.unused)
        table.remarks.append(f"has labels that no picture has, and leaves out: {never}")
    return found.labels


def _of_json_lines(file: Path, columns: Sequence[str | None] | None, several: bool) -> _Table:
    """Return the lines of a file of JSON objects, as `_read` does."""
    if columns is not None:
        raise ConfigError(f"data.columns names columns of a CSV file, and {file} has JSON lines.")
    found = read_json_lines(file, several)
    header = list(found.values)
    table = _Table(header, {name: at for at, name in enumerate(header)}, several=several)
    table.lines, table.sets, table.used = found.lines, found.sets, set(range(len(header)))
    table.values = {
        name: [_value(name, value) for value in values] for name, values in found.values.items()
    }
    return table


def _parts(file: Path, table: _Table) -> npt.NDArray[np.str_] | None:
    """Return the part of each line; None where the table gives none."""
    for column, meaning in (("split", part_named), (_VALID, _valid_or_train)):
        words = table.values.get(column)
        if words is None:
            continue
        place = table.places[column]
        parts = {word: meaning(word) for word in set(words)}
        if None not in parts.values():
            table.used.add(place)
            if table.header[place].lower() != column or column == _VALID:
                table.remarks.append(f"took the column {table.header[place]} for the given parts")
            return np.array([parts[word] for word in words])
        if place in table.used:
            at, word = next((n, w) for n, w in enumerate(words) if parts[w] is None)
            raise ConfigError(
                f"{file}, line {table.lines[at]}: split is {word!r}, which is none of "
                f"{', '.join(PARTS)}{nearest(word, PARTS)}."
            )
    return None


def _valid_or_train(word: str) -> str | None:
    return _MEANS_VALID.get(word.lower())


def _without_repetitions(
    file: Path, table: _Table, paths: Sequence[str], labels: Sequence[Any]
) -> list[int]:
    """Return the rows without those that repeat another one, which are remarked upon."""
    folder = str(file.parent)
    beside = [table.values[column] for column in ("split", "group") if column in table.values]
    seen: dict[str, int] = {}
    kept: list[int] = []
    repeated: list[int] = []
    for row, path in enumerate(paths):
        before = seen.setdefault(os.path.normpath(os.path.join(folder, path)), row)
        if before == row:
            kept.append(row)
            continue
        if labels[before] != labels[row] or any(one[before] != one[row] for one in beside):
            differ = "different values"
            if labels[before] != labels[row]:
                named = [
                    one if isinstance(one, str) else ";".join(one) or "none"
                    for one in (labels[before], labels[row])
                ]
                differ = f"the labels {' and '.join(named)}"
            raise ConfigError(
                f"{file}: lines {table.lines[before]} and {table.lines[row]} name the same file, "
                f"{path}, with {differ}: leave one of them out."
            )
        repeated.append(table.lines[row])
    if repeated:
        table.remarks.append(
            f"repeats lines ({len(repeated):,}), the first in line {repeated[0]}; each picture "
            "counts once"
        )
    return kept


def _resolved(file: Path, table: _Table) -> tuple[list[str], set[int], list[str]]:
    """Return the path of each row, the rows whose picture is no file, and remarks."""
    finder = _Finder(str(file.parent))
    written = table.values["path"]
    remarks: list[str] = []
    prefix = "" if finder.is_file(written[0]) else finder.foreign_prefix(written[0])
    if prefix and all(path.startswith(prefix) for path in written):
        written = [path[len(prefix) :] for path in written]
        remarks.append(f"names pictures in {prefix}, and those in {file.parent} were taken")
    paths: list[str] = []
    missing: set[int] = set()
    others: list[str] = []
    for row, path in enumerate(written):
        found = path
        if not finder.is_file(path):
            candidates = finder.candidates(path.replace("\\", "/"))
            if len(candidates) > 1:
                raise ConfigError(
                    f"{file}, line {table.lines[row]}: {path} could be {candidates[0]} or "
                    f"{candidates[1]}: write it out."
                )
            if candidates:
                found = candidates[0]
                others = others or [f"{found} for {path}"]
            else:
                missing.add(row)
        paths.append(found)
    remarks += [f"names pictures otherwise than their files are; took {o}" for o in others]
    return paths, missing, remarks


class _Finder:
    """Finds the files that are meant by paths that are none, relative to `folder`."""

    def __init__(self, folder: str) -> None:
        self._folder = folder
        self._tree = FolderTree(folder)
        self._inside: dict[str, dict[str, list[str]]] = {}

    def is_file(self, path: str) -> bool:
        return os.path.isfile(os.path.join(self._folder, path))

    def foreign_prefix(self, path: str) -> str:
        """Return what to take from the start of a path for the rest to be a file here.

        As where a table was written in another folder or on another machine. Empty for none.
        """
        places = [at for at, letter in enumerate(path, start=1) if letter in "/\\"]
        for at in places:
            if self.is_file(path[at:].replace("\\", "/")):
                return path[:at]
        return ""

    def candidates(self, path: str) -> list[str]:
        """Return the pictures that differ from `path` in the ending or in capitals, or, for a bare
        name, in the folder."""
        if self.is_file(path):
            return [path]
        folder, _, name = path.rpartition("/")
        found = self._named(folder, name, self._tree.pictures)
        if not found and not folder:
            found = self._named("/", name, lambda _: self._tree.pictures_below(""))
        return found

    def _named(self, folder: str, name: str, listing: Callable[[str], list[str]]) -> list[str]:
        if folder not in self._inside:
            index = self._inside[folder] = {}
            try:
                pictures = listing(folder)
            except ConfigError:  # such a folder cannot be listed, so nothing is found there
                pictures = []
            for picture in pictures:
                base = picture.rpartition("/")[2].casefold()
                index.setdefault(base, []).append(picture)
                index.setdefault(os.path.splitext(base)[0], []).append(picture)
        return self._inside[folder].get(name.casefold(), [])
