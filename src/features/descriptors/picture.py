"""Pictures as descriptors take them, and the grid that some describe cell by cell."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from ...machine.arrays import Float32Array

__all__ = ["cells", "luminance"]

# ITU-R 601, as Pillow's and this project's own grey.
_LUMA = np.array([0.299, 0.587, 0.114], np.float32)


def luminance(picture: Float32Array) -> Float32Array:
    """Return (H, W) of a picture (H, W, C) in [0, 1]: luminance, or the mean of other bands."""
    if picture.shape[2] == 1:
        return picture[:, :, 0]
    return picture @ _LUMA if picture.shape[2] == 3 else picture.mean(axis=2)


def cells(plane: NDArray[np.generic], grid: int) -> Iterator[NDArray[np.generic]]:
    """Yield the cells of an array (H, W, ...) by rows: at most `grid` a side, none empty."""
    for rows in np.array_split(plane, min(grid, plane.shape[0])):
        yield from np.array_split(rows, min(grid, plane.shape[1]), axis=1)
