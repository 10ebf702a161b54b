"""Changes to whole batches of pictures, each picture with its own parameters. No randomness here.

Images are (B, C, H, W), uint8 or float32 on the scale 0 to 255, on any device. Each function
returns a new tensor; none waits for the device.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = [
    "adjust_color",
    "cutmix",
    "erase",
    "flip_horizontal",
    "mixup",
    "normalize",
    "translate",
    "warp",
]

# ITU-R BT.601: how bright red, green and blue look.
_LUMA = (0.299, 0.587, 0.114)


def normalize(
    images: Tensor, mean: Tensor | Sequence[float], std: Tensor | Sequence[float]
) -> Tensor:
    """Scale to zero mean and unit deviation: (images / 255 - mean) / std.

    Args:
        images: (B, C, H, W) uint8 or float32, 0 to 255.
        mean: (C,) in [0, 1]. A tensor on the images' device spares a copy to it.
        std: (C,) above 0, likewise.

    Returns:
        (B, C, H, W) float32 in the memory format of `images`.
    """
    mean = torch.as_tensor(mean, dtype=torch.float32, device=images.device)
    scale = torch.as_tensor(std, dtype=torch.float32, device=images.device).mul(255).reciprocal()
    floats = images.to(torch.float32, copy=True)
    return floats.sub_(mean.mul(255)[:, None, None]).mul_(scale[:, None, None])


def flip_horizontal(images: Tensor, flips: Tensor) -> Tensor:
    """Mirror left and right the pictures whose entry of `flips`, (B,) bool, is true."""
    return torch.where(flips[:, None, None, None], images.flip(3), images)


def translate(
    images: Tensor,
    down: Tensor,
    right: Tensor,
    *,
    flips: Tensor | None = None,
    padding: str,
) -> Tensor:
    """Mirror, then move each picture by whole pixels: what padding and cropping does, exactly.

    Works by index on the pictures as they are, which on uint8 moves a quarter of the bytes of
    float32, and mirrors for free.

    Args:
        images: (B, C, H, W).
        down: (B,) int64, pixels from -(H - 1) to H - 1.
        right: (B,) int64, pixels from -(W - 1) to W - 1.
        flips: (B,) bool: mirrored left and right first; None for none.
        padding: what comes in at the edge, "zero" or "reflect" (the edge row itself not repeated).
    """
    batch, channels, height, width = images.shape
    rows = torch.arange(height, device=images.device) - down[:, None]
    columns = torch.arange(width, device=images.device) - right[:, None]
    if flips is not None:
        columns = torch.where(flips[:, None], width - 1 - columns, columns)
    if padding == "zero":
        # One black row and column, to which all positions outside lead: cheaper than a mask.
        images = F.pad(images, (0, 1, 0, 1))
        rows, columns = _last_if_outside(rows, height), _last_if_outside(columns, width)
    else:
        rows, columns = _reflected(rows, height), _reflected(columns, width)

    # Whole rows first, then pixels inside them: four times faster than one gather in two axes.
    planes = torch.arange(batch * channels, device=images.device) * images.shape[2]
    picked = (planes.view(batch, channels, 1) + rows[:, None]).flatten()
    moved = images.reshape(-1, images.shape[3]).index_select(0, picked)
    columns = columns[:, None, None].expand(batch, channels, height, width)
    return moved.view(batch, channels, height, -1).gather(3, columns)


def warp(images: Tensor, radians: Tensor, zoom: Tensor, *, padding: str) -> Tensor:
    """Turn and magnify each picture about its centre, with bilinear interpolation.

    Args:
        images: (B, C, H, W).
        radians: (B,) float32, counter-clockwise.
        zoom: (B,) float32 above 0; above 1 magnifies.
        padding: what comes in at the edge, "zero" or "reflect" (the edge row repeated).

    Returns:
        (B, C, H, W) float32.
    """
    height, width = images.shape[2:]
    cos, sin, none = (
        torch.cos(radians) / zoom,
        torch.sin(radians) / zoom,
        torch.zeros_like(zoom),
    )
    # From an output pixel to the input pixel it shows. Both axes run from -1 to 1 whatever the
    # sides, so a turn of a picture that is not square needs their ratio.
    to_source = torch.stack(
        [
            torch.stack([cos, -sin * (height / width), none], dim=1),
            torch.stack([sin * (width / height), cos, none], dim=1),
        ],
        dim=1,
    )
    grid = F.affine_grid(to_source, list(images.shape), align_corners=False)
    mode = "zeros" if padding == "zero" else "reflection"
    floats = images.to(torch.float32)
    return F.grid_sample(floats, grid, mode="bilinear", padding_mode=mode, align_corners=False)


def adjust_color(
    images: Tensor, brightness: Tensor, contrast: Tensor, saturation: Tensor
) -> Tensor:
    """Change brightness, then contrast (about the picture's mean grey), then saturation.

    Args:
        images: (B, C, H, W).
        brightness: (B,) float32 at least 0; 1 changes nothing, as in the two that follow.
        contrast: (B,) likewise.
        saturation: (B,) likewise; does nothing unless the pictures have three channels.

    Returns:
        (B, C, H, W) float32, cut off at 0 and 255.
    """
    floats = images * brightness[:, None, None, None]
    middle = _grey(floats).mean(dim=(1, 2, 3), keepdim=True)
    floats = torch.lerp(middle, floats, contrast[:, None, None, None])
    if images.shape[1] == 3:
        floats = torch.lerp(_grey(floats), floats, saturation[:, None, None, None])
    return floats.clamp_(0, 255)


def erase(images: Tensor, top: Tensor, left: Tensor, height: Tensor, width: Tensor) -> Tensor:
    """Paint a rectangle of each picture in the picture's own mean colour.

    After Zhong et al., "Random erasing data augmentation" (AAAI 2020). The mean, because it is
    close to 0 after normalisation whatever the data.

    Args:
        images: (B, C, H, W).
        top, left, height, width: (B,) int64 pixels; a height of 0 paints nothing.
    """
    mean = images.to(torch.float32).mean(dim=(2, 3), keepdim=True)
    mean = mean if images.is_floating_point() else mean.round()
    rows = torch.arange(images.shape[2], device=images.device) - top[:, None]
    columns = torch.arange(images.shape[3], device=images.device) - left[:, None]
    in_rows = (rows >= 0) & (rows < height[:, None])
    in_columns = (columns >= 0) & (columns < width[:, None])
    inside = in_rows[:, None, :, None] & in_columns[:, None, None, :]
    return torch.where(inside, mean.to(images.dtype), images)


def mixup(images: Tensor, probs: Tensor, partner: int, share: float) -> tuple[Tensor, Tensor]:
    """Blend each picture, and its target, with that of the sample `partner` places before it.

    Zhang et al., "mixup: Beyond empirical risk minimization" (ICLR 2018).

    Args:
        images: (B, C, H, W).
        probs: (B, K) float32, target distributions.
        partner: how far to look back, around the end of the batch.
        share: what is kept of the picture itself, in [0, 1].

    Returns:
        images (B, C, H, W) float32, and targets (B, K) float32.
    """
    floats = images.to(torch.float32)
    return (
        torch.lerp(floats.roll(partner, 0), floats, share),
        torch.lerp(probs.roll(partner, 0), probs, share),
    )


def cutmix(
    images: Tensor, probs: Tensor, partner: int, box: tuple[int, int, int, int]
) -> tuple[Tensor, Tensor]:
    """Paste a box of the sample `partner` places before into each picture; mix targets by area.

    Yun et al., "CutMix: Regularization strategy to train strong classifiers" (ICCV 2019).

    Args:
        images: (B, C, H, W).
        probs: (B, K) float32, target distributions.
        partner: how far to look back, around the end of the batch.
        box: top, left, bottom, right in pixels, the last two exclusive.

    Returns:
        images (B, C, H, W) as they came, and targets (B, K) float32.
    """
    top, left, bottom, right = box
    mixed = images.clone()
    mixed[:, :, top:bottom, left:right] = images.roll(partner, 0)[:, :, top:bottom, left:right]
    share = 1 - (bottom - top) * (right - left) / (images.shape[2] * images.shape[3])
    return mixed, torch.lerp(probs.roll(partner, 0), probs, share)


def _grey(floats: Tensor) -> Tensor:
    """(B, 1, H, W): the brightness of each pixel."""
    if floats.shape[1] != 3:
        return floats.mean(dim=1, keepdim=True)
    red, green, blue = floats.unbind(1)
    return (red * _LUMA[0] + green * _LUMA[1] + blue * _LUMA[2])[:, None]


def _last_if_outside(positions: Tensor, side: int) -> Tensor:
    """Positions from 0 to `side` - 1 as they are, all others as `side`."""
    return positions.clamp(-1, side) % (side + 1)


def _reflected(positions: Tensor, side: int) -> Tensor:
    """Positions up to one side beyond the edges, mirrored back at the first and last pixel."""
    last = side - 1
    return last - (last - positions.abs()).abs()
