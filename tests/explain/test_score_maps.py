from __future__ import annotations

import pytest
import torch
from torch import Tensor

from src.explain.score_maps import HasScoreMaps, class_maps
from src.models.fcn import FCN
from src.models.mlp import MLP


class Brightness:
    """Scores two classes by the mean of each square of `stride` pixels: dark, and bright."""

    def __init__(self, stride: int) -> None:
        self.stride = stride

    def score_maps(self, images: Tensor) -> Tensor:
        means = torch.nn.functional.avg_pool2d(images, self.stride, ceil_mode=True)
        return torch.cat([-10 * means, 10 * means], dim=1)


@pytest.mark.parametrize(("size", "stride"), [((16, 16), 16), ((28, 20), 16), ((8, 8), 1)])
def test_a_spot_is_seen_where_it_is(size: tuple[int, int], stride: int) -> None:
    height, width = size
    for y, x in ((height // 4, width // 4), (3 * height // 4, width // 4)):
        images = torch.full((1, 1, height, width), -0.3)
        images[0, 0, y - 2 : y + 2, x - 2 : x + 2] = 5.0
        maps = class_maps(Brightness(stride), images, torch.tensor([[1, 0]]))
        assert maps.shape == (1, 2, height, width)
        weights = maps[0, 0] - maps[0, 0].min()
        rows = torch.arange(height) + 0.5
        columns = torch.arange(width) + 0.5
        centre_y = float((weights.sum(1) * rows).sum() / weights.sum())
        centre_x = float((weights.sum(0) * columns).sum() / weights.sum())
        assert abs(centre_y - y) <= max(1.0, stride / 5)
        assert abs(centre_x - x) <= max(1.0, stride / 5)
        torch.testing.assert_close(maps[0, 0] + maps[0, 1], torch.ones(size))


def test_where_every_pixel_has_its_score_the_maps_are_those() -> None:
    images, network = torch.randn(2, 1, 20, 14), Brightness(1)
    expected = network.score_maps(images).softmax(dim=1)
    maps = class_maps(network, images, torch.tensor([[0, 1], [1, 0]]))
    torch.testing.assert_close(maps[0], expected[0])
    torch.testing.assert_close(maps[1], expected[1].flip(0))


def test_maps_of_a_network_are_probabilities() -> None:
    network = FCN(3, 4, (32, 32), channels=[4] * 5, dropout=0.1).eval()
    with torch.inference_mode():
        maps = class_maps(network, torch.randn(2, 3, 32, 32), torch.arange(4).expand(2, 4))
    assert maps.shape == (2, 4, 32, 32)
    assert maps.min() >= 0
    torch.testing.assert_close(maps.sum(1), torch.ones(2, 32, 32))
    assert maps.std(dim=(2, 3)).min() > 0  # although the network has one place alone


def test_who_has_score_maps() -> None:
    assert isinstance(FCN(1, 2, (8, 8), channels=[4, 4], dropout=0.0), HasScoreMaps)
    mlp = MLP(1, 2, (8, 8), hidden=[4], dropout=0.0, batch_norm=False)
    assert not isinstance(mlp, HasScoreMaps)


def test_a_mirrored_picture_has_the_mirrored_map() -> None:
    images = torch.randn(2, 1, 24, 24)
    classes = torch.tensor([[0], [1]])
    maps = class_maps(Brightness(24), images, classes)
    for axis in (2, 3):
        mirrored = class_maps(Brightness(24), images.flip(axis), classes)
        torch.testing.assert_close(mirrored, maps.flip(axis))


def test_maps_of_labels_are_each_their_own() -> None:
    images, network = torch.randn(2, 1, 20, 14), Brightness(1)
    both = torch.tensor([[0, 1], [0, 1]])
    maps = class_maps(network, images, both, torch.sigmoid)
    torch.testing.assert_close(maps, torch.sigmoid(network.score_maps(images)))
