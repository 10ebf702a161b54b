"""Overlapping windows over large pictures: where they stand, how they are weighted, their mean."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from itertools import product
from typing import Any

import numpy as np

from ...machine.arrays import AnyArray, Float32Array

__all__ = ["blended", "mean_over_windows", "window_places", "window_weights"]

# Windows that are answered at once.
_WINDOWS_AT_ONCE = 4
Values = Float32Array


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
    answer: Callable[[AnyArray], Values], images: AnyArray, window: tuple[int, int]
) -> Values:
    """Return what `sliding_windows` does with torch, by NumPy alone.

    Args:
        answer: (N, C, h, w) to values of pixels (N, K, h, w) float32.
        images: (N, C, H, W).
        window: height and width in pixels; a side larger than the pictures' is theirs.

    Returns:
        (N, K, H, W) float32.
    """

    def answers(windows: list[AnyArray]) -> list[Values]:
        return np.split(answer(np.concatenate(windows)), len(windows))

    return blended(answers, images, window, np.asarray, partial(np.zeros, dtype=np.float32))


def blended(
    answers: Callable[[list[Any]], Sequence[Any]],
    images: Any,
    window: tuple[int, int],
    array: Callable[[Values], Any],
    zeros: Callable[[Sequence[int]], Any],
) -> Any:
    """Return the mean of what windows are answered with, of NumPy's arrays or of torch's tensors.

    It is a running one: windows that agree give their own value exactly, and memory beside the
    result is that of one batch of windows.

    Args:
        answers: some windows, each (N, C, h, w), to the values (N, K, h, w) of each.
        images, window: as of `mean_over_windows`.
        array: turns weights (h, w) into an array of the same kind as the answers.
        zeros: returns such an array of a shape, float32.
    """
    count, _, *size = images.shape
    height, width = (min(side, whole) for side, whole in zip(window, size, strict=True))
    weights, given = array(window_weights((height, width))), zeros(size)
    result: Any = None
    places, at_once = window_places(size, (height, width)), max(1, _WINDOWS_AT_ONCE // count)
    for first in range(0, len(places), at_once):
        some = places[first : first + at_once]
        windows = [images[..., y : y + height, x : x + width] for y, x in some]
        for (y, x), found in zip(some, answers(windows), strict=True):
            if result is None:
                result = zeros((count, found.shape[1], *size))
            within = slice(y, y + height), slice(x, x + width)
            given[within] += weights
            mean = result[..., within[0], within[1]]
            mean += (found - mean) * (weights / given[within])
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
    return distances / distances.max()
