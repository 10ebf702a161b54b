"""Scores of candidates by the values of a column of the user's table."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from ...config.checks import ConfigError, from_plain
from ...config.data import FolderSettings
from ...data.sources.csv_lines import read_csv_lines
from ...data.sources.listing import root_here
from ...data.sources.roots import root_beside
from ...data.sources.table import list_table
from ...data.sources.table_columns import TableSchema
from ...data.splitting.splits import Split
from ...machine.arrays import BoolArray, Int64Array
from ...machine.text import nearest
from ...records.report_data import GroupScore
from ...runs.folder import RunFolder
from ...statistics.intervals import share_interval
from ...targets import kind_of

__all__ = ["subgroup_scores", "subgroup_values"]

_MOST_VALUES = 50


def subgroup_values(run_dir: Path, column: str, sample_ids: Int64Array) -> tuple[str, ...]:
    """Return the value of each picture in a column of the CSV file that a run was trained from.

    Args:
        run_dir: folder of the run.
        column: of the file, in upper or lower case.
        sample_ids: (N,) of the pictures, as the run's predictions name them.

    Raises:
        ConfigError: the run's pictures come from no CSV file, the file is gone or has changed, it
            has no such column, a cell of it is empty, or it has too many values for a table.
    """
    folder = RunFolder.open(run_dir)
    try:
        plain: dict[str, Any] = folder.plain_settings()
        root = str(root_beside(plain["data"].get("root"), folder.output_dir.parent))
        if not root.lower().endswith((".csv", ".tsv")):
            raise ConfigError(
                f"subgroup={column} is a column of the CSV file that a run was trained from, and "
                f"the pictures of {run_dir} come from no CSV file."
            )
        data = from_plain(
            FolderSettings, {**plain["data"], "root": root, "check_content": False}, "data"
        )
        file = root_here(data)
        names = Split.read(folder.split).names
        several = kind_of(data.target).sets
        table = read_csv_lines(file, TableSchema(data.columns, several))
        if column.lower() not in map(str.lower, table.header):
            raise ConfigError(
                f"subgroup={column} is no column of {root}, which has {', '.join(table.header)}"
                f"{nearest(column, table.header)}."
            )
        path, label = (table.places.get(one) for one in ("path", "label"))
        columns = [None if place is None else table.header[place] for place in (path, label)]
        # A column that is taken for that of the groups is read, and checked, as theirs is.
        listed = list_table(
            file, [*columns, None, column], several=several, separator=data.separator
        )
    except (OSError, KeyError, ValueError, yaml.YAMLError) as error:
        if isinstance(error, ConfigError):
            raise
        raise ConfigError(f"subgroup={column}: {run_dir} cannot be read: {error}.") from error
    known = dict(zip(listed.sample_paths or (), listed.groups or ()))
    try:
        own = [(names or ())[index] for index in sample_ids.tolist()]
        # Pages of a file, and frames of a video, are called FILE#1 and so on.
        found = tuple(known[one if one in known else one.rpartition("#")[0]] for one in own)
    except (IndexError, KeyError):
        raise ConfigError(
            f"subgroup={column}: {root} no longer names the pictures that {run_dir} was judged by."
        ) from None
    if (count := len(set(found))) > _MOST_VALUES:
        raise ConfigError(
            f"subgroup={column} has {count:,} values, and a table of at most {_MOST_VALUES} can be "
            "read: name a column that has few."
        )
    return found


def subgroup_scores(
    right: BoolArray, values: Sequence[str], groups: Int64Array | None
) -> tuple[GroupScore, ...]:
    """Return the accuracy of a candidate for each value of the column, the lowest first.

    Args:
        right: (R, N) answers of its R trainings.
        values: N of the column.
        groups: (N,) of the pictures, or None.
    """
    labels, codes = np.unique(np.asarray(values), return_inverse=True)
    found = []
    for code, label in enumerate(labels.tolist()):
        own = codes == code
        grouped = None if groups is None else groups[own]
        found.append(
            GroupScore(
                shown=label,
                pictures=int(own.sum()),
                accuracy=float(right[:, own].mean()),
                interval=share_interval(right[:, own], grouped),
            )
        )
    return tuple(sorted(found, key=lambda one: (one.accuracy, one.shown)))
