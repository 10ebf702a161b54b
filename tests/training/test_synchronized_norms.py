"""Synchronised norms answer as the network did; that they share statistics needs several GPUs."""

from __future__ import annotations

from pathlib import Path

import pytest
import pytorch_lightning as pl
import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from src.models.zoo import TimmNet
from src.training.freezing import Freezing
from src.training.frozen_front import _frozen_modules, _rest_of
from src.training.synchronized_norms import SynchronizedNorms


def norms(network: nn.Module) -> list[_BatchNorm]:
    return [module for module in network.modules() if isinstance(module, _BatchNorm)]


@pytest.mark.parametrize("name", ["tf_efficientnet_lite0", "mobilenetv3_small_050", "resnet18"])
@torch.no_grad()
def test_activations_stay_and_come_back(name: str) -> None:
    torch.manual_seed(0)
    network = TimmNet(
        *(3, 5, (32, 32)), name=name, pretrained=None, input_size=32, stem="keep", drop_rate=0.0
    )
    for _ in range(3):  # statistics that a norm without its tensors would not have
        network(torch.randn(4, 3, 32, 32))
    images, before = torch.randn(2, 3, 32, 32), [*network.eval().modules()]
    logits, names = network(images), [*network.state_dict()]
    plugin = SynchronizedNorms()

    assert plugin.apply(network) is network
    assert all(isinstance(norm, nn.SyncBatchNorm) for norm in norms(network))
    assert [*network.state_dict()] == names
    torch.testing.assert_close(network(images), logits, rtol=0, atol=0)

    for norm in norms(network):  # as a training that moves to a device does it
        norm.running_mean = norm.running_mean.clone().add_(1)  # type: ignore[union-attr]
    trained = network(images)
    assert not torch.equal(trained, logits)
    plugin.revert(network)
    assert [*network.modules()] == before
    torch.testing.assert_close(network(images), trained, rtol=0, atol=0)


class Flat(nn.Module):
    head_prefixes = ("head.",)

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.middle = nn.Conv2d(1, 4, 3), nn.Conv2d(4, 4, 3)
        self.norm = nn.BatchNorm2d(4)
        self.head = nn.Linear(4, 3)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = self.head(self.norm(self.middle(self.stem(images))).mean((2, 3)))
        return found


def test_the_rest_of_a_stored_front_has_them_too() -> None:
    network = Flat()
    Freezing(network, network.head_prefixes, stages=1)
    assert _frozen_modules(network) == ["stem"]
    rest = _rest_of(network, "stem")
    SynchronizedNorms().apply(network.eval())
    activations = network.stem(torch.randn(2, 1, 8, 8))
    rest(activations)
    assert [*map(type, norms(rest))] == [nn.SyncBatchNorm]


def test_lightning_takes_them(tmp_path: Path) -> None:
    plugin = SynchronizedNorms()
    trainer = pl.Trainer(
        accelerator="cpu",
        devices=2,
        strategy="ddp",
        plugins=[plugin],
        logger=False,
        default_root_dir=tmp_path,
    )
    assert trainer.strategy._layer_sync is plugin  # type: ignore[attr-defined]
