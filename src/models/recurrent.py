"""Recurrent networks that read a picture as a sequence: strips of rows or columns, or patches."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor, nn

from .patches import default_patch_size, to_patches

__all__ = ["RecurrentNet", "recurrent_layers"]

_CELLS: dict[str, Callable[..., nn.RNNBase]] = {"rnn": nn.RNN, "lstm": nn.LSTM, "gru": nn.GRU}
# By `RNNBase.mode`: one call of (input, first states, weights, ...), on a GPU of cuDNN.
_CALLS: dict[str, Callable[..., tuple[Tensor, ...]]] = {
    "RNN_TANH": torch.rnn_tanh,
    "LSTM": torch.lstm,
    "GRU": torch.gru,
}

# Of layers that cuDNN is given one by one: it copies their weights into one buffer first.
warnings.filterwarnings("ignore", message="RNN module weights are not part of single contiguous")


class RecurrentNet(nn.Module):
    """A picture of one size as a sequence of T steps, read by an Elman RNN, an LSTM or a GRU.

    Args:
        cell: 'rnn' (tanh), 'lstm' (Hochreiter & Schmidhuber 1997) or 'gru' (arXiv:1406.1078).
        reading: 'rows' from top to bottom, 'columns' from left to right, or square 'patches' line
            by line.
        step_size: rows, columns or side of a patch that one time step covers; None for one row or
            column, or patches such that there are at most 64.
        hidden_size: units of a layer and direction.
        layers: stacked recurrent layers.
        bidirectional: read the sequence backwards as well.
        pooling: classify the 'last' state (of both directions) or the 'mean' over the T states.
        dropout: probability between layers and before the classifier, in [0, 1).
    """

    head_prefixes = ("head.",)

    def __init__(
        self,
        in_channels: int,
        num_classes: int,
        image_size: tuple[int, int],
        *,
        cell: str,
        reading: str,
        step_size: int | None,
        hidden_size: int,
        layers: int,
        bidirectional: bool,
        pooling: Literal["last", "mean"],
        dropout: float,
    ) -> None:
        super().__init__()
        side = step_size or (default_patch_size(image_size) if reading == "patches" else 1)
        height, width = image_size
        shapes = {"rows": (side, width), "columns": (height, side), "patches": (side, side)}
        self.patch = shapes[reading]
        self.pooling = pooling
        self.recurrence = recurrent_layers(
            cell,
            in_channels * math.prod(self.patch),
            hidden_size,
            layers=layers,
            bidirectional=bidirectional,
        )
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(hidden_size * (2 if bidirectional else 1), num_classes)

    def forward(self, images: Tensor) -> Tensor:
        """Normalised pictures (B, C, H, W) to logits (B, K)."""
        steps = to_patches(images, self.patch).flatten(1, 2)
        states, last = self._read(steps)
        if self.pooling == "mean":
            features = states.mean(1)
        else:
            features = last.transpose(0, 1).flatten(1)
        return self.head(self.dropout(features))

    def _read(self, steps: Tensor) -> tuple[Tensor, Tensor]:
        """Return the last layer's states of steps (B, T, D), and its final ones.

        Returns:
            (B, T, directions * hidden_size), and (directions, B, hidden_size).
        """
        stack = self.recurrence
        directions = 2 if stack.bidirectional else 1
        if not stack.training or not self.dropout.p or stack.num_layers == 1:
            states, final = stack(steps)
            hidden = final[0] if isinstance(final, tuple) else final
            return states, hidden[-directions:]  # those of the last layer come last
        # cuDNN's own dropout has a generator that is never seeded again (PyTorch's issue 104697).
        first = steps.new_zeros(directions, len(steps), stack.hidden_size)
        weights = [*stack.parameters()]  # of each layer and direction two matrices and two biases
        count = 4 * directions
        for layer in range(stack.num_layers):
            states, hidden, *_ = _CALLS[stack.mode](
                self.dropout(states) if layer else steps,
                (first, first) if stack.mode == "LSTM" else first,
                weights[layer * count :][:count],
                has_biases=True,
                num_layers=1,
                dropout=0.0,
                train=True,
                bidirectional=stack.bidirectional,
                batch_first=True,
            )
        return states, hidden


def recurrent_layers(
    cell: str,
    input_size: int,
    hidden_size: int,
    *,
    layers: int = 1,
    bidirectional: bool = True,
) -> nn.RNNBase:
    """Recurrent layers from (B, T, input_size) to (B, T, directions * hidden_size).

    Recurrent weights start orthogonal (arXiv:1312.6120), the forget gates of an LSTM open
    (Jozefowicz et al. 2015): gradients then survive the length of a picture.
    """
    recurrence = _CELLS[cell](
        input_size,
        hidden_size,
        num_layers=layers,
        batch_first=True,
        bidirectional=bidirectional,
    )
    with torch.no_grad():
        for name, parameter in recurrence.named_parameters():
            if name.startswith("bias"):
                parameter.zero_()
                if cell == "lstm" and name.startswith("bias_ih"):
                    # Gates are stacked as input, forget, cell, output.
                    parameter[hidden_size : 2 * hidden_size] = 1.0
                continue
            start = nn.init.orthogonal_ if name.startswith("weight_hh") else nn.init.xavier_uniform_
            for gate in parameter.split(hidden_size):
                start(gate)
    return recurrence
