"""Pictures cut into a grid of patches, for the networks that read them piece by piece."""

from __future__ import annotations

import math

from torch import Tensor
from torch.nn import functional as F

__all__ = ["default_patch_size", "grid_size", "to_patches"]

# Attention costs the square of the number of patches; 64 keep a picture's detail at a low price.
_MOST_PATCHES = 64


def to_patches(images: Tensor, patch: tuple[int, int]) -> Tensor:
    """Cut pictures into non-overlapping patches.

    A side that the patch does not divide is padded with zeros at its end: for normalised pictures
    that is the mean colour.

    Args:
        images: (B, C, H, W), any dtype.
        patch: height and width of a patch in pixels.

    Returns:
        (B, h, w, C * height * width) with h = ceil(H / height), w = ceil(W / width); the values of
        a patch are ordered by channel, row, column.
    """
    height, width = patch
    batch, channels = images.shape[:2]
    rows, columns = grid_size((images.shape[2], images.shape[3]), patch)
    below = rows * height - images.shape[2]
    right = columns * width - images.shape[3]
    if below or right:
        images = F.pad(images, (0, right, 0, below))
    blocks = images.reshape(batch, channels, rows, height, columns, width)
    return blocks.permute(0, 2, 4, 1, 3, 5).reshape(batch, rows, columns, channels * height * width)


def grid_size(image_size: tuple[int, int], patch: tuple[int, int]) -> tuple[int, int]:
    """Return how many patches cover a picture: rows, columns."""
    return math.ceil(image_size[0] / patch[0]), math.ceil(image_size[1] / patch[1])


def default_patch_size(image_size: tuple[int, int]) -> int:
    """Return the smallest side of square patches, a power of two above 1, that gives at most 64."""
    size = 2
    while math.prod(grid_size(image_size, (size, size))) > _MOST_PATCHES:
        size *= 2
    return size
