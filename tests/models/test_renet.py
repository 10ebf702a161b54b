from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from src.models.renet import ReNet


def sweep(cell: type[nn.RNNCellBase], weights: nn.RNNBase, line: list[Tensor]) -> list[Tensor]:
    """States of both directions along a line of (B, F) steps, one step at a time."""
    hidden = weights.hidden_size
    directions = []
    for suffix, steps in (("_l0", line), ("_l0_reverse", line[::-1])):
        one = cell(weights.input_size, hidden)
        one.load_state_dict(
            {
                name.removesuffix(suffix): p
                for name, p in weights.state_dict().items()
                if name.endswith(suffix)
            }
        )
        state: Any = None
        states = []
        for step in steps:
            state = one(step, state)
            states.append(state[0] if isinstance(state, tuple) else state)
        directions.append(states if suffix == "_l0" else states[::-1])
    return [torch.cat(pair, 1) for pair in zip(*directions, strict=True)]


@pytest.mark.parametrize(
    ("name", "cell"), [("rnn", nn.RNNCell), ("lstm", nn.LSTMCell), ("gru", nn.GRUCell)]
)
def test_it_does_what_the_paper_says(name: str, cell: type[nn.RNNCellBase]) -> None:
    network = ReNet(2, 3, (6, 8), cell=name, patch_sizes=[2, 1], hidden_size=4, dropout=0.0)
    images = torch.randn(2, 2, 6, 8)
    grid = [
        [images[:, :, i : i + 2, j : j + 2].flatten(1) for j in range(0, 8, 2)]
        for i in range(0, 6, 2)
    ]
    for layer in network.layers:
        columns = [sweep(cell, layer.vertical, [grid[i][j] for i in range(3)]) for j in range(4)]
        rows = [[columns[j][i] for j in range(4)] for i in range(3)]
        grid = [sweep(cell, layer.horizontal, row) for row in rows]
    features = torch.stack([place for row in grid for place in row]).mean(0)
    torch.testing.assert_close(network(images), network.head(features))
