"""Measures of pixels: the mean and deviation of a data set, and the quality of each picture."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from itertools import chain

import numpy as np
from numpy.typing import NDArray

from ...machine.arrays import Float64Array, Int64Array, UInt8Array
from ...records.pictures import Pixels
from ..randomness import permutation

__all__ = ["BLANK", "MEASURES", "channel_statistics", "faults", "grey", "quality_measures"]

# Weights of red, green and blue in luminance (ITU-R 601), in 65536ths as Pillow has them, so that
# it does not matter which of the two turned a picture grey.
_LUMINANCE = np.array([19595, 38470, 7471], np.uint32)
_CHUNK_BYTES = 4 << 20
# Pictures that are read one by one are too many to read them all for a mean.
_READ_AT_MOST = 10_000
_VALUES = np.arange(256)

MEASURES = np.dtype([("spread", "f4"), ("lit", "f4"), ("unlit", "f4"), ("sharpness", "f4")])
# Deviation, in grey levels, below which a picture counts as blank.
BLANK = 2.0
# A dark picture has hardly a pixel above the one, a bright one hardly a pixel below the other.
_DARK_BELOW, _BRIGHT_ABOVE = 50, 205
_HARDLY = 0.05
# Lost sharpness: an outlier of the data set, by a factor that blur can explain.
_OUTSIDE = 4.0
_LEAST_LOSS = float(np.log(8))
_SMALLEST_TO_JUDGE = 16
# Robust deviations in units of standard ones, for normally distributed values.
_MAD_TO_STD = 1.4826
_TINY_TIMES = 2
_ODD_TIMES = 4


def grey(images: Pixels) -> UInt8Array:
    """Return (N, H, W) uint8 of pictures (N, C, H, W): luminance, or the mean of bands."""
    whole = np.rint(images).astype(np.uint8) if images.dtype != np.uint8 else images.view(np.uint8)
    if whole.shape[1] == 1:
        return whole[:, 0]
    if whole.shape[1] != 3:
        return np.rint(whole.mean(axis=1, dtype=np.float32)).astype(np.uint8)
    red, green, blue = (whole[:, channel] * _LUMINANCE[channel] for channel in range(3))
    return ((red + green + blue + 0x8000) >> 16).astype(np.uint8)


def channel_statistics(
    pictures: Pixels | Callable[[int], Pixels],
    indices: Int64Array,
) -> tuple[list[float], list[float]]:
    """Return mean and standard deviation of each channel, C numbers each, as fractions of 255.

    Sums of uint8 are whole numbers, so the result is exact and does not depend on the order; those
    of float32 are added in double precision. A channel that never varies has the deviation 1.

    Args:
        pictures: (N, C, H, W), or a function that reads picture i as (C, H, W); of the latter, at
            most 10,000 pictures are read, always the same ones.
        indices: (n,) int64, n at least 1: the training part.

    Raises:
        ValueError: there are no pictures.
    """
    if len(indices) == 0:
        raise ValueError("there are no pictures to take a mean of.")
    indices = np.sort(indices)
    if callable(pictures):
        chosen = permutation(len(indices), 0, 0)[:_READ_AT_MOST].numpy()
        chunks: Iterator[Pixels] = (pictures(int(index))[None] for index in indices[chosen])
    else:
        size = max(_CHUNK_BYTES // pictures[0].nbytes, 1)
        chunks = (pictures[indices[i : i + size]] for i in range(0, len(indices), size))
    first = next(chunks)
    if first.dtype != np.uint8:
        return _float_statistics(chain([first], chunks))
    counts = np.zeros((1, 256), np.int64)  # how often each channel has each value
    for chunk in chain([first], chunks):
        channels = chunk.swapaxes(0, 1)
        counts = counts + np.stack([np.bincount(c.ravel(), minlength=256) for c in channels])
    pixels = int(counts[0].sum())
    sums = [int(channel @ _VALUES) for channel in counts]
    squares = [int(channel @ _VALUES**2) for channel in counts]
    mean = [total / pixels / 255 for total in sums]
    # n * sum(x^2) - sum(x)^2 in whole numbers: nothing cancels, whatever the number of pixels.
    spread = [pixels * q - total**2 for total, q in zip(sums, squares, strict=True)]
    std = [math.sqrt(s) / pixels / 255 if s else 1.0 for s in spread]
    return mean, std


def _float_statistics(chunks: Iterable[Pixels]) -> tuple[list[float], list[float]]:
    """Return mean and deviation of each channel of float32 pictures.

    Each chunk's own deviations are added up with those of the means (Chan, Golub & LeVeque 1979):
    the differences of large squares would lose what little varies far from 0. scikit-learn's
    `StandardScaler` leaves a rest of some 1e-14 of a channel that never varies, and dividing by
    that would make noise of it.
    """
    count, mean, spread = 0, np.zeros(1), np.zeros(1)
    for chunk in chunks:
        values = chunk.swapaxes(0, 1).reshape(chunk.shape[1], -1).astype(np.float64)
        own, more = values.mean(axis=1), values.shape[1]
        step = own - mean
        spread = spread + values.var(axis=1) * more + step**2 * (count * more / (count + more))
        mean, count = mean + step * (more / (count + more)), count + more
    std = np.sqrt(spread / count)
    return (mean / 255).tolist(), np.where(std > 0, std / 255, 1.0).tolist()


def quality_measures(images: Pixels) -> NDArray[np.void]:
    """Return (N,) of `MEASURES`, the quality of pictures (N, C, H, W) of at least 3x3 pixels.

    They are spread, the deviation in grey levels; lit and unlit, the shares of pixels above 50 and
    below 205; and sharpness, the variance of the Laplacian (Pech-Pacheco et al., ICPR 2000) over
    that of the picture, so that low contrast does not count as blur.
    """
    measures = np.zeros(len(images), MEASURES)
    size = max(_CHUNK_BYTES // max(images[0].nbytes, 1), 1) if len(images) else 1
    for start in range(0, len(images), size):
        values = grey(images[start : start + size])
        rows = measures[start : start + size]
        rows["lit"] = (values > _DARK_BELOW).mean(axis=(1, 2))
        rows["unlit"] = (values < _BRIGHT_ABOVE).mean(axis=(1, 2))
        pixels = values.astype(np.float32)
        inner = pixels[:, 1:-1, 1:-1]
        laplacian = pixels[:, :-2, 1:-1] + pixels[:, 2:, 1:-1] - 4 * inner
        laplacian += pixels[:, 1:-1, :-2] + pixels[:, 1:-1, 2:]
        variance = pixels.var(axis=(1, 2))
        rows["spread"] = np.sqrt(variance)
        rows["sharpness"] = laplacian.var(axis=(1, 2)) / np.maximum(variance, 1)
    return measures


def faults(
    measures: NDArray[np.void], sizes: Int64Array, image_size: tuple[int, int]
) -> Iterator[tuple[str, Int64Array, Float64Array]]:
    """Yield the pictures that stand out, by kind; each picture is of its gravest kind alone.

    Of each kind that occurs, such as "blank" or "odd size": its name, the indices (M,), worst
    first, and scores (M,) in [0, 1], 1 the worst.

    Args:
        measures: (N,) of `MEASURES`.
        sizes: (N, 2) height and width in pixels of the originals.
        image_size: (H, W) in pixels that they are resized to.
    """
    taken = np.zeros(len(measures), np.bool_)
    for kind, scores in _severities(measures, sizes, image_size).items():
        indices = np.flatnonzero((scores > 0) & ~taken)
        if not len(indices):
            continue
        taken[indices] = True
        worst = np.argsort(-scores[indices], kind="stable")
        yield kind, indices[worst], np.minimum(scores[indices[worst]], 1)


def _severities(
    measures: NDArray[np.void], sizes: Int64Array, image_size: tuple[int, int]
) -> dict[str, Float64Array]:
    """Return of each kind of fault, the gravest first, (N,) above 0 where a picture has it."""
    spread, lit, unlit, sharp = (measures[name].astype(np.float64) for name in MEASURES.names or ())
    blur = np.zeros(len(measures))
    if min(image_size) >= _SMALLEST_TO_JUDGE:
        sharpness = np.log(np.maximum(sharp, 1e-6))
        usual = np.median(sharpness)
        deviation = _MAD_TO_STD * np.median(np.abs(sharpness - usual))
        limit = usual - max(_OUTSIDE * deviation, _LEAST_LOSS)
        blur = 1 - np.exp(sharpness - limit)
    shape, size = np.log(sizes[:, 1] / sizes[:, 0]), np.log(sizes).mean(axis=1)
    return {
        "blank": 1 - spread / BLANK,
        "dark": 1 - lit / _HARDLY,
        "bright": 1 - unlit / _HARDLY,
        "blurred": blur,
        # Enlarged more than twice, by which most pixels are interpolated.
        "tiny": 1 - _TINY_TIMES * (sizes / np.array(image_size)).min(axis=1),
        "odd shape": 1 - _ODD_TIMES / np.exp(np.abs(shape - np.median(shape))),
        "odd size": 1 - _ODD_TIMES / np.exp(np.abs(size - np.median(size))),
    }
