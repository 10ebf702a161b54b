"""The depth of parameters in a network, and the freezing of its first stages or of its body."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, cast

from torch import nn

__all__ = ["Freezing", "head_prefixes", "parameter_depths", "unwrapped"]

_CONTAINERS = (nn.Sequential, nn.ModuleList, nn.ModuleDict)


def head_prefixes(network: nn.Module) -> tuple[str, ...]:
    """Return the name prefixes of a network's head; none where it has none, and all is trained."""
    return tuple(cast("Sequence[str]", getattr(network, "head_prefixes", ())))


def parameter_depths(network: nn.Module, *, stages: bool = False) -> dict[str, int]:
    """Return the depth of every parameter, by name: 0 at the input, without gaps.

    timm's networks declare it (`group_matcher`). In others, the members of the network's containers
    are the levels, in the order of the modules; with `stages` a container of plain blocks is one
    level. A module that has only vectors, such as a norm, has the depth of the module before it.

    Args:
        network: timm's and torchvision's may lie within a module that wraps them.
        stages: count stages (the stem, then the groups of blocks) and not single blocks.
    """
    prefix, inner = unwrapped(network)
    if hasattr(inner, "group_matcher"):
        from timm.models import group_parameters

        matcher: Any = inner.group_matcher
        found: dict[str, int] = group_parameters(inner, matcher(coarse=stages), reverse=True)
        return {f"{prefix}{name}": depth for name, depth in found.items()}
    depths = {name: 0 for name, _ in inner.named_parameters(recurse=False)}
    level = -1
    for name, module in _blocks(inner, "", stages):
        if level < 0 or any(parameter.ndim > 1 for parameter in module.parameters()):
            level += 1
        depths |= {f"{name}.{own}": level for own, _ in module.named_parameters()}
    names = {name for name, _ in inner.named_parameters()}  # shared ones have their first name
    return {f"{prefix}{name}": depth for name, depth in depths.items() if name in names}


def unwrapped(network: nn.Module) -> tuple[str, nn.Module]:
    """Return the prefix of the names in the innermost wrapped network, and that network.

    A wrapper has no parameters of its own, and a single module with parameters in it.
    """
    prefix = ""
    while not isinstance(network, _CONTAINERS) and not hasattr(network, "group_matcher"):
        own = [*network.named_parameters(recurse=False)]
        inner = [(n, m) for n, m in network.named_children() if any(True for _ in m.parameters())]
        if own or len(inner) != 1:
            break
        prefix, network = f"{prefix}{inner[0][0]}.", inner[0][1]
    return prefix, network


class Freezing:
    """Excludes parts of a network from training.

    A parameter that asks for no gradient from the beginning is never trained. A module whose
    parameters are all frozen is in eval mode: no dropout, and normalisation by its stored
    statistics.

    Args:
        network: the network to train; stages that are never trained are frozen at once.
        heads: prefixes of the names of the head's parameters.
        stages: number of stages at the input that are never trained; see `parameter_depths`.
        norm: whether batch normalisation outside of the head keeps its statistics.
        head_epochs: epochs at the start that train the head alone.

    Raises:
        ValueError: no stage outside of the head would be left to train.
    """

    def __init__(
        self,
        network: nn.Module,
        heads: Sequence[str],
        *,
        stages: int = 0,
        norm: bool = False,
        head_epochs: int = 0,
    ) -> None:
        self._network = network
        self._heads = tuple(heads)
        self._norm = norm
        self._head_epochs = head_epochs
        depths = parameter_depths(network, stages=True) if stages else {}
        body = {depth for name, depth in depths.items() if not name.startswith(self._heads)}
        if stages and stages >= len(body):
            raise ValueError(
                f"frozen_stages is {stages}, and the network has {len(body)} before its head: "
                f"it must be less (model.freeze_epochs trains the head alone)."
            )
        self._never = {name for name, depth in depths.items() if depth in sorted(body)[:stages]}
        self._never |= {n for n, p in network.named_parameters() if not p.requires_grad}
        self.apply(head_alone=False)

    def set_epoch(self, epoch: int | None) -> None:
        """Set what an epoch (from 0) trains; None for one after all that train the head alone."""
        self.apply(head_alone=epoch is not None and epoch < self._head_epochs)

    def apply(self, *, head_alone: bool) -> None:
        """Set `requires_grad` of every parameter and the mode of every module for training."""
        for name, parameter in self._network.named_parameters():
            still = name in self._never or (head_alone and not name.startswith(self._heads))
            parameter.requires_grad_(not still)
        self._network.train()
        for name, module in self._network.named_modules():
            trained = [parameter.requires_grad for parameter in module.parameters()]
            keeps = self._norm and isinstance(module, nn.modules.batchnorm._BatchNorm)
            if (trained and not any(trained)) or (keeps and not f"{name}.".startswith(self._heads)):
                module.eval()


def _blocks(module: nn.Module, prefix: str, stages: bool) -> Iterator[tuple[str, nn.Module]]:
    """Yield the modules with parameters that make up a network, from its input to its output."""
    for name, child in module.named_children():
        nested = any(isinstance(inner, _CONTAINERS) for inner in child.children())
        if isinstance(child, _CONTAINERS) and (nested or not stages):
            yield from _blocks(child, f"{prefix}{name}.", stages)
        elif any(True for _ in child.parameters()):
            yield f"{prefix}{name}", child
