"""What stands still stays bit for bit what it was; what does not is trained."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import timm
import torch
from timm.optim import param_groups_layer_decay
from torch import nn

from src.models.zoo import TimmNet, TorchvisionNet
from src.training.freezing import Freezing, parameter_depths
from tests.models.test_conformance import OWN, build


class Net(nn.Module):
    head_prefixes = ("head.",)

    def __init__(self) -> None:
        super().__init__()
        self.stem = self._stage(1)
        self.middle = self._stage(4)
        self.head = nn.Sequential(nn.Flatten(), nn.BatchNorm1d(64), nn.Linear(64, 3))

    @staticmethod
    def _stage(channels: int) -> nn.Sequential:
        # A bias before the norm would have no gradient but rounding.
        conv = nn.Conv2d(channels, 4, 3, bias=False)
        return nn.Sequential(conv, nn.BatchNorm2d(4), nn.Dropout(0.5))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.head(self.middle(self.stem(images)))
        return logits


def changed(network: Net, act: Callable[[], None]) -> set[str]:
    """Names of the parameters and buffers that `act` and three steps of training change."""
    act()
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
    for _ in range(3):
        loss = nn.functional.cross_entropy(network(torch.randn(8, 1, 8, 8)), torch.arange(8) % 3)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return {n for n, t in network.state_dict().items() if not torch.equal(t, before[n])}


def modules_of(names: set[str]) -> set[str]:
    return {name.rpartition(".")[0] for name in names}


@pytest.fixture
def network() -> Net:
    torch.manual_seed(0)
    return Net()


def test_nothing_is_frozen_unless_asked(network: Net) -> None:
    freezing = Freezing(network, network.head_prefixes)
    trained = changed(network, lambda: freezing.apply(head_alone=False))
    assert trained == set(network.state_dict())


def test_what_asks_for_no_gradient_is_never_trained(network: Net) -> None:
    network.middle[1].weight.requires_grad_(False)
    freezing = Freezing(network, network.head_prefixes)
    for alone in (True, False):
        trained = changed(network, lambda alone=alone: freezing.apply(head_alone=alone))
    assert trained == set(network.state_dict()) - {"middle.1.weight"}


def test_the_head_alone_is_trained_and_then_everything(network: Net) -> None:
    freezing = Freezing(network, network.head_prefixes, head_epochs=2)
    first = changed(network, lambda: freezing.set_epoch(1))
    assert modules_of(first) == {"head.1", "head.2"}
    assert not network.stem[2].training and network.head[1].training
    for later in (2, None):  # None for an epoch after all of these
        freezing.set_epoch(0)
        then = changed(network, lambda later=later: freezing.set_epoch(later))
        assert then == set(network.state_dict()) and network.stem[1].training


def test_frozen_stages_stay_whatever_else_thaws(network: Net) -> None:
    freezing = Freezing(network, network.head_prefixes, stages=1)
    for alone in (True, False):
        trained = changed(network, lambda alone=alone: freezing.apply(head_alone=alone))
        assert not any(name.startswith("stem.") for name in trained)
    assert modules_of(trained) == {"middle.0", "middle.1", "head.1", "head.2"}
    assert not network.stem[2].training and network.middle[2].training


def test_norms_keep_their_statistics_but_not_their_weights(network: Net) -> None:
    freezing = Freezing(network, network.head_prefixes, norm=True)
    trained = changed(network, lambda: freezing.apply(head_alone=False))
    kept = set(network.state_dict()) - trained
    statistics = ("running_mean", "running_var", "num_batches_tracked")
    assert kept == {f"{m}.1.{s}" for m in ("stem", "middle") for s in statistics}


def test_a_network_with_nothing_left_to_train_is_refused(network: Net) -> None:
    with pytest.raises(ValueError, match="frozen_stages is 2"):
        Freezing(network, network.head_prefixes, stages=2)


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
