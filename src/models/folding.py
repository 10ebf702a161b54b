"""Batch normalisation folded into the convolutions before it, for networks that only predict."""

from __future__ import annotations

import copy
from collections import Counter

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

__all__ = ["fold_batch_norms"]

# Of the largest output: what rounding in another order may change.
_TOLERANCE = 1e-3


def fold_batch_norms(network: nn.Module, images: Tensor) -> nn.Module:
    """Return a copy of a network in eval mode whose convolutions normalise by themselves.

    A convolution and the batch normalisation that its output goes into become one convolution
    (Jacob et al. 2018, section 3.2), which spares a pass over the activations. Which belong
    together is seen in one forward pass, so any network will do. Where the copy would answer
    otherwise, because an output goes elsewhere too, the network itself is returned.

    Args:
        network: in eval mode; it is not changed.
        images: (B, C, H, W), an example on the network's device.
    """
    pairs = _pairs(network, images)
    if not pairs:
        return network
    folded = copy.deepcopy(network)
    for convolution, norm in pairs:
        layer, batch_norm = folded.get_submodule(convolution), folded.get_submodule(norm)
        assert isinstance(layer, nn.Conv2d) and isinstance(batch_norm, nn.BatchNorm2d)
        _replace(folded, convolution, fuse_conv_bn_eval(layer, batch_norm))
        _replace(folded, norm, _what_follows(batch_norm))
    with torch.inference_mode():
        right, found = network(images), folded(images)
    alike = torch.allclose(found, right, rtol=0.0, atol=_TOLERANCE * float(right.abs().max()))
    return folded if alike else network


def _pairs(network: nn.Module, images: Tensor) -> list[tuple[str, str]]:
    """Names of each convolution and of the normalisation that takes its output, each used once."""
    made_by: dict[int, tuple[str, Tensor]] = {}
    pairs: list[tuple[str, str]] = []
    uses: Counter[str] = Counter()
    hooks = []

    def note_output(name: str, output: Tensor) -> None:
        uses[name] += 1
        made_by[id(output)] = name, output  # kept, or another tensor may get its id

    def note_input(name: str, taken: Tensor) -> None:
        uses[name] += 1
        if id(taken) in made_by:
            pairs.append((made_by[id(taken)][0], name))

    for name, module in network.named_modules():
        if isinstance(module, nn.Conv2d):
            hooks.append(
                module.register_forward_hook(
                    lambda _, taken, output, name=name: note_output(name, output)
                )
            )
        elif isinstance(module, nn.BatchNorm2d) and _what_follows(module) is not None:
            hooks.append(
                module.register_forward_pre_hook(
                    lambda _, taken, name=name: note_input(name, taken[0])
                )
            )
    try:
        with torch.inference_mode():
            network(images)
    finally:
        for hook in hooks:
            hook.remove()
    return [pair for pair in pairs if all(uses[name] == 1 for name in pair)]


def _what_follows(norm: nn.Module) -> nn.Module | None:
    """What a normalisation layer does beside normalising; None for a kind that is not known."""
    if type(norm) is nn.BatchNorm2d:
        return nn.Identity()
    if type(norm).__name__ == "BatchNormAct2d":  # of timm: dropout and activation within
        return nn.Sequential(norm.drop, norm.act)  # type: ignore[arg-type]
    return None


def _replace(network: nn.Module, name: str, module: nn.Module | None) -> None:
    owner, _, leaf = name.rpartition(".")
    setattr(network.get_submodule(owner), leaf, module)
