"""The decoded pictures of a data set: one array that is shared by every process, or one by one."""

from __future__ import annotations

import hashlib
import io
import json
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ...machine.arrays import AnyArray, BytesArray, Float64Array, Int64Array, TextArray, UInt8Array
from ...machine.failures import RunFailed
from ...records.pictures import Pixels
from ...targets.labels import label_codes
from ..quality.audit import Survey, content_hash, copies, page_hash
from ..sources.listing import without
from ..sources.source import Masks, Problem, Source
from .decode import LARGE_PIXELS, decode_picture
from .large_pictures import ClassPlaces, SizedArrays, array_sizes
from .mask_files import decode_mask, mask_values
from .picture_files import NotReadHere, PictureError, PictureFile, file_errors
from .picture_format import PictureFormat
from .rasters import Raster

__all__ = [
    "PageReader",
    "PictureLost",
    "PictureStore",
    "any_read",
    "mask_of",
    "picture",
    "pixels_identity",
    "store_of",
]

# Part of the keys of all sets; of those with pixels of more than 8 bits; and of those with pictures
# of `LARGE_PIXELS`: to be raised when these would decode to other pixels.
_RESIZING_VERSION, _DEEP_VERSION, _LARGE_VERSION = 2, 2, 2
_CHANGED = "has been changed since it was looked at"


class PictureLost(RunFailed, PictureError):
    """A picture or mask was removed or changed after it had been checked, and is needed again."""

    def __init__(self, fault: str) -> None:
        super().__init__(fault)
        self._fault = fault

    def __str__(self) -> str:
        return (
            f"{self._fault}; it is read again while it is in use: bring back what was there, and "
            "go on"
        )


@dataclass(frozen=True, eq=False)
class PictureStore:
    """The N usable pictures of a source, decoded, with their labels.

    A store can be pickled; the array is then mapped anew where it arrives, not sent.

    Attributes:
        name, targets, class_names, sample_paths, given_parts, groups, kind: as of `Source`.
        images: (N, C, H, W) of the format's dtype, read-only, or (C, H, W) each where pictures are
            taken window by window; None if too large, then there is only `read`.
        content_hashes: (N,) bytes, 32 hexadecimal digits: hash of the file's bytes or of the array
            row, the same for every image size.
        original_sizes: (N, 2) int64, height and width in pixels before any resizing.
        format: that they are decoded to; `image_size` and `channels` are its own.
        problems: faults of single pictures, those of pictures that were left out included.
        fingerprint: 32 hexadecimal digits: hash of the pictures with their labels, whatever their
            order, names and place.
        from_cache: whether the array was found decoded.
        source: where the pictures come from, reduced to these; not pickled with an array.
        masks: (N, H, W) uint8 classes of pixels, 255 for those that are left out, read-only, or
            (H, W) each as `images`; None where pictures have no masks, or are too large.
        pixel_bounds: (N, 2) smallest and largest pixel where those have more than 8 bits, NaN
            elsewhere; None where all have 8 bits.
        places: of the classes in the masks, where pictures are taken window by window.
    """

    name: str
    images: Pixels | SizedArrays | None
    targets: AnyArray
    class_names: tuple[str, ...]
    content_hashes: BytesArray
    sample_paths: tuple[str, ...] | None
    given_parts: TextArray | None
    groups: tuple[str, ...] | None
    original_sizes: Int64Array
    format: PictureFormat
    problems: tuple[Problem, ...]
    fingerprint: str
    from_cache: bool
    source: Source | None = None
    pixel_bounds: Float64Array | None = None
    kind: str = "single"
    masks: UInt8Array | SizedArrays | None = None
    places: ClassPlaces | None = None

    def __len__(self) -> int:
        return len(self.targets)

    @property
    def image_size(self) -> tuple[int, int]:
        """(H, W) in pixels."""
        return self.format.image_size

    @property
    def channels(self) -> int:
        """1 for grey, 3 for colour, or the number of bands."""
        return self.format.channels

    @property
    def array(self) -> Pixels | None:
        """(N, C, H, W), where the pictures are one array."""
        return None if isinstance(self.images, SizedArrays) else self.images

    @property
    def array_sizes(self) -> Int64Array:
        """(N, 2) height and width of what `read` returns."""
        return array_sizes(self.format, self.original_sizes)

    def identity(self, form: PictureFormat | None = None) -> dict[str, Any]:
        """Return what `pixels_identity` does of these pictures, by default in their own format."""
        files = self.sample_paths is not None
        sizes, bounds = self.original_sizes, self.pixel_bounds
        return pixels_identity(form or self.format, sizes, bounds, files=files)

    def read(self, index: int) -> Pixels:
        """Picture `index` as (C, H, W) of the format's dtype, from what is stored or decoded now.

        Raises:
            PictureLost: its file has been changed or removed since it was checked.
        """
        if self.images is not None:
            return self.images[index]
        if self.source is None:
            raise ValueError(f"{self.name} has neither an array nor a source to read from")
        try:
            return picture(self.source, index, self.format, bytes(self.content_hashes[index]))
        except PictureError as error:
            raise PictureLost(f"{self.source.sample_name(index)} {error}") from error

    def read_mask(self, index: int) -> UInt8Array:
        """Classes (H, W) uint8 of the pixels of picture `index`, 255 for those that are left out.

        Raises:
            PictureLost: the mask has been changed or removed since it was checked.
        """
        if self.masks is not None:
            return self.masks[index]
        if self.source is None or self.source.masks is None:
            raise ValueError(f"{self.name} has no masks")
        try:
            return mask_of(self.source, self.source.masks, self.format, index)
        except PictureError as error:
            raise PictureLost(str(error)) from error

    def __getstate__(self) -> dict[str, Any]:
        state = dict(self.__dict__)
        if self.images is not None:
            state["source"] = None  # what is read from is sent, and nothing else
        for name in ("images", "masks"):
            if isinstance(array := state[name], np.memmap):
                state[name] = str(array.filename), array.dtype, array.shape
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        for name in ("images", "masks"):
            if isinstance(state[name], tuple):
                file, dtype, shape = state[name]
                state[name] = np.memmap(file, dtype, mode="r", shape=shape)
        self.__dict__.update(state)


def store_of(
    source: Source,
    found: Survey,
    images: Pixels | None,
    form: PictureFormat,
    flat: Sequence[int],
    *,
    from_cache: bool,
) -> PictureStore:
    """Return the store of those pictures of a source that can be used.

    Args:
        source: of N pictures.
        found: their audit, and why some cannot be decoded.
        images: the array of the others, in their order; None where they are read one by one.
        form: the format of the array.
        flat: indices, in [0, N), of pictures of a single colour.
        from_cache: whether the array was found decoded.

    Raises:
        ConfigError: no picture of a class is left.
    """
    bad = found.reasons
    problems = [*source.problems]
    problems += [
        Problem(source.sample_name(i), f"{bad[i]}; left out", "pictures were left out")
        for i in sorted(bad)
    ]
    problems += [
        Problem(source.sample_name(i), "is of a single colour", "pictures are of a single colour")
        for i in flat
    ]
    usable = without(source, bad)
    kept = np.array([i for i in range(len(source)) if i not in bad], np.int64)
    hashes = found.hashes[kept]
    names = [source.sample_name(i) for i in kept]
    problems += copies(hashes, usable.targets, names, usable.class_names)
    order = np.lexsort((label_codes(usable.targets), hashes))
    fingerprint = hashlib.blake2b(json.dumps(usable.class_names).encode(), digest_size=16)
    fingerprint.update(hashes[order].tobytes())
    fingerprint.update(usable.targets[order].astype("<i8").tobytes())
    if usable.masks is not None:
        fingerprint.update(usable.masks.digests[order].tobytes())
    return PictureStore(
        name=source.name,
        images=images,
        targets=usable.targets,
        class_names=usable.class_names,
        content_hashes=hashes,
        sample_paths=usable.sample_paths,
        given_parts=usable.given_parts,
        groups=usable.groups or _patients(found, kept),
        original_sizes=found.sizes[kept],
        format=form,
        problems=tuple(problems),
        fingerprint=fingerprint.hexdigest(),
        from_cache=from_cache,
        source=usable,
        pixel_bounds=found.bounds_to_scale(kept),
        kind=usable.kind,
    )


def pixels_identity(
    form: PictureFormat,
    sizes: Int64Array,
    bounds: Float64Array | None,
    *,
    files: bool,
) -> dict[str, Any]:
    """Return what determines the pixels of pictures beside their content, as part of a key.

    Args:
        form: that they are decoded to.
        sizes: (N, 2) height and width.
        bounds: as `Survey.bounds_to_scale` has them.
        files: whether they are files, whose content says their size; that of an array does not.
    """
    deep = bounds is not None or form.dtype != "uint8"
    large = bool((sizes.prod(axis=1) > LARGE_PIXELS).any())
    return (
        form.identity()
        | {"resizing": _RESIZING_VERSION}
        | ({} if files else {"original_size": sizes[0].tolist()})
        | ({"deep": _DEEP_VERSION} if deep else {})
        | ({"large": _LARGE_VERSION} if large else {})
    )


def _patients(found: Survey, kept: Int64Array) -> tuple[str, ...] | None:
    """Return the groups that files state; a picture without one is a group of its own."""
    groups = found.groups[kept]
    if not groups.astype(np.bool_).any():
        return None
    return tuple((group or own).decode() for group, own in zip(groups, found.hashes[kept]))


def picture(
    source: Source, index: int, form: PictureFormat, expected: bytes | None = None
) -> Pixels:
    """Return picture `index` of a source, (C, H, W).

    Args:
        source: of files or arrays.
        index: in [0, N).
        form: of the picture.
        expected: the hash of the file's content; None to take any content.

    Raises:
        PictureError: the file cannot be read or decoded, or is not what is expected.
    """
    return decode_picture(_content(source, index, expected), form, page=source.page(index))


def any_read(
    source: Source, indices: Sequence[int], form: PictureFormat, hashes: BytesArray
) -> bool:
    """Return whether any of some pictures is read now that a missing package kept from it before.

    `hashes` are the expected ones of all.
    """
    for index in indices:
        try:
            picture(source, index, form, bytes(hashes[index]))
        except NotReadHere:
            continue
        except PictureError:  # of which the package is there
            return True
        return True
    return False


def mask_of(source: Source, masks: Masks, form: PictureFormat, index: int) -> UInt8Array:
    """Return the classes (H, W) of the pixels of picture `index`, as `decode_mask` does.

    Raises:
        PictureError: the mask has been changed or removed since it was checked.
    """
    name = masks.files[index]
    try:
        with file_errors():
            data = Path(str(source.root), name).read_bytes()
    except PictureError as error:
        raise PictureError(f"{name} {error}") from error
    if content_hash(data) != masks.hashes[index]:
        raise PictureError(f"{name} {_CHANGED}")
    return decode_mask(mask_values(data), masks.tables[masks.table_of[index]], form)


class PageReader:
    """Reads the pictures of a source, for several threads.

    A thread reads a file of several pictures once for all that it asks for one after another.
    """

    def __init__(self, source: Source) -> None:
        self._source = source
        self._last = threading.local()

    def content(
        self, index: int, expected: bytes
    ) -> bytes | Path | PictureFile | Image.Image | Raster:
        """Return what `_content` does, a page as the file that has it."""
        source, last = self._source, self._last
        if source.pages is None or source.pages[index] < 0:
            return _content(source, index, expected)
        place = source.place(index)
        if getattr(last, "place", None) != place:
            self.forget()
            with file_errors(), source.open(index) as stream:
                data = stream.read()
            last.digest, last.file = content_hash(data), PictureFile(io.BytesIO(data))
            last.place = place
        if page_hash(last.digest, source.page(index)) != expected:
            self.forget()
            raise PictureError(_CHANGED)
        return last.file

    def picture(self, index: int, form: PictureFormat, expected: bytes) -> Pixels:
        """Return what `picture` does."""
        data = self.content(index, expected)
        try:
            return decode_picture(data, form, page=self._source.page(index))
        except PictureError:
            self.forget()  # what has failed once is not gone on with
            raise

    def forget(self) -> None:
        """Let go of the file that this thread has read."""
        self._last.__dict__.clear()


def _content(
    source: Source, index: int, expected: bytes | None = None
) -> bytes | Path | Image.Image | Raster:
    """Return picture `index` as `decode_picture` takes it; arguments and errors as of `picture`."""
    if source.arrays is not None:
        row = source.arrays[index]
        if row.dtype != np.uint8 or len(row) not in (1, 3):
            return Raster.of(row.transpose(1, 2, 0))
        return Image.fromarray(row[0] if len(row) == 1 else row.transpose(1, 2, 0).copy())
    if expected is None and source.spans is None:
        return Path(source.file(index))
    with file_errors(), source.open(index) as stream:
        data = stream.read()
    if expected is None:
        return data
    if content_hash(data, source.page(index)) != expected:
        raise PictureError(_CHANGED)
    return data
