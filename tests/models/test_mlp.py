from __future__ import annotations

import subprocess
import sys

import pytest
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


_HALF = """
import subprocess
import sys

import pytest
import torch
from src.models.mlp import MLP

network = MLP(3, 2, (128, 128), hidden={hidden}, batch_norm=False, dropout=0.0)
images = torch.randn(32, 3, 128, 128)
with torch.autocast("cpu", torch.bfloat16):
    logits = network(images)
    logits.square().mean().backward()
    torch.testing.assert_close(logits[:5], network(images[:5]), rtol=0.05, atol=0.05)
"""


@pytest.mark.parametrize("hidden", ["[8]", "[]"])
def test_no_number_of_pixels_ends_the_process(hidden: str) -> None:
    # Where the library divides by zero, no Python is left to report it.
    code = _HALF.format(hidden=hidden)
    command = [sys.executable, "-c", code]
    ended = subprocess.run(command, check=False, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
