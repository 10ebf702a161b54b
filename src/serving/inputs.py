"""What a person may hand to a served model as a picture, whatever way it came."""

from __future__ import annotations

import base64
import math

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from src.data.decode import PictureError

__all__ = ["as_picture"]

_CHANNELS = (1, 3, 4)


def as_picture(value: object) -> bytes | Image.Image:
    """A picture as `decode_picture` takes it.

    Args:
        value: the bytes of a picture file; these in base64, as JSON has no bytes; or an array,
            also as nested lists: (H, W), (H, W, 1), (H, W, 3) RGB or (H, W, 4) with transparency,
            whole numbers from 0 to 255, or (H, W) uint16, of which 65535 is white.

    Raises:
        PictureError: it is none of these.
    """
    match value:
        case bytes() | bytearray() | memoryview():
            return bytes(value)
        case str():
            try:
                # MIME's kind of it, which MLflow writes, has line ends.
                return base64.b64decode("".join(value.split()), validate=True)
            except ValueError:
                raise PictureError("is text, and not the bytes of a picture in base64") from None
        case np.ndarray() | list() | tuple():
            return _image(value)
        case None:
            raise PictureError("is missing")
        case float() if math.isnan(value):  # what tables make of None
            raise PictureError("is missing")
        case _:
            raise PictureError(
                f"is of type {type(value).__name__}: bytes of a picture file or an array is needed"
            )


def _image(value: object) -> Image.Image:
    pixels = _array(value)
    shape = "x".join(map(str, pixels.shape)) or "a single number"
    if pixels.ndim == 3 and pixels.shape[2] in _CHANNELS:
        pixels = pixels[:, :, 0] if pixels.shape[2] == 1 else pixels
    elif pixels.ndim == 2 and pixels.shape[1] in _CHANNELS:
        # Where MLflow wants a batch and gets one picture, it takes each of its lines for one.
        raise PictureError(f"is an array of {shape}: is it one line of a picture, not in a list?")
    elif pixels.ndim != 2:
        raise PictureError(f"is an array of {shape}: HxW or HxWxC with C 1, 3 or 4 is needed")
    if not pixels.size:
        raise PictureError(f"is an empty array of {shape}")
    if pixels.dtype == np.uint16 and pixels.ndim == 2:
        return Image.fromarray(pixels)
    if pixels.dtype.kind not in "iu" or pixels.min() < 0 or pixels.max() > 255:
        raise PictureError(
            f"is an array of {pixels.dtype} from {pixels.min()} to {pixels.max()}: "
            "whole numbers from 0 to 255 are needed"
        )
    return Image.fromarray(np.ascontiguousarray(pixels, np.uint8))


def _array(value: object) -> NDArray[np.generic]:
    """Tables nest what they hold: arrays of arrays, or lists of them."""
    try:
        pixels = np.asarray(value)
        if pixels.dtype == object:
            pixels = np.array([np.stack([np.asarray(x) for x in row]) for row in pixels])
    except (TypeError, ValueError):
        raise PictureError("is no array: its rows differ in length or in kind") from None
    if pixels.dtype.kind not in "iufb":
        raise PictureError("is an array of something else than numbers")
    return pixels
