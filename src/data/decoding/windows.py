"""Overlapping windows over large pictures: where they stand, how they are weighted, their mean."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["mean_over_windows", "window_places", "window_weights"]

_AT_ONCE = 4
Values = NDArray[np.float32]


def window_places(size: Sequence[int], window: Sequence[int]) -> list[tuple[int, int]]:
    """Return top and left of windows that cover a picture, row by row.

    They stand evenly, the outermost end with the picture, and each has at least half of its side in
    common with the next.

    Args:
        size: height and width of the picture.
        window: of a window, each side at most the picture's.
    """
    tops, lefts = (_starts(*sides) for sides in zip(size, window, strict=True))
    return list(product(tops, lefts))


def window_weights(window: Sequence[int]) -> Values:
    """Return the weights (h, w) of a window's pixels in the mean, in (0, 1].

    They rise evenly from the borders, where a network sees the least around a pixel, to the middle.
    """
    down, across = map(_ramp, window)
    return down[:, None] * across


def mean_over_windows(
    answer: Callable[[NDArray[Any]], Values], images: NDArray[Any], window: tuple[int, int]
) -> Values:
    """Return what `sliding_windows` does with torch, by NumPy alone.

    Args:
        answer: (N, C, h, w) to values of pixels (N, K, h, w) float32.
        images: (N, C, H, W).
        window: height and width in pixels; a side larger than the pictures' is theirs.

    Returns:
        (N, K, H, W) float32.
    """
    count, _, *size = images.shape
    height, width = (min(side, whole) for side, whole in zip(window, size, strict=True))
    weights, given = window_weights((height, width)), np.zeros(size, np.float32)
    result: Values | None = None
    places, at_once = window_places(size, (height, width)), max(1, _AT_ONCE // count)
    for first in range(0, len(places), at_once):
        some = places[first : first + at_once]
        windows = [images[..., y : y + height, x : x + width] for y, x in some]
        answers = np.split(answer(np.concatenate(windows)), len(some))
        for (y, x), found in zip(some, answers, strict=True):
            if result is None:
                result = np.zeros((count, found.shape[1], *size), np.float32)
            within = slice(y, y + height), slice(x, x + width)
            given[within] += weights
            mean = result[..., within[0], within[1]]
            mean += (found - mean) * (weights / given[within])
    assert result is not None
    return result


def _starts(side: int, window: int) -> list[int]:
    """Return where windows begin along a side, so that the first and the last reach its ends."""
    rest, step = side - window, max(1, window // 2)
    gaps = -(-rest // step)
    return [rest * i // max(1, gaps) for i in range(gaps + 1)]


def _ramp(side: int) -> Values:
    """Return (side,) weights that rise evenly from both ends to the middle, in (0, 1]."""
    places = np.arange(side, dtype=np.float32)
    distances = np.minimum(places + 1, side - places)
    found: Values = distances / distances.max()
    return found
