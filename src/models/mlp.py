"""A multilayer perceptron on the picture's pixels: the baseline that knows nothing of pictures."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

__all__ = ["MLP"]

# oneDNN (3.13.3, of torch 2.15) divides by zero in a layer of bfloat16 whose input, from so many
# columns on, fills a cache exactly, which ends the process by SIGFPE. Seen on a CPU with AMX for
# 3 * 2**19 numbers: 32 pictures of 128x128 pixels. Caches have a multiple of so many.
_MANY_COLUMNS, _WHOLE = 2**15, 2**19


class _PixelLayer(nn.Linear):
    """A linear layer on all pixels of pictures (B, D), of which no number ends the process."""

    def forward(self, input: Tensor) -> Tensor:
        half = torch.is_autocast_enabled("cpu") and input.device.type == "cpu"
        if not half or input.shape[1] < _MANY_COLUMNS or input.numel() % _WHOLE:
            return super().forward(input)
        return super().forward(torch.cat([input, input[:1]]))[:-1]


class MLP(nn.Module):
    """Linear layers with ReLU, optional batch norm and dropout, for pictures of one size.

    Args:
        hidden: units of each hidden layer; empty for logistic regression.
        batch_norm: normalise each hidden layer before its ReLU.
        dropout: probability after each hidden layer, in [0, 1).
    """

    head_prefixes = ("head.",)

    def __init__(
        self,
        in_channels: int,
        num_classes: int,
        image_size: tuple[int, int],
        *,
        hidden: Sequence[int],
        batch_norm: bool,
        dropout: float,
    ) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        width_in = in_channels * math.prod(image_size)
        for width in hidden:
            linear = (nn.Linear if layers else _PixelLayer)(width_in, width)
            nn.init.kaiming_normal_(linear.weight, nonlinearity="relu")
            nn.init.zeros_(linear.bias)
            layers.append(linear)
            if batch_norm:
                layers.append(nn.BatchNorm1d(width))
            layers += [nn.ReLU(inplace=True), nn.Dropout(dropout)]
            width_in = width
        self.layers = nn.Sequential(*layers)
        self.head = (nn.Linear if layers else _PixelLayer)(width_in, num_classes)

    def forward(self, images: Tensor) -> Tensor:
        """Normalised pictures (B, C, H, W) to logits (B, K)."""
        return self.head(self.layers(images.flatten(1)))
