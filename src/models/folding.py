"""Batch normalisation folded into the convolutions before it, for networks that only predict."""

from __future__ import annotations

import copy
from collections import Counter
from contextlib import ExitStack
from functools import partial

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
        rest = _what_follows(batch_norm)
        assert isinstance(layer, nn.Conv2d) and isinstance(batch_norm, nn.BatchNorm2d) and rest
        folded.set_submodule(convolution, fuse_conv_bn_eval(layer, batch_norm))
        folded.set_submodule(norm, rest)
    with torch.inference_mode():
        right, found = network(images), folded(images)
    alike = torch.allclose(found, right, rtol=0.0, atol=_TOLERANCE * float(right.abs().max()))
    return folded if alike else network


def _pairs(network: nn.Module, images: Tensor) -> list[tuple[str, str]]:
    """Return each convolution and the normalisation that takes its output, each used once."""
    made_by: dict[int, tuple[str, Tensor]] = {}
    pairs: list[tuple[str, str]] = []
    uses: Counter[str] = Counter()

    def note(name: str, module: nn.Module, taken: tuple[Tensor, ...], output: Tensor) -> None:
        uses[name] += 1
        if isinstance(module, nn.Conv2d):
            made_by[id(output)] = name, output  # kept, or another tensor may get its id
        elif taken and id(taken[0]) in made_by:  # one that is given by name is not looked for
            pairs.append((made_by[id(taken[0])][0], name))

    with ExitStack() as hooks, torch.inference_mode():
        for name, module in network.named_modules():
            if isinstance(module, nn.Conv2d) or _what_follows(module) is not None:
                hooks.enter_context(module.register_forward_hook(partial(note, name)))
        network(images)
    return [pair for pair in pairs if all(uses[name] == 1 for name in pair)]


def _what_follows(norm: nn.Module) -> nn.Module | None:
    """Return what a layer does beside normalising; None for one that is no known normalisation."""
    if getattr(norm, "running_mean", None) is None:  # it normalises by the batch in eval mode too
        return None
    if type(norm) is nn.BatchNorm2d:
        return nn.Identity()
    if type(norm).__name__ == "BatchNormAct2d":  # of timm: dropout and activation within
        return nn.Sequential(norm.drop, norm.act)  # type: ignore[arg-type]
    return None
