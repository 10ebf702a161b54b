"""Changes to colours and tones of whole batches, each picture with its own parameter.

The operations of AutoAugment (Cubuk et al., "AutoAugment: Learning augmentation strategies from
data", CVPR 2019) that move no pixel, with the meaning they have in Pillow and torchvision. No
randomness here. Images are (B, C, H, W), uint8 or float32 from 0 to 255; each function returns a
new tensor of the same shape and dtype, uint8 rounded, and none waits for the device.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .transforms import grey

__all__ = [
    "autocontrast",
    "brightness",
    "contrast",
    "equalize",
    "posterize",
    "saturation",
    "sharpness",
    "solarize",
]


def brightness(images: Tensor, factor: Tensor) -> Tensor:
    """Multiply by `factor`, (B,) float32 at least 0: 0 is black, 1 changes nothing."""
    return _within(images * factor[:, None, None, None], images.dtype)


def contrast(images: Tensor, factor: Tensor) -> Tensor:
    """Stretch about the picture's mean grey by `factor`, (B,) float32 at least 0: 0 is plain."""
    floats = images.to(torch.float32)
    middle = grey(floats).mean(dim=(2, 3), keepdim=True)
    return _blended(middle, floats, factor, images.dtype)


def saturation(images: Tensor, factor: Tensor) -> Tensor:
    """Stretch about each pixel's grey by `factor`, (B,) float32 at least 0: 0 is grey.

    Pictures of other than three channels come out as they are.
    """
    if images.shape[1] != 3:
        return images.clone()
    floats = images.to(torch.float32)
    return _blended(grey(floats), floats, factor, images.dtype)


def sharpness(images: Tensor, factor: Tensor) -> Tensor:
    """Stretch about a smoothed picture by `factor`, (B,) float32 at least 0: 0 is smoothed.

    Smoothed by the mean of 3x3 pixels, the middle one of weight 5. The outermost pixels are not.
    """
    floats = images.to(torch.float32)
    # Rows, then columns, added up: three times as fast as pooling, which is faster than convolving.
    rows = floats[:, :, :-2] + floats[:, :, 1:-1] + floats[:, :, 2:]
    nine = rows[..., :-2] + rows[..., 1:-1] + rows[..., 2:]
    smooth = floats.clone()
    smooth[:, :, 1:-1, 1:-1].mul_(4).add_(nine).div_(13)
    return _blended(smooth, floats, factor, images.dtype)


def posterize(images: Tensor, bits: Tensor) -> Tensor:
    """Keep the highest `bits`, (B,) int64 from 1 to 8, of every value."""
    if images.is_floating_point():
        step = (2.0 ** (8 - bits))[:, None, None, None]
        return (images / step).floor_() * step
    kept = (256 - 2 ** (8 - bits)).to(torch.uint8)
    return images & kept[:, None, None, None]


def solarize(images: Tensor, threshold: Tensor) -> Tensor:
    """Invert values that are at least `threshold`, (B,) float32 from 0 to 255."""
    if images.is_floating_point():
        return torch.where(images >= threshold[:, None, None, None], 255 - images, images)
    # In whole numbers, and without a branch a pixel as `torch.where` has it: six times as fast.
    inverted = images >= threshold.ceil().to(torch.uint8)[:, None, None, None]
    return images ^ (inverted.to(torch.uint8) * 255)


def autocontrast(images: Tensor) -> Tensor:
    """Stretch each channel to 0 to 255; a channel of a single value stays as it is."""
    lowest = images.amin(dim=(2, 3), keepdim=True).to(torch.float32)
    highest = images.amax(dim=(2, 3), keepdim=True).to(torch.float32)
    plain = lowest == highest
    scale = 255 / (highest - lowest).masked_fill_(plain, 255)
    lowest = lowest.masked_fill_(plain, 0)
    return _within((images - lowest) * scale, images.dtype)


def equalize(images: Tensor) -> Tensor:
    """Even out the histogram of each channel.

    With Pillow's arithmetic in whole numbers: a value becomes the number of smaller pixels over a
    255th of all pixels but those of the largest value. A channel in which that is nothing stays.
    Between whole numbers, float32 is interpolated.
    """
    values = images.flatten(2).long()
    counts = torch.zeros(*images.shape[:2], 256, dtype=torch.int64, device=images.device)
    counts.scatter_add_(2, values, torch.ones_like(values[:1, :1, :1]).expand_as(values))
    up_to = counts.cumsum(2)
    largest = counts.gather(2, values.amax(dim=2, keepdim=True))
    step = (values.shape[2] - largest) // 255
    table = (up_to - counts + step // 2) // step.clamp(min=1)
    table = torch.where(step > 0, table.clamp(max=255), torch.arange(256, device=images.device))
    if images.is_floating_point():
        above = table.gather(2, (values + 1).clamp_(max=255))
        share = images.flatten(2) - values
        return torch.lerp(table.gather(2, values).float(), above.float(), share).view(images.shape)
    return table.to(torch.uint8).gather(2, values).view(images.shape)


def _blended(towards: Tensor, floats: Tensor, factor: Tensor, dtype: torch.dtype) -> Tensor:
    """Return both of one scale; beyond 1 away from `towards`."""
    return _within(torch.lerp(towards, floats, factor[:, None, None, None]), dtype)


def _within(floats: Tensor, dtype: torch.dtype) -> Tensor:
    """Return numbers from 0 to 255 in this dtype; uint8 is rounded."""
    if dtype == torch.uint8:
        floats = floats.round_()
    return floats.clamp_(0, 255).to(dtype)
