"""Depths against timm's own grouping, and against the order in which modules are run."""

from __future__ import annotations

import pytest
import timm
import torch
from timm.optim import param_groups_layer_decay
from torch import nn

from src.models.zoo import TimmNet, TorchvisionNet
from src.training.depth import parameter_depths
from tests.models.test_conformance import OWN, build


def zoo(library: type[TimmNet] | type[TorchvisionNet], name: str) -> nn.Module:
    settings = {"pretrained": None, "input_size": None, "stem": "keep", "drop_rate": 0.0}
    return library(3, 5, (32, 32), name=name, **settings)


@pytest.mark.parametrize("name", ["tf_efficientnet_lite0", "test_vit", "resnet18"])
def test_timm_networks_are_as_deep_as_timm_says(name: str) -> None:
    network = timm.create_model(name, num_classes=5)
    mine = parameter_depths(network)
    # Where each level has a factor of its own, the factor tells the level.
    theirs = {
        id(parameter): group["lr_scale"]
        for group in param_groups_layer_decay(network, layer_decay=0.5)
        for parameter in group["params"]
    }
    deepest = max(mine.values())
    for parameter_name, parameter in network.named_parameters():
        assert theirs[id(parameter)] == 0.5 ** (deepest - mine[parameter_name])


def test_a_wrapped_network_is_as_deep_as_its_own() -> None:
    network = zoo(TimmNet, "tf_efficientnet_lite0")
    inner = parameter_depths(network.backbone, stages=True)  # type: ignore[arg-type]
    assert parameter_depths(network, stages=True) == {f"backbone.{k}": v for k, v in inner.items()}
    assert sorted(set(inner.values())) == list(range(9))


@pytest.mark.parametrize("stages", [False, True])
@pytest.mark.parametrize("model", OWN)
def test_depth_rises_from_the_input_to_the_head(model: str, stages: bool) -> None:
    network = build(model, (3, 32, 32), 5)
    depths = parameter_depths(network, stages=stages)
    assert set(depths) == {name for name, _ in network.named_parameters()}
    assert sorted(set(depths.values())) == list(range(max(depths.values()) + 1))
    heads = {d for n, d in depths.items() if n.startswith(tuple(network.head_prefixes))}  # type: ignore[arg-type]
    assert heads == {max(depths.values())}
    assert sum(d == max(depths.values()) for d in depths.values()) < len(depths)


@pytest.mark.parametrize(
    ("name", "prefix", "depth"),
    [
        ("resnet18", "backbone.bn1.", 0),
        ("resnet18", "backbone.layer1.", 1),
        ("resnet18", "backbone.layer4.", 4),
        ("resnet18", "backbone.fc.", 5),
        ("efficientnet_b0", "backbone.features.0.", 0),
        ("efficientnet_b0", "backbone.features.7.", 7),
    ],
)
def test_torchvision_networks_have_the_stages_of_their_papers(
    name: str, prefix: str, depth: int
) -> None:
    depths = parameter_depths(zoo(TorchvisionNet, name), stages=True)
    assert {d for n, d in depths.items() if n.startswith(prefix)} == {depth}


def test_shared_parameters_lie_where_they_are_first() -> None:
    first, second = nn.Linear(4, 4), nn.Linear(4, 4)
    second.weight = first.weight
    depths = parameter_depths(nn.Sequential(first, nn.LayerNorm(4), second))
    assert depths == {"0.weight": 0, "0.bias": 0, "1.weight": 0, "1.bias": 0, "2.bias": 1}
    assert torch.equal(first.weight, second.weight)
