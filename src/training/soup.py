"""The mean of several networks' weights, as one network."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import update_bn

__all__ = ["mean_of_weights", "renew_batch_statistics"]


def mean_of_weights(states: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """A state dict, each floating point tensor the mean of theirs, any other that of the first.

    Raises:
        ValueError: no states, or some with other names or shapes than the first.
    """
    if not states:
        raise ValueError("There are no weights to average.")
    first = states[0]
    shapes = {name: tensor.shape for name, tensor in first.items()}
    for state in states[1:]:
        if {name: tensor.shape for name, tensor in state.items()} != shapes:
            raise ValueError("The networks have tensors of other names or shapes.")
    return {
        name: torch.stack([state[name].double() for state in states]).mean(dim=0).to(tensor.dtype)
        if tensor.is_floating_point()
        else tensor.clone()
        for name, tensor in first.items()
    }


def renew_batch_statistics(network: nn.Module, batches: Iterable[Tensor], seed: int = 0) -> None:
    """Measure means and variances of batch norms anew: a mean of weights makes other activations.

    As for averages along one training: Izmailov et al., "Averaging Weights Leads to Wider Optima
    and Better Generalization", UAI 2018. A network without batch norm is left as it is.

    Args:
        network: its mode stays as it was.
        batches: of training pictures, normalised, on the network's device.
        seed: of the dropout meanwhile.
    """
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        update_bn(batches, network)
