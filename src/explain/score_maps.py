"""Class probabilities by place, of fully convolutional networks."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Protocol, runtime_checkable

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["HasScoreMaps", "class_maps"]

_PLACES = 12  # along a side, where the network itself has fewer
_SOFTMAX = partial(torch.softmax, dim=1)


@runtime_checkable
class HasScoreMaps(Protocol):
    """A network that scores the classes by place, one place every `stride` pixels."""

    stride: int

    def score_maps(self, images: Tensor) -> Tensor:
        """Normalised pictures (B, C, H, W) to class scores (B, K, h, w)."""


def class_maps(
    network: HasScoreMaps,
    images: Tensor,
    classes: Tensor,
    probabilities: Callable[[Tensor], Tensor] = _SOFTMAX,
) -> Tensor:
    """Compute the probabilities of some classes at every place of a picture.

    A network that halves its picture five times has one score every 32 pixels: for a small picture
    a single one. The scores between come from the same network over the picture moved by fractions
    of that step, with the mean colour moved in: shift-and-stitch (Long et al. 2015,
    arXiv:1411.4038, section 3.2).

    Args:
        network: in evaluation mode.
        images: normalised pictures (B, C, H, W).
        classes: (B, M) int64 in [0, K), of each picture.
        probabilities: of scores (B, K, h, w); by default one of K classes is there.

    Returns:
        (B, M, H, W) float32 in [0, 1], the probabilities of these classes at each place.
    """
    height, width = images.shape[-2:]
    stride = network.stride
    rows, columns = (-(-side // stride) for side in (height, width))
    finer = max(1, min(stride, round(_PLACES / max(rows, columns))))
    # Half a stride of margin: a score belongs to the centre of its stride.
    padded = F.pad(images, (stride // 2, stride - stride // 2) * 2)
    maps = images.new_empty((*classes.shape, rows, finer, columns, finer))
    chosen = classes[:, :, None, None]
    for i in range(finer):
        for j in range(finer):
            top, left = ((2 * at + 1) * stride // (2 * finer) for at in (i, j))
            moved = padded[..., top : top + height, left : left + width]
            probs = probabilities(network.score_maps(moved).float())
            maps[:, :, :, i, :, j] = probs.take_along_dim(chosen, dim=1)
    stitched = maps.flatten(4, 5).flatten(2, 3)
    whole = F.interpolate(stitched, (rows * stride, columns * stride), mode="bilinear")
    return whole[..., :height, :width]
