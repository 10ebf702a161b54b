"""The decoded pictures of a data set: one array that is shared by every process, or one by one."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ...records.pictures import Pixels
from ..quality.audit import content_hash
from ..sources.source import Problem, Source
from .decode import decode_picture
from .picture_files import PictureError, file_errors
from .picture_format import PictureFormat

__all__ = ["PictureStore", "chosen_size", "content", "picture"]

# The size for a model that has none of its own: 128x128 pixels, or as many in other proportions. A
# network from scratch takes time in proportion to them, and gains little from more.
_LARGEST_AREA = 128 * 128
_SMALLEST = 8


@dataclass(frozen=True, eq=False)
class PictureStore:
    """The N usable pictures of a source, decoded, with their labels.

    A store can be pickled; the array is then mapped anew where it arrives, not sent.

    Attributes:
        name, targets, class_names, sample_paths, given_parts, groups, kind: as of `Source`.
        images: (N, C, H, W) of the format's dtype, read-only; None if too large, then there is only
            `read`.
        content_hashes: (N,) bytes, 32 hexadecimal digits: hash of the file's bytes or of the array
            row, the same for every image size.
        original_sizes: (N, 2) int64, height and width in pixels before any resizing.
        format: that they are decoded to; `image_size` and `channels` are its own.
        problems: faults of single pictures, those of pictures that were left out included.
        fingerprint: 32 hexadecimal digits: hash of the pictures with their labels, whatever their
            order, names and place.
        from_cache: whether the array was found decoded.
        source: where the pictures come from, reduced to these; not pickled with an array.
        pixel_bounds: (N, 2) smallest and largest pixel where those have more than 8 bits, NaN
            elsewhere; None where all have 8 bits.
    """

    name: str
    images: Pixels | None
    targets: NDArray[Any]
    class_names: tuple[str, ...]
    content_hashes: NDArray[np.bytes_]
    sample_paths: tuple[str, ...] | None
    given_parts: NDArray[np.str_] | None
    groups: tuple[str, ...] | None
    original_sizes: NDArray[np.int64]
    format: PictureFormat
    problems: tuple[Problem, ...]
    fingerprint: str
    from_cache: bool
    source: Source | None = None
    pixel_bounds: NDArray[np.float64] | None = None
    kind: str = "single"

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

    def read(self, index: int) -> Pixels:
        """Picture `index` as (C, H, W) of the format's dtype, from the array or decoded now.

        Raises:
            PictureError: its file has been changed or removed since it was checked.
        """
        if self.images is not None:
            image: Pixels = self.images[index]
            return image
        if self.source is None:
            raise ValueError(f"{self.name} has neither an array nor a source to read from")
        try:
            return picture(self.source, index, self.format, bytes(self.content_hashes[index]))
        except PictureError as error:
            raise PictureError(f"{self.source.sample_name(index)} {error}") from error

    def __getstate__(self) -> dict[str, Any]:
        state = dict(self.__dict__)
        if self.images is not None:
            state["source"] = None  # what is read from is sent, and nothing else
        if isinstance(self.images, np.memmap):
            state["images"] = str(self.images.filename), self.images.dtype, self.images.shape
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        if isinstance(state["images"], tuple):
            file, dtype, shape = state["images"]
            state["images"] = np.memmap(file, dtype, mode="r", shape=shape)
        self.__dict__.update(state)


def picture(
    source: Source, index: int, form: PictureFormat, expected: bytes | None = None
) -> Pixels:
    """Return picture `index` of a source, (C, H, W); arguments and errors as of `content`."""
    return decode_picture(content(source, index, expected), form, page=source.page(index))


def content(
    source: Source, index: int, expected: bytes | None = None
) -> bytes | Path | Image.Image | NDArray[Any]:
    """Return picture `index` of a source as `decode_picture` takes it.

    Args:
        source: of files or arrays.
        index: in [0, N).
        expected: the hash of the file's content; None to take any content.

    Raises:
        PictureError: the file cannot be read, or is not what is expected.
    """
    if source.arrays is not None:
        row = source.arrays[index]
        if row.dtype != np.uint8 or len(row) not in (1, 3):
            return row.transpose(1, 2, 0)
        return Image.fromarray(row[0] if len(row) == 1 else row.transpose(1, 2, 0).copy())
    path = Path(source.file(index))
    if expected is None:
        return path
    with file_errors():
        data = path.read_bytes()
    if content_hash(data, source.page(index)) != expected:
        raise PictureError("has been changed since it was looked at")
    return data


def chosen_size(
    sizes: NDArray[np.int64], wanted: int | Sequence[int] | None, native_side: int | None
) -> tuple[int, int]:
    """Return the (H, W) that pictures are decoded to.

    Args:
        sizes: (N, 2) height and width in pixels of the usable ones, N at least 1.
        wanted: (H, W) or the side of a square; None for a size that suits model and pictures.
        native_side: side in pixels of the square that the model was made for. Pictures that are
            smaller keep their own size where they agree in it, and the model magnifies them. None
            for a model that takes any size: the pictures' own where they agree, else a square of
            their median shorter side, in both cases of 128x128 pixels at most.
    """
    if isinstance(wanted, int):
        return wanted, wanted
    if wanted is not None:
        height, width = wanted
        return height, width
    height, width = (int(side) for side in sizes[0])
    alike = bool((sizes == sizes[0]).all()) and min(height, width) >= _SMALLEST
    shorter = max(_SMALLEST, int(np.median(sizes.min(axis=1))))
    if native_side is not None:
        own = alike and max(height, width) <= native_side
        return (height, width) if own else (min(shorter, native_side),) * 2
    if not alike:
        return (min(shorter, math.isqrt(_LARGEST_AREA)),) * 2
    scale = min(1.0, math.sqrt(_LARGEST_AREA / (height * width)))
    return max(_SMALLEST, round(height * scale)), max(_SMALLEST, round(width * scale))
