"""Which parts of a network stand still in a training, and for how long."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from torch import nn

from src.training.depth import parameter_depths

__all__ = ["Freezing", "evaluating"]


@contextmanager
def evaluating(network: nn.Module) -> Iterator[None]:
    """Put a network into eval mode, and then every module back into its own mode."""
    modes = [(module, module.training) for module in network.modules()]
    network.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training


class Freezing:
    """Keeps parts of a network from being trained.

    A module whose parameters are all frozen works as in evaluation: no dropout, and normalisation
    by its stored statistics.

    Args:
        network: what is trained; its parameters are frozen at once where they are for good.
        heads: prefixes of the names of the head's parameters.
        stages: at the input side, that are never trained; see `parameter_depths`.
        norm: whether batch normalisation outside of the head keeps its statistics.

    Raises:
        ValueError: no stage outside of the head would be left to train.
    """

    def __init__(
        self, network: nn.Module, heads: Sequence[str], *, stages: int = 0, norm: bool = False
    ) -> None:
        self._network = network
        self._heads = tuple(heads)
        self._norm = norm
        depths = parameter_depths(network, stages=True) if stages else {}
        body = {depth for name, depth in depths.items() if not name.startswith(self._heads)}
        if stages and stages >= len(body):
            raise ValueError(
                f"frozen_stages is {stages}, and the network has {len(body)} before its head: "
                f"it must be less (model.freeze_epochs trains the head alone)."
            )
        self._never = {name for name, depth in depths.items() if depth in sorted(body)[:stages]}
        self.apply(head_alone=False)

    def apply(self, *, head_alone: bool) -> None:
        """Set what is trained from here on, and the mode of every module, as in a training.

        Args:
            head_alone: train nothing but the head.
        """
        frozen = set()
        for name, parameter in self._network.named_parameters():
            still = name in self._never or (head_alone and not name.startswith(self._heads))
            parameter.requires_grad_(not still)
            if still:
                frozen.add(name)
        self._network.train()
        for name, module in self._network.named_modules():
            within = f"{name}." if name else ""
            inner = [f"{within}{own}" for own, _ in module.named_parameters()]
            keeps = self._norm and isinstance(module, nn.modules.batchnorm._BatchNorm)
            if (inner and frozen.issuperset(inner)) or (
                keeps and not within.startswith(self._heads)
            ):
                module.eval()
