"""Sets of labels: cells of tables into names, names into 0 and 1, and classes in a given order."""

from __future__ import annotations

import ast
import hashlib
import math
import os
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from ...config.checks import ConfigError
from ...machine.arrays import AnyArray
from ...machine.text import nearest
from .label_spelling import (
    alike_remarks,
    clean_label,
    merged_remarks,
    missing_remarks,
    refuse_alike_across_parts,
)
from .source import Source, natural_order

__all__ = [
    "SEPARATORS",
    "is_yes_or_no",
    "labels_of_columns",
    "named_classes",
    "ordered",
    "same_contents",
    "split_labels",
]

SEPARATORS = (";", "|", ",")
_NAMED_SEPARATORS = {"space": " ", "tab": "\t", "\\t": "\t"}  # what a command line can hardly say
_YES_OR_NO = {
    **dict.fromkeys(("1", "1.0", "true", "yes"), True),
    **dict.fromkeys(("0", "0.0", "false", "no"), False),
}


def split_labels(
    cells: Sequence[str], separator: str | None, places: Sequence[str]
) -> list[tuple[str, ...]]:
    """Return the labels in each cell of a column: distinct, without invisible characters.

    A cell in brackets is a list in the notation of JSON or Python, as pandas writes one.

    Args:
        cells: of a table's column.
        separator: between the labels of a cell, also "space" and "tab"; None for the one of ; | and
            , that occurs.
        places: of the cells, for messages.

    Raises:
        ConfigError: several separators occur, the one that is given nowhere or is empty, or a list
            is damaged; the place of one is named.
    """
    lists = [_listed(cell, place) for cell, place in zip(cells, places, strict=True)]
    plain = [cell for cell, one in zip(cells, lists, strict=True) if one is None]
    if separator is not None:
        sign = _NAMED_SEPARATORS.get(separator, separator)
        if not sign:
            raise ConfigError("data.separator is empty: state what separates labels, or null.")
        if plain and not any(sign in cell.strip() for cell in plain):
            raise ConfigError(
                f"data.separator is {separator!r}, and no cell has it; that of {places[0]} is "
                f"{cells[0]!r}."
            )
        separator = sign
    else:
        found = {
            one: n
            for one in SEPARATORS
            for n, cell in enumerate(cells)
            if one in cell and lists[n] is None
        }
        if len(found) > 1:
            first, other = list(found)[:2]
            raise ConfigError(
                f"{places[found[other]]}: labels are divided by {first} and by {other}: state "
                f"which one it is, data.separator='{first}', or write the table anew."
            )
        separator = next(iter(found), ";")
    pieces = [
        cell.split(separator) if one is None else one
        for cell, one in zip(cells, lists, strict=True)
    ]
    return [tuple(dict.fromkeys(filter(None, map(clean_label, those)))) for those in pieces]


def _listed(cell: str, place: str) -> list[str] | None:
    """Return the texts of a list such as ['beach', 'boat']; None for a cell without brackets.

    Raises:
        ConfigError: what stands in brackets is no list of texts.
    """
    text = cell.strip()
    if not (text.startswith("[") and text.endswith("]")):
        return None
    try:
        found = ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        found = None
    if not isinstance(found, list) or not all(isinstance(one, str) for one in found):
        raise ConfigError(
            f"{place}: the labels are {text[:80]!r}, which is no list of texts: write ['a', 'b'] "
            "or a;b."
        )
    return found


def labels_of_columns(
    file: Path,
    header: Sequence[str],
    taken: Collection[int],
    lines: Sequence[int],
    rows: Sequence[Sequence[str]],
) -> tuple[list[int], list[tuple[str, ...]]]:
    """Return the places of columns of 0 and 1 (or yes and no), and the labels of each row.

    Args:
        file: for messages.
        header: names of the columns.
        taken: places of columns that are none of labels.
        lines: numbers of the rows, for messages.
        rows: the cells of each row, at least one.

    Raises:
        ConfigError: there are fewer than two such columns, two of one name, or a cell of one is
            anything else.
    """
    columns = [
        place
        for place, name in enumerate(header)
        if place not in taken and name and _mostly_yes_or_no([cells[place] for cells in rows])
    ]
    if len(columns) < 2:
        raise ConfigError(
            f"{file}: there is no column labels, nor are there two columns of 0 and 1: name the "
            "labels of each picture in a column labels, or make a column of 0 and 1 for each class."
        )
    names = [header[place] for place in columns]
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise ConfigError(f"{file}: there are two columns {twice}.")
    found = []
    for line, cells in zip(lines, rows, strict=True):
        there = [_yes_or_no(cells[place]) for place in columns]
        if None in there:
            at = there.index(None)
            raise ConfigError(
                f"{file}, line {line}: {names[at]} is {cells[columns[at]]!r}, and a label is there "
                "(1) or not (0)."
            )
        found.append(tuple(name for name, one in zip(names, there, strict=True) if one))
    return columns, found


def _mostly_yes_or_no(cells: Sequence[str]) -> bool:
    return 2 * sum(map(is_yes_or_no, cells)) >= len(cells)


def is_yes_or_no(cell: str) -> bool:
    """Return whether a cell of a column says that a label is there, or that it is not."""
    return _yes_or_no(cell) is not None


def _yes_or_no(cell: str) -> bool | None:
    """Return whether a label is there; None for anything but 0, 1 and the like."""
    return _YES_OR_NO.get(cell.strip().lower())


def named_classes(
    where: str,
    labels: Sequence[Sequence[str]],
    parts: AnyArray | None,
    written: Iterable[str] | None,
) -> tuple[tuple[str, ...], AnyArray, list[str]]:
    """Return the names of the classes in natural order, the targets, as of `Source`, and remarks.

    Args:
        where: the labels are, for the messages.
        labels: of each picture: one, or any number.
        parts: as `Source.given_parts`.
        written: the labels as they were before `clean_label`; None of any number a picture.

    Raises:
        ConfigError: there are fewer than two classes, or one of another part is hardly told from
            one of the train part.
    """
    names, targets = _class_targets(where, labels, several=written is None)
    refuse_alike_across_parts(names, targets, parts, where)
    merged = [] if written is None else merged_remarks(written)
    return names, targets, [*merged, *alike_remarks(names), *missing_remarks(names)]


def _class_targets(
    where: str, labels: Sequence[Sequence[str]], *, several: bool
) -> tuple[tuple[str, ...], AnyArray]:
    names = sorted({name for some in labels for name in some}, key=natural_order)
    if len(names) < 2:
        raise ConfigError(
            f"{where}: a classifier needs at least 2 labels, and there is {len(names)}."
        )
    place = {name: number for number, name in enumerate(names)}
    if not several:
        return tuple(names), np.array([place[label] for (label,) in labels], np.int64)
    sets = np.zeros((len(labels), len(names)), np.uint8)
    for row, some in enumerate(labels):
        sets[row, [place[name] for name in some]] = 1
    return tuple(names), sets


def same_contents(files: Sequence[str]) -> list[int]:
    """Return for each file the first one of equal content; only files of equal size are read.

    Raises:
        OSError: a file cannot be read.
    """
    sizes = [os.path.getsize(file) for file in files]
    repeated = {size for size, count in Counter(sizes).items() if count > 1}
    first: dict[object, int] = {}
    found = []
    for place, (file, size) in enumerate(zip(files, sizes, strict=True)):
        key: object = place
        if size in repeated:
            with open(file, "rb") as stream:
                key = hashlib.file_digest(stream, "blake2b").digest()
        found.append(first.setdefault(key, place))
    return found


def ordered(source: Source, order: Sequence[str] | None) -> Source:
    """Return a source of one class a picture with its classes in order, from the lowest.

    Args:
        source: with classes in natural order.
        order: the names of all classes; None where all names are numbers.

    Raises:
        ConfigError: the order lacks a class, names one that no picture has, or is not given where
            names are no finite numbers that differ.
    """
    known = source.class_names
    if order is not None:
        order = [clean_label(name) for name in order]
    else:
        numbers = [*map(_number, known)]
        if None in numbers or len({*numbers}) < len(numbers):
            raise ConfigError(
                "data.target is ordinal, and the classes are no numbers that differ: "
                f"{', '.join(known)}. Say their order from the lowest to the highest, "
                "data.order=[LOWEST,...,HIGHEST]."
            )
        order = sorted(known, key=float)
    if lacking := [name for name in known if name not in order]:
        raise ConfigError(f"data.order lacks {', '.join(lacking)}, which pictures have.")
    if strange := [name for name in order if name not in known]:
        raise ConfigError(
            f"data.order names {strange[0]}, which no picture has"
            f"{nearest(strange[0], known)}: leave it out."
        )
    places = np.array([list(order).index(name) for name in known], np.int64)
    return replace(source, class_names=tuple(order), targets=places[source.targets], kind="ordinal")


def _number(name: str) -> float | None:
    """Return the finite number that a name is; None for any other."""
    try:
        value = float(name)
    except ValueError:
        return None
    return value if math.isfinite(value) else None
