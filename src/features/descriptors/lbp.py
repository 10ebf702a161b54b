"""Local binary patterns: which small textures stand where."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from skimage.feature import local_binary_pattern

from ...machine.arrays import Float32Array
from .picture import cells, luminance

__all__ = ["Lbp"]

_POINTS_A_PIXEL = 8


@dataclass(frozen=True)
class Lbp:
    """Histograms of uniform, rotation-invariant patterns.

    Ojala, Pietikäinen & Mäenpää, "Multiresolution Gray-Scale and Rotation Invariant Texture
    Classification with Local Binary Patterns" (PAMI 2002).

    Args:
        radius: pixels from the centre to its 8 * radius neighbours.
        grid: cells along each side, with a histogram each.
    """

    radius: int
    grid: int

    def __call__(self, picture: Float32Array) -> Float32Array:
        """Histograms, each of which sums to 1, of a picture (H, W, C) in [0, 1]."""
        points = _POINTS_A_PIXEL * self.radius
        # On whole numbers, as equal neighbours must not differ by rounding.
        grey = np.rint(255 * luminance(picture)).astype(np.uint8)
        codes = local_binary_pattern(grey, points, self.radius, method="uniform").astype(np.int64)
        counts = [
            np.bincount(cell.ravel(), minlength=points + 2) for cell in cells(codes, self.grid)
        ]
        return np.concatenate([count / count.sum() for count in counts]).astype(np.float32)
