"""Costs of mistakes, read from the user's CSV file."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ...config.checks import ConfigError
from ...machine.arrays import Float64Array
from ...machine.regular_files import file_fault
from ...machine.text import counted
from .label_spelling import clean_label
from .table_columns import not_utf8

__all__ = ["CostTable"]

_MARKS = (",", ";", "\t")
# Where semicolons divide cells, a comma is a decimal one, and a point may part thousands.
_THOUSANDS = re.compile(r"\s*[-+]?[1-9]\d{0,2}\.\d{3}\s*")
# A thousand classes have a million costs.
_MAX_BYTES = 20_000_000


@dataclass(frozen=True, eq=False)
class CostTable:
    """The costs of predictions, by the names of classes.

    Attributes:
        file: that they were read from.
        names: K names of classes.
        matrix: (K, K) cost of each prediction (column) for each true class (row), finite.
    """

    file: Path
    names: tuple[str, ...]
    matrix: Float64Array

    @classmethod
    def read(cls, file: Path) -> CostTable:
        """Read a header of class names after an empty cell, and a row for each class.

        Cells are divided by commas, semicolons or tabs; where not by commas, 2,5 is a number, and
        1.000 is refused where no other number, such as 0.000 or 2.5, shows what a point means.

        Raises:
            ConfigError: the file cannot be read, or is no square table of numbers.
        """
        if (fault := file_fault(file, _MAX_BYTES)) is not None:
            raise ConfigError(f"costs: {file} {fault}: name a CSV file, a row for each class.")
        try:
            text = file.read_text(encoding="utf-8-sig")
            first = text.partition("\n")[0]
            mark = max(_MARKS, key=lambda one: len(next(csv.reader([first], delimiter=one), [])))
            lines = csv.reader(io.StringIO(text, newline=""), delimiter=mark)
            rows = [row for row in lines if any(cell.strip() for cell in row)]
        except UnicodeDecodeError as error:
            raise not_utf8(file) from error
        except (OSError, ValueError, csv.Error) as error:
            raise ConfigError(f"costs: {file} cannot be read: {error}.") from error
        names = tuple(map(clean_label, rows[0][1:])) if rows else ()
        if len(names) < 2 or len(set(names)) < len(names):
            raise ConfigError(
                f"costs: the first line of {file} must be an empty cell and the names of the "
                "classes, each once."
            )
        if tuple(clean_label(row[0]) for row in rows[1:]) != names:
            raise ConfigError(
                f"costs: the lines of {file} must begin with the names of its header, in the same "
                "order."
            )
        if uneven := next((row for row in rows[1:] if len(row) != len(rows[0])), None):
            found = counted(len(uneven) - 1, "cost")
            raise ConfigError(
                f"costs: the line {uneven[0]!r} of {file} has {found} for {len(names)} classes."
            )
        points = [cell for row in rows[1:] for cell in row[1:] if "." in cell]
        if mark != "," and points and all(map(_THOUSANDS.fullmatch, points)):
            one = points[0].strip()
            raise ConfigError(
                f"costs: {one} in {file} may be {one.replace('.', '')} or {float(one):g}: write "
                "which it is."
            )
        matrix = [[_number(cell, mark, file, row[0]) for cell in row[1:]] for row in rows[1:]]
        return cls(file, names, np.array(matrix))

    @classmethod
    def parse(cls, plain: Mapping[str, Mapping[str, float]], file: Path) -> CostTable:
        """Return the table of what `plain` returned; `file` is where it is from."""
        names = tuple(plain)
        return cls(file, names, np.array([[plain[a][b] for b in names] for a in names]))

    def plain(self) -> dict[str, dict[str, float]]:
        """Return the cost of each prediction by name, for each true class by name."""
        return {
            name: dict(zip(self.names, row, strict=True))
            for name, row in zip(self.names, self.matrix.tolist(), strict=True)
        }

    def of(self, class_names: tuple[str, ...]) -> Float64Array:
        """Return the (K, K) costs in the order of these classes.

        Raises:
            ConfigError: they are not the classes of the table.
        """
        if sorted(class_names) != sorted(self.names):
            missing = sorted(set(class_names) ^ set(self.names))
            raise ConfigError(
                f"costs: {self.file} must name the classes of the data, {', '.join(class_names)}: "
                f"{', '.join(missing)} is on one side alone."
            )
        order = [self.names.index(name) for name in class_names]
        return self.matrix[np.ix_(order, order)]


def _number(cell: str, mark: str, file: Path, name: str) -> float:
    try:
        cost = float(cell if mark == "," else cell.replace(",", "."))
    except ValueError:
        cost = float("nan")
    if not np.isfinite(cost):
        raise ConfigError(
            f"costs: {cell!r} in the line {name!r} of {file} is no cost: write a number such as "
            "1250.5, without marks between thousands."
        )
    return cost
