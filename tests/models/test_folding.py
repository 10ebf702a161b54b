"""Folded networks against the same ones unfolded."""

from __future__ import annotations

import pytest
import timm
import torch
from torch import nn
from torchvision import models

from src.models.folding import fold_batch_norms


def used(network: nn.Module, size: int = 64) -> tuple[nn.Module, torch.Tensor]:
    """The network in eval mode with statistics that are not those of a fresh one."""
    torch.manual_seed(0)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.2)
            module.running_var.uniform_(0.5, 2.0)
    return network.eval(), torch.randn(2, 3, size, size)


def norms(network: nn.Module) -> int:
    return sum(isinstance(m, nn.BatchNorm2d) for m in network.modules())


@pytest.mark.parametrize(
    "make",
    [
        lambda: timm.create_model("tf_efficientnet_lite0", num_classes=5),
        lambda: timm.create_model("resnet18", num_classes=5),
        lambda: models.resnet18(num_classes=5),
    ],
)
def test_a_folded_network_answers_as_before_and_has_no_norms_left(make) -> None:
    network, images = used(make())
    before = norms(network)
    folded = fold_batch_norms(network, images)
    assert before > 0 and norms(folded) == 0
    assert norms(network) == before
    with torch.inference_mode():
        other = torch.randn(3, 3, 64, 64)
        torch.testing.assert_close(folded(other), network(other), rtol=1e-3, atol=1e-3)


class Forked(nn.Module):
    """The convolution's own output is used beside the normalised one."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(3, 4, 3)
        self.norm = nn.BatchNorm2d(4)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        found = self.convolution(images)
        return self.norm(found) + found


class Shared(nn.Module):
    """One convolution in two places, each with a norm of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(3, 3, 3, padding=1)
        self.first, self.second = nn.BatchNorm2d(3), nn.BatchNorm2d(3)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.second(self.convolution(self.first(self.convolution(images))))


@pytest.mark.parametrize("make", [Forked, Shared])
def test_what_cannot_be_folded_stays_as_it_is(make) -> None:
    network, images = used(make(), 16)
    folded = fold_batch_norms(network, images)
    with torch.inference_mode():
        torch.testing.assert_close(folded(images), network(images))
    assert norms(folded) == norms(network)


def test_a_network_without_norms_is_returned_itself() -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU()).eval()
    assert fold_batch_norms(network, torch.randn(1, 3, 8, 8)) is network


class ByBatch(nn.Module):
    """A norm without statistics of its own, and one that is called with names."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 3)
        self.by_batch, self.named = nn.BatchNorm2d(4, track_running_stats=False), nn.BatchNorm2d(4)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.named(input=self.second(self.by_batch(self.first(images))))


def test_norms_by_the_batch_stay_as_they_are() -> None:
    torch.manual_seed(0)
    network, images = ByBatch().eval(), torch.randn(4, 3, 16, 16)
    assert fold_batch_norms(network, images) is network
