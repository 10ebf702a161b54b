"""Logits of pixels in large pictures, from overlapping windows of the size of the training."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from ..data.decoding.windows import blended

__all__ = ["over_windows", "sliding_windows"]

Network = Callable[[Tensor], Tensor]


def over_windows(network: Network, metadata: Mapping[str, Any]) -> Network:
    """Return a network that answers pictures of any size as its run does.

    Args:
        network: normalised pictures (N, C, H, W) to logits (N, K, H, W).
        metadata: of the run's checkpoints.

    Returns:
        The network itself, or for pictures that are taken window by window one whose outputs are
        the logarithms of the windows' mean probabilities.
    """
    if metadata.get("fit") != "windows":
        return network
    height, width = metadata["image_size"]

    def probabilities(windows: Tensor) -> Tensor:
        return network(windows).float().softmax(dim=1)

    def logits(images: Tensor) -> Tensor:
        found = sliding_windows(probabilities, images, (height, width))
        return found.clamp_(min=torch.finfo(found.dtype).tiny).log_()

    return logits


@torch.no_grad()
def sliding_windows(network: Network, images: Tensor, window: tuple[int, int]) -> Tensor:
    """Compute what a network says of every pixel, window by window (see `window_places`).

    Where several cover a pixel the result is their mean, weighted by the distance to the window's
    border, where a network sees the least around a pixel; so there are no seams. It is a running
    mean, see `blended`.

    Args:
        network: (N, C, h, w) to values of pixels (N, K, h, w), logits or probabilities; it may
            move windows to a device of its own, and answers on that of `images`.
        images: (N, C, H, W).
        window: height and width in pixels; a side larger than the pictures' is theirs.

    Returns:
        (N, K, H, W) float32.
    """

    def answers(windows: list[Tensor]) -> Sequence[Tensor]:
        return network(torch.cat(windows)).float().chunk(len(windows))

    array = partial(torch.as_tensor, device=images.device)
    return blended(answers, images, window, array, partial(torch.zeros, device=images.device))
