"""A fully convolutional network, whose classes can be seen where they are in the picture."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

from torch import Tensor, nn

__all__ = ["FCN"]


class FCN(nn.Module):
    """Blocks of convolution and pooling, a 1x1 convolution to class scores, and their average.

    Long et al. (2015, arXiv:1411.4038) with the global average of Lin et al. (2014,
    arXiv:1312.4400): no layer depends on the picture's size, so a trained network takes any.

    Args:
        image_size: each block halves it, so there are at most log2(shorter side) blocks, whatever
            `channels` asks for.
        channels: output channels of each block, first to last.
        dropout: probability before the 1x1 convolution, in [0, 1).

    Attributes:
        stride: pixels between two places of the score maps.
    """

    head_prefixes = ("head.",)

    def __init__(
        self,
        in_channels: int,
        num_classes: int,
        image_size: tuple[int, int],
        *,
        channels: Sequence[int],
        dropout: float,
    ) -> None:
        super().__init__()
        channels = channels[: max(1, int(math.log2(min(image_size))))]
        self.stride = 2 ** len(channels)
        widths = [in_channels, *channels]
        self.blocks = nn.Sequential(*(_block(before, after) for before, after in pairwise(widths)))
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Conv2d(widths[-1], num_classes, 1)

    def score_maps(self, images: Tensor) -> Tensor:
        """Normalised pictures (B, C, H, W) to class scores by place (B, K, h, w).

        h = ceil(H / stride), w likewise; their mean over the places is the logits.
        """
        return self.head(self.dropout(self.blocks(images)))

    def forward(self, images: Tensor) -> Tensor:
        """Normalised pictures (B, C, H, W) of any size to logits (B, K)."""
        return self.score_maps(images).mean((2, 3))


def _block(channels_in: int, channels: int) -> nn.Sequential:
    conv = nn.Conv2d(channels_in, channels, 3, padding=1, bias=False)
    nn.init.kaiming_normal_(conv.weight, nonlinearity="relu")
    # ceil_mode: a map of one pixel stays one, so pictures smaller than the training ones work.
    pool = nn.MaxPool2d(2, ceil_mode=True)
    return nn.Sequential(conv, nn.BatchNorm2d(channels), nn.ReLU(inplace=True), pool)
