"""Inputs of a served model: pictures as bytes, base64 or arrays, and limits of a request."""

from __future__ import annotations

import base64
import io
import math
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ..data.decoding.depth import is_deep
from ..data.decoding.picture_files import PictureError, check_size, read_header
from ..data.decoding.rasters import orientation_of, turned
from ..machine.arrays import AnyArray
from .file_pages import Page

__all__ = ["MOST_VALUES", "Limit", "as_picture", "check_request", "named_picture", "pixels_of"]

_CHANNELS = (1, 3, 4)
# Limits of one request: far above ordinary use, and low enough not to block a server for long. One
# small file can hold a hundred megapixels, so pixels are limited as well as bytes.
_MOST_PICTURES = 2_000
_MOST_BYTES = 256_000_000
_MOST_PIXELS = 2_000_000_000
_MOST_PIXELS_OF_ONE = 40_000_000
# Of a model whose answers are masks, which are as large as the pictures.
_MOST_PIXELS_OF_MASKS = 400_000_000
# Float32 values that a model keeps of a picture's own pixels: 1.4 GB.
MOST_VALUES = 350_000_000
_JPEG = b"\xff\xd8"
# Decoding a JPEG to a smaller size needs at most the coefficients of the whole one.
_JPEG_SHARE = 4


def as_picture(
    value: object, *, deep: bool = False
) -> bytes | Path | Page | Image.Image | AnyArray:
    """Return a picture as `decode_picture` takes it, or a page of a file.

    Args:
        value: the bytes of a picture file; these in base64, as JSON has no bytes; or an array,
            also as nested lists: (H, W), (H, W, 1), (H, W, 3) RGB, (H, W, 4) with transparency, or
            (H, W, C) of the model's bands; whole numbers from 0 to 255, or (H, W) uint16, of which
            65535 is white. What no request can hold: a picture of Pillow; a path or a page, which
            stays one.
        deep: the model has seen more than 8 bits: numbers of other kinds than uint8 are taken as
            those of the files that it was trained on.

    Raises:
        PictureError: it is none of these.
    """
    match value:
        case bytes() | bytearray() | memoryview():
            return bytes(value)
        case Path() | Page():
            return value
        case str():
            try:
                # MIME's kind of it, which MLflow writes, has line ends.
                return base64.b64decode("".join(value.split()), validate=True)
            except ValueError:
                raise PictureError("is text, and not the bytes of a picture in base64") from None
        case Image.Image():
            return _image(_of_pillow(value), deep)
        case np.ndarray() | list() | tuple():
            return _image(value, deep)
        case _ if value is None or (isinstance(value, float) and math.isnan(value)):
            raise PictureError("is missing")  # tables make NaN of None
        case _:
            raise PictureError(
                f"is of type {type(value).__name__}: bytes of a picture file or an array is needed"
            )


@contextmanager
def named_picture(row: int, value: object) -> Iterator[None]:
    """Say of which picture of several a `PictureError` is, as a ValueError."""
    try:
        yield
    except PictureError as error:
        name = str(value) if isinstance(value, Path | Page) else f"the picture in row {row}"
        raise ValueError(f"{name} {error}") from None


def check_request(rows: Sequence[object], values: float = 0.0, *, masks: bool = False) -> None:
    """Refuse a request that would take too much memory or time; nothing is decoded.

    Args:
        rows: the pictures.
        values: that a model keeps of each pixel of a picture's own, see `Predictor.values`.
        masks: whether it answers with masks.

    Raises:
        ValueError: `rows`, as `as_picture` takes them, are too many pictures, bytes or pixels;
            names the picture that is too large, counted from 0.
    """
    if len(rows) > _MOST_PICTURES:
        raise ValueError(
            f"a request of {len(rows):,} pictures is too large: ask for at most "
            f"{_MOST_PICTURES:,} at once"
        )
    size = sum(map(_bytes_of, rows))
    if size > _MOST_BYTES:
        raise ValueError(
            f"pictures of {size / 1e6:,.0f} MB in one request are too many: ask for at most "
            f"{_MOST_BYTES / 1e6:,.0f} MB at once"
        )
    most_of_all = _MOST_PIXELS_OF_MASKS if masks else _MOST_PIXELS
    total, most = 0, _MOST_PIXELS_OF_ONE
    if values:
        most = min(most, int(MOST_VALUES / values))
    for row, value in enumerate(rows):
        pixels = pixels_of(value, whole=masks)
        if pixels > most:
            raise ValueError(
                f"the picture in row {row} has {pixels / 1e6:,.0f} megapixels; the limit is "
                f"{most / 1e6:,.0f}: make it smaller"
            )
        total += pixels
        if total > most_of_all:
            raise ValueError(
                f"the pictures up to row {row} have {total / 1e6:,.0f} megapixels; the limit for a "
                f"request is {most_of_all / 1e6:,.0f}: ask for fewer at once"
            )


def pixels_of(value: object, *, whole: bool = True) -> int:
    """Return the pixels in memory while a picture is decoded, from its shape or header alone.

    Args:
        value: the picture, as `as_picture` takes it or returns it.
        whole: of a JPEG all of them, and not those of the reduced size that it is decoded at.

    Returns:
        several for one of many bands; 0 for what is no picture, which is said when it is read.
    """
    value = value.file if isinstance(value, Page) else value
    if isinstance(value, np.ndarray | list | tuple):
        places, bands = _shape(value)
        return places * max(1, bands // 3)
    if isinstance(value, Image.Image):
        return value.width * value.height
    try:
        picture = as_picture(value)
        assert isinstance(picture, bytes | Path)
        with io.BytesIO(picture) if isinstance(picture, bytes) else picture.open("rb") as stream:
            is_jpeg = stream.read(2) == _JPEG
            stream.seek(0)
            header = read_header(stream)
    except (OSError, PictureError):
        return 0
    pixels = header.height * header.width * max(1, header.bands // 3)
    return pixels // _JPEG_SHARE if is_jpeg and not whole else pixels


class Limit:
    """Limits what threads take at the same time, such as pixels that they decode.

    Args:
        most: the limit; who wants more gets all of it, alone.
    """

    def __init__(self, most: int) -> None:
        self._all = self._free = most
        self._changed = threading.Condition()

    @contextmanager
    def reserved(self, wanted: int) -> Iterator[None]:
        """Wait until so much is free, and reserve it until the block ends."""
        wanted = min(wanted, self._all)
        with self._changed:
            self._changed.wait_for(lambda: self._free >= wanted)
            self._free -= wanted
        try:
            yield
        finally:
            with self._changed:
                self._free += wanted
                self._changed.notify_all()


def _bytes_of(value: object) -> int:
    """Return how many bytes a picture of a request has; of lists, how many numbers."""
    if isinstance(value, str | bytes | bytearray):
        return len(value)
    if isinstance(value, memoryview) or (isinstance(value, np.ndarray) and value.dtype != object):
        return value.nbytes
    return math.prod(_shape(value)) if isinstance(value, np.ndarray | list | tuple) else 0


def _shape(value: AnyArray | Sequence[Any]) -> tuple[int, int]:
    """Return places and numbers of each in an array, or in nested lists or arrays of arrays."""
    if isinstance(value, np.ndarray) and value.dtype != object:
        return math.prod(value.shape[:2]), math.prod(value.shape[2:])
    rows = [row for row in value if isinstance(row, np.ndarray | list | tuple) and len(row)]
    firsts = [row[0] for row in rows]
    bands = [len(one) for one in firsts if isinstance(one, np.ndarray | list | tuple)]
    return sum(map(len, rows)), max(bands, default=1)


def _of_pillow(image: Image.Image) -> AnyArray:
    """Return the pixels of a picture of Pillow, turned and with the channels that its file has."""
    image.load()
    orientation = orientation_of(image)
    if not is_deep(image):
        mode = "RGBA" if image.has_transparency_data else "L" if image.mode == "L" else "RGB"
        image = image.convert(mode)
    return turned(np.asarray(image), orientation)


def _image(value: object, deep: bool) -> Image.Image | AnyArray:
    pixels = _array(value)
    shape = "x".join(map(str, pixels.shape)) or "a single number"
    if pixels.ndim == 3:
        pixels = pixels[:, :, 0] if pixels.shape[2] == 1 else pixels
    elif pixels.ndim == 2 and pixels.shape[1] in _CHANNELS:
        # If one picture is given instead of a batch, MLflow takes each of its lines for a picture.
        raise PictureError(f"is an array of {shape}: is it one line of a picture, not in a list?")
    elif pixels.ndim != 2:
        raise PictureError(f"is an array of {shape}: HxW or HxWxC is needed")
    if not pixels.size:
        raise PictureError(f"is an empty array of {shape}")
    check_size(pixels.shape[1], pixels.shape[0])
    if deep and pixels.dtype != np.uint8:
        return pixels
    if pixels.dtype == np.uint16 and pixels.ndim == 2:
        return Image.fromarray(pixels)
    if pixels.dtype.kind not in "iu" or pixels.min() < 0 or pixels.max() > 255:
        raise PictureError(
            f"is an array of {pixels.dtype} from {pixels.min()} to {pixels.max()}: "
            "whole numbers from 0 to 255 are needed"
        )
    eight = np.ascontiguousarray(pixels, np.uint8)
    # Four channels are colours with transparency, or bands: the model's format says which.
    return Image.fromarray(eight) if eight.ndim == 2 or eight.shape[2] == 3 else eight


def _array(value: object) -> NDArray[np.generic]:
    """Return an array of nested lists or arrays of arrays, as tables hold them."""
    try:
        pixels = np.asarray(value)
        if pixels.dtype == object:
            pixels = np.array([np.stack([np.asarray(x) for x in row]) for row in pixels])
    except (TypeError, ValueError, OverflowError, RecursionError):
        raise PictureError("is no array: its rows differ in length or in kind") from None
    if pixels.dtype.kind not in "iufb":
        raise PictureError("is an array of something else than numbers")
    return pixels.astype(pixels.dtype.newbyteorder("="), copy=False)  # Pillow's I;16B is big-endian
