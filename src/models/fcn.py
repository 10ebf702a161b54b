"""Fully convolutional networks: a class for a picture, or one for each of its pixels."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

from torch import Tensor, nn
from torch.nn import functional as F

__all__ = ["FCN", "DenseFCN"]


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

    head_prefixes: tuple[str, ...] = ("head.",)

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


class DenseFCN(FCN):
    """`FCN` with a class for every pixel: score maps of all depths, added up on the way back.

    The skip architecture of Long et al. (2015, section 4.2) over every block: the scores of the
    last map are enlarged to the size of the map before it, whose own scores are added, down to a
    stride of 2, and then to the picture's pixels. Enlarging is bilinear, and the scores of the
    finer maps start at zero, as there. Arguments and attributes as of `FCN`.
    """

    head_prefixes: tuple[str, ...] = ("head.", "skips.")

    def __init__(
        self,
        in_channels: int,
        num_classes: int,
        image_size: tuple[int, int],
        *,
        channels: Sequence[int],
        dropout: float,
    ) -> None:
        super().__init__(in_channels, num_classes, image_size, channels=channels, dropout=dropout)
        finer = channels[: len(self.blocks) - 1]
        self.skips = nn.ModuleList(nn.Conv2d(width, num_classes, 1) for width in finer)
        for skip in self.skips.parameters():
            nn.init.zeros_(skip)
        if not finer:
            self.head_prefixes = ("head.",)

    def forward(self, images: Tensor) -> Tensor:
        """Normalised pictures (B, C, H, W) of any size to logits (B, K, H, W)."""
        maps = [images]
        for block in self.blocks:
            maps.append(block(maps[-1]))
        scores = self.head(self.dropout(maps.pop()))
        for skip in (*reversed(self.skips), None):
            finer = maps.pop()
            doubled = F.interpolate(scores, scale_factor=2, mode="bilinear")
            # Sides are halved upwards: what was added to the last rows and columns goes again.
            scores = doubled[..., : finer.shape[2], : finer.shape[3]]
            if skip is not None:
                scores = scores + skip(finer)
        return scores


def _block(channels_in: int, channels: int) -> nn.Sequential:
    conv = nn.Conv2d(channels_in, channels, 3, padding=1, bias=False)
    nn.init.kaiming_normal_(conv.weight, nonlinearity="relu")
    # ceil_mode: a map of one pixel stays one, so pictures smaller than the training ones work.
    pool = nn.MaxPool2d(2, ceil_mode=True)
    return nn.Sequential(conv, nn.BatchNorm2d(channels), nn.ReLU(inplace=True), pool)
