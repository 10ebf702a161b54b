"""The mean and deviation by which pictures are normalised."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import reduce

import numpy as np
from numpy.typing import NDArray

from src.data.randomness import permutation

__all__ = ["channel_statistics"]

# Pictures that are read one by one are too many to read them all for a mean.
_READ_AT_MOST = 10_000
_CHUNK_BYTES = 8 << 20
_VALUES = np.arange(256)


def channel_statistics(
    pictures: NDArray[np.uint8] | Callable[[int], NDArray[np.uint8]],
    indices: NDArray[np.int64],
    *,
    seed: int = 0,
) -> tuple[list[float], list[float]]:
    """Mean and standard deviation of each channel over the chosen pictures, as fractions of 255.

    Sums are kept as whole numbers, so the result is exact and does not depend on the order.

    Args:
        pictures: (N, C, H, W) uint8, or a function that reads picture i as (C, H, W) uint8; of
            the latter, at most 10,000 pictures are read, the same ones for the same seed.
        indices: (n,) int64, n at least 1: the training part.
        seed: chooses the pictures that are read.

    Returns:
        mean and std, C numbers each. A channel that never varies has the std 1.

    Raises:
        ValueError: there are no pictures.
    """
    if len(indices) == 0:
        raise ValueError("there are no pictures to take a mean of.")
    indices = np.sort(indices)
    if callable(pictures):
        chosen = permutation(len(indices), seed, 0)[:_READ_AT_MOST].numpy()
        chunks = (pictures(int(index))[None] for index in indices[chosen])
    else:
        size = max(_CHUNK_BYTES // pictures[0].nbytes, 1)
        chunks = (pictures[indices[i : i + size]] for i in range(0, len(indices), size))
    counts = reduce(np.add, map(_value_counts, chunks))
    pixels = int(counts[0].sum())
    sums = [int(channel @ _VALUES) for channel in counts]
    squares = [int(channel @ _VALUES**2) for channel in counts]
    mean = [total / pixels / 255 for total in sums]
    # n * sum(x^2) - sum(x)^2 in whole numbers: nothing cancels, whatever the number of pixels.
    spread = [pixels * q - total**2 for total, q in zip(sums, squares, strict=True)]
    std = [math.sqrt(s) / pixels / 255 if s else 1.0 for s in spread]
    return mean, std


def _value_counts(images: NDArray[np.uint8]) -> NDArray[np.int64]:
    """(C, 256): how often each channel has each value."""
    channels = images.swapaxes(0, 1)
    return np.stack([np.bincount(channel.ravel(), minlength=256) for channel in channels])
