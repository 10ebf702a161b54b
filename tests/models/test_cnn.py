from __future__ import annotations

import pytest
import torch
from torch import nn

from src.models.cnn import CNN


def maps(network: CNN, image_size: tuple[int, int]) -> list[tuple[int, int]]:
    """Sizes of the map after the stem and after each residual block."""
    sizes: list[tuple[int, int]] = []

    def note(_: nn.Module, __: object, output: torch.Tensor) -> None:
        sizes.append((output.shape[2], output.shape[3]))

    for module in (network.stem, *network.stages):
        module.register_forward_hook(note)
    network.eval()(torch.zeros(1, 1, *image_size))
    return sizes


@pytest.mark.parametrize(
    ("image_size", "expected"),
    [
        ((8, 8), [(8, 8), (8, 8), (4, 4), (2, 2)]),
        ((8, 12), [(8, 12), (8, 12), (4, 6), (2, 3)]),
        ((28, 28), [(28, 28), (14, 14), (7, 7), (4, 4)]),
        ((64, 64), [(32, 32), (16, 16), (8, 8), (4, 4)]),
        ((224, 224), [(56, 56), (28, 28), (14, 14), (7, 7)]),
    ],
)
def test_maps_shrink_as_far_as_the_picture_allows(
    image_size: tuple[int, int], expected: list[tuple[int, int]]
) -> None:
    network = CNN(1, 2, image_size, widths=[8, 8, 8], blocks=1, dropout=0.0)
    assert maps(network, image_size) == expected


def test_each_residual_branch_starts_at_zero() -> None:
    network = CNN(3, 2, (16, 16), widths=[8, 16], blocks=2, dropout=0.0).eval()
    features = torch.rand(2, 4, 16, 16)
    for block in network.stages:
        shortcut = block.shortcut(features)
        torch.testing.assert_close(block(features), shortcut.relu())
        features = shortcut.relu()


def test_blocks_and_widths_count() -> None:
    network = CNN(1, 2, (28, 28), widths=[4, 8, 12], blocks=3, dropout=0.0)
    assert [block.conv2.out_channels for block in network.stages] == [4] * 3 + [8] * 3 + [12] * 3
