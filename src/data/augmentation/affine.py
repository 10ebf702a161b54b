"""Affine maps from the pixels of a changed picture to those of its source, one map a picture.

A map is (B, 2, 3) float32 in the coordinates of `torch.nn.functional.affine_grid` without aligned
corners: both axes run from -1 to 1, the outer edges of the picture, x before y. Maps from output to
source compose in the order in which the changes are made: `compose(first, second)` is the map of a
picture that is changed by `first`, then by `second`. All tensors lie on one device; nothing waits
for it.
"""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["compose", "crop", "mirror", "shear", "translate", "turn"]


def compose(first: Tensor, second: Tensor) -> Tensor:
    """Return the map of the change `first` followed by the change `second`.

    Written out rather than a matrix product, which a GPU may compute in reduced precision: a
    coordinate that is wrong in the third digit is a quarter of a pixel at 224 pixels.
    """
    both = (first[:, :, :2, None] * second[:, None]).sum(2)
    both[:, :, 2] += first[:, :, 2]
    return both


def turn(radians: Tensor, zoom: Tensor, height: int, width: int) -> Tensor:
    """Turn counter-clockwise and magnify about the centre.

    Args:
        radians: (B,) float32.
        zoom: (B,) float32 above 0; above 1 magnifies.
        height, width: of the pictures in pixels.
    """
    cos, sin, none = torch.cos(radians) / zoom, torch.sin(radians) / zoom, torch.zeros_like(zoom)
    # Both axes run from -1 to 1 whatever the sides, so a turn of a picture that is not square
    # needs their ratio.
    return _map(cos, -sin * (height / width), none, sin * (width / height), cos, none)


def crop(boxes: Tensor, height: int, width: int) -> Tensor:
    """Magnify boxes (4, B), top, left, height and width in pixels, to the whole picture."""
    top, left, box_height, box_width = boxes.to(torch.float32)
    none = torch.zeros_like(top)
    return _map(
        *(box_width / width, none, (2 * left + box_width) / width - 1),
        *(none, box_height / height, (2 * top + box_height) / height - 1),
    )


def mirror(flips: Tensor) -> Tensor:
    """Mirror left and right the pictures whose entry of `flips`, (B,) bool, is true."""
    none = torch.zeros(len(flips), device=flips.device)
    return _map(torch.where(flips, -1.0, 1.0), none, none, none, none + 1, none)


def shear(along_x: Tensor, along_y: Tensor, height: int, width: int) -> Tensor:
    """Slant rows or columns, the corner at the top left staying where it is.

    The corner rather than the centre, as in AutoAugment (Cubuk et al., CVPR 2019) and all that
    followed it. `along_x` and `along_y`, (B,) float32, are pixels to the right a pixel down, and
    down a pixel to the right, from where a row and a column are shown.
    """
    one = torch.ones_like(along_x)
    across, down = along_x * (height / width), along_y * (width / height)
    return _map(one, across, across, down, one, down)


def translate(right: Tensor, down: Tensor, height: int, width: int) -> Tensor:
    """Move by `right` and `down`, (B,) in pixels."""
    none = torch.zeros(len(right), device=right.device)
    return _map(none + 1, none, -2 * right / width, none, none + 1, -2 * down / height)


def _map(*entries: Tensor) -> Tensor:
    """(B, 2, 3) of six tensors (B,), row by row."""
    return torch.stack([torch.stack(entries[:3], dim=1), torch.stack(entries[3:], dim=1)], dim=1)
