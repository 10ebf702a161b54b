"""Adapt networks for large pictures so that small ones are not reduced to a point at once."""

from __future__ import annotations

from contextlib import ExitStack
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor, nn

__all__ = ["keep_detail", "takes_pictures"]

# Published networks end with 7x7 maps; networks for 32x32 pictures with 4x4. Finer maps than that
# cost time by their square.
_SMALLEST_LAST_MAP = 4


class _Reduction(NamedTuple):
    """A layer that makes maps smaller, and the sizes (height, width) that it took and gave."""

    name: str
    layer: nn.Module
    before: torch.Size
    after: torch.Size


def takes_pictures(
    network: nn.Module, in_channels: int, num_classes: int, image_size: tuple[int, int]
) -> bool:
    """Return whether the network turns a picture of this size into K logits."""
    try:
        logits = _forward(network, in_channels, image_size)
    except Exception:  # libraries refuse a size with any kind of error
        return False
    return tuple(logits.shape) == (1, num_classes)


def keep_detail(network: nn.Module, in_channels: int, image_size: tuple[int, int]) -> None:
    """Undo the earliest reductions, in place, until the last map has 4 pixels on its shorter side.

    A strided convolution gets half its stride, a strided pooling goes; layers that run side by
    side (a block and its shortcut) are changed together. For a ResNet and 32x32 pictures that is
    the usual recipe: a first convolution of stride 1 and no max-pooling (He et al. 2016, section
    4.2). Parameters keep their shapes. A network whose first convolution has stride 1 was not made
    for large pictures and stays as it is.
    """
    first = next((m for m in network.modules() if isinstance(m, nn.Conv2d)), None)
    if first is None or max(first.stride) == 1:
        return
    while True:
        reductions, passed = _trace(network, in_channels, image_size)
        if not reductions:
            return
        if passed and min(min(r.after) for r in reductions) >= _SMALLEST_LAST_MAP:
            return
        level = (reductions[0].before, reductions[0].after)
        for reduction in reductions:
            if (reduction.before, reduction.after) == level:
                _undo(network, reduction)


def _trace(
    network: nn.Module, in_channels: int, image_size: tuple[int, int]
) -> tuple[list[_Reduction], bool]:
    """Return the reductions in the order they run, and whether the picture came through."""
    reductions: list[_Reduction] = []

    def note(name: str, layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        before, after = inputs[0].shape[-2:], output.shape[-2:]
        if after != before:
            reductions.append(_Reduction(name, layer, before, after))

    with ExitStack() as hooks:
        for name, layer in network.named_modules():
            if _stride(layer) > 1:
                hooks.enter_context(layer.register_forward_hook(partial(note, name)))
        try:
            _forward(network, in_channels, image_size)
        except Exception:  # libraries refuse a size with any kind of error
            return reductions, False
    return reductions, True


def _undo(network: nn.Module, reduction: _Reduction) -> None:
    layer = reduction.layer
    if not isinstance(layer, nn.Conv2d):
        network.set_submodule(reduction.name, nn.Identity())
        return
    stride = max(layer.stride) // 2
    layer.stride = (stride, stride)
    # Pad so that a side shrinks by the stride alone, also where the kernel was not padded before;
    # an even kernel at stride 1 gains a pixel.
    reach = [dilation * (size - 1) for dilation, size in zip(layer.dilation, layer.kernel_size)]
    layer.padding = tuple((r + 2 - stride) // 2 for r in reach)


def _stride(layer: nn.Module) -> int:
    if isinstance(layer, nn.Conv2d | nn.MaxPool2d | nn.AvgPool2d):
        stride = layer.stride
        return max(stride) if isinstance(stride, tuple) else int(stride)
    return 1


def _forward(network: nn.Module, in_channels: int, image_size: tuple[int, int]) -> Tensor:
    """Run one black picture through the network, which stays as it was."""
    was_training = network.training
    image = torch.zeros(1, in_channels, *image_size, device=next(network.parameters()).device)
    try:
        with torch.no_grad():
            logits: Tensor = network.eval()(image)
    finally:
        network.train(was_training)
    return logits
