"""ReNet: a picture swept by recurrent networks in both dimensions."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from .patches import to_patches
from .recurrent import recurrent_layers

__all__ = ["ReNet"]


class ReNet(nn.Module):
    """Visin et al. (2015, arXiv:1505.00393), with an average over the last map for its classifier.

    Args:
        image_size: nothing depends on it.
        cell: 'rnn', 'lstm' or 'gru'.
        patch_sizes: one layer per entry: the side in cells of the patches of its input map that it
            reads as one step.
        hidden_size: units of each of a layer's four recurrent networks.
        dropout: probability before the classifier, in [0, 1).
    """

    head_prefixes = ("head.",)

    def __init__(
        self,
        in_channels: int,
        num_classes: int,
        image_size: tuple[int, int],
        *,
        cell: str,
        patch_sizes: Sequence[int],
        hidden_size: int,
        dropout: float,
    ) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        channels = in_channels
        for patch_size in patch_sizes:
            layers.append(_Sweep(cell, channels, patch_size, hidden_size))
            channels = 2 * hidden_size
        self.layers = nn.Sequential(*layers)
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(channels, num_classes)

    def forward(self, images: Tensor) -> Tensor:
        """Normalised pictures (B, C, H, W) of any size to logits (B, K)."""
        features = self.layers(images).mean((2, 3))
        return self.head(self.dropout(features))


class _Sweep(nn.Module):
    """One layer: (B, C, H, W) to (B, 2 * hidden_size, ceil(H / p), ceil(W / p)).

    Every column of patches is read downwards and upwards; every row of the result is read to the
    right and to the left. Each place of the output has then seen the whole map.
    """

    def __init__(self, cell: str, channels: int, patch_size: int, hidden_size: int) -> None:
        super().__init__()
        self.patch = (patch_size, patch_size)
        self.vertical = recurrent_layers(cell, channels * patch_size**2, hidden_size)
        self.horizontal = recurrent_layers(cell, 2 * hidden_size, hidden_size)

    def forward(self, maps: Tensor) -> Tensor:
        patches = to_patches(maps, self.patch)
        swept = _along_rows(self.vertical, patches.transpose(1, 2)).transpose(1, 2)
        swept = _along_rows(self.horizontal, swept)
        return swept.permute(0, 3, 1, 2)


def _along_rows(recurrence: nn.RNNBase, grid: Tensor) -> Tensor:
    """Read each row of a grid (B, h, w, F) as a sequence of its own: (B, h, w, D)."""
    batch, rows, columns, features = grid.shape
    states: Tensor = recurrence(grid.reshape(batch * rows, columns, features))[0]
    return states.reshape(batch, rows, columns, -1)
