from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from src.explain.grad_cam import MapLayer, find_map_layer, grad_cam, weighted_maps
from src.models.cnn import CNN
from src.models.fcn import FCN
from src.models.vit import ViT
from src.models.zoo import TimmNet, TorchvisionNet
from tests.models.test_conformance import build

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


def found(network: nn.Module, *shape: int) -> MapLayer | None:
    torch.manual_seed(0)
    return find_map_layer(network.eval(), torch.randn(1, *shape))


@pytest.mark.parametrize(
    ("model", "layer"),
    [
        ("cnn", MapLayer("stages", 4, 4, "maps")),
        ("renet", MapLayer("layers", 7, 7, "maps")),
        ("vit", MapLayer("norm", 7, 7, "tokens")),
        ("mlp", None),
        ("lstm", None),
        ("gru", None),
        ("rnn", None),
    ],
)
def test_the_last_maps_of_each_family(model: str, layer: MapLayer | None) -> None:
    assert found(build(model, (1, 28, 28)), 1, 28, 28) == layer


def test_recurrent_networks_that_read_patches_have_none() -> None:
    from src.models.recurrent import RecurrentNet

    options = {"cell": "gru", "reading": "patches", "step_size": 4, "hidden_size": 8, "layers": 1}
    network = RecurrentNet(
        1, 3, (16, 16), **options, bidirectional=True, pooling="mean", dropout=0.0
    )
    assert found(network, 1, 16, 16) is None


def test_maps_of_a_few_places_give_way_to_finer_ones() -> None:
    assert found(build("cnn", (1, 8, 8)), 1, 8, 8) == MapLayer("stages.1", 4, 4, "maps")
    # 6x6, then 3x3: where none has four places a side, the finest of them.
    coarse = nn.Sequential(*(nn.Conv2d(1, 1, 3, 2, 1) for _ in range(3)), nn.Flatten())
    assert found(coarse, 1, 10, 10) == MapLayer("0", 5, 5, "maps")
    assert found(coarse[1:], 1, 6, 6) == MapLayer("1", 3, 3, "maps")
    assert found(coarse, 1, 20, 12) == MapLayer("0", 10, 6, "maps")


class Around(nn.Module):
    """A branch of convolutions, and the picture's brightness past it where `past` is not 0."""

    def __init__(self, past: float) -> None:
        super().__init__()
        self.branch = nn.Conv2d(1, 4, 3, padding=1)
        self.past = past

    def forward(self, images: Tensor) -> Tensor:
        logits = self.branch(images).mean((2, 3))
        return logits + self.past * images.mean((1, 2, 3))[:, None] if self.past else logits


def test_what_the_picture_leads_around_does_not_count() -> None:
    assert found(Around(0.0), 1, 8, 8) == MapLayer("branch", 8, 8, "maps")
    assert found(Around(0.1), 1, 8, 8) is None


def test_a_layer_that_is_called_twice_does_not_count() -> None:
    twice = nn.Conv2d(1, 1, 3, padding=1)
    last = nn.Conv2d(1, 3, 1)
    assert found(nn.Sequential(twice, twice, nn.Flatten()), 1, 8, 8) is None
    assert found(nn.Sequential(last, nn.Flatten()), 1, 8, 8) == MapLayer("0", 8, 8, "maps")


def test_tokens_of_which_one_alone_is_read_give_way_to_those_before() -> None:
    options = {"patch_size": 4, "width": 16, "depth": 3, "heads": 2, "mlp_ratio": 2.0}
    network = ViT(1, 3, (16, 24), **options, pooling="token", dropout=0.0)
    layer = found(network, 1, 16, 24)
    assert layer == MapLayer("blocks.1", 4, 6, "tokens")
    output = torch.arange(25.0)[None, :, None].expand(1, 25, 16)  # the class token, then the places
    assert layer is not None and layer.as_maps(output)[0, 3].flatten().tolist() == [*range(1, 25)]


def test_places_in_the_first_dimensions() -> None:
    class Last(nn.Module):
        def forward(self, maps: Tensor) -> Tensor:
            return maps.permute(0, 2, 3, 1)

    class Mean(nn.Module):
        def forward(self, places: Tensor) -> Tensor:
            return places.mean((1, 2))

    network = nn.Sequential(nn.Conv2d(1, 12, 2, 2), Last(), nn.LayerNorm(12), Mean())
    layer = found(network, 1, 10, 12)
    assert layer == MapLayer("2", 5, 6, "places")
    output = torch.randn(2, 5, 6, 12)
    torch.testing.assert_close(layer.as_maps(output)[1, 7], output[1, :, :, 7])


def test_compiled_networks_are_looked_into_as_well() -> None:
    network = build("cnn", (1, 28, 28)).eval()
    network.compile(backend=_refused)
    assert found(network, 1, 28, 28) == MapLayer("stages", 4, 4, "maps")


def _refused(*_: object) -> Callable[..., Tensor]:
    raise RuntimeError("compiled after all")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "name", "shape", "layer"),
    [
        (TimmNet, "resnet18", (3, 32, 32), MapLayer("layer4", 4, 4, "maps")),
        (TimmNet, "tf_efficientnet_lite0", (3, 112, 112), MapLayer("bn2", 4, 4, "maps")),
        (TimmNet, "convnext_atto", (3, 128, 128), MapLayer("norm_pre", 4, 4, "maps")),
        (TimmNet, "vit_tiny_patch16_224", (3, 224, 224), MapLayer("blocks.10", 14, 14, "tokens")),
        (
            TimmNet,
            "deit_tiny_distilled_patch16_224",
            (3, 224, 224),
            MapLayer("blocks.10", 14, 14, "tokens"),
        ),
        (
            TimmNet,
            "swin_tiny_patch4_window7_224",
            (3, 224, 224),
            MapLayer("norm", 7, 7, "places"),
        ),
        (TorchvisionNet, "resnet18", (1, 28, 28), MapLayer("layer4", 4, 4, "maps")),
        (TorchvisionNet, "densenet121", (3, 64, 64), MapLayer("features", 4, 4, "maps")),
        (TorchvisionNet, "googlenet", (3, 128, 128), MapLayer("inception5b", 4, 4, "maps")),
        (TorchvisionNet, "squeezenet1_1", (3, 96, 96), MapLayer("classifier.2", 5, 5, "maps")),
        (TorchvisionNet, "swin_t", (3, 128, 128), MapLayer("permute", 4, 4, "maps")),
        (
            TorchvisionNet,
            "vit_b_16",
            (3, 224, 224),
            MapLayer("encoder.layers.encoder_layer_10", 14, 14, "tokens"),
        ),
    ],
)
def test_the_last_maps_of_other_peoples_networks(
    kind: type[TimmNet], name: str, shape: tuple[int, int, int], layer: MapLayer
) -> None:
    torch.manual_seed(0)
    options = {"pretrained": None, "input_size": None, "stem": "auto", "drop_rate": 0.0}
    network = kind(shape[0], 5, shape[1:], name=name, **options)
    head = network.get_submodule(network.head_prefixes[0].rstrip("."))
    nn.init.normal_(head.weight)  # some start at zero, where no place counts
    assert found(network, *shape) == MapLayer(
        f"backbone.{layer.name}", layer.rows, layer.columns, layer.layout
    )
