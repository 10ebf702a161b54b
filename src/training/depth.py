"""How deep in a network each parameter lies, for rates and freezing that go by depth."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from torch import nn

__all__ = ["parameter_depths", "unwrapped"]

_CONTAINERS = (nn.Sequential, nn.ModuleList, nn.ModuleDict)


def parameter_depths(network: nn.Module, *, stages: bool = False) -> dict[str, int]:
    """Return the depth of every parameter, by name: 0 at the input, without gaps.

    timm's networks say it themselves (`group_matcher`). In others, what the network's containers
    hold are the levels, in the order of the modules; with `stages` a container of plain blocks is
    one level. A module that has only vectors, such as a norm, lies as deep as what stands before.

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
    names = {name for name, _ in inner.named_parameters()}  # shared ones bear their first name
    return {f"{prefix}{name}": depth for name, depth in depths.items() if name in names}


def unwrapped(network: nn.Module) -> tuple[str, nn.Module]:
    """Return the network without wrappers around it, and what its names then begin with.

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


def _blocks(module: nn.Module, prefix: str, stages: bool) -> Iterator[tuple[str, nn.Module]]:
    """The modules with parameters that make up a network, from its input to its output."""
    for name, child in module.named_children():
        nested = any(isinstance(inner, _CONTAINERS) for inner in child.children())
        if isinstance(child, _CONTAINERS) and (nested or not stages):
            yield from _blocks(child, f"{prefix}{name}.", stages)
        elif any(True for _ in child.parameters()):
            yield f"{prefix}{name}", child
