"""The pixels themselves."""

from __future__ import annotations

from dataclasses import dataclass

from skimage.transform import resize

from ...machine.arrays import Float32Array

__all__ = ["Raw"]


@dataclass(frozen=True)
class Raw:
    """Pixels in [0, 1], row by row.

    Args:
        side: larger pictures are shrunk, so that no side is longer.
    """

    side: int

    def __call__(self, picture: Float32Array) -> Float32Array:
        """Return (h * w * C,) float32 of a picture (H, W, C) in [0, 1]."""
        height, width, channels = picture.shape
        size = min(height, self.side), min(width, self.side)
        if size != (height, width):
            picture = resize(picture, (*size, channels), anti_aliasing=True)
        return picture.ravel().astype("float32")
