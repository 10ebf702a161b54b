from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F

from src.models.mlp import MLP


def parameters(network: nn.Module) -> int:
    return sum(p.numel() for p in network.parameters())


def test_a_known_network_has_its_known_size() -> None:
    network = MLP(1, 10, (28, 28), hidden=[64, 128, 64], batch_norm=True, dropout=0.0)
    assert parameters(network) == 67_978


def test_without_hidden_layers_it_is_logistic_regression() -> None:
    network = MLP(3, 4, (5, 7), hidden=[], batch_norm=True, dropout=0.5)
    images = torch.randn(2, 3, 5, 7)
    expected = F.linear(images.reshape(2, -1), network.head.weight, network.head.bias)
    torch.testing.assert_close(network(images), expected)
    assert parameters(network) == 3 * 5 * 7 * 4 + 4


def test_batch_norm_can_be_left_out() -> None:
    network = MLP(1, 2, (4, 4), hidden=[8], batch_norm=False, dropout=0.0)
    assert not any(isinstance(m, nn.BatchNorm1d) for m in network.modules())
    assert parameters(network) == 16 * 8 + 8 + 8 * 2 + 2
