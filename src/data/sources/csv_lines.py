"""Files of CSV lines, in any of the dialects in which tables of pictures are usually written."""

from __future__ import annotations

import csv
import os
import re
from collections.abc import Sequence
from pathlib import Path

from ...config.checks import ConfigError
from ...machine.text import from_csv_cell
from .label_sets import is_yes_or_no
from .label_spelling import clean_label
from .table_columns import (
    IS_VALID,
    ParsedTable,
    TableSchema,
    cell_value,
    check_table,
    not_utf8,
    recognised_columns,
)

__all__ = ["read_csv_lines"]

_SEPARATORS = (",", ";", "\t", "|")
# What to do about an empty cell: a split, and a label.
_NO_PART = ": write train, val or test into every line, or leave the column out"
_NONE = (
    ": give the picture one, or leave the line out; where pictures may have several labels or "
    "none, set data.target=multi"
)
# As many as an archive may have files; a line takes some 500 bytes of memory.
_MAX_ROWS = 2_000_000
_HEADER_LETTERS = 1_000_000
# Python's words for what a double quote without its second one causes.
_FAULTS = {
    "unexpected end of data": "the file ends within a value in double quotes that is not closed",
    "field larger": "a value is longer than 131,072 characters; is a double quote not closed?",
}


def read_csv_lines(file: Path, schema: TableSchema) -> ParsedTable:
    """Return the lines of a CSV file; path, label, split and group are there and not empty.

    Args:
        file: in UTF-8.
        schema: what its lines are to hold.

    Raises:
        ConfigError: the file is empty, too large or malformed, or columns are not there or not
            clear; with the number of the line.
    """
    try:
        check_table(file)
        # utf-8-sig: spreadsheets put a mark before the first column's name.
        with file.open(encoding="utf-8-sig", newline="") as stream:
            first = stream.readline(_HEADER_LETTERS)
            skipped = 0
            announced = re.fullmatch(r"sep=(.)", first.rstrip("\r\n"), re.IGNORECASE)
            if announced:  # how Excel marks the separator
                skipped, first = 1, stream.readline(_HEADER_LETTERS)
            separators = (announced[1],) if announced else _SEPARATORS
            where = f"{file}, line {1 + skipped}"
            table, separator, headed = _opened(first, where, separators, schema, file.parent)
            stream.seek(0)
            lines = csv.reader(stream, delimiter=separator, strict=True, skipinitialspace=True)
            for _ in range(skipped + headed):
                next(lines, None)
            for cells in lines:
                if any(cell.strip() for cell in cells):
                    _add(file, table, lines.line_num, cells, separator)
    except UnicodeDecodeError:
        raise not_utf8(file) from None
    except csv.Error as error:
        what = next((fault for part, fault in _FAULTS.items() if part in str(error)), str(error))
        raise ConfigError(f"{file}, line {lines.line_num}: {what}.") from None
    except OSError as error:
        raise ConfigError(f"{file} cannot be read: {error.strerror}.") from None
    if not table.lines:
        raise ConfigError(f"{file} has no line after its header: it names no pictures.")
    if table.alike:
        path, label = (table.header[table.places[one]] for one in ("path", "label"))
        raise ConfigError(
            f"{file}: {label} holds 0 and 1, as {table.header[min(table.alike)]} does: if it is a "
            "label like the others, give its column another name; if it holds the labels, set "
            f"data.columns=[{path},{label}]."
        )
    return table


def _add(file: Path, table: ParsedTable, line: int, cells: list[str], separator: str) -> None:
    """Add a line to the table."""
    schema = table.schema
    _check_cells(f"{file}, line {line}", cells, len(table.header), separator)
    for column, place in table.places.items():
        value = from_csv_cell(cell_value(column, cells[place]))
        if not value and place in table.used and not (schema.several and column == "label"):
            named = schema.name_of(column)
            hint = {"label": _NONE, "split": _NO_PART}.get(named, "")
            raise ConfigError(f"{file}, line {line}: {named} is empty{hint}.")
        table.values.setdefault(column, []).append(value)
    if schema.several and "label" not in table.places:
        table.cells.append(cells)
    if table.alike:
        table.alike = {
            place
            for place in table.alike
            if is_yes_or_no(cells[place]) and is_yes_or_no(cells[table.places["label"]])
        }
    if len(table.lines) == _MAX_ROWS:
        raise ConfigError(f"{file} names more than {_MAX_ROWS:,} pictures: divide it into several.")
    table.lines.append(line)


def _opened(
    first: str, where: str, separators: Sequence[str], schema: TableSchema, folder: Path
) -> tuple[ParsedTable, str, bool]:
    """Return a table without lines, its separator, and whether the line `first` is a header."""
    headers = _headers(first, where, separators)
    # The separator that divides the line into most columns, the comma of several.
    separator = max(headers, key=lambda one: len(headers[one]))
    needed = {"path"} if schema.several else {"path", "label"}
    for one, header in headers.items():
        known = recognised_columns(header, where, schema, strict=False)
        if len(header) > 1 and needed <= set(known):
            separator = one
            break
    else:
        for one, header in headers.items():
            if schema.columns is None and len(header) == 2 and os.path.isfile(folder / header[0]):
                places = {"path": 0, "label": 1}
                table = ParsedTable(["", ""], places, used={0, 1}, schema=schema)
                table.remarks.append("has no header: its columns were taken for path and label")
                return table, one, False
    return _with_header(headers[separator], where, schema), separator, True


def _headers(first: str, where: str, separators: Sequence[str]) -> dict[str, list[str]]:
    """Return the cells of a line by each separator that it can be divided by."""
    headers: dict[str, list[str]] = {}
    for separator in separators:
        try:
            cells = next(csv.reader([first], delimiter=separator, skipinitialspace=True), [])
        except (csv.Error, ValueError) as error:  # too long a name, or no separator
            fault = error
            continue
        headers[separator] = [clean_label(name) for name in cells]
    if not headers:
        raise ConfigError(f"{where}: it has no names of columns: {fault}.")
    return headers


def _with_header(header: list[str], where: str, schema: TableSchema) -> ParsedTable:
    """Return a table with these names of columns, and what is remarked about them."""
    columns, several = schema.columns, schema.several
    places = recognised_columns(header, where, schema, strict=True)
    table = ParsedTable(header, places, schema=schema)
    for column, place in places.items():
        if columns is not None or column in ("path", "label") or header[place].lower() == column:
            table.used.add(place)
    table.used -= {places.get(IS_VALID)} - {None}
    if several and columns is None and "label" in places:
        named = {place for place, name in enumerate(header) if name}
        table.alike = named - set(places.values())
    label = schema.name_of("label")
    usual = {"path": ("path",), "label": (label, "labels") if several else (label,)}
    others = [c for c in usual if c in places and header[places[c]].lower() not in usual[c]]
    if others and columns is None:
        taken = " and ".join(f"{header[places[c]]} for {c}" for c in others)
        table.remarks.append(f"took the column {taken} (data.columns says otherwise)")
    return table


def _check_cells(where: str, cells: list[str], columns: int, separator: str) -> None:
    """Refuse a line that cannot be divided into its columns."""
    if any("\0" in cell for cell in cells):  # before their number, which it explains
        raise ConfigError(f"{where}: there is a NUL character: save the table as CSV UTF-8.")
    if len(cells) != columns:
        values = f"there {'is 1 value' if len(cells) == 1 else f'are {len(cells)} values'}"
        mark = {",": "comma", ";": "semicolon", "\t": "tab"}.get(separator, repr(separator))
        raise ConfigError(
            f"{where}: {values} for {columns} columns. Put what contains a {mark} into double "
            "quotes, and leave no column out."
        )
