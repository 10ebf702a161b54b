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

__all__ = ["compose", "crop", "one_of", "turn"]


def compose(first: Tensor, second: Tensor) -> Tensor:
    """Return the map of the change `first` followed by the change `second`.

    Written out rather than a matrix product, which a GPU may compute in reduced precision: a
    coordinate that is wrong in the third digit is a quarter of a pixel at 224 pixels.
    """
    both = (first[:, :, :2, None] * second[:, None]).sum(2)
    both[:, :, 2].add_(first[:, :, 2])
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
    return _map((cos, -sin * (height / width), none), (sin * (width / height), cos, none))


def crop(boxes: Tensor, height: int, width: int, *, flips: Tensor) -> Tensor:
    """Magnify boxes (4, B), top, left, height and width in pixels, to the whole picture.

    Then mirror left and right the pictures whose entry of `flips`, (B,) bool, is true.
    """
    top, left, box_height, box_width = boxes.to(torch.float32)
    none = torch.zeros_like(top)
    return _map(
        (box_width / width * (1 - 2.0 * flips), none, (2 * left + box_width) / width - 1),
        (none, box_height / height, (2 * top + box_height) / height - 1),
    )


def one_of(radians: Tensor, slopes: Tensor, shifts: Tensor, height: int, width: int) -> Tensor:
    """Turn, slant or move each picture; of one picture all but one are 0.

    The turn is that of `turn`. A slant leaves the corner at the top left where it is rather than
    the centre, as in AutoAugment (Cubuk et al., CVPR 2019) and all that followed it.

    Args:
        radians: (B,) float32.
        slopes: (2, B) float32, pixels to the right a pixel down, and down a pixel to the right,
            from where a row and a column are shown.
        shifts: (2, B) float32, pixels to the right and down.
        height, width: of the pictures in pixels.
    """
    cos, sin = torch.cos(radians), torch.sin(radians)
    across, down = slopes[0] * (height / width), slopes[1] * (width / height)
    to_right, to_bottom = -2 * shifts
    return _map(
        (cos, across - sin * (height / width), across + to_right / width),
        (down + sin * (width / height), cos, down + to_bottom / height),
    )


def _map(x: tuple[Tensor, Tensor, Tensor], y: tuple[Tensor, Tensor, Tensor]) -> Tensor:
    """(B, 2, 3) of its rows, three tensors (B,) each: the factors of x and y, and what is added."""
    return torch.stack((*x, *y), dim=1).view(-1, 2, 3)
