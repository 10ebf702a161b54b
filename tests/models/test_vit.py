from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from src.models.vit import ViT


def build(image_size: tuple[int, int] = (8, 8), **changes: Any) -> ViT:
    arguments: dict[str, Any] = {
        "patch_size": 2,
        "width": 16,
        "depth": 2,
        "heads": 4,
        "mlp_ratio": 2.0,
        "pooling": "mean",
        "dropout": 0.0,
    }
    return ViT(3, 5, image_size, **{**arguments, **changes}).eval()


def test_attention_is_the_published_formula() -> None:
    attention = build().blocks[0].attention
    tokens = torch.randn(2, 7, 16)
    mixed = torch.zeros(2, 7, 16)
    weight, bias = attention.qkv.weight, attention.qkv.bias
    for head in range(4):
        query, key, value = (
            tokens @ weight[part * 16 + head * 4 :][:4].T + bias[part * 16 + head * 4 :][:4]
            for part in range(3)
        )
        weights = (query @ key.transpose(1, 2) / math.sqrt(4)).exp()
        weights = weights / weights.sum(2, keepdim=True)
        mixed[:, :, head * 4 : head * 4 + 4] = weights @ value
    torch.testing.assert_close(attention(tokens), attention.out(mixed))


def test_places_are_told_apart() -> None:
    network = build((12, 20))
    positions = network.positions[0]
    assert positions.shape == (6 * 10, 16)
    assert torch.cdist(positions, positions).fill_diagonal_(1.0).min() > 0.1
    images = torch.randn(1, 3, 12, 20)
    assert not torch.allclose(network(images), network(images.roll(4, 3)), atol=1e-4)


@given(height=st.integers(8, 40), width=st.integers(8, 40), patch_size=st.integers(1, 8))
def test_any_patch_covers_any_picture(height: int, width: int, patch_size: int) -> None:
    network = build((height, width), patch_size=patch_size, depth=1)
    rows, columns = math.ceil(height / patch_size), math.ceil(width / patch_size)
    assert network.embed(torch.zeros(1, 3, height, width)).shape == (1, 16, rows, columns)
    assert network(torch.zeros(1, 3, height, width)).shape == (1, 5)


def test_the_class_token_is_read_in_its_place() -> None:
    network = build(pooling="token")
    images = torch.randn(2, 3, 8, 8)
    tokens = network.embed(images).flatten(2).transpose(1, 2) + network.positions
    tokens = torch.cat([network.token.expand(2, 1, 16), tokens], 1)
    expected = network.head(network.norm(network.blocks(tokens))[:, 0])
    torch.testing.assert_close(network(images), expected)
    assert build(pooling="mean").token is None


@pytest.mark.parametrize("patch_size", [8, 16])
def test_a_patch_may_have_a_longer_side_than_a_token_has_numbers(patch_size: int) -> None:
    network = build((16, 16), patch_size=patch_size, width=4, heads=1)
    assert network(torch.zeros(1, 3, 16, 16)).shape == (1, 5)


def test_a_perceptron_has_a_unit_at_least() -> None:
    network = build(mlp_ratio=0.01)
    assert all(parameter.numel() for parameter in network.parameters())
