"""Averages of weights: along one training (EMA), and over several trained networks (a soup).

`AveragedModel` of `torch.optim.swa_utils` is not used: its state dict has other names than the
checkpoints that users have, and a counter on the device would cost a synchronisation per step.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn, update_bn

__all__ = ["WeightAverage", "mean_of_weights", "renew_batch_statistics"]

# While the average warms up it spans about the last 1/9 of the steps so far, so early weights are
# forgotten even in a training of a hundred steps.
_WARMUP = 9


class WeightAverage(nn.Module):
    """Exponential moving average of weights and buffers (Polyak & Juditsky 1992).

    Update number n = 0, 1, ... uses the decay min(decay, n / (n + 9)): the first one copies, so
    initial weights have no influence and no bias needs correction; then the window grows with the
    training (polynomial-decay averaging, Shamir & Zhang 2013) until `decay` bounds it. Floating
    point buffers, such as batch statistics, are averaged alike; others are copied.

    Attributes:
        network: the averaged network, in its own memory and without gradients.

    Args:
        network: the network to average; its structure and values are copied.
        decay: share of the average kept in each update, in [0, 1).
    """

    def __init__(self, network: nn.Module, decay: float) -> None:
        super().__init__()
        self.network = copy.deepcopy(network).requires_grad_(False).eval()
        self.decay = decay
        self.updates = 0

    @torch.no_grad()
    def update(self, network: nn.Module) -> None:
        """Add the current weights and buffers of `network`; call once after an optimizer step."""
        floats, others = _by_kind(self.network)
        new_floats, new_others = _by_kind(network)
        decay = min(self.decay, self.updates / (self.updates + _WARMUP))
        get_ema_multi_avg_fn(decay)(floats, new_floats, self.updates)
        for tensor, new in zip(others, new_others, strict=True):
            tensor.copy_(new)
        self.updates += 1

    def get_extra_state(self) -> int:
        return self.updates

    def set_extra_state(self, state: Any) -> None:
        self.updates = int(state)


def mean_of_weights(states: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """Return the mean of several state dicts; tensors of whole numbers are those of the first.

    Raises:
        ValueError: some states have other names or shapes than the first.
    """
    first, *others = states
    shapes = {name: tensor.shape for name, tensor in first.items()}
    for state in others:
        if {name: tensor.shape for name, tensor in state.items()} != shapes:
            raise ValueError("The networks have tensors of other names or shapes.")
    return {
        name: torch.stack([state[name].double() for state in states]).mean(dim=0).to(tensor.dtype)
        if tensor.is_floating_point()
        else tensor.clone()
        for name, tensor in first.items()
    }


def renew_batch_statistics(network: nn.Module, batches: Iterable[Tensor], seed: int = 0) -> None:
    """Measure means and variances of batch norms anew, as averaged weights need.

    Izmailov et al., "Averaging Weights Leads to Wider Optima and Better Generalization", UAI 2018.
    The network keeps its training mode. `batches` are of training pictures, normalised, on its
    device; `seed` is that of dropout.
    """
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        update_bn(batches, network)


def _by_kind(network: nn.Module) -> tuple[list[Tensor], list[Tensor]]:
    """Return weights and buffers: those of floating point, and the others."""
    kinds: tuple[list[Tensor], list[Tensor]] = ([], [])
    for tensor in (*network.parameters(), *network.buffers()):
        kinds[0 if tensor.is_floating_point() else 1].append(tensor)
    return kinds
