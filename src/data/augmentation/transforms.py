"""Changes to whole batches of pictures, each picture with its own parameters. No randomness here.

Images are (B, C, H, W), uint8 or float32 on the scale 0 to 255, on any device. Each function
returns a new tensor; none waits for the device.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor

from . import affine

__all__ = [
    "adjust_color",
    "change_chosen_",
    "crop",
    "crop_by_sampling",
    "cutmix",
    "erase",
    "grey",
    "mixup",
    "normalize",
    "resample",
    "scaled",
    "translate",
    "turn",
]

# Weights of red, green and blue in luminance (ITU-R BT.601).
_LUMA = (0.299, 0.587, 0.114)
# Numbers of float32, 1 MB: some of them fit into the cache of a core beside each other.
_CACHED_NUMBERS = 2**18


def normalize(
    images: Tensor, mean: Tensor | Sequence[float], std: Tensor | Sequence[float]
) -> Tensor:
    """Return (images / 255 - mean) / std, float32 in the memory format of `images`.

    Args:
        images: (B, C, H, W).
        mean: (C,) in [0, 1]. A tensor on the images' device spares a copy to it.
        std: (C,) above 0, likewise.
    """
    mean, std = (
        torch.as_tensor(values, dtype=torch.float32, device=images.device) for values in (mean, std)
    )
    return scaled(images, mean.mul(255), std.mul(255).reciprocal())


def scaled(images: Tensor, offset: Tensor, scale: Tensor) -> Tensor:
    """Return (images - offset) * scale, float32 in the memory format of `images`.

    Args:
        images: (B, C, H, W).
        offset, scale: (C,) float32 on the images' device.
    """
    floats = images.to(torch.float32, copy=True)
    return floats.sub_(offset[:, None, None]).mul_(scale[:, None, None])


def translate(
    images: Tensor,
    down: Tensor,
    right: Tensor,
    *,
    most: tuple[int, int],
    flips: Tensor | None = None,
    padding: str,
) -> Tensor:
    """Mirror, then move each picture by whole pixels: what padding and cropping does, exactly.

    Works by index on the pictures as they are, which on uint8 moves a quarter of the bytes of
    float32, and mirrors for free.

    Args:
        images: (B, C, H, W).
        down, right: (B,) int64, pixels from -most[0] to most[0] and from -most[1] to most[1].
        most: below H and W.
        flips: (B,) bool: mirrored left and right first; None for none.
        padding: what comes in at the edge, "zero" or "reflect" (the edge row itself not repeated).
    """
    batch, channels, height, width = images.shape
    device = images.device
    rows = _moves(height, most[0], padding, device)[0][down]
    moves = _moves(width, most[1], padding, device)
    columns = moves[0][right] if flips is None else moves[flips.long(), right]
    if padding == "zero":
        # One black row and column, to which all positions outside lead: cheaper than a mask.
        images = F.pad(images, (0, 1, 0, 1))

    # Whole rows first, then pixels inside them: four times faster than one gather in two axes.
    planes = _counted(batch * channels, device, images.shape[2])
    picked = (planes.view(batch, channels, 1) + rows[:, None]).flatten()
    moved = images.reshape(-1, images.shape[3]).index_select(0, picked)
    columns = columns[:, None, None].expand(batch, channels, height, width)
    return moved.view(batch, channels, height, -1).gather(3, columns)


def turn(images: Tensor, quarters: Tensor | None, halves: Tensor) -> Tensor:
    """Turn pictures counter-clockwise by right angles, exactly.

    Args:
        images: (B, C, H, W).
        quarters: (B,) bool: turned by 90 degrees, for which H must be W; None for none.
        halves: (B,) bool: turned by 180 degrees, beside that.
    """
    if quarters is not None:
        images = torch.where(quarters[:, None, None, None], images.rot90(1, (2, 3)), images)
    return torch.where(halves[:, None, None, None], images.flip(2, 3), images)


@lru_cache(maxsize=32)
def _counted(count: int, device: torch.device, step: int = 1) -> Tensor:
    """Return (count,) int64: 0, step, 2 * step, ...; made once, not in every step."""
    return torch.arange(0, count * step, step, device=device)


@lru_cache(maxsize=32)
def _moves(side: int, most: int, padding: str, device: torch.device) -> Tensor:
    """Return where what is at each place of a moved row comes from; made once, not in every step.

    (2, 2 * most + 1, side) int64, of rows as they are and of mirrored ones, by the pixels that they
    are moved by: 0 to `most`, then -`most` to -1, so that negative ones count from the end. With
    padding by "zero", what comes from outside has the place `side`.
    """
    moved = torch.arange(2 * most + 1, device=device)[:, None]
    moved = torch.where(moved > most, moved - (2 * most + 1), moved)
    places = torch.arange(side, device=device) - moved
    places = torch.stack([places, side - 1 - places])
    if padding == "zero":
        return places.clamp_(-1, side) % (side + 1)
    last = side - 1
    return last - (last - places.abs()).abs()  # mirrored back at the first and last pixel


def resample(
    images: Tensor, to_source: Tensor, *, padding: str, method: str = "bilinear"
) -> Tensor:
    """Return each picture through an affine map, interpolated, (B, C, H, W) float32.

    Args:
        images: (B, C, H, W).
        to_source: (B, 2, 3) float32, from output to source as in `src.data.augmentation.affine`.
        padding: what comes in at the edge, "zero" or "reflect" (the edge row repeated).
        method: "bilinear", or "nearest", by which values stay what they are.
    """
    mode = "zeros" if padding == "zero" else "reflection"
    if not _host_knows(images):
        return _sampled(images, to_source, mode, method)
    # Some pictures at a time, whose float32 copies stay in the cache: more than twice as fast for
    # batches of 64 photos.
    some = max(_CACHED_NUMBERS // images.shape[1:].numel(), torch.get_num_threads())
    if len(images) <= some:
        return _sampled(images, to_source, mode, method)
    sampled = torch.empty(images.shape, dtype=torch.float32)
    for begin in range(0, len(images), some):
        part = slice(begin, begin + some)
        sampled[part] = _sampled(images[part], to_source[part], mode, method)
    return sampled


def crop(images: Tensor, boxes: Tensor, *, flips: Tensor, method: str = "bilinear") -> Tensor:
    """Magnify a box of each picture to the picture's size, then mirror.

    On the CPU torch's own kernel for uint8 resizes picture by picture, which is faster than any
    computation on the whole batch; other devices interpolate the batch in one go, which needs no
    box on the host. The two differ by 1 at most.

    Args:
        images: (B, C, H, W), uint8, which is rounded, or float32.
        boxes: (4, B) int64, top, left, height and width of each box in pixels; within the picture.
        flips: (B,) bool: mirrored left and right.
        method: "bilinear", or "nearest", by which values stay what they are.
    """
    if _host_knows(images):
        return _resized(images, boxes.T.tolist(), flips.tolist(), method)
    return crop_by_sampling(images, boxes, flips=flips, method=method)


def crop_by_sampling(
    images: Tensor, boxes: Tensor, *, flips: Tensor, method: str = "bilinear"
) -> Tensor:
    """Compute `crop` on the whole batch, on any device."""
    sides = images.shape[2:]
    to_source = affine.crop(boxes, *sides, flips=flips)
    grid = F.affine_grid(to_source, list(images.shape), align_corners=False)
    # From the middle of the box's first pixel to the middle of its last, as a resize of the box
    # alone would see it.
    top, left, height, width = boxes
    first = torch.stack([(2 * left + 1) / sides[1], (2 * top + 1) / sides[0]], dim=1) - 1
    right, bottom = 2 * (left + width) - 1, 2 * (top + height) - 1
    last = torch.stack([right / sides[1], bottom / sides[0]], dim=1) - 1
    grid = torch.minimum(torch.maximum(grid, first[:, None, None]), last[:, None, None])
    sampled = F.grid_sample(images.to(torch.float32), grid, mode=method, align_corners=False)
    return sampled if images.is_floating_point() else sampled.round_().to(images.dtype)


def change_chosen_(
    images: Tensor, chosen: Tensor, change: Callable[[Tensor | slice], Tensor]
) -> None:
    """Replace the chosen pictures, in place, by what `change` makes of them.

    On the CPU only the chosen are computed, as many at a time as the cache holds. Other devices
    compute all and keep the chosen: how many there are would have to be asked of the device.

    Args:
        images: (B, C, H, W), overwritten.
        chosen: (B,) bool.
        change: from an index of pictures, which says whose results are wanted, to these results,
            (n, C, H, W) in the dtype of `images`.
    """
    if not _host_knows(images):
        everything = change(slice(None))
        torch.where(chosen[:, None, None, None], everything, images, out=images)
        return
    rows, some = chosen.nonzero()[:, 0], _CACHED_NUMBERS // images.shape[1:].numel()
    if some > 1:
        for begin in range(0, len(rows), some):
            part = rows[begin : begin + some]
            images.index_copy_(0, part, change(part))
    else:  # a slice is no copy
        for row in rows.tolist():
            images[row : row + 1] = change(slice(row, row + 1))


def adjust_color(
    images: Tensor, brightness: Tensor, contrast: Tensor, saturation: Tensor
) -> Tensor:
    """Change brightness, then contrast (about the picture's mean grey), then saturation.

    Returns (B, C, H, W) float32, cut off at 0 and 255. Each factor is (B,) float32 at least 0, and
    1 changes nothing; saturation does nothing unless there are three channels.
    """
    floats = images * brightness[:, None, None, None]
    middle = grey(floats).mean(dim=(1, 2, 3), keepdim=True)
    floats = torch.lerp(middle, floats, contrast[:, None, None, None])
    if images.shape[1] == 3:
        floats = torch.lerp(grey(floats), floats, saturation[:, None, None, None])
    return floats.clamp_(0, 255)


def grey(floats: Tensor) -> Tensor:
    """Return the brightness of each pixel, (B, 1, H, W), of images (B, C, H, W) float32."""
    if floats.shape[1] != 3:
        return floats.mean(dim=1, keepdim=True)
    red, green, blue = floats.unbind(1)
    return (red * _LUMA[0] + green * _LUMA[1] + blue * _LUMA[2])[:, None]


def erase(images: Tensor, top: Tensor, left: Tensor, height: Tensor, width: Tensor) -> Tensor:
    """Paint a rectangle of each picture, (B,) int64 pixels, in the picture's own mean colour.

    After Zhong et al., "Random erasing data augmentation" (AAAI 2020). The mean, because it is
    close to 0 after normalisation whatever the data. A height of 0 paints nothing.
    """
    mean = images.to(torch.float32).mean(dim=(2, 3), keepdim=True)
    mean = mean if images.is_floating_point() else mean.round()
    rows = _counted(images.shape[2], images.device) - top[:, None]
    columns = _counted(images.shape[3], images.device) - left[:, None]
    in_rows = (rows >= 0) & (rows < height[:, None])
    in_columns = (columns >= 0) & (columns < width[:, None])
    inside = in_rows[:, None, :, None] & in_columns[:, None, None, :]
    return torch.where(inside, mean.to(images.dtype), images)


def mixup(images: Tensor, probs: Tensor, partner: int, share: float) -> tuple[Tensor, Tensor]:
    """Blend each picture (B, C, H, W), and its target, with those of another sample; both float32.

    Zhang et al., "mixup: Beyond empirical risk minimization" (ICLR 2018).

    Args:
        images: (B, C, H, W).
        probs: (B, K) float32, target distributions.
        partner: how many places before it the other is, around the end of the batch.
        share: what is kept of the picture itself, in [0, 1].
    """
    floats = images.to(torch.float32)
    return (
        torch.lerp(floats.roll(partner, 0), floats, share),
        torch.lerp(probs.roll(partner, 0), probs, share),
    )


def cutmix(
    images: Tensor, probs: Tensor, partner: int, box: tuple[int, int, int, int]
) -> tuple[Tensor, Tensor]:
    """Paste a box of another sample into each picture, in its dtype; mix targets by area.

    Yun et al., "CutMix: Regularization strategy to train strong classifiers" (ICCV 2019).

    Args:
        images, probs, partner: as of `mixup`.
        box: top, left, bottom, right in pixels, the last two exclusive.
    """
    top, left, bottom, right = box
    mixed = images.clone()
    mixed[:, :, top:bottom, left:right] = images.roll(partner, 0)[:, :, top:bottom, left:right]
    share = 1 - (bottom - top) * (right - left) / (images.shape[2] * images.shape[3])
    return mixed, torch.lerp(probs.roll(partner, 0), probs, share)


def _host_knows(images: Tensor) -> bool:
    """Return whether values can be read without waiting for a device."""
    return images.device.type == "cpu"


def _sampled(images: Tensor, to_source: Tensor, padding: str, method: str) -> Tensor:
    grid = F.affine_grid(to_source, list(images.shape), align_corners=False)
    floats = images.to(torch.float32)
    return F.grid_sample(floats, grid, mode=method, padding_mode=padding, align_corners=False)


def _resized(
    images: Tensor, boxes: Sequence[Sequence[int]], flips: Sequence[bool], method: str
) -> Tensor:
    smooth = method == "bilinear"
    mode = method if smooth else "nearest-exact"  # which takes the middle of a pixel, as bilinear
    sides = images.shape[2:]
    resized = torch.empty_like(images)
    for index, ((top, left, height, width), flip) in enumerate(zip(boxes, flips)):
        picture = images[index, :, top : top + height, left : left + width]
        if (height, width) != sides:
            # Colours beside each other: torch's kernel for that order is twice as fast.
            box = picture[None].contiguous(memory_format=torch.channels_last)
            (picture,) = F.interpolate(box, sides, mode=mode, antialias=smooth)
        resized[index] = picture.flip(2) if flip else picture
    return resized
