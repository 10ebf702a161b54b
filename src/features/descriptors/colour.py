"""Colour histograms: how much of which colour stands where."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from skimage.color import rgb2hsv

from ...machine.arrays import Float32Array
from .picture import cells

__all__ = ["Colour"]


@dataclass(frozen=True)
class Colour:
    """Histograms of hue, saturation and value; of each band where pictures are not in colour.

    Swain & Ballard, "Color Indexing" (IJCV 1991), with a histogram a channel and cell.

    Args:
        bins: a channel, all of equal width.
        grid: cells along each side.
    """

    bins: int
    grid: int

    def __call__(self, picture: Float32Array) -> Float32Array:
        """Histograms, each of which sums to 1, of a picture (H, W, C) in [0, 1]."""
        channels = rgb2hsv(picture) if picture.shape[2] == 3 else picture
        codes = np.minimum((channels * self.bins).astype(np.int64), self.bins - 1)
        histograms = [
            np.bincount(cell[:, :, channel].ravel(), minlength=self.bins) / cell[:, :, 0].size
            for cell in cells(codes, self.grid)
            for channel in range(codes.shape[2])
        ]
        return np.concatenate(histograms).astype(np.float32)
