"""Masks of all pictures, checked and decoded once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from ...config.checks import ConfigError
from ...machine.arrays import Int64Array, UInt8Array
from ...machine.parallel import in_order
from ...machine.text import counted
from ...storage.array_files import load_arrays
from ...storage.cache import key_of, opened
from ..quality.audit import Survey
from ..sources.source import Masks, Source
from .large_pictures import ClassPlaces, SizedArrays
from .picture_format import PictureFormat
from .picture_store import PictureStore, mask_of

__all__ = ["FILE", "check_sizes", "decoded_masks", "windowed_store"]

T = TypeVar("T")
# Of the arrays of an entry of the cache, one after another.
FILE = "images.bin"
_PLACES = "places.npz"
# Part of every key: to be raised when the same mask would decode to other classes.
_VERSION = 4
_MOST_NAMED = 3


def check_sizes(source: Source, masks: Masks, found: Survey) -> None:
    """Check that masks have the size of their picture.

    Args:
        source: of N pictures.
        masks: of all of them.
        found: the audit of the pictures; those that cannot be used are left out.

    Raises:
        ConfigError: some have another size.
    """
    known = [row for row in range(len(source)) if row not in found.reasons]
    wrong = [row for row in known if (masks.sizes[row] != found.sizes[row]).any()]
    if wrong:
        named = "; ".join(
            f"{masks.files[row]} is {_size(masks.sizes[row])} and {source.sample_name(row)} "
            f"{_size(found.sizes[row])}"
            for row in wrong[:_MOST_NAMED]
        )
        remedy = "Save a mask in the size of its picture."
        if (masks.sizes[wrong] == found.sizes[wrong][:, ::-1]).all():
            remedy = "Photos are turned as their EXIF says: turn their masks as well."
        raise ConfigError(
            f"{counted(len(wrong), 'mask')} of another size (height x width in pixels) than the "
            f"picture: {named}. {remedy}"
        )


def _size(size: Int64Array) -> str:
    return f"{size[0]}x{size[1]}"


def decoded_masks(
    source: Source,
    masks: Masks,
    form: PictureFormat,
    *,
    cache_dir: Path,
    workers: int,
    read: Callable[[Path], T],
    stored: bool = True,
) -> T:
    """Return what is read of the classes of all masks, decoded once; several processes share them.

    Of pictures that are taken window by window the places of the classes are kept as well, and
    these alone unless the classes are to be `stored`. `read` is given the folder of the files.
    """
    tables = masks.tables[masks.table_of].tobytes()
    how = [_VERSION, *form.image_size, form.fit]
    if form.windowed:
        how += [form.scale, stored]
    key = key_of(how, masks.hashes.tobytes(), tables)

    def decoded(index: int) -> tuple[UInt8Array, Any]:
        classes = mask_of(source, masks, form, index)
        known = len(source.class_names)
        return classes, ClassPlaces.in_mask(classes, known) if form.windowed else None

    def decode_all(folder: Path) -> dict[str, Any]:
        found = []
        with (folder / FILE).open("wb") as stream:
            for classes, places in in_order(decoded, range(len(masks)), workers):
                if stored:
                    stream.write(classes.data)
                found.append(places)
        if form.windowed:
            places = ClassPlaces.of(found)
            np.savez(folder / _PLACES, counts=places.counts, flat=places.flat)
        return {}

    return opened(
        cache_dir / "masks" / f"classes-{key}",
        decode_all,
        lambda entry: read(entry.folder),
        what="the decoded masks",
    )


def windowed_store(
    store: PictureStore, source: Source, images: Path | None, cache_dir: Path, workers: int
) -> PictureStore:
    """Return the store with the pictures in a file, their masks, and the places of the classes."""
    form, masks, sizes = store.format, source.masks, store.array_sizes
    assert masks is not None
    stored = images is not None

    def read(folder: Path) -> tuple[ClassPlaces, SizedArrays]:
        places = ClassPlaces(**load_arrays(folder / _PLACES))
        return places, SizedArrays(folder / FILE, "uint8", sizes)

    places, classes = decoded_masks(
        source, masks, form, cache_dir=cache_dir, workers=workers, read=read, stored=stored
    )
    if images is None:
        return replace(store, places=places)
    shapes = np.insert(sizes, 0, form.channels, axis=1)
    arrays = SizedArrays(images, form.dtype, shapes)
    return replace(store, images=arrays, masks=classes, places=places)
