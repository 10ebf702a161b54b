"""Pictures of one's own: class folders, an archive of them, a CSV file, or arrays."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ...config.checks import ConfigError
from ...machine.arrays import AnyArray, Int64Array, TextArray, UInt8Array
from ...machine.text import counted
from ..decoding.picture_files import PICTURE_ENDINGS
from ..decoding.videos import VIDEO_ENDINGS
from .archive import ARCHIVE_ENDINGS, extract_archive
from .class_folders import FolderTree, class_folders, named
from .label_sets import same_contents
from .label_spelling import (
    alike_remarks,
    clean_label,
    merged_remarks,
    refuse_alike_across_parts,
)
from .mask_names import are_pairs, masks_among
from .masked_pictures import MaskClasses, list_masks
from .npz import list_arrays
from .roots import existing_root
from .shards import find_shards, list_shards
from .source import PARTS, Problem, Source, is_left_behind, natural_order
from .table import TABLE_ENDINGS, list_table
from .unread_kinds import unread_kind

__all__ = ["load"]

_CSV_ENDINGS = (".csv", ".tsv")
# (part, label) -> paths of pictures; the part is "" where none are given.
_Paths = dict[tuple[str, str], list[str]]


def load(
    root: Path | None,
    cache_dir: Path,
    download: bool,
    *,
    columns: Sequence[str | None] | None = None,
    separator: str | None = None,
    class_names: Sequence[str] | None = None,
    ignore: int | None = None,
    mask_threshold: int | None = None,
    mask_class: str = "value",
    frames: int | None = None,
    target: str = "single",
) -> Source:
    """Return the pictures below, in or named by `root`, taken literally (no ~, no $, no patterns).

    Args:
        root: a folder as of `list_tree`, a .zip or .tar (.gz, .xz, .bz2) of one, which is extracted
            once, a CSV file or one of JSON lines as of `list_table`, an .npz file as of
            `list_arrays`, or shards as of `find_shards`.
        cache_dir: the project's cache folder.
        download: not needed, as with every set that is no published one.
        columns, separator: of a CSV file, as of `list_table`; None for what is none.
        class_names, ignore, mask_threshold, mask_class: what masks mean, as of `MaskClasses`.
        frames: not None where videos are among the pictures.
        target: what a picture is labelled with; with "dense" the root is as of `list_masks`, or
            an archive of such a folder.

    Raises:
        ConfigError: there is nothing at root, or not what it should be.
    """
    if root is None:
        raise ConfigError(
            "data.root is missing: set data.root=PATH, a folder with one folder of pictures a "
            "class, a .zip or .tar of it, a CSV file with the columns path and label, or an .npz "
            "file with the arrays images and labels."
        )
    name, several = root.name.lower(), target == "multi"
    if target != "dense" and (shards := find_shards(root)):
        _refuse_for_tables(f"{root} has shards", columns=columns)
        return list_shards(
            root if root.is_dir() else root.parent,
            shards,
            cache_dir / "shards",
            shown=str(root),
            several=several,
            separator=separator,
        )
    existing_root(root)
    if target == "dense":
        meaning = MaskClasses(class_names, ignore, mask_threshold, mask_class)
        return _with_masks(root, cache_dir, columns, meaning)
    if root.is_file() and name.endswith(TABLE_ENDINGS):
        return list_table(root, columns, several=several, separator=separator)
    _refuse_for_tables(f"data.root is {str(root)!r}", columns=columns, separator=separator)
    if root.is_dir():
        return list_tree(root, shown=str(root), several=several, videos=frames is not None)
    if name.endswith(".npz"):
        return list_arrays(root, several=several)
    if name.endswith(ARCHIVE_ENDINGS):
        tree = extract_archive(root, cache_dir / "archives")
        return list_tree(tree, shown=str(root), several=several, videos=frames is not None)
    raise ConfigError(
        f"data.root is {str(root)!r}, which is neither a folder, nor a CSV or .npz file, nor an "
        f"archive ({', '.join(ARCHIVE_ENDINGS)}). Save a table of another kind as CSV."
    )


def _with_masks(
    root: Path, cache_dir: Path, columns: Sequence[str | None] | None, meaning: MaskClasses
) -> Source:
    name, shown = root.name.lower(), str(root)
    if root.is_file() and name.endswith(ARCHIVE_ENDINGS):
        root = extract_archive(root, cache_dir / "archives")
    elif root.is_file() and not name.endswith(_CSV_ENDINGS):
        raise ConfigError(
            f"data.root is {shown!r}: with data.target=dense it must be a folder of pictures and "
            "masks, an archive of one, or a CSV file with the columns path and mask."
        )
    if root.is_dir():
        _refuse_for_tables(f"data.root is {shown!r}", columns=columns)
    return list_masks(root, cache_dir, meaning, columns, shown=shown)


def _refuse_for_tables(found: str, **settings: object) -> None:
    """Raise a ConfigError for a setting of a table that is stated where `found` says what is."""
    for key, value in settings.items():
        if value is not None:
            raise ConfigError(f"data.{key} is about a CSV file, and {found}: leave it out.")


def list_tree(root: Path, *, shown: str, several: bool = False, videos: bool = False) -> Source:
    """Return the pictures of root/class/..., root/part/class/... or root/class/part/...

    Which folders are parts and which are classes is decided by `class_folders`. A single folder
    that wraps all the others is looked through. Pictures may lie deeper inside a class folder.
    Hidden files and folders are left out, and so is, with a problem, what is no picture by its
    name. With `several` labels a picture, one that lies in several class folders of a part has
    the labels of all of them. Files of `videos` count as pictures. Messages name the root as
    `shown`.

    Raises:
        ConfigError: there are no two classes with pictures, a folder cannot be listed, or parts
            and classes cannot be told apart.
    """
    tree, top = FolderTree(str(root), VIDEO_ENDINGS if videos else frozenset()), ""
    while len(inside := tree.folders(top)) == 1 and not tree.pictures(top):
        if not tree.folders(inside[0]):
            break
        top = inside[0]
    paths, written = _class_paths(tree, top, shown)
    _leave_out_unlabelled(tree, paths)
    class_names = tuple(sorted({label for _, label in paths}, key=natural_order))
    if len(class_names) < 2:
        merged = [f" {remark[0].upper()}{remark[1:]}." for remark in merged_remarks(written)]
        hint = tree.without_utf_8() or _where_classes_may_be(tree, top, class_names, shown)
        raise ConfigError(_too_few(class_names, shown, bool(hint)) + "".join(merged) + hint)
    index = {label: number for number, label in enumerate(class_names)}
    parts = [part for part in ("", *PARTS) if any(key[0] == part for key in paths)]
    keys = sorted(paths, key=lambda key: (parts.index(key[0]), index[key[1]]))
    counts = [len(paths[key]) for key in keys]
    given = None
    if len(parts) > 1:
        given = np.repeat([part for part, _ in keys], counts)
        for label in class_names:
            if ("train", label) not in paths:
                tree.note(label, "is a class without pictures in the train part")
    remarks = [*merged_remarks(written), *alike_remarks(class_names)]
    targets: AnyArray = np.repeat([index[label] for _, label in keys], counts).astype(np.int64)
    refuse_alike_across_parts(class_names, targets, given, shown)
    listed = [path for key in keys for path in paths[key]]
    if several:
        targets, kept = _joined(root, listed, targets, len(class_names), given)
        listed = [listed[place] for place in kept]
        given = None if given is None else given[kept]
    return Source(
        "folder",
        class_names,
        targets,
        root=root,
        sample_paths=tuple(listed),
        given_parts=given,
        kind="multi" if several else "single",
        problems=(*(Problem(shown, remark) for remark in remarks), *tree.noticed()),
    )


def _class_paths(tree: FolderTree, top: str, shown: str) -> tuple[_Paths, list[str]]:
    """Return the pictures of each part and label, and the labels as folders are called.

    Raises:
        ConfigError: as `class_folders`, a folder holds nothing but pictures that are not read, or
            the folders are those of pictures and masks.
    """
    paths: _Paths = {}
    written: list[str] = []
    within: dict[str, list[str]] = {}
    folders = class_folders(tree, top, shown)
    masks = masks_among({folder: tree.pictures_below(folder) for _, _, folder in folders})
    if masks:
        tree.note(
            min(masks),
            f"is one of {len(masks):,} files with the name of another picture, taken for its mask "
            "and left out; data.target=dense learns from masks, and a CSV file names such files "
            "as pictures",
        )
    for part, label_name, folder in folders:
        found = [path for path in tree.pictures_below(folder) if path not in masks]
        if not found:
            if unread := tree.unread_below(folder):
                raise ConfigError(
                    f"{shown}: the class folder {folder} holds {_unread(unread)}, or take the "
                    "folder out of there."
                )
            tree.note(
                folder,
                "holds no pictures; this folder was left out",
                "folders hold no pictures, and were left out",
            )
            continue
        label = clean_label(label_name) or label_name
        written.append(label_name)
        paths.setdefault((part, label), []).extend(found)
        within[folder] = _folders_within(folder, found)
    _note_classes_of_folders(tree, within)
    _refuse_masks(paths, shown)
    return paths, written


def _note_classes_of_folders(tree: FolderTree, within: dict[str, list[str]]) -> None:
    """Note the class folders that hold several folders and no pictures beside them.

    Args:
        tree: that holds them.
        within: the folders in each class folder.
    """
    # Of the same folders in all, `class_folders` has told.
    if len({tuple(inner) for inner in within.values()}) <= 1:
        return
    for folder, inner in within.items():
        if len(inner) > 1:
            tree.note(
                folder,
                f"is one class, of {len(inner)} folders ({named(inner)}); for a class of each, "
                "move them up or set data.root to the folder around them",
                "classes hold nothing but several folders, which count as one class each",
            )


def _refuse_masks(paths: _Paths, shown: str) -> None:
    by_name: dict[str, list[str]] = {}
    for (_, label), found in paths.items():
        by_name.setdefault(label, []).extend(found)
    if are_pairs(by_name):
        raise ConfigError(
            f"{shown} has the folders {' and '.join(by_name)} with files of the same names, which "
            "are pictures and their masks, and no classes: set data.target=dense."
        )


def _unread(paths: Sequence[str]) -> str:
    """Return how many files hold pictures that are not read, and what the first one is."""
    first = paths[0].rpartition("/")[2]
    kind = "of a kind that is not read, and no picture"
    return f"{counted(len(paths), 'file')} {kind}: {first} {unread_kind(first)}"


def _folders_within(folder: str, pictures: Sequence[str]) -> list[str]:
    """Return the folders in a class folder that has no pictures beside them; else nothing."""
    rests = [path.removeprefix(f"{folder}/") for path in pictures]
    return (
        sorted({rest.partition("/")[0] for rest in rests}) if all("/" in r for r in rests) else []
    )


def _joined(
    root: Path,
    paths: Sequence[str],
    classes: Int64Array,
    num_classes: int,
    parts: TextArray | None,
) -> tuple[UInt8Array, list[int]]:
    """Return the label sets of the pictures, those of equal content in a part as one, and which.

    Raises:
        ConfigError: a picture cannot be read.
    """
    try:
        first = same_contents([str(root / path) for path in paths])
    except OSError as error:
        raise ConfigError(f"{error.filename} cannot be read: {error.strerror}.") from None
    rows: dict[tuple[int, str], int] = {}
    kept: list[int] = []
    members: list[tuple[int, int]] = []
    for place, same in enumerate(first):
        key = same, "" if parts is None else str(parts[place])
        if key not in rows:
            rows[key] = len(kept)
            kept.append(place)
        members.append((rows[key], int(classes[place])))
    sets = np.zeros((len(kept), num_classes), np.uint8)
    sets[tuple(np.array(members).T)] = 1
    return sets, kept


def _leave_out_unlabelled(tree: FolderTree, paths: _Paths) -> None:
    """Take out a part of which no folder is called as a class of the train part is."""
    known = {label.casefold() for part, label in paths if part == "train"}
    for part in ("val", "test"):
        labels = [label for other, label in paths if other == part]
        if known and labels and not known & {label.casefold() for label in labels}:
            left = [path for label in labels for path in paths.pop((part, label))]
            tree.note(
                left[0],
                f"is one of {len(left)} pictures of the {part} part in folders that are called as "
                f"no class of the train part ({', '.join(labels[:5])}); without labels, they were "
                "left out",
            )


def _too_few(class_names: tuple[str, ...], shown: str, found: bool) -> str:
    have = f"only one ({class_names[0]})" if class_names else "none"
    known = f"; pictures are files ending in {', '.join(sorted(PICTURE_ENDINGS))}"
    return (
        f"{shown} should have at least 2 class folders with pictures, and has {have}. Put the "
        f"pictures of each class into a folder of its own, such as {shown}/cat and {shown}/dog"
        f"{'' if found or class_names else known}."
    )


def _where_classes_may_be(
    tree: FolderTree, top: str, class_names: tuple[str, ...], shown: str
) -> str:
    """Return the rest of the message about too few classes: where there may be some."""
    endings = (*TABLE_ENDINGS, ".npz", *ARCHIVE_ENDINGS)
    files = sorted(one.name for one in Path(tree.root, top).iterdir())
    if sets := [one for one in files if one.lower().endswith(endings) and not is_left_behind(one)]:
        remedy = f"set data.root={Path(tree.root, top, sets[0])}"
        if shown != tree.root:
            remedy = "extract the archive and set data.root to that file"
        return f" If the labels are in {named(sets)}, {remedy}."
    if not class_names and (unread := tree.unread_below("")):
        return f" It holds {_unread(unread)}."
    if not class_names and (strays := tree.pictures(top)):
        around = FolderTree(str(Path(tree.root).parent))
        # Beside what came out of an archive lie other archives.
        beside = [one for one in around.folders("") if around.pictures(one)]
        if shown == tree.root and len(beside) > 1:
            return f" If it is the folder of a class, set data.root={around.root}."
        return (
            f" The {len(strays)} pictures directly in it have no labels: name them in a CSV file "
            "path,label."
        )
    inner = [folder for folder in tree.folders(top) if len(tree.folders(folder)) > 1]
    if len(class_names) == 1 and inner:
        return f" If {inner[0]} holds them, set data.root={shown}/{inner[0]}."
    return ""
