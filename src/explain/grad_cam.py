"""Grad-CAM: which places of a picture increase the score of a class.

It weights the last feature maps of a network, the values inside it that still belong to places.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.autograd.graph import GradientEdge, get_gradient_edge
from torch.func import functional_call
from torch.nn import functional as F

__all__ = ["LOOKED_AT", "MapLayer", "find_map_layer", "grad_cam", "weighted_maps"]

LOOKED_AT = "What the network looked at: brighter speaks more for the class"  # title of maps
# Side of the smallest map to prefer; networks for pictures of 32 pixels end with 4x4.
_ENOUGH_PLACES = 4
# Both sides of a map shrink alike; largest difference by rounding, as a logarithm.
_TOLERANCE = math.log(2.0)
# By how much smaller that difference must be before channels are taken to be the last dimension.
_MARGIN = math.log(1.5)


@dataclass(frozen=True)
class MapLayer:
    """A layer whose output has a vector for each of rows x columns places of the picture.

    Attributes:
        name: of the layer in its network.
        layout: of the output: "maps" (B, D, h, w), "places" (B, h, w, D), or "tokens" (B, T, D),
            the last h * w of which are places, line by line, after class tokens and registers.
    """

    name: str
    rows: int
    columns: int
    layout: str

    def as_maps(self, output: Tensor) -> Tensor:
        """Return the layer's output as (B, D, h, w)."""
        if self.layout == "maps":
            return output
        if self.layout == "places":
            return output.permute(0, 3, 1, 2)
        places = output[:, -self.rows * self.columns :].transpose(1, 2)
        return places.unflatten(2, (self.rows, self.columns))


class _Output(NamedTuple):
    """The output of a layer for one picture: its shape, and its edge in torch's graph."""

    name: str
    shape: torch.Size
    edge: GradientEdge


def find_map_layer(network: nn.Module, image: Tensor) -> MapLayer | None:
    """Return the last layer with all information about the picture, place by place.

    All means that no path of the graph leads from the picture to the logits around the layer's
    output, and that they depend on several of its places. A residual block is such a layer; the
    branches inside are none, and neither is a last block from which a class token alone is read. Of
    several the last with at least 4 places a side is taken, else the finest. It is found in the
    graph of one forward pass.

    Args:
        network: in evaluation mode, pictures (B, C, H, W) to logits (B, K).
        image: a normalised picture (1, C, H, W) of the size it was trained for.

    Returns:
        None in a network that flattens its pictures, or reads them as a sequence.
    """
    picture = image.detach().clone().requires_grad_()
    with torch.enable_grad():
        outputs, logits = _traced(network, picture)
    size = (image.shape[-2], image.shape[-1])
    found: MapLayer | None = None
    for layer, output in reversed(list(_with_places(outputs, size))):
        if found and layer.rows * layer.columns <= found.rows * found.columns:
            continue
        if _leads_around(get_gradient_edge(logits), output.edge, get_gradient_edge(picture)):
            continue
        # Squares, since the sum of scores that are differences to their mean has no gradient.
        squares = logits.square().sum()
        (gradient,) = torch.autograd.grad(squares, output.edge, retain_graph=True)
        if int(layer.as_maps(gradient).any(dim=1).sum()) <= 1:
            continue
        found = layer
        if min(layer.rows, layer.columns) >= _ENOUGH_PLACES:
            break
    return found


def grad_cam(network: nn.Module, layer: MapLayer, images: Tensor, classes: Tensor) -> Tensor:
    """Compute gradient-weighted class activation maps (Selvaraju et al. 2017, arXiv:1610.02391).

    Where a network averages its last maps and classifies the averages by a linear layer, these are
    the class activation maps of Zhou et al. (2016, arXiv:1512.04150), cut off below zero.

    Args:
        network: in evaluation mode, pictures to logits (B, K).
        layer: of `find_map_layer`.
        images: normalised pictures (B, C, H, W).
        classes: (B, M) int64 in [0, K), of each picture.

    Returns:
        (B, M, H, W) float32 in [0, 1], each map in units of its maximum; all zero where no place
        increases the score.
    """
    kept: list[Tensor] = []

    def cut(_: nn.Module, __: object, output: Tensor) -> Tensor:
        # The layers before need no graph, and the maps no copy.
        kept.append(output.detach().requires_grad_())
        return kept[-1]

    with torch.enable_grad(), network.get_submodule(layer.name).register_forward_hook(cut):
        scores = _run_plainly(network, images).gather(1, classes)
        maps = [
            weighted_maps(
                layer.as_maps(kept[0].detach()),
                layer.as_maps(torch.autograd.grad(score.sum(), kept[0], retain_graph=True)[0]),
            )
            for score in scores.unbind(1)
        ]
    stacked = torch.stack(maps, dim=1).float()
    # The maximum before resizing, which interpolates between the places of a coarse map.
    highest = stacked.amax((2, 3), keepdim=True)
    relative = stacked / highest.clamp_min(torch.finfo(torch.float32).tiny)
    return F.interpolate(relative, images.shape[-2:], mode="bilinear")


def weighted_maps(maps: Tensor, gradients: Tensor) -> Tensor:
    """Return (B, h, w), at least 0: maps (B, D, h, w) weighted by their mean gradients, summed."""
    return (gradients.mean((2, 3), keepdim=True) * maps).sum(1).relu()


def _traced(network: nn.Module, picture: Tensor) -> tuple[list[_Output], Tensor]:
    """Return the output of each layer, in the order of completion, and the logits."""
    outputs: list[_Output] = []

    def note(name: str, layer: nn.Module, inputs: object, output: object) -> None:
        if isinstance(output, Tensor) and output.requires_grad:
            outputs.append(_Output(name, output.shape, get_gradient_edge(output)))

    with ExitStack() as hooks:
        for name, module in network.named_modules():
            hooks.enter_context(module.register_forward_hook(partial(note, name)))
        logits = _run_plainly(network, picture)
    called = [output.name for output in outputs]
    return [output for output in outputs if called.count(output.name) == 1], logits


def _with_places(
    outputs: list[_Output], size: tuple[int, int]
) -> Iterator[tuple[MapLayer, _Output]]:
    """Yield the outputs that may have a vector for each place of a picture (H, W)."""
    grid: tuple[int, int] | None = None
    for output in outputs:
        shape = tuple(output.shape)
        # Tokens keep the order of the map that they were made of.
        if len(shape) == 3 and grid and math.prod(grid) <= shape[1] < 2 * math.prod(grid):
            yield MapLayer(output.name, *grid, "tokens"), output
        elif len(shape) == 4:
            maps, places = _distortion(shape[2:], size), _distortion(shape[1:3], size)
            layout = "places" if places + _MARGIN < maps else "maps"
            sides = shape[1:3] if layout == "places" else shape[2:]
            if math.prod(sides) > 1 and _distortion(sides, size) <= _TOLERANCE:
                grid = (sides[0], sides[1])
                yield MapLayer(output.name, *grid, layout), output


def _distortion(sides: Sequence[int], size: Sequence[int]) -> float:
    """Return how differently the two sides of a picture have shrunk, as a logarithm, at least 0."""
    return abs(math.log(sides[0] * size[1] / (sides[1] * size[0])))


def _leads_around(start: GradientEdge, obstacle: GradientEdge, goal: GradientEdge) -> bool:
    """Return whether torch's graph leads from one value back to another around a third."""
    closed = (obstacle.node, obstacle.output_nr)
    edges: list[tuple[Any, int]] = [(start.node, start.output_nr)]
    seen = {edges[0]}
    while edges:
        edge = edges.pop()
        if edge == closed:
            continue
        if edge[0] == goal.node:
            return True
        further = {(n, i) for n, i in edge[0].next_functions if n is not None} - seen
        seen |= further
        edges += further
    return False


def _run_plainly(network: nn.Module, images: Tensor) -> Tensor:
    """Return the network's logits, without gradients of its parameters.

    A compiled network runs layer by layer, as compiled code ignores hooks. cuDNN computes gradients
    of recurrent layers in training mode only, so a network with some runs without it.
    """
    plain = _Plain(network)
    parameters = {name: tensor.detach() for name, tensor in plain.named_parameters()}
    recurrent = any(isinstance(module, nn.RNNBase) for module in network.modules())
    with torch.backends.cudnn.flags(enabled=torch.backends.cudnn.enabled and not recurrent):
        logits: Tensor = functional_call(plain, parameters, (images,))
    return logits


class _Plain(nn.Module):
    """Calls a network's `forward` past what its `compile` put before it."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Tensor:
        return self.network.forward(images)
