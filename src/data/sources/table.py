"""Pictures that a table names, with their labels, parts and groups: of CSV or of JSON lines."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ...config.checks import ConfigError
from ...machine.arrays import TextArray
from ...machine.text import nearest, without_quotes
from .class_folders import part_named
from .csv_lines import read_csv_lines
from .json_lines import read_json_lines
from .label_sets import labels_of_columns, named_classes, split_labels
from .label_spelling import clean_label
from .source import PARTS, Problem, Source
from .table_columns import IS_VALID, ParsedTable, TableSchema, called_as_group
from .table_paths import found_files

__all__ = ["TABLE_ENDINGS", "Rows", "list_table", "listed_rows", "named_paths"]

_JSON_LINES = ".jsonl"
TABLE_ENDINGS = (".csv", ".tsv", _JSON_LINES)
_MEANS_VALID = {
    **dict.fromkeys(("true", "1", "1.0", "yes"), "val"),
    **dict.fromkeys(("false", "0", "0.0", "no"), "train"),
}
_WHOLE_NUMBER = re.compile(r"([+-]?[0-9]+)(\.0*)?")
# Columns of a table of `predict label_next`, whose pictures are harder than others.
_CHOSEN = ("suggested", "score")
_HARD_VALIDATION = (
    f"has the columns {' and '.join(_CHOSEN)}, as tables of predict label_next have, and no line "
    "of the val part, which is drawn from all training lines: it will be harder than new pictures "
    "are if chosen ones are among it; write split=val into lines that were not chosen"
)


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
    (filename, image, class, target, patient_id, ...), and so is `is_valid` for a validation part;
    further columns are left alone. Two columns without a header are a path and a label.

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
    table = _read(file, TableSchema(columns, several))
    for column in ("path",) if several else ("path", "label"):
        _unquote(table, column)
    labels = _label_sets(file, table, separator) if several else _labels(table)
    rows = listed_rows(file, table, labels if several else [one for (one,) in labels])
    chosen = [labels[row] for row in rows.kept]
    written = None if several else table.values["label"]
    class_names, targets, remarks = named_classes(str(file), chosen, rows.parts, written)
    return Source(
        "folder",
        class_names,
        targets,
        root=file.parent,
        sample_paths=rows.paths,
        given_parts=rows.parts,
        groups=rows.groups,
        problems=tuple(Problem(file.name, remark) for remark in (*table.remarks, *remarks)),
        missing=rows.missing,
        kind="multi" if several else "single",
    )


def _unquote(table: ParsedTable, column: str) -> None:
    """Take the quotes away that all values of a column have, as where they were pasted."""
    bare = [without_quotes(value) for value in table.values[column]]
    if all(len(one) < len(value.strip()) for one, value in zip(bare, table.values[column])):
        table.values[column] = bare
        table.remarks.append(f"has quotes around each {column}, which were taken away")


class Rows(NamedTuple):
    """The rows of a table without repetitions.

    Attributes:
        kept: their places in the table.
        paths: of their pictures.
        parts, groups: as of `Source`.
        missing: place among these -> line and path, of pictures that are no files.
    """

    kept: list[int]
    paths: tuple[str, ...]
    parts: TextArray | None
    groups: tuple[str, ...] | None
    missing: dict[int, str]


def listed_rows(file: Path, table: ParsedTable, labels: Sequence[Any]) -> Rows:
    """Return the rows of a table, each picture once; what was understood is added to its remarks.

    Args:
        file: of the table.
        table: with path and, perhaps, split and group.
        labels: of each row, equal where repeated rows agree.

    Raises:
        ConfigError: as of `list_table`.
    """
    paths, missing, found = found_files(file, table.values["path"], table.lines)
    table.remarks += found
    kept = _without_repetitions(file, table, paths, labels)
    parts = _parts(file, table)
    groups = _groups(table, parts)
    if unused := [name for place, name in enumerate(table.header) if place not in table.used]:
        names = ", ".join(name or "one without a name" for name in unused)
        table.remarks.insert(0, f"has columns that training does not use: {names}")
    if groups is None:
        table.remarks += map(partial(_leak, table), called_as_group(unused))
    return Rows(
        kept,
        tuple(paths[row].replace(os.sep, "/") for row in kept),
        None if parts is None else parts[kept],
        None if groups is None else tuple(groups[row] for row in kept),
        {
            place: f"line {table.lines[row]}: {paths[row]}"
            for place, row in enumerate(kept)
            if row in missing
        },
    )


def named_paths(
    file: Path, columns: Sequence[str | None] | None = None, *, target: str = "single"
) -> list[str]:
    """Return the paths of pictures and masks in a table, as they are written.

    Args:
        file, columns: as of `list_table`.
        target: what a picture is labelled with; "dense" for a mask.

    Raises:
        ConfigError: as of `list_table`.
    """
    if target != "dense":
        return _read(file, TableSchema(columns, target == "multi")).values["path"]
    values = read_csv_lines(file, TableSchema(columns, masks=True)).values
    return [*values["path"], *values["label"]]


def _read(file: Path, schema: TableSchema) -> ParsedTable:
    if file.suffix.lower() != _JSON_LINES:
        return read_csv_lines(file, schema)
    if schema.columns is not None:
        raise ConfigError(f"data.columns names columns of a CSV file, and {file} has JSON lines.")
    return read_json_lines(file, schema.several)


def _labels(table: ParsedTable) -> list[tuple[str, ...]]:
    """Return the label of each row without invisible characters, whole numbers without decimals."""
    labels = [clean_label(label) for label in table.values["label"]]
    numbers = [_WHOLE_NUMBER.fullmatch(label) for label in labels]
    if not all(numbers):
        return [(label,) for label in labels]
    plain = [number[1] for number in numbers if number]
    written = set(labels)
    for label, whole in zip(labels, plain, strict=True):
        if label != whole and whole in written:
            table.remarks.append(f"took labels such as {label} and {whole} for one")
            break
    return [(whole,) for whole in plain]


def _label_sets(file: Path, table: ParsedTable, separator: str | None) -> list[tuple[str, ...]]:
    """Return the labels of each row, from lists, from cells, or from columns of 0 and 1.

    Raises:
        ConfigError: a cell of such a column is neither, or there are fewer than two of them.
    """
    if table.sets is not None:
        return table.sets
    if "label" in table.values:
        places = [f"{file}, line {line}" for line in table.lines]
        return split_labels(table.values["label"], separator, places)
    columns, labels = labels_of_columns(
        file, table.header, set(table.places.values()), table.lines, table.cells
    )
    table.used |= set(columns)
    used = {name for some in labels for name in some}
    if never := [table.header[place] for place in columns if table.header[place] not in used]:
        table.remarks.append(f"has labels that no picture has, and leaves out: {', '.join(never)}")
    return labels


def _parts(file: Path, table: ParsedTable) -> TextArray | None:
    """Return the part of each line; None where the table gives none."""
    for column, meaning in (("split", part_named), (IS_VALID, _valid_or_train)):
        words = table.values.get(column)
        if words is None:
            continue
        place = table.places[column]
        parts = {word: meaning(word) for word in set(words)}
        if None not in parts.values():
            table.used.add(place)
            if table.header[place].lower() != column or column == IS_VALID:
                table.remarks.append(f"took the column {table.header[place]} for the given parts")
            if "val" not in parts.values() and {*_CHOSEN} <= {*table.header}:
                table.remarks.append(_HARD_VALIDATION)
            return np.array([parts[word] for word in words])
        if place in table.used:
            at, word = next((n, w) for n, w in enumerate(words) if parts[w] is None)
            raise ConfigError(
                f"{file}, line {table.lines[at]}: split is {word!r}, which is none of "
                f"{', '.join(PARTS)}{nearest(word, PARTS)}."
            )
    return None


def _groups(table: ParsedTable, parts: TextArray | None) -> Sequence[str] | None:
    """Return the group of each line; None where the table gives none.

    A column of another usual name counts where it says it of every picture, and no given part would
    have to lose some for it.
    """
    names, place = table.values.get("group"), table.places.get("group", -1)
    if names is None or place in table.used:
        return names
    if parts is not None or not all(names):
        return None
    table.used.add(place)
    table.remarks.append(
        f"took the column {table.header[place]} for groups, whose pictures stay in one part"
    )
    return names


def _leak(table: ParsedTable, column: str) -> str:
    """Return the remark on an unused column that would keep pictures together."""
    remedy = "call it group to keep them together"
    if table.schema.columns is not None:
        stated = [table.places.get(one) for one in ("path", "label", "split")]
        named = ["null" if place is None else table.header[place] for place in stated]
        remedy = f"data.columns=[{','.join(named)},{column}] keeps them together"
    return f"may have pictures of one {column} in several parts: {remedy}"


def _valid_or_train(word: str) -> str | None:
    return _MEANS_VALID.get(word.lower())


def _without_repetitions(
    file: Path, table: ParsedTable, paths: Sequence[str], labels: Sequence[Any]
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
        # Several labels of a picture have no order.
        alike = labels[before] == labels[row] or (
            not isinstance(labels[row], str) and {*labels[before]} == {*labels[row]}
        )
        if not alike or any(one[before] != one[row] for one in beside):
            differ, instead = "different values", "leave one of them out"
            if not alike:
                named = [
                    one if isinstance(one, str) else ";".join(one) or "none"
                    for one in (labels[before], labels[row])
                ]
                differ = f"the labels {' and '.join(named)}"
                if not isinstance(labels[row], str):
                    instead = "write all labels of a picture into one line"
            raise ConfigError(
                f"{file}: lines {table.lines[before]} and {table.lines[row]} name the same file, "
                f"{path}, with {differ}: {instead}."
            )
        repeated.append(table.lines[row])
    if repeated:
        table.remarks.append(
            f"repeats lines ({len(repeated):,}), the first in line {repeated[0]}; each picture "
            "counts once"
        )
    return kept
