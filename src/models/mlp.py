"""A multilayer perceptron on the picture's pixels: the baseline that knows nothing of pictures."""

from __future__ import annotations

import math
from collections.abc import Sequence

from torch import Tensor, nn

__all__ = ["MLP"]


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
            linear = nn.Linear(width_in, width)
            nn.init.kaiming_normal_(linear.weight, nonlinearity="relu")
            nn.init.zeros_(linear.bias)
            layers.append(linear)
            if batch_norm:
                layers.append(nn.BatchNorm1d(width))
            layers += [nn.ReLU(inplace=True), nn.Dropout(dropout)]
            width_in = width
        self.layers = nn.Sequential(*layers)
        self.head = nn.Linear(width_in, num_classes)

    def forward(self, images: Tensor) -> Tensor:
        """Normalised pictures (B, C, H, W) to logits (B, K)."""
        return self.head(self.layers(images.flatten(1)))
