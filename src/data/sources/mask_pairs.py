"""Pairs of pictures and their masks, in folders and in tables."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from ...config.checks import ConfigError
from ...machine.arrays import TextArray
from .class_folders import FolderTree, is_held_out, part_named
from .csv_lines import read_csv_lines
from .mask_names import (
    MASK_FOLDERS,
    PICTURE_FOLDERS,
    by_key,
    in_mask_folder,
    key_of_pair,
    marked_as_masks,
)
from .source import PARTS, Problem
from .table import listed_rows
from .table_columns import TableSchema
from .table_paths import found_files

__all__ = [
    "NAMED",
    "MaskPairs",
    "pairs_in_folders",
    "pairs_in_table",
]

# Files that a message names at most.
NAMED = 5


@dataclass
class MaskPairs:
    """Paths of pictures and of their masks relative to `root`, with what is said beside them."""

    root: Path
    pictures: list[str]
    masks: list[str]
    folders: list[str]  # that name the class of each picture
    parts: TextArray | None = None
    groups: tuple[str, ...] | None = None
    problems: tuple[Problem, ...] = ()
    missing: Mapping[int, str] = field(default_factory=dict)  # as of `Source`


def pairs_in_folders(root: Path, shown: str) -> MaskPairs:
    """Return the pairs in a folder; errors, and `shown`, as of `list_masks`."""
    tree = FolderTree(str(root))
    files = tree.pictures_below("")
    in_folders = list(filter(in_mask_folder, files))
    if in_folders:
        masks = dict[str, str]()
        for path in in_folders:
            if (other := masks.setdefault(key_of_pair(path), path)) is not path:
                raise ConfigError(f"{other} and {path} are masks of one picture: keep one of them.")
        pictures = sorted(set(files) - set(in_folders))
    else:
        pictures, masks = _side_by_side(files)
    if not pictures:
        raise ConfigError(
            f"{shown} holds no pictures with masks: put pictures into {shown}/images and masks of "
            f"the same names into {shown}/masks, or each NAME.png beside its NAME.jpg."
        )
    alone = [path for path in pictures if key_of_pair(path) not in masks]
    if alone:
        more = f" and {len(alone) - NAMED} more" if len(alone) > NAMED else ""
        raise ConfigError(
            f"{len(alone)} of {len(pictures)} pictures have no mask: "
            f"{', '.join(alone[:NAMED])}{more}. A mask has the name of its picture, in a folder "
            "masks beside the folder images, or as a PNG file beside the picture."
        )
    taken = {key_of_pair(path) for path in pictures}
    problems = [
        Problem(path, "is a mask without a picture; left out", "masks have no picture")
        for key, path in masks.items()
        if key not in taken
    ]
    pictures, given = _parts(tree, pictures, shown)
    return MaskPairs(
        root,
        pictures,
        [masks[key_of_pair(path)] for path in pictures],
        [_class_folder(path) for path in pictures],
        given,
        problems=(*problems, *tree.problems),
    )


def pairs_in_table(file: Path, columns: Sequence[str | None] | None) -> MaskPairs:
    """Return the pairs in a CSV file; columns and errors as of `list_masks`."""
    table = read_csv_lines(file, TableSchema(columns, masks=True))
    masks, gone, found = found_files(file, table.values["label"], table.lines, "masks")
    if gone:
        named = "; ".join(f"line {table.lines[row]}: {masks[row]}" for row in sorted(gone)[:NAMED])
        raise ConfigError(f"{file} names {len(gone)} masks that are no files: {named}.")
    table.remarks += found
    rows = listed_rows(file, table, masks)
    masks = [masks[row].replace(os.sep, "/") for row in rows.kept]
    known = set(masks)
    if repeated := [path for path, count in Counter(masks).items() if count > 1]:
        more = f" and {len(repeated) - 1} more" if len(repeated) > 1 else ""
        table.remarks.append(f"gives {repeated[0]}{more} as the mask of several pictures")
    missing = rows.missing | {  # a mask of the same name was found in the place of a picture
        place: f"line {table.lines[row]}: {table.values['path'][row]}"
        for place, row in enumerate(rows.kept)
        if rows.paths[place] in known
    }
    return MaskPairs(
        root=file.parent,
        pictures=list(rows.paths),
        masks=masks,
        folders=[_class_folder(path) for path in rows.paths],
        parts=rows.parts,
        groups=rows.groups,
        problems=tuple(Problem(file.name, remark) for remark in table.remarks),
        missing=missing,
    )


def _parts(
    tree: FolderTree, pictures: Sequence[str], shown: str
) -> tuple[list[str], TextArray | None]:
    """Return the pictures that are in a part, and the part of each; all and None without parts.

    As with class folders, there are parts where one folder is called for training and another one
    for validation or test; what stands beside them is left out, with a problem.

    Raises:
        ConfigError: folders look like parts, but not clearly so.
    """
    folders = [path.split("/")[:-1] for path in pictures]
    parts = [next(filter(None, map(part_named, some)), "") for some in folders]
    named = {part for part in parts if part}
    unclear = next(
        (path for path, some in zip(pictures, folders) if any(map(is_held_out, some))), ""
    )
    if PARTS[0] in named and unclear:
        raise ConfigError(
            f"{shown} has a train folder, and {unclear} is held out for validation or for the "
            "test, which is not clear: call its folder val or test, or move it away."
        )
    if len(named) < 2:
        return list(pictures), None
    if PARTS[0] not in named:
        raise ConfigError(
            f"{shown} has the parts {' and '.join(sorted(named))} and no train part: call one of "
            "the folders train."
        )
    if others := [path for path, part in zip(pictures, parts) if not part]:
        tree.note(
            others[0],
            f"is one of {len(others)} pictures that are in none of the parts "
            f"({', '.join(part for part in PARTS if part in named)}); left out",
        )
    kept = [path for path, part in zip(pictures, parts) if part]
    return kept, np.array([part for part in parts if part], np.str_)


def _side_by_side(files: Sequence[str]) -> tuple[list[str], dict[str, str]]:
    """Return pictures, and masks by key, of files that lie in one folder under one name.

    Raises:
        ConfigError: which of the files of a name is the mask cannot be told.
    """
    pictures: list[str] = []
    masks: dict[str, str] = {}
    for key, group in by_key(files).items():
        marked = marked_as_masks(group)
        if len(group) == 1:
            pictures += group
            continue
        if len(group) != 2 or len(marked) != 1:
            raise ConfigError(
                f"{' and '.join(group[:3])}: which of them is the mask cannot be told. Put "
                "pictures into a folder images, and masks into a folder masks beside it."
            )
        masks[key] = marked[0]
        pictures += [path for path in group if path != marked[0]]
    return pictures, masks


def _class_folder(path: str) -> str:
    """Return the folder that names a class: the first that is none of a part, pictures or masks."""
    for folder in path.split("/")[:-1]:
        if folder.lower() not in PICTURE_FOLDERS | MASK_FOLDERS and part_named(folder) is None:
            return folder
    return ""
