from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from src.explain.feature_maps import MapLayer, find_map_layer
from src.explain.grad_cam import grad_cam, weighted_maps
from src.models.cnn import CNN
from src.models.fcn import FCN
from src.models.vit import ViT

CLASSES = torch.tensor([[2, 0], [1, 1], [0, 3]])


def shown(maps: Tensor, size: tuple[int, int]) -> Tensor:
    """Maps (B, M, h, w) as they are laid over pictures, written down a second time."""
    positive = torch.where(maps > 0, maps, torch.zeros(()))
    tops = positive.flatten(2).max(dim=2).values[:, :, None, None]
    relative = torch.where(tops > 0, positive / tops, positive)
    return F.interpolate(relative, size, mode="bilinear", align_corners=False)


def test_a_map_is_the_sum_of_those_that_raise_the_score() -> None:
    maps = torch.tensor([[[[1.0, 2.0]], [[5.0, 0.0]]]])
    gradients = torch.tensor([[[[3.0, 1.0]], [[-1.0, 0.0]]]])  # means 2 and -0.5
    torch.testing.assert_close(weighted_maps(maps, gradients), torch.tensor([[[0.0, 4.0]]]))


@pytest.mark.parametrize("size", [(32, 32), (29, 43)])
def test_under_an_average_and_a_linear_layer_it_is_the_class_activation_map(
    size: tuple[int, int],
) -> None:
    torch.manual_seed(0)
    network = CNN(3, 4, size, widths=[8, 12], blocks=1, dropout=0.0).eval()
    nn.init.normal_(network.head.weight)
    images = torch.randn(3, 3, *size)
    layer = find_map_layer(network, images[:1])
    assert layer is not None
    with torch.no_grad():
        features = network.stages(network.stem(images))
        evidence = torch.einsum("kd,bdhw->bkhw", network.head.weight, features)
        expected = shown(evidence.take_along_dim(CLASSES[:, :, None, None], 1), size)
    maps = grad_cam(network, layer, images, CLASSES)
    assert maps.shape == (3, 2, *size) and maps.min() >= 0 and maps.max() <= 1
    torch.testing.assert_close(maps, expected)


def test_of_a_vision_transformer_it_is_that_of_the_tokens() -> None:
    torch.manual_seed(1)
    network = _vit("mean")
    images = torch.randn(3, 1, 24, 16)
    layer = find_map_layer(network, images[:1])
    assert layer == MapLayer("norm", 6, 4, "tokens")
    with torch.no_grad():
        tokens = network.embed(images).flatten(2).transpose(1, 2) + network.positions
        evidence = network.norm(network.blocks(tokens)) @ network.head.weight.T
        evidence = evidence.transpose(1, 2).reshape(3, 4, 6, 4)
        expected = shown(evidence.take_along_dim(CLASSES[:, :, None, None], 1), (24, 16))
    torch.testing.assert_close(grad_cam(network, layer, images, CLASSES), expected)


def test_of_score_maps_it_is_these() -> None:
    torch.manual_seed(2)
    network = FCN(1, 4, (32, 32), channels=[4, 8], dropout=0.0).eval()
    images = torch.randn(3, 1, 32, 32)
    with torch.no_grad():
        scores = network.score_maps(images)
    expected = shown(scores.take_along_dim(CLASSES[:, :, None, None], 1), (32, 32))
    maps = grad_cam(network, MapLayer("head", 8, 8, "maps"), images, CLASSES)
    torch.testing.assert_close(maps, expected)


def test_past_a_head_that_is_not_linear_it_follows_the_published_formula() -> None:
    torch.manual_seed(3)
    features = nn.Sequential(nn.Conv2d(1, 6, 3, 2, 1), nn.Tanh())
    head = nn.Sequential(nn.Flatten(), nn.Linear(6 * 16, 9), nn.Tanh(), nn.Linear(9, 4))
    network = nn.Sequential(features, head).eval()
    images = torch.randn(3, 1, 8, 8)
    layer = find_map_layer(network, images[:1])
    assert layer == MapLayer("0", 4, 4, "maps")
    with torch.no_grad():
        kept = features(images).double()
    doubled, step = head.double(), 1e-4
    expected = torch.zeros(3, 2, 4, 4, dtype=torch.float64)
    with torch.no_grad():
        for b, m in ((b, m) for b in range(3) for m in range(2)):
            for k in range(6):
                # All places of one map moved together: the sum of the gradients there.
                moved = [kept[b : b + 1].clone() for _ in range(2)]
                moved[0][:, k] += step
                moved[1][:, k] -= step
                above, below = (doubled(maps)[0, CLASSES[b, m]] for maps in moved)
                expected[b, m] += (above - below) / (2 * step) / 16 * kept[b, k]
    head.float()
    maps = grad_cam(network, layer, images, CLASSES)
    torch.testing.assert_close(maps, shown(expected.float(), (8, 8)), rtol=1e-3, atol=1e-4)


def test_a_class_that_no_place_speaks_for_has_a_map_of_zeros() -> None:
    network = CNN(1, 4, (8, 8), widths=[4], blocks=1, dropout=0.0).eval()
    nn.init.constant_(network.head.weight, -1.0)  # maps after a ReLU are never below zero
    layer = find_map_layer(network, torch.randn(1, 1, 8, 8))
    assert layer is not None
    maps = grad_cam(network, layer, torch.randn(3, 1, 8, 8), CLASSES)
    assert not maps.any()


def test_the_network_stays_as_it_was_and_inference_may_be_on() -> None:
    network = _vit("token")
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    images = torch.randn(3, 1, 24, 16)
    layer = find_map_layer(network, images[:1])
    assert layer == MapLayer("blocks.0", 6, 4, "tokens")
    first = grad_cam(network, layer, images, CLASSES)
    assert 0.5 < first.max() <= 1 and first.std(dim=(2, 3)).min() > 0
    with torch.no_grad():
        torch.testing.assert_close(grad_cam(network, layer, images, CLASSES), first)
    assert all(p.grad is None and p.requires_grad for p in network.parameters())
    assert not any(module._forward_hooks for module in network.modules())
    torch.testing.assert_close(network.state_dict(), before, rtol=0, atol=0)


def _vit(pooling: str) -> ViT:
    options = {"patch_size": 4, "width": 16, "depth": 2, "heads": 2, "mlp_ratio": 2.0}
    return ViT(1, 4, (24, 16), **options, pooling=pooling, dropout=0.0).eval()
