"""Pictures with a mask each, and the classes that the values in masks stand for."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ...config.checks import ConfigError
from ...machine.arrays import BoolArray, BytesArray, Int64Array, UInt8Array
from ...machine.parallel import available_cores, in_order
from ...machine.regular_files import file_fault
from ...machine.text import counted
from ...storage.array_files import load_arrays
from ...storage.cache import key_of, opened
from ..decoding.mask_files import LEFT_OUT, MOST_CLASSES, mask_values
from ..decoding.picture_files import PictureError
from ..quality.audit import survey
from .mask_pairs import NAMED, MaskPairs, pairs_in_folders, pairs_in_table
from .source import Masks, Source, natural_order
from .table_columns import not_utf8

__all__ = ["CLASSES", "MaskClasses", "list_masks"]

# Beside pictures: the names of the classes, a line each.
CLASSES = "classes.txt"
_MAX_NAMES_BYTES = 1_000_000
# Part of a key: to be raised when the same file would be read otherwise.
_VERSION = 3
_FILE = "values.npz"
_TWO_CLASSES = ("background", "foreground")


@dataclass(frozen=True)
class MaskClasses:
    """The meaning of the values in masks; fields as of `FolderSettings`."""

    class_names: Sequence[str] | None = None
    ignore: int | None = None
    mask_threshold: int | None = None
    mask_class: str = "value"


def list_masks(
    root: Path,
    cache_dir: Path,
    meaning: MaskClasses,
    columns: Sequence[str | None] | None = None,
    *,
    shown: str,
) -> Source:
    """Return pictures with a class for every pixel.

    In a folder, a picture's mask has its name, but for the ending, in a folder `masks` beside the
    folder `images` (or another usual name of one), each perhaps with folders of parts in it or
    around both; or it is the PNG file beside the picture, or ends with `_mask`. In a CSV file there
    are the columns path and mask, perhaps split and group.

    Args:
        root: a folder or a CSV file.
        cache_dir: the project's cache folder, which keeps what masks hold.
        meaning: of the values in masks.
        columns: of a CSV file, as of `list_table`, with the mask in the place of the label.
        shown: the root in messages.

    Raises:
        ConfigError: a picture has no mask, a mask cannot be read, its values stand for no class, or
            there are no two classes.
    """
    if root.is_dir():
        pairs = pairs_in_folders(root, shown)
        places = _above(root, [*pairs.pictures, *pairs.masks])
    else:
        pairs, places = pairs_in_table(root, columns), [root.parent]
    masks = _Values.of(pairs, cache_dir)
    stated = (_read_names(place / CLASSES) for place in places)
    names = meaning.class_names or next((some for some in stated if some is not None), None)
    if meaning.mask_class == "folder":
        return _by_folder(pairs, masks, meaning)
    class_names, table = _classes(masks, names, meaning)
    return _source(pairs, masks, class_names, table[None], np.zeros(len(pairs.masks), np.int64))


def _above(root: Path, files: Sequence[str]) -> list[Path]:
    """Return the folder that all files are in, and those above it up to the root."""
    inside = Path(os.path.commonpath(files))
    return [root / one for one in (inside, *inside.parents)]


def _source(
    pairs: MaskPairs,
    masks: _Values,
    class_names: tuple[str, ...],
    tables: UInt8Array,
    table_of: Int64Array,
) -> Source:
    """Return the source, after checking that masks hold what the tables know."""
    held = np.zeros((len(pairs.masks), len(class_names)), np.uint8)
    for row in range(len(held)):
        classes = tables[table_of[row], np.flatnonzero(masks.present[row])]
        held[row, classes[classes != LEFT_OUT]] = 1
    if len(seen := np.flatnonzero(held.any(axis=0))) < 2:
        named = class_names[seen[0]] if len(seen) else "none"
        raise ConfigError(
            f"the masks of {pairs.root} hold only one class ({named}), and at least two are needed."
        )
    return Source(
        "folder",
        class_names,
        held,
        root=pairs.root,
        sample_paths=tuple(pairs.pictures),
        given_parts=pairs.parts,
        groups=pairs.groups,
        problems=pairs.problems,
        missing=pairs.missing,
        kind="dense",
        masks=Masks(tuple(pairs.masks), masks.hashes, masks.sizes, tables, table_of),
    )


@dataclass(frozen=True, eq=False)
class _Values:
    """Contents of N masks: file hashes (N,), sizes (N, 2), whether a value occurs (N, 256)."""

    files: Sequence[str]
    hashes: BytesArray
    sizes: Int64Array
    present: BoolArray

    @classmethod
    def of(cls, pairs: MaskPairs, cache_dir: Path) -> _Values:
        """Read the masks, or what is kept of files of their content."""
        files = tuple(pairs.masks)
        listed = Source(
            "masks", ("mask",), np.zeros(len(files), np.int64), root=pairs.root, sample_paths=files
        )
        workers = available_cores()
        found = survey(listed, findings_dir=cache_dir / "findings", workers=workers)
        if found.reasons:
            raise _refused([f"{files[i]} {found.reasons[i]}" for i in sorted(found.reasons)])

        def read(index: int) -> BoolArray | str:
            try:
                values = mask_values(Path(listed.file(index)))
            except PictureError as error:
                return f"{files[index]} {error}"
            return np.bincount(values.ravel(), minlength=256) > 0

        def read_all(folder: Path) -> dict[str, object]:
            rows = list(in_order(read, range(len(files)), workers))
            if wrong := [row for row in rows if isinstance(row, str)]:
                raise _refused(wrong)
            np.savez(folder / _FILE, allow_pickle=False, present=np.stack(rows))
            return {}

        key = key_of([_VERSION, len(files)], found.hashes.tobytes())
        stored = opened(
            cache_dir / "masks" / f"values-{key}",
            read_all,
            lambda entry: load_arrays(entry.folder / _FILE),
            what="the values in masks",
        )
        return cls(files, found.hashes, found.sizes, stored["present"])

    def first_with(self, value: int) -> str:
        """Return the path of the first mask that holds a value."""
        return self.files[int(np.argmax(self.present[:, value]))]


def _refused(faults: Sequence[str]) -> ConfigError:
    more = f"; and {len(faults) - NAMED} more" if len(faults) > NAMED else ""
    unusable = f"{counted(len(faults), 'mask')} cannot be used"
    return ConfigError(f"{unusable}: {'; '.join(faults[:NAMED])}{more}.")


def _classes(
    masks: _Values, names: Sequence[str] | None, meaning: MaskClasses
) -> tuple[tuple[str, ...], UInt8Array]:
    """Return class names and the class (256,) of each value, where values say the class.

    Raises:
        ConfigError: a value stands for no class; the first mask that holds it is named.
    """
    found = np.flatnonzero(masks.present.any(axis=0)).tolist()
    values = [value for value in found if value != meaning.ignore]
    table = np.full(256, LEFT_OUT, np.uint8)
    if meaning.mask_threshold is not None or {255} <= set(values) <= {0, 255}:
        least = meaning.mask_threshold or 1
        table[:least], table[least:] = 0, 1
        if names is not None and len(names) != 2:
            raise ConfigError(
                f"there are {len(names)} names of classes, and masks that tell 2 apart: background "
                "and foreground."
            )
        chosen = tuple(names or _TWO_CLASSES)
    elif names is not None:
        _check_count(names)
        if (strange := next((v for v in values if v >= len(names)), None)) is not None:
            raise ConfigError(
                f"{masks.first_with(strange)} has pixels of the value {strange}, and there are "
                f"names of {len(names)} classes (0 to {len(names) - 1}): {_advice(values)}."
            )
        chosen = tuple(names)
        table[: len(chosen)] = np.arange(len(chosen))
    else:
        if 255 in values:
            raise ConfigError(
                f"{masks.first_with(255)} has pixels of the value 255, and masks hold "
                f"{len(values)} values in all: {_advice(values)}."
            )
        chosen = _TWO_CLASSES if values == [0, 1] else tuple(map(str, values))
        table[values] = np.arange(len(values))
    if meaning.ignore is not None:
        table[meaning.ignore] = LEFT_OUT
    return chosen, table


def _check_count(names: Sequence[str]) -> None:
    if len(names) > MOST_CLASSES:
        raise ConfigError(
            f"there are {len(names)} classes, {', '.join(names[:3])}, ...: masks tell at most "
            f"{MOST_CLASSES} classes apart, background included."
        )


def _advice(values: Sequence[int]) -> str:
    if len(values) > 64:  # nobody has so many classes by accident
        return (
            "of masks in shades of grey, state from which value on a pixel is foreground, "
            "data.mask_threshold=128"
        )
    return "set data.ignore=VALUE to leave out such pixels, or name all classes, data.class_names"


def _by_folder(pairs: MaskPairs, masks: _Values, meaning: MaskClasses) -> Source:
    """Return the source whose foreground has the class that a picture's folder names."""
    least = meaning.mask_threshold or 1
    shades = masks.present.copy()
    if meaning.ignore is not None:
        shades[:, meaning.ignore] = False
    other = np.flatnonzero(shades[:, 1:255].any(axis=0)) + 1
    if meaning.mask_threshold is None and len(other):
        value = int(other[0])
        raise ConfigError(
            f"{masks.first_with(value)} has pixels of the value {value}, and with "
            "data.mask_class=folder masks tell foreground from background: state from which value "
            "on a pixel is foreground, data.mask_threshold=128."
        )
    white: list[int] = np.flatnonzero(shades[:, least:].any(axis=1)).tolist()
    named = {pairs.folders[row] for row in white}
    if nameless := named & {"", _TWO_CLASSES[0]}:
        row = next(row for row in white if pairs.folders[row] in nameless)
        where = (
            f"the folder {_TWO_CLASSES[0]}"
            if pairs.folders[row]
            else "no folder that names its class"
        )
        raise ConfigError(
            f"{pairs.pictures[row]} is in {where}, and its mask has foreground: with "
            "data.mask_class=folder the class of the foreground is the name of the picture's "
            "folder. Put it into the folder of its class."
        )
    class_names = (_TWO_CLASSES[0], *sorted(named, key=natural_order))
    _check_count(class_names)
    tables = np.full((len(class_names), 256), LEFT_OUT, np.uint8)
    tables[:, :least] = 0
    tables[:, least:] = np.arange(len(class_names), dtype=np.uint8)[:, None]
    if meaning.ignore is not None:
        tables[:, meaning.ignore] = LEFT_OUT
    place = {name: number for number, name in enumerate(class_names)}
    table_of = np.array([place.get(folder, 0) for folder in pairs.folders], np.int64)
    return _source(pairs, masks, class_names, tables, table_of)


def _read_names(file: Path) -> list[str] | None:
    """Return the lines of a file of class names; None where there is none."""
    if not file.exists():
        return None
    if (fault := file_fault(file, _MAX_NAMES_BYTES)) is not None:
        raise ConfigError(f"{file} {fault}: it must name each class once, a line each.")
    try:
        lines = file.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError:
        raise not_utf8(file) from None
    except OSError as error:
        raise ConfigError(f"{file} cannot be read: {error}.") from None
    names = [line.strip() for line in lines if line.strip()]
    if len(set(names)) < len(names) or not names:
        raise ConfigError(f"{file} must name each class once, a line each.")
    return names
