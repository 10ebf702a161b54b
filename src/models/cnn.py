"""A small residual network: the default, quick on a CPU and strong on small pictures."""

from __future__ import annotations

import math
from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional as F

__all__ = ["CNN"]

# The stem halves larger pictures until their shorter side is at most this many pixels: finer maps
# cost time and bring nothing that the later stages keep.
_LARGEST_MAP = 56
# With one pixel left, nothing is averaged before the classifier: on 8x8 digits that costs 0.5 %.
_SMALLEST_MAP = 2


class CNN(nn.Module):
    """Residual network of He et al. (2016, arXiv:1512.03385), narrow and shallow.

    A convolution at full resolution (stride 1 up to 56 pixels), then one stage per width. Each
    stage halves the map; where the picture is too small for that, the first ones do not, so that
    the last map keeps two pixels a side. Shortcuts shrink by averaging (ResNet-D, arXiv:1812.01187)
    and each residual branch starts at zero (arXiv:1706.02677), so training begins near a shallow
    network and bears a high learning rate.

    Args:
        image_size: sets the strides; other sizes are accepted later.
        widths: channels of each stage; the stem has half of the first.
        blocks: residual blocks a stage.
        dropout: probability before the classifier, in [0, 1).
    """

    head_prefixes = ("head.",)

    def __init__(
        self,
        in_channels: int,
        num_classes: int,
        image_size: tuple[int, int],
        *,
        widths: Sequence[int],
        blocks: int,
        dropout: float,
    ) -> None:
        super().__init__()
        side = min(image_size)
        stride = 2 ** max(0, math.ceil(math.log2(side / _LARGEST_MAP)))
        kernel = max(3, 2 * stride - 1)
        width_in = max(1, widths[0] // 2)
        self.stem = nn.Sequential(
            nn.Conv2d(in_channels, width_in, kernel, stride, kernel // 2, bias=False),
            nn.BatchNorm2d(width_in),
            nn.ReLU(inplace=True),
        )
        unhalved = len(widths) - max(0, int(math.log2(side // stride / _SMALLEST_MAP)))
        stages: list[nn.Module] = []
        for stage, width in enumerate(widths):
            for block in range(blocks):
                halve = stage >= unhalved and block == 0
                stages.append(_ResidualBlock(width_in, width, stride=2 if halve else 1))
                width_in = width
        self.stages = nn.Sequential(*stages)
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(width_in, num_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            elif isinstance(module, _ResidualBlock):
                nn.init.zeros_(module.norm2.weight)

    def forward(self, images: Tensor) -> Tensor:
        """Normalised pictures (B, C, H, W) to logits (B, K)."""
        features = self.stages(self.stem(images)).mean((2, 3))
        return self.head(self.dropout(features))


class _ResidualBlock(nn.Module):
    """Two 3x3 convolutions with batch norm, added to a shortcut: (B, c, H, W) to (B, d, h, w)."""

    def __init__(self, width_in: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(width_in, width, 3, stride, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(width)
        shortcut: list[nn.Module] = []
        if stride > 1:
            # ceil_mode: odd maps shrink to the size that the strided convolution gives.
            shortcut.append(nn.AvgPool2d(stride, ceil_mode=True))
        if width_in != width:
            shortcut += [nn.Conv2d(width_in, width, 1, bias=False), nn.BatchNorm2d(width)]
        self.shortcut = nn.Sequential(*shortcut)

    def forward(self, maps: Tensor) -> Tensor:
        branch = F.relu(self.norm1(self.conv1(maps)), inplace=True)
        return F.relu(self.norm2(self.conv2(branch)) + self.shortcut(maps), inplace=True)
