"""Masks: files whose pixels are classes, read exactly, and resized without mixing classes."""

from __future__ import annotations

import io
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image

from ...machine.arrays import AnyArray, UInt8Array
from ...records.pixel_answers import colours
from .decode import opened_file, padded
from .depth import has_white_as_zero
from .picture_files import PictureError, decoder_errors
from .picture_format import PictureFormat
from .rasters import NPY, open_raster, orientation_of, turned
from .resizing import fitted

__all__ = ["LEFT_OUT", "MOST_CLASSES", "decode_mask", "mask_png", "mask_values"]

# The class of pixels that no loss and no metric counts, in arrays of classes; others are below.
LEFT_OUT = 255
MOST_CLASSES = LEFT_OUT
_WHITE_OF_16_BITS = 65535
# Modes of Pillow whose bands are not the grey that may have been saved as colour.
_INEXACT = ("CMYK", "YCbCr", "LAB", "HSV", "La", "RGBa")


def mask_values(data: bytes | Path) -> UInt8Array:
    """Return the values of a mask's pixels, (H, W) as they are shown, that of EXIF included.

    Those of a palette are its numbers, of an array of NumPy its own, with 255 for True and for
    the white of 16 bits where there is nothing but black and white. Grey that is stored as colour
    is read as grey.

    Args:
        data: the bytes of a file, or its path.

    Raises:
        PictureError: it is no picture, is compressed as JPEG, AVIF or most WebP files are (values
            are not those that were saved), has colours without a palette, other values above 255,
            or others of a TIFF in which 0 is white than 0 and 255.
    """
    with opened_file(data) as stream, decoder_errors():
        is_array = stream.read(len(NPY)) == NPY
        stream.seek(0)
        raster = open_raster(stream)
        if raster is not None and is_array:
            if raster.bands > 1:
                raise PictureError(f"is an array of {raster.bands} bands: a mask has one, HxW")
            return _whole(raster.read()[:, :, 0])
        stream.seek(0)
        image = Image.open(stream)
        if lossy := _lossy(image, stream):
            raise PictureError(f"is {lossy}, which changes values: save masks as PNG")
        if raster is not None or image.mode in _INEXACT:
            raise PictureError(
                "has other pixels than grey, a palette or RGB of 8 bits: save masks with class "
                "numbers as pixels, or with a palette"
            )
        inverted, has_8_bits = has_white_as_zero(image), image.mode == "L"
        image.load()  # which turns a TIFF itself
        values = turned(np.asarray(image), orientation_of(image))
    if values.ndim == 3:
        bands = values[:, :, : 3 if values.shape[2] > 2 else 1]
        if (bands != bands[:, :, :1]).any():
            raise PictureError(
                "has colours and no palette: save masks with class numbers as pixels, or with a "
                "palette"
            )
        values = bands[:, :, 0]
    # Pillow has turned 8 bits round, and two values alone are meant as they are seen.
    two = np.isin(values, (0, LEFT_OUT)).all() if has_8_bits else values.max() <= LEFT_OUT
    if inverted and not two:
        raise PictureError("is a TIFF in which 0 is white: save masks with 0 as black, or as PNG")
    return _whole(values)


def _whole(values: AnyArray) -> UInt8Array:
    """Return values (H, W) as bytes.

    Black and white of 16 bits are two classes as those of 8 bits are: 0 and 255.

    Raises:
        PictureError: they are others than whole numbers from 0 to 255.
    """
    white = values.max() == _WHITE_OF_16_BITS
    if white and values.dtype.kind in "ui" and np.isin(values, (0, _WHITE_OF_16_BITS)).all():
        return (values > 0).astype(np.uint8) * np.uint8(LEFT_OUT)
    # Arithmetic leaves class numbers as floats, in which they are as exact.
    whole = values.dtype.kind in "bui" or (values == np.rint(values)).all()
    if not whole or values.min() < 0 or values.max() > LEFT_OUT:
        raise PictureError(
            "has values that are no whole numbers from 0 to 255: save masks with class numbers as "
            "pixels"
        )
    return np.ascontiguousarray(values, np.uint8)


def _lossy(image: Image.Image, stream: BinaryIO) -> str:
    """Return what a picture is whose pixels are not those that were saved; "" of any other."""
    if image.format in ("JPEG", "MPO") or image.info.get("compression") == "jpeg":
        return "a JPEG"
    if image.format == "AVIF":
        return "AVIF"
    if image.format == "WEBP":
        stream.seek(0)
        return "" if b"VP8L" in stream.read() else "lossy WebP"
    return ""


def decode_mask(values: UInt8Array, table: UInt8Array, form: PictureFormat) -> UInt8Array:
    """Return the classes (H, W) of a mask in the place and size that a picture gets.

    Args:
        values: as of `mask_values`.
        table: (256,) the class of each value, or `LEFT_OUT`.
        form: of the picture. The nearest pixel counts; what `pad` and `windows` add is left out.
    """
    height, width = form.scaled_size((values.shape[0], values.shape[1]))
    classes = fitted(
        table[values][:, :, None],
        (height, width),
        "squeeze" if form.windowed else form.fit,
        resize=_nearest,
        fill=LEFT_OUT,
    )
    classes = np.ascontiguousarray(classes[:, :, 0])
    whole = form.array_size((values.shape[0], values.shape[1]))
    return padded(classes, whole, LEFT_OUT) if form.windowed else classes


def _nearest(
    classes: UInt8Array, size: tuple[int, int], extent: tuple[float, float] | None
) -> UInt8Array:
    """Return a whole mask (H, W, 1) in another size, each pixel the nearest of it."""
    if classes.shape[:2] == size:
        return classes
    image = Image.fromarray(np.ascontiguousarray(classes[:, :, 0]))
    return np.asarray(image.resize(size[::-1], Image.Resampling.NEAREST))[:, :, None]


def mask_png(classes: UInt8Array) -> bytes:
    """Return classes (H, W) as a PNG with a palette: a pixel's value is its class."""
    image = Image.fromarray(classes)
    image.putpalette(colours(256).tobytes())
    stream = io.BytesIO()
    image.save(stream, "PNG")
    return stream.getvalue()
