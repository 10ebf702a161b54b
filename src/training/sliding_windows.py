"""Logits of pixels in large pictures, from overlapping windows of the size of the training."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from ..data.decoding.windows import window_places, window_weights

__all__ = ["over_windows", "sliding_windows"]

# Windows that the network takes at once.
_AT_ONCE = 4
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

    Where several cover a pixel the
    result is their mean, weighted by the distance to the window's border, where a network sees the
    least around a pixel; so there are no seams. It is a running mean: windows that agree give their
    own value exactly. Memory beside the result is that of one batch of windows.

    Args:
        network: (N, C, h, w) to values of pixels (N, K, h, w), logits or probabilities; it may
            move windows to a device of its own, and answers on that of `images`.
        images: (N, C, H, W).
        window: height and width in pixels; a side larger than the pictures' is theirs.

    Returns:
        (N, K, H, W) float32.
    """
    count, _, *size = images.shape
    height, width = (min(side, whole) for side, whole in zip(window, size, strict=True))
    weights = torch.from_numpy(window_weights((height, width))).to(images.device)
    given = torch.zeros(size, device=images.device)
    result: Tensor | None = None
    corners = window_places(size, (height, width))
    at_once = max(1, _AT_ONCE // count)
    for first in range(0, len(corners), at_once):
        places = corners[first : first + at_once]
        windows = [images[..., y : y + height, x : x + width] for y, x in places]
        answers = network(torch.cat(windows)).float().chunk(len(places))
        for (y, x), answer in zip(places, answers, strict=True):
            if result is None:
                result = answer.new_zeros(count, answer.shape[1], *size)
            within = slice(y, y + height), slice(x, x + width)
            given[within] += weights
            mean = result[..., within[0], within[1]]
            mean += (answer - mean) * (weights / given[within])
    assert result is not None
    return result
