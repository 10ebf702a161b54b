"""Pictures named by a CSV file with the columns path, label and, if wanted, split and group."""

from __future__ import annotations

import csv
import os
from pathlib import Path

import numpy as np

from ...config.checks import ConfigError, nearest
from ...machine.text import from_csv_cell
from .source import (
    PARTS,
    Problem,
    Source,
    case_remarks,
    clean_label,
    merged_remarks,
    natural_order,
)

__all__ = ["list_table"]

_COLUMNS = ("path", "label", "split", "group")
_NAMED = 20
# As many as an archive may have files; a line takes some 500 bytes of memory.
_MAX_ROWS = 2_000_000
_MAX_BYTES = 500_000_000


def list_table(file: Path) -> Source:
    """Return the pictures that a CSV file names, in its order.

    The first line names the columns in any order: path (relative to the file's folder, or
    absolute), label, and optionally split (train, val or test) and group. Others are left alone.

    Raises:
        ConfigError: the file is empty or malformed, a picture is missing or named twice, a value
            is missing or unknown; with the number of the line.
    """
    lines, rows, problems = _rows(file)
    labels = [clean_label(row["label"]) for row in rows]
    class_names = tuple(sorted(set(labels), key=natural_order))
    if len(class_names) < 2:
        raise ConfigError(f"{file}: a classifier needs at least 2 labels, and there is 1.")
    _check_paths(file, lines, [row["path"] for row in rows])
    index = {label: number for number, label in enumerate(class_names)}
    spellings: dict[str, set[str]] = {}
    for label, row in zip(labels, rows, strict=True):
        spellings.setdefault(label, set()).add(row["label"])
    remarks = [*merged_remarks(spellings), *case_remarks(class_names)]
    given = None
    if "split" in rows[0]:
        for line, row in zip(lines, rows, strict=True):
            if row["split"] not in PARTS:
                raise ConfigError(
                    f"{file}, line {line}: split is {row['split']!r}, which is none of "
                    f"{', '.join(PARTS)}{nearest(row['split'], PARTS)}."
                )
        given = np.array([row["split"] for row in rows])
    return Source(
        "folder",
        class_names,
        np.array([index[label] for label in labels], np.int64),
        root=file.parent,
        sample_paths=tuple(row["path"].replace(os.sep, "/") for row in rows),
        given_parts=given,
        groups=tuple(row["group"] for row in rows) if "group" in rows[0] else None,
        problems=(*problems, *(Problem(file.name, remark) for remark in remarks)),
    )


def _rows(file: Path) -> tuple[list[int], list[dict[str, str]], tuple[Problem, ...]]:
    """Return the number and the known columns of each line; every value is there and not empty."""
    lines: list[int] = []
    rows: list[dict[str, str]] = []
    try:
        # utf-8-sig: spreadsheets put a mark before the first column's name.
        size = file.stat().st_size
        if size > _MAX_BYTES:
            raise ConfigError(
                f"{file} has {size / 1e6:,.0f} MB, more than a table of pictures has: the limit "
                f"is {_MAX_BYTES / 1e6:.0f} MB."
            )
        with file.open(encoding="utf-8-sig", newline="") as stream:
            reader = csv.reader(stream, strict=True)
            header = [clean_label(name).lower() for name in next(reader, [])]
            places = _places(file, header)
            for cells in reader:
                if not any(cell.strip() for cell in cells):
                    continue
                _check_cells(f"{file}, line {reader.line_num}", cells, len(header))
                row = {c: from_csv_cell(_value(c, cells[i])) for c, i in places.items()}
                for column, value in row.items():
                    if not value:
                        raise ConfigError(f"{file}, line {reader.line_num}: {column} is empty.")
                if len(rows) == _MAX_ROWS:
                    raise ConfigError(
                        f"{file} names more than {_MAX_ROWS:,} pictures: divide it into several."
                    )
                lines.append(reader.line_num)
                rows.append(row)
    except UnicodeDecodeError:
        raise ConfigError(f"{file} is not written in UTF-8: save it as CSV UTF-8.") from None
    except csv.Error as error:
        raise ConfigError(f"{file}, line {reader.line_num}: {error}.") from None
    except OSError as error:
        raise ConfigError(f"{file} cannot be read: {error.strerror}.") from None
    if not rows:
        raise ConfigError(f"{file} has no line after its header: it names no pictures.")
    unknown = [name or "one without a name" for name in header if name not in _COLUMNS]
    problems = [Problem(file.name, f"has columns that mean nothing here: {', '.join(unknown)}")]
    return lines, rows, tuple(problems) if unknown else ()


def _check_cells(where: str, cells: list[str], columns: int) -> None:
    """Refuse a line that cannot be divided into its columns."""
    if len(cells) != columns:
        values = f"there {'is 1 value' if len(cells) == 1 else f'are {len(cells)} values'}"
        raise ConfigError(
            f"{where}: {values} for {columns} columns. Put what contains a comma into double "
            "quotes, and leave no column out."
        )
    if any("\0" in cell for cell in cells):
        raise ConfigError(f"{where}: there is a NUL character: save the table as CSV UTF-8.")


def _value(column: str, cell: str) -> str:
    """Return a cell without invisible characters; of a path only outer white space is removed."""
    cleaned = cell.strip()
    # A label is kept as it was written, for the remark on those that look alike.
    return clean_label(cell) if column == "group" or not clean_label(cell) else cleaned


def _places(file: Path, header: list[str]) -> dict[str, int]:
    """Return the position of each known column."""
    for column in ("path", "label"):
        if column not in header:
            raise ConfigError(
                f"{file}, line 1: there is no column {column}. The first line names the columns, "
                "separated by commas: path,label or path,label,split or path,label,split,group."
            )
    for column in _COLUMNS:
        if header.count(column) > 1:
            raise ConfigError(f"{file}, line 1: there are two columns {column}.")
    return {column: header.index(column) for column in _COLUMNS if column in header}


def _check_paths(file: Path, lines: list[int], paths: list[str]) -> None:
    """Refuse pictures that are not there, or are named twice."""
    folder = str(file.parent)
    seen: dict[str, int] = {}
    missing: list[str] = []
    for line, path in zip(lines, paths, strict=True):
        full = os.path.join(folder, path)
        same = os.path.normpath(full)
        if same in seen:
            raise ConfigError(f"{file}: lines {seen[same]} and {line} name the same file, {path}.")
        seen[same] = line
        if not os.path.isfile(full):
            missing.append(f"line {line}: {path}")
    if missing:
        more = f"; and {len(missing) - _NAMED} more" if len(missing) > _NAMED else ""
        raise ConfigError(
            f"{file} names {len(missing)} of {len(paths)} pictures that are no files "
            f"(relative paths start at {folder}): {'; '.join(missing[:_NAMED])}{more}."
        )
