"""Test-time augmentation: the mean prediction over slightly changed views of each picture."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["VIEWS", "averaged_logits", "views"]

VIEWS = ("none", "flip", "shift", "flip_shift")

# A shift of one pixel per this many pixels of the shorter side, as in Jordan (2024), who moves
# pictures of 32 x 32 by one pixel towards two opposite corners.
_PIXELS_A_STEP = 32


def views(images: Tensor, kind: str) -> Iterator[Tensor]:
    """The views of a batch, the unchanged pictures first.

    Args:
        images: (B, C, H, W) float.
        kind: "none" (1 view); "flip" (2, where left and right mean nothing: not for digits or
            text); "shift" (3: towards the upper left and the lower right by 1/32 of the shorter
            side, at least a pixel, the border pixels repeated); "flip_shift" (6, every pair).

    Raises:
        ValueError: another kind.
    """
    if kind not in VIEWS:
        raise ValueError(f"views are {kind!r}: one of {', '.join(VIEWS)} is needed.")
    yield images
    if kind in ("shift", "flip_shift"):
        yield from _shifted(images)
    if kind in ("flip", "flip_shift"):
        mirrored = images.flip(-1)
        yield mirrored
        if kind == "flip_shift":
            yield from _shifted(mirrored)


def averaged_logits(network: Callable[[Tensor], Tensor], images: Tensor, kind: str) -> Tensor:
    """Logits (B, K) float whose softmax is the mean of the views' probabilities.

    With kind "none" they are the network's own. One view runs at a time, so memory does not grow.

    Args:
        network: pictures (B, C, H, W) -> logits (B, K), in evaluation mode.
        images: (B, C, H, W) float, normalised as the network wants them.
        kind: see `views`.

    Raises:
        ValueError: an unknown kind.
    """
    if kind == "none":
        return network(images)
    log_probs = torch.stack(
        [network(view).float().log_softmax(dim=1) for view in views(images, kind)]
    )
    return log_probs.logsumexp(dim=0) - math.log(len(log_probs))


def _shifted(images: Tensor) -> Iterator[Tensor]:
    height, width = images.shape[-2:]
    step = max(1, round(min(height, width) / _PIXELS_A_STEP))
    padded = F.pad(images, (step, step, step, step), mode="replicate")
    for offset in (2 * step, 0):
        yield padded[..., offset : offset + height, offset : offset + width]
