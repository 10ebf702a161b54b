"""A moving average of a network's weights, as a network of its own."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn

__all__ = ["WeightAverage"]

# How much of the training an average spans while it warms up: about the last 1/9 of the steps so
# far, so early weights are forgotten even in a training of a hundred steps.
_WARMUP = 9


class WeightAverage(nn.Module):
    """Exponential moving average of weights and buffers (Polyak & Juditsky 1992).

    Update number n = 0, 1, ... uses the decay min(decay, n / (n + 9)): the first one copies, so
    initial weights leave no trace and no bias is to be corrected; then the window grows with the
    training (polynomial-decay averaging, Shamir & Zhang 2013) until `decay` bounds it. Floating
    point buffers, such as batch statistics, are averaged alike; others are copied.

    Attributes:
        network: the averaged network, in its own memory and without gradients.

    Args:
        network: what is averaged; its structure and values are copied.
        decay: share of the average kept in each update, in [0, 1).

    Raises:
        ValueError: decay out of its range.
    """

    def __init__(self, network: nn.Module, decay: float) -> None:
        super().__init__()
        if not 0 <= decay < 1:
            raise ValueError(f"decay is {decay}: it must be in [0, 1).")
        self.network = copy.deepcopy(network).requires_grad_(False).eval()
        self.decay = decay
        self.updates = 0

    @property
    def next_decay(self) -> float:
        """The decay that the next update uses."""
        return min(self.decay, self.updates / (self.updates + _WARMUP))

    @torch.no_grad()
    def update(self, network: nn.Module) -> None:
        """Take in the current weights and buffers of `network`, once after each optimizer step."""
        floats, others = _by_kind(self.network)
        new_floats, new_others = _by_kind(network)
        torch._foreach_lerp_(floats, new_floats, 1 - self.next_decay)
        if others:
            torch._foreach_copy_(others, new_others)
        self.updates += 1

    def get_extra_state(self) -> int:
        """The number of updates, which the state dict carries beside the averaged network."""
        return self.updates

    def set_extra_state(self, state: Any) -> None:
        """Take back what `get_extra_state` gave."""
        self.updates = int(state)


def _by_kind(network: nn.Module) -> tuple[list[Tensor], list[Tensor]]:
    """Weights and buffers: floating point ones, others."""
    kinds: tuple[list[Tensor], list[Tensor]] = ([], [])
    for tensor in (*network.parameters(), *network.buffers()):
        kinds[0 if tensor.is_floating_point() else 1].append(tensor)
    return kinds
