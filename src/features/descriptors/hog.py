"""Histograms of oriented gradients: the shapes of edges, cell by cell."""

from __future__ import annotations

from dataclasses import dataclass

from skimage.feature import hog

from ...machine.arrays import Float32Array

__all__ = ["Hog"]

_SMALLEST_CELL = 2


@dataclass(frozen=True)
class Hog:
    """Dalal & Triggs, "Histograms of Oriented Gradients for Human Detection" (CVPR 2005).

    Of a picture in colour, the channel with the steepest gradient counts at each pixel.

    Args:
        orientations: bins of the direction, which has no sign.
        cells: cells along the shorter side; fewer where they would be smaller than 2x2 pixels.
        block: cells along a side of a block, whose histograms are normalised together (L2-Hys);
            blocks overlap in all but one cell.
    """

    orientations: int
    cells: int
    block: int

    def __call__(self, picture: Float32Array) -> Float32Array:
        """Return (D,) float32 in [0, 1] of a picture (H, W, C) in [0, 1], at least 2x2 pixels."""
        height, width, _ = picture.shape
        side = max(_SMALLEST_CELL, min(height, width) // self.cells)
        block = min(self.block, height // side, width // side)
        found: Float32Array = hog(
            picture,
            orientations=self.orientations,
            pixels_per_cell=(side, side),
            cells_per_block=(block, block),
            block_norm="L2-Hys",
            channel_axis=-1,
        )
        return found.astype("float32")
