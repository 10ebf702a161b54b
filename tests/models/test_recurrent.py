from __future__ import annotations

import warnings
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from src.models.recurrent import RecurrentNet, recurrent_layers

STEPS: dict[str, type[nn.RNNCellBase]] = {
    "rnn": nn.RNNCell,
    "lstm": nn.LSTMCell,
    "gru": nn.GRUCell,
}


def build(image_size: tuple[int, int] = (6, 9), **changes: Any) -> RecurrentNet:
    arguments: dict[str, Any] = {
        "cell": "lstm",
        "reading": "rows",
        "step_size": None,
        "hidden_size": 5,
        "layers": 1,
        "bidirectional": False,
        "pooling": "last",
        "dropout": 0.0,
    }
    return RecurrentNet(2, 3, image_size, **{**arguments, **changes}).eval()


def states_step_by_step(network: RecurrentNet, cell: str, steps: list[Tensor]) -> list[Tensor]:
    """The states of a network of one layer and direction, from torch's single-step cells."""
    one = STEPS[cell](steps[0].shape[1], 5)
    one.load_state_dict(
        {name.removesuffix("_l0"): p for name, p in network.recurrence.state_dict().items()}
    )
    state: Any = None
    states = []
    for step in steps:
        state = one(step, state)
        states.append(state[0] if cell == "lstm" else state)
    return states


@pytest.mark.parametrize("cell", ["rnn", "lstm", "gru"])
@pytest.mark.parametrize("reading", ["rows", "columns", "patches"])
def test_the_picture_is_read_step_by_step(cell: str, reading: str) -> None:
    images = torch.randn(4, 2, 6, 9)
    step_size = 3 if reading == "patches" else None
    steps = {
        "rows": [images[:, :, i].flatten(1) for i in range(6)],
        "columns": [images[:, :, :, j].flatten(1) for j in range(9)],
        "patches": [
            images[:, :, i : i + 3, j : j + 3].flatten(1) for i in (0, 3) for j in (0, 3, 6)
        ],
    }[reading]
    for pooling in ("last", "mean"):
        network = build(cell=cell, reading=reading, step_size=step_size, pooling=pooling)
        states = states_step_by_step(network, cell, steps)
        features = states[-1] if pooling == "last" else torch.stack(states).mean(0)
        torch.testing.assert_close(network(images), network.head(features))


def test_both_directions_are_two_networks_that_read_towards_each_other() -> None:
    both = build(bidirectional=True)
    weights = both.recurrence.state_dict()
    forward, backward = build(), build()
    forward.recurrence.load_state_dict(
        {name: p for name, p in weights.items() if "reverse" not in name}
    )
    backward.recurrence.load_state_dict(
        {name.removesuffix("_reverse"): p for name, p in weights.items() if "reverse" in name}
    )
    images = torch.randn(4, 2, 6, 9)
    forward.head = backward.head = nn.Identity()
    features = torch.cat([forward(images), backward(images.flip(2))], 1)
    torch.testing.assert_close(both(images), both.head(features))


def test_a_step_can_cover_several_rows() -> None:
    network = build(step_size=4)  # six rows: the second step is padded
    assert network.recurrence.input_size == 2 * 4 * 9
    padded = torch.zeros(1, 2, 8, 9)
    images = torch.randn(1, 2, 6, 9)
    padded[:, :, :6] = images
    torch.testing.assert_close(network(images), network(padded))


def test_recurrent_weights_start_orthogonal_and_forget_gates_open() -> None:
    lstm = recurrent_layers("lstm", 3, 4)
    for gate in lstm.weight_hh_l0.split(4):
        torch.testing.assert_close(gate @ gate.T, torch.eye(4))
    assert lstm.bias_ih_l0.tolist() == [0.0] * 4 + [1.0] * 4 + [0.0] * 8


class Rates(TorchFunctionMode):
    """Keeps the dropout that torch's recurrent layers are asked for."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[float] = []

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if func.__name__ in ("rnn_tanh", "lstm", "gru"):
            self.found.append(kwargs["dropout"] if kwargs else args[5])
        return func(*args, **kwargs)


@pytest.mark.parametrize("cell", ["rnn", "lstm", "gru"])
@pytest.mark.parametrize("bidirectional", [False, True])
def test_dropout_between_layers_is_that_of_torch_and_drawn_by_the_seeded_generator(
    cell: str, bidirectional: bool
) -> None:
    """Recurrent layers of a GPU would draw by a generator of cuDNN's, which no seed reaches."""
    network = build(cell=cell, layers=3, bidirectional=bidirectional, dropout=0.4).train()
    stack = network.recurrence
    theirs = type(stack)(
        *(stack.input_size, stack.hidden_size, 3), batch_first=True, bidirectional=bidirectional
    )
    theirs.load_state_dict(stack.state_dict())
    theirs.dropout = 0.4
    network.head = nn.Identity()
    images = torch.randn(4, 2, 6, 9)
    torch.manual_seed(0)
    with Rates() as rates:
        found = network(images)
    assert rates.found == [0.0, 0.0, 0.0]
    torch.manual_seed(0)
    _, final = theirs(images.transpose(1, 2).flatten(2))
    hidden = final[0] if isinstance(final, tuple) else final
    expected = hidden[-2 if bidirectional else -1 :].transpose(0, 1).flatten(1)
    assert torch.equal(found, nn.functional.dropout(expected, 0.4))


def test_frozen_layers_have_no_dropout_between_them() -> None:
    network = build(layers=2, dropout=0.4).train()
    network.recurrence.eval()  # as `Freezing` does
    images = torch.randn(4, 2, 6, 9)
    torch.manual_seed(0)
    found = network(images)
    torch.manual_seed(0)
    _, (hidden, _) = network.recurrence(images.transpose(1, 2).flatten(2))
    assert torch.equal(found, network.head(network.dropout(hidden[-1])))


def test_one_layer_with_dropout_does_not_warn() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        build(dropout=0.5)
