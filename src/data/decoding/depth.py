"""Scaling of pixels to 0 to 255: of more than 8 bits, which value is black, and which is white.

A file of 16 bits may use 10, 12 or 14 of them, and one of 32 bits or floating-point numbers states
no black and white. The range is taken from a set of pictures.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from PIL import Image

from ...machine.arrays import AnyArray, Float32Array, Float64Array

__all__ = [
    "SIXTEEN_BITS",
    "PixelError",
    "ScaleBy",
    "ValueRange",
    "black_and_white",
    "chosen_range",
    "deep_values",
    "has_white_as_zero",
    "is_deep",
    "pixel_bounds",
    "range_remark",
    "scaled",
]

# The values that become 0 and 255.
ValueRange = tuple[float, float]
# How pictures of more than 8 bits are read: by a range; by their own values ("own"); or None where
# all other pictures have 8 bits, so that white can only be the greatest number of 16 bits.
ScaleBy = ValueRange | None | Literal["own"]
SIXTEEN_BITS: ValueRange = (0.0, 65535.0)
# The largest numbers of usual pixels: floating point, and 8, 10, 12, 14 and 16 bits.
_WHITES = (1, 255, 1023, 4095, 16383, 65535)
# Up to this value pixels of 16 bits may have 14, 12 or 10 bits, or the picture may be dark.
_AMBIGUOUS = 16383
_ROWS_BYTES = 8 << 20
# Pictures that use less than this part of the range (1 / 8) show little.
_DARK_DIVISOR = 8
_TIFF_PHOTOMETRIC, _TIFF_SAMPLE_FORMAT = 262, 339


class PixelError(ValueError):
    """Pixels cannot be scaled; the message says why, to be read after the picture's name."""


def is_deep(image: Image.Image) -> bool:
    """Return whether an open picture is grey with more than 8 bits a pixel."""
    return image.mode in ("I", "F") or image.mode.startswith("I;16")


def deep_values(image: Image.Image) -> AnyArray:
    """Return the pixels (H, W) of an open grey picture of more than 8 bits.

    Raises:
        PixelError: they have more than 31 bits.
    """
    image.load()
    values = np.asarray(image)
    if image.mode == "I" and values.min() < 0 and _has_no_sign(image):
        raise PixelError("has pixels of more than 31 bits; save it with 8 or 16 bits")
    return values


def pixel_bounds(values: AnyArray) -> ValueRange:
    """Return the smallest and the largest of an array of pixels.

    Raises:
        PixelError: some are no finite numbers.
    """
    low, high = float(values.min()), float(values.max())
    if not np.isfinite([low, high]).all():
        raise PixelError("has pixels that are no finite numbers")
    return low, high


def chosen_range(bounds: Float64Array) -> ValueRange | None:
    """Return black and white of pictures with these smallest and largest pixels.

    They are 0 and the largest number of 8, 10, 12, 14 or 16 bits (or 1, of floating-point pixels)
    where the pictures use half of that range or more, and else the values that they use.

    Args:
        bounds: (N, 2) float64, NaN for pictures of 8 bits.

    Returns:
        None where all have 8 bits.
    """
    deep = bounds[~np.isnan(bounds[:, 0])]
    if not len(deep):
        return None
    low, high = float(deep[:, 0].min()), float(deep[:, 1].max())
    white = next((white for white in _WHITES if white >= high), None)
    if white is not None and low >= 0 and high - low >= white / 2:
        return 0.0, float(white)
    return low, high if high > low else low + 1


def range_remark(bounds: Float64Array, used: ValueRange) -> str | None:
    """Return a remark where few pictures need the black and white that all are scaled by.

    `bounds` are as of `chosen_range`; None where there is nothing to say.
    """
    highest = bounds[~np.isnan(bounds[:, 1]), 1]
    black, white = used
    if not len(highest) or np.median(highest) - black > (white - black) / _DARK_DIVISOR:
        return None
    return (
        f"half of the pictures of more than 8 bits have nothing brighter than "
        f"{np.median(highest):g}, and white is {white:g}, so they are nearly black: "
        "data.value_range=[BLACK,WHITE] sets another range"
    )


def black_and_white(
    bounds: ValueRange, scale: ScaleBy, window: ValueRange | None, *, real: bool
) -> ValueRange:
    """Return the values of a picture of more than 8 bits that become 0 and 255.

    Args:
        bounds: its smallest and largest pixel.
        scale: a range, which counts before all else.
        window: black and white as the file states them.
        real: whether pixels are floating-point numbers.

    Raises:
        PixelError: black and white are not known.
    """
    if scale is not None and scale != "own":
        return scale
    if window is not None:
        return window
    if scale == "own":
        return chosen_range(np.array([bounds])) or SIXTEEN_BITS
    low, high = bounds
    if real or low < 0 or not (high == 0 or _AMBIGUOUS < high <= SIXTEEN_BITS[1]):
        raise PixelError(
            f"has pixels from {low:g} to {high:g}, whose black and white are unknown among "
            "pictures of 8 bits; save it with 8 bits"
        )
    return SIXTEEN_BITS


def scaled(values: AnyArray, used: ValueRange) -> Float32Array:
    """Return pixels (H, W) as float32 from 0, black, to 255; what lies outside is cut off."""
    black, white = used
    found = np.empty(values.shape, np.float32)
    # A large picture would take eight bytes a pixel at once: the sums need double precision.
    rows = max(1, _ROWS_BYTES // (8 * values.shape[1]))
    for top in range(0, len(values), rows):
        part = (values[top : top + rows].astype(np.float64) - black) * 255 / (white - black)
        found[top : top + rows] = np.clip(part, 0, 255)
    return found


def _has_no_sign(image: Image.Image) -> bool:
    """Return whether a TIFF's pixels have no sign; Pillow reads them as if they had one."""
    tags = getattr(image, "tag_v2", None)
    return tags is not None and tuple(tags.get(_TIFF_SAMPLE_FORMAT, (1,)))[:1] == (1,)


def has_white_as_zero(image: Image.Image) -> bool:
    """Return whether a TIFF's least value is white; Pillow turns 8 bits round, and no more."""
    tags = getattr(image, "tag_v2", None)
    return tags is not None and tags.get(_TIFF_PHOTOMETRIC) == 0
