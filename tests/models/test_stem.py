from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from src.models.stem import keep_detail, takes_pictures


class Residual(nn.Module):
    """A network with what makes undoing hard: a stem, and a strided block with a shortcut."""

    def __init__(self, stem: nn.Module) -> None:
        super().__init__()
        self.stem = stem
        self.pool = nn.MaxPool2d(3, 2, 1)
        self.branch = nn.Sequential(
            nn.Conv2d(4, 4, 3, 2, 1), nn.BatchNorm2d(4), nn.Conv2d(4, 4, 3, 1, 1)
        )
        self.shortcut = nn.Sequential(nn.AvgPool2d(2, ceil_mode=True), nn.Conv2d(4, 4, 1))
        self.last = nn.Conv2d(4, 4, 3, 2, 1)
        self.head = nn.Linear(4, 3)

    def maps(self, images: Tensor) -> Tensor:
        features = self.pool(self.stem(images))
        return self.last(self.branch(features) + self.shortcut(features))

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.maps(images).mean((2, 3)))


@pytest.mark.parametrize(
    ("side", "last_map", "stem_stride", "pooled", "block_strided"),
    [
        (128, 8, 2, True, True),
        (64, 4, 2, True, True),
        (32, 4, 1, True, True),
        (16, 4, 1, False, True),
        (8, 4, 1, False, False),
    ],
)
def test_the_earliest_reductions_go_until_four_pixels_stay(
    side: int, last_map: int, stem_stride: int, pooled: bool, block_strided: bool
) -> None:
    network = Residual(nn.Conv2d(1, 4, 7, 2, 3))
    shapes = {name: p.shape for name, p in network.named_parameters()}
    keep_detail(network, 1, (side, side))
    assert network.maps(torch.zeros(1, 1, side, side)).shape[2:] == (last_map, last_map)
    assert network.stem.stride == (stem_stride, stem_stride)
    assert isinstance(network.pool, nn.MaxPool2d) == pooled
    assert network.branch[0].stride == ((2, 2) if block_strided else (1, 1))
    assert isinstance(network.shortcut[0], nn.AvgPool2d) == block_strided
    assert {name: p.shape for name, p in network.named_parameters()} == shapes


@pytest.mark.parametrize(("kernel", "after"), [(5, 6), (6, 7), (7, 6), (8, 7)])
def test_an_unpadded_kernel_does_not_eat_the_border(kernel: int, after: int) -> None:
    patches = nn.Conv2d(1, 4, kernel, stride=4)
    network = nn.Sequential(
        patches, nn.Conv2d(4, 4, 3, 2, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten()
    )
    keep_detail(network, 1, (12, 12))
    # Stride 2 would leave 6 pixels, then 3: too few. An even kernel has no middle, and gains one.
    assert patches.stride == (1, 1)
    assert patches(torch.zeros(1, 1, 6, 6)).shape[2] == after


def test_a_network_that_begins_at_full_resolution_stays() -> None:
    network = Residual(nn.Conv2d(1, 4, 3, 1, 1))
    keep_detail(network, 1, (8, 8))
    assert isinstance(network.pool, nn.MaxPool2d) and network.last.stride == (2, 2)


def test_trying_a_picture_leaves_no_trace() -> None:
    network = Residual(nn.Sequential(nn.Conv2d(1, 4, 3, 2, 1), nn.BatchNorm2d(4))).train()
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    draws = torch.get_rng_state()
    assert takes_pictures(network, 1, 3, (32, 32))
    assert not takes_pictures(network, 1, 4, (32, 32))  # it has three classes
    assert not takes_pictures(network, 3, 3, (32, 32))  # and takes one channel
    assert network.training and torch.equal(torch.get_rng_state(), draws)
    torch.testing.assert_close(network.state_dict(), before, rtol=0, atol=0)
