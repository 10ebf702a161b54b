"""Bicubic resizing of pictures of 8 bits, in whole numbers, equal on every machine.

The arithmetic is that of torch's `interpolate(mode="bicubic", antialias=True)` on bytes, which that
computes several times as fast as Pillow does. Where torch is not loaded, as where an exported model
is served, NumPy computes the same bytes.
"""

from __future__ import annotations

import math
import sys
import threading
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from ...machine.arrays import AnyArray, Float64Array, Int64Array, UInt8Array

__all__ = ["LARGEST_KEPT", "fitted", "resized_by_numpy", "resized_pixels", "thread_memory"]

_HALF_WIDTH = 2.0  # of the cubic kernel, in pixels of the result or of the picture
_SHARPNESS = -0.5  # the kernel's `a`: Keys, "Cubic convolution interpolation", 1981
_LARGEST_WEIGHT = 1 << 15
_MOST_BITS = 22
# Whole numbers below this are exact in single precision, in whatever order they are added.
_EXACT = 1 << 24
# Of a picture of Pillow's no more are resized at a time: it takes four bytes a pixel by itself.
_STRIP_PIXELS = 100_000
# Pillow hands its pixels over as an object of bytes. Large ones, each beside a small result that
# stays, leave holes in the heap: `predict` grew by 23 KB a picture.
_COPIED_PIXELS = 30_000
LARGEST_KEPT = 3_000_000
_memory = threading.local()
_BLOCK_LINES = 16  # columns or rows of the result that one product of matrices makes


def fitted(
    picture: AnyArray | Image.Image,
    size: tuple[int, int],
    fit: str,
    extent: tuple[float, float] | None = None,
    *,
    resize: Callable[..., AnyArray] | None = None,
    fill: int,
) -> AnyArray:
    """Return a picture resized into an array, with what its fit leaves out or adds.

    Args:
        picture, size, extent: as of `resized_pixels`, which is the default of `resize`.
        fit: what becomes of other proportions, as of `PictureFormat`.
        fill: the value of what "pad" adds.
    """
    if isinstance(picture, Image.Image):
        whole = (picture.height, picture.width)
    else:
        whole = picture.shape[:2]
    resize, extent = resize or resized_pixels, extent or whole
    down, across = size[0] / extent[0], size[1] / extent[1]
    if fit == "crop" and down != across:
        (upper, lower), (left, right) = (
            _middle(side, new / max(down, across)) for side, new in zip(extent, size, strict=True)
        )
        if isinstance(picture, Image.Image):
            picture = picture.crop((left, upper, right, lower))
        else:
            picture = picture[upper:lower, left:right]
        return resize(picture, size, None)
    if fit == "pad" and down != across:
        height, width = (
            max(1, min(new, round(side * min(down, across))))
            for side, new in zip(extent, size, strict=True)
        )
        inner = resize(picture, (height, width), extent)
        padded = np.full((*size, inner.shape[2]), fill, inner.dtype)
        top, left = (size[0] - height) // 2, (size[1] - width) // 2
        padded[top : top + height, left : left + width] = inner
        return padded
    return resize(picture, size, extent)


def _middle(side: float, kept: float) -> tuple[int, int]:
    """Return where the middle pixels of a side begin and end, at least one."""
    kept = min(kept, side)
    first = min(round((side - kept) / 2), math.ceil(side) - 1)
    return first, min(max(first + 1, round((side + kept) / 2)), math.ceil(side))


def resized_pixels(
    picture: UInt8Array | Image.Image,
    size: tuple[int, int],
    extent: tuple[float, float] | None = None,
) -> UInt8Array:
    """Return a picture in another size, by cubic convolution with antialiasing.

    Args:
        picture: (H, W, C), or an open picture in grey or RGB.
        size: (h, w) of the result.
        extent: (height, width) of what of the picture is taken, from its upper left corner, more
            than (H - 1, W - 1); None to take all.

    Returns:
        (h, w, C), not contiguous, and a copy where the picture has this size.
    """
    if isinstance(picture, Image.Image):
        return _resized_in_strips(picture, size, extent)
    if picture.shape[:2] == size:
        return picture.copy()
    # Without vector instructions torch (2.15) makes all rows of a single column alike.
    if "torch" in sys.modules and size[1] > 1:
        return _resized_by_torch(picture, size, extent)
    return resized_by_numpy(picture, size, extent)


def resized_by_numpy(
    pixels: UInt8Array, size: tuple[int, int], extent: tuple[float, float] | None = None
) -> UInt8Array:
    """Return what `resized_pixels` does of an array, without torch."""
    height, width = extent or pixels.shape[:2]
    if pixels.shape[1] != size[1]:
        pixels = _along_rows(pixels, size[1], width)
    if pixels.shape[0] != size[0]:
        pixels = _along_rows(pixels.swapaxes(0, 1), size[0], height).swapaxes(0, 1)
    return pixels


def _resized_in_strips(
    picture: Image.Image, size: tuple[int, int], extent: tuple[float, float] | None
) -> UInt8Array:
    """Return what `resized_pixels` does of a picture of Pillow's, of which a strip is copied."""
    height, width = extent or (picture.height, picture.width)
    lines = max(1, _STRIP_PIXELS // picture.width)
    if lines >= picture.height:
        return resized_pixels(_array(picture), size, extent)
    strips = []
    for top in range(0, picture.height, lines):
        bottom = min(top + lines, picture.height)
        strip = _array(picture.crop((0, top, picture.width, bottom)))
        rows = (bottom - top, size[1])
        strips.append(resized_pixels(strip, rows, (bottom - top, width)))
    return resized_pixels(np.concatenate(strips), size, (height, size[1]))


def _array(picture: Image.Image) -> UInt8Array:
    """Return the pixels (H, W, C) in memory of this thread, which the next call overwrites."""
    bands = len(picture.getbands())
    pixels = thread_memory(picture.height * picture.width * bands)
    pixels = pixels.reshape(picture.height, picture.width, bands)
    lines = max(1, _COPIED_PIXELS // picture.width)
    for top in range(0, picture.height, lines):
        rows = pixels[top : top + lines]
        rows[:] = np.asarray(picture.crop((0, top, picture.width, top + len(rows)))).reshape(
            rows.shape
        )
    return pixels


def thread_memory(size: int) -> UInt8Array:
    """Return so many bytes, which stay this thread's and have whatever was written there last.

    More than `LARGEST_KEPT` are new ones each time.
    """
    if size > LARGEST_KEPT:
        return np.empty(size, np.uint8)
    kept: UInt8Array | None = getattr(_memory, "bytes", None)
    if kept is None or len(kept) < size:
        kept = _memory.bytes = np.empty(size, np.uint8)
    return kept[:size]


def _resized_by_torch(
    pixels: UInt8Array, size: tuple[int, int], extent: tuple[float, float] | None
) -> UInt8Array:
    import torch
    from torch.nn.functional import interpolate

    rows, columns = pixels.shape[:2]
    height, width = extent or (rows, columns)
    steps: list[dict[str, Any]] = [{"size": size}]
    if (height, width) != (rows, columns):
        # A size is what a factor makes, rounded down, so that each has to be exact or no factor.
        across = (
            {"size": (rows, size[1])}
            if width == columns
            else {"scale_factor": (1.0, size[1] / width)}
        )
        down = {"size": size} if height == rows else {"scale_factor": (size[0] / height, 1.0)}
        steps = [across, down]
    planes = torch.from_numpy(pixels).permute(2, 0, 1)[None]
    for step in steps:
        planes = interpolate(planes, **step, mode="bicubic", antialias=True)
    result: UInt8Array = planes[0].permute(1, 2, 0).numpy()
    return result


class _Kernel(NamedTuple):
    """What each pixel of a resized row is made of.

    Attributes:
        first: (w,) the first of its pixels.
        weights: (w, n) whole numbers, of that and the following ones, 0 beyond the last.
        bits: the weights of a pixel add up to about `2**bits`.
    """

    first: Int64Array
    weights: Int64Array
    bits: int


def _along_rows(pixels: AnyArray, width: int, extent: float) -> UInt8Array:
    """Return a picture (H, W, C) as (H, width, C), of which only `extent` of the width is taken."""
    kernel = _kernel(pixels.shape[1], width, extent)
    largest = 255 * int(np.abs(kernel.weights).sum(axis=1).max()) + (1 << kernel.bits)
    dtype = np.float32 if largest < _EXACT else np.float64
    height, _, channels = pixels.shape
    lines = np.ascontiguousarray(pixels.swapaxes(1, 2)).astype(dtype).reshape(-1, pixels.shape[1])
    result = np.empty((len(lines), width), np.uint8)
    taken = kernel.weights.shape[1]
    for start in range(0, width, _BLOCK_LINES):
        block = slice(start, start + _BLOCK_LINES)
        first = kernel.first[block]
        begin, end = int(first[0]), int(first[-1]) + taken
        matrix = np.zeros((end - begin, len(first)), dtype)
        rows = (first - begin)[:, None] + np.arange(taken)
        np.put_along_axis(matrix, rows.T, kernel.weights[block].T.astype(dtype), axis=0)
        part = lines[:, begin:end]  # which the picture may end before
        sums = part @ matrix[: part.shape[1]]
        np.add(sums, 1 << (kernel.bits - 1), out=sums)
        np.multiply(sums, 2.0**-kernel.bits, out=sums)
        np.clip(sums, 0, 255, out=sums)  # and rounded down on the way to whole numbers
        result[:, block] = sums
    return result.reshape(height, channels, width).swapaxes(1, 2)


def _kernel(size: int, width: int, extent: float) -> _Kernel:
    """Return the weights that make a row of `width` pixels out of one of `size`."""
    # Divided twice, as torch does where it is given the factor.
    scale = size / width if extent == size else 1.0 / (width / extent)
    stretch = max(scale, 1.0)
    support = _HALF_WIDTH * stretch
    centers = scale * (np.arange(width) + 0.5)
    first = np.maximum((centers - support + 0.5).astype(np.int64), 0)
    end = np.minimum((centers + support + 0.5).astype(np.int64), size)
    steps = np.arange(int((end - first).max()))
    places = steps + first[:, None]
    values = _cubic((places - centers[:, None] + 0.5) * (1.0 / stretch))
    values[places >= end[:, None]] = 0.0
    values /= values.cumsum(axis=1)[:, -1:]
    bits = 0
    while bits < _MOST_BITS and int(0.5 + values.max() * (1 << (bits + 1))) < _LARGEST_WEIGHT:
        bits += 1
    weights = np.trunc(values * (1 << bits) + np.where(values < 0, -0.5, 0.5))
    return _Kernel(first, weights.astype(np.int64), bits)


def _cubic(distances: Float64Array) -> Float64Array:
    """Return the kernel's values at these distances."""
    x, a = np.abs(distances), _SHARPNESS
    near = ((a + 2) * x - (a + 3)) * x * x + 1
    far = ((a * x - 5 * a) * x + 8 * a) * x - 4 * a
    return np.where(x < 1, near, np.where(x < 2, far, 0.0))
