"""Which parameters share a rate and a decay, and in which order."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from src.training.optimizers import parameter_groups


class Small(nn.Module):
    """One parameter of every kind the groups tell apart."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, 8, 3, padding=1)
        self.norm = nn.BatchNorm2d(8)
        self.conv = nn.Conv2d(8, 8, 3, padding=1, bias=False)
        self.square = nn.LayerNorm([8, 8])
        self.cls_token = nn.Parameter(torch.zeros(1, 1, 8))
        self.pos_embed = nn.Parameter(0.1 * torch.randn(1, 65, 8))
        self.kinds = nn.Embedding(2, 8)
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)
        self.rnn = nn.LSTM(8, 8, batch_first=True)
        self.mixing = nn.Parameter(torch.eye(8))
        self.scale = nn.Parameter(torch.ones(8, 1, 1))
        self.head = nn.Linear(8, 3)

    def forward(self, images: Tensor) -> Tensor:
        x = self.square(self.conv(self.norm(self.stem(images)).relu())) * self.scale
        x = x.flatten(2).mT @ self.mixing + self.kinds(torch.zeros(1, dtype=torch.long))
        x = torch.cat([self.cls_token.expand(len(x), -1, -1), x], dim=1) + self.pos_embed
        x = x + self.attention(x, x, x, need_weights=False)[0]
        logits: Tensor = self.head(self.rnn(x)[0].mean(dim=1))
        return logits


def groups_of(network: nn.Module, **changes: Any) -> list[dict[str, Any]]:
    arguments = {"lr": 0.01, "weight_decay": 0.1, "head_prefixes": ["head."]} | changes
    return parameter_groups(network, **arguments)


def names_by_group(network: nn.Module, **changes: Any) -> dict[str, set[str]]:
    names = {id(p): name for name, p in network.named_parameters()}
    return {g["name"]: {names[id(p)] for p in g["params"]} for g in groups_of(network, **changes)}


def test_groups_tell_matrices_from_vectors() -> None:
    names = names_by_group(network := Small())
    assert names["backbone.matrices"] == {
        "stem.weight",
        "conv.weight",
        "attention.in_proj_weight",
        "attention.out_proj.weight",
        "rnn.weight_ih_l0",
        "rnn.weight_hh_l0",
        "mixing",
    }
    assert names["head.matrices"] == {"head.weight"}
    assert names["head.vectors"] == {"head.bias"}
    every = {name for name, _ in network.named_parameters()}
    assert set().union(*names.values()) == every
    assert sum(map(len, names.values())) == len(every)


def test_groups_carry_rate_and_decay_with_the_head_last() -> None:
    groups = groups_of(Small(), lr=0.5, weight_decay=0.25, backbone_lr_scale=0.1)
    assert [(g["name"], g["lr"], g["weight_decay"]) for g in groups] == [
        ("backbone.matrices", 0.05, 0.25),
        ("backbone.vectors", 0.05, 0.0),
        ("head.matrices", 0.5, 0.25),
        ("head.vectors", 0.5, 0.0),
    ]


def test_rates_fall_from_layer_to_layer_towards_the_input() -> None:
    network = nn.Sequential(nn.Linear(4, 4), nn.LayerNorm(4), nn.Linear(4, 4), nn.Linear(4, 2))
    groups = groups_of(
        network, lr=1.0, backbone_lr_scale=0.5, layer_decay=0.1, head_prefixes=["3."]
    )
    assert [(g["name"], g["lr"], len(g["params"])) for g in groups] == [
        ("backbone.0.matrices", pytest.approx(0.5 * 0.1**2), 1),
        ("backbone.0.vectors", pytest.approx(0.5 * 0.1**2), 3),
        ("backbone.1.matrices", pytest.approx(0.5 * 0.1), 1),
        ("backbone.1.vectors", pytest.approx(0.5 * 0.1), 1),
        ("head.matrices", 1.0, 1),
        ("head.vectors", 1.0, 1),
    ]


def test_a_head_prefix_ends_at_a_dot() -> None:
    network = nn.ModuleDict({"head": nn.Linear(4, 2), "header": nn.Linear(4, 4)})
    names = names_by_group(network, head_prefixes=["head"])
    assert names["head.matrices"] == {"head.weight"}
    assert names["backbone.matrices"] == {"header.weight"}


def test_a_head_that_is_not_there_is_refused() -> None:
    with pytest.raises(ValueError, match="fc"):
        groups_of(Small(), head_prefixes=["head", "fc"])


def test_shared_and_frozen_parameters_are_taken_once() -> None:
    first, second = nn.Linear(4, 4), nn.Linear(4, 4)
    second.weight = first.weight
    first.requires_grad_(False)
    network = nn.Sequential(first, second)
    groups = groups_of(network, head_prefixes=[])
    assert sum(len(g["params"]) for g in groups) == 3


def test_what_a_network_declares_does_not_decay() -> None:
    class Declaring(nn.Linear):
        def no_weight_decay(self) -> set[str]:
            return {"weight"}

    network = nn.Sequential(nn.Linear(4, 4), Declaring(4, 4))
    assert names_by_group(network, head_prefixes=[])["backbone.matrices"] == {"0.weight"}


@pytest.mark.parametrize("name", ["vit_b_16", "swin_t", "convnext_tiny"])
def test_tables_of_torchvision_networks_do_not_decay(name: str) -> None:
    import torchvision

    with torch.device("meta"):
        network = getattr(torchvision.models, name)(weights=None)
    decaying = names_by_group(network, head_prefixes=[])["backbone.matrices"]
    rest = {n for n, _ in network.named_parameters()} - decaying
    tables = ("class_token", "pos_embedding", "relative_position_bias_table", "layer_scale")
    assert not [n for n in decaying if n.endswith(tables)]
    assert all(n.endswith((*tables, ".bias", "_bias")) or ".weight" in n for n in rest)
    assert all(dict(network.named_parameters())[n].ndim >= 2 for n in decaying)
