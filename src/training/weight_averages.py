"""Averages of weights: along one training (EMA), and over several trained networks (a soup).

`AveragedModel` of `torch.optim.swa_utils` is not used: its state dict has other names than the
checkpoints that users have, and a counter on the device would cost a synchronisation per step.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping, Sequence
from itertools import compress
from operator import not_
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.optim.swa_utils import get_ema_multi_avg_fn

__all__ = ["WeightAverage", "mean_of_weights", "renew_batch_statistics"]

# While the average warms up it spans about the last 1/9 of the steps so far, so early weights are
# forgotten even in a training of a hundred steps.
_WARMUP = 9


class WeightAverage(nn.Module):
    """Exponential moving average of weights and buffers (Polyak & Juditsky 1992).

    Update number n = 0, 1, ... uses the decay min(decay, n / (n + 9)): the first one copies, so
    initial weights have no influence and no bias needs correction; then the window grows with the
    training (polynomial-decay averaging, Shamir & Zhang 2013) until `decay` bounds it. Floating
    point buffers, such as batch statistics, are averaged alike; others are copied, and so are
    those that begin with infinite entries, such as masks.

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
        self._averaged = [_is_averaged(tensor) for tensor in _tensors(_places(self.network))]
        self._copied = [*map(not_, self._averaged)]
        self.locate(network)

    def locate(self, network: nn.Module) -> None:
        """Find the tensors of `network` anew; needed where modules within it were replaced.

        Moving its tensors or loading others into it needs no call.
        """
        # In a tuple, since the network that is averaged is no module of the average.
        self._of = (network,)
        self._places, self._sources = _places(self.network), _places(network)

    @torch.no_grad()
    def update(self, network: nn.Module) -> None:
        """Add the current weights and buffers of `network`; call once after an optimizer step."""
        if network is not self._of[0]:
            self.locate(network)
        pairs = [*zip(_tensors(self._places), _tensors(self._sources), strict=True)]
        decay = min(self.decay, self.updates / (self.updates + _WARMUP))
        averaged = zip(*compress(pairs, self._averaged))
        get_ema_multi_avg_fn(decay)(*map(list, averaged), self.updates)
        if any(self._copied):
            copies, originals = map(list, zip(*compress(pairs, self._copied)))
            torch._foreach_copy_(copies, originals)
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


def renew_batch_statistics(network: nn.Module, batches: Iterable[Tensor]) -> None:
    """Measure means and variances of batch norms anew, as averaged weights need.

    Izmailov et al., "Averaging Weights Leads to Wider Optima and Better Generalization", UAI 2018.
    Those in eval mode are left alone: what was trained with given statistics needs them.

    Args:
        network: in the modes of its training, which it keeps.
        batches: of training pictures, normalised, on the network's device.
    """
    norms = [m for m in network.modules() if isinstance(m, _BatchNorm) and m.training]
    momenta = [norm.momentum for norm in norms]
    if not norms:
        return
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # the mean of all batches
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(0)  # of dropout
        for images in batches:
            network(images)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum


def _is_averaged(tensor: Tensor) -> bool:
    """Return whether a weight or buffer has a mean; a mask of infinite entries has none."""
    return tensor.is_floating_point() and bool(tensor.isfinite().all())


def _places(network: nn.Module) -> list[tuple[dict[str, Any], str]]:
    """Return where the parameters, then the buffers of a network are kept, each tensor once.

    To look at all modules takes longer than to average their tensors.
    """
    places: list[tuple[dict[str, Any], str]] = []
    for kind, named in (
        ("_parameters", network.named_parameters()),
        ("_buffers", network.named_buffers()),
    ):
        for name, _ in named:
            owner, _, own = name.rpartition(".")
            places.append((vars(network.get_submodule(owner))[kind], own))
    return places


def _tensors(places: Iterable[tuple[dict[str, Any], str]]) -> list[Tensor]:
    return [owner[name] for owner, name in places]
