"""The last values inside a network that still have places in the picture."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.graph import GradientEdge, get_gradient_edge
from torch.func import functional_call

__all__ = ["MapLayer", "find_map_layer", "output_replaced", "run_plainly"]

# A map of fewer places along its shorter side shows little; networks for pictures of 32 pixels end
# with 4x4.
_ENOUGH_PLACES = 4
# The sides of a map shrink alike; rounding may make up to this of a difference, as a logarithm.
_TOLERANCE = math.log(2.0)
# By how much closer the other order of dimensions must come to that before it is believed.
_SURPRISE = math.log(1.5)


@dataclass(frozen=True)
class MapLayer:
    """A layer whose output holds a vector for each place of the picture.

    Attributes:
        name: of the layer in its network.
        rows, columns: how many places.
        layout: of the output: "maps" (B, D, h, w), "places" (B, h, w, D), or "tokens" (B, T, D),
            the last h * w of which are places, line by line, after class tokens and registers.
    """

    name: str
    rows: int
    columns: int
    layout: str

    def as_maps(self, output: Tensor) -> Tensor:
        """The layer's output as (B, D, h, w)."""
        if self.layout == "maps":
            return output
        if self.layout == "places":
            return output.permute(0, 3, 1, 2)
        places = output[:, -self.rows * self.columns :].transpose(1, 2)
        return places.unflatten(2, (self.rows, self.columns))


@dataclass(frozen=True)
class _Output:
    """What a layer gave for one picture: its shape, and where it stands in torch's graph."""

    name: str
    shape: torch.Size
    edge: GradientEdge


def find_map_layer(network: nn.Module, image: Tensor) -> MapLayer | None:
    """The last layer that holds all a network knows of the picture, place by place.

    All means that there is no way from the picture to the logits around the layer's output, and
    that they depend on several of its places. The output of a residual block is such a layer; those
    of the branches inside are none, and neither are the tokens of a last block from which a class
    token alone is read. Of several the last with at least 4 places a side is taken, else the
    finest. It is found in the graph of one picture's way through the network.

    Args:
        network: in evaluation mode, pictures (B, C, H, W) to logits (B, K).
        image: a normalised picture (1, C, H, W) of the size it was trained for.

    Returns:
        The layer, or None where there is none: in a network that flattens its pictures, or reads
        them as a sequence.
    """
    picture = image.detach().clone().requires_grad_()
    with torch.enable_grad():
        outputs, logits = _watched(network, picture)
    size = (image.shape[-2], image.shape[-1])
    found: MapLayer | None = None
    for layer, output in reversed(list(_with_places(outputs, size))):
        if found and layer.rows * layer.columns <= found.rows * found.columns:
            continue
        if _leads_around(get_gradient_edge(logits), output.edge, get_gradient_edge(picture)):
            continue
        (gradient,) = torch.autograd.grad(logits.sum(), output.edge, retain_graph=True)
        if int(layer.as_maps(gradient).any(dim=1).sum()) <= 1:
            continue
        found = layer
        if min(layer.rows, layer.columns) >= _ENOUGH_PLACES:
            break
    return found


def _watched(network: nn.Module, picture: Tensor) -> tuple[list[_Output], Tensor]:
    """What each layer gave, in the order in which they ended, and the logits."""
    outputs: list[_Output] = []

    def watching(name: str) -> Callable[..., None]:
        def note(layer: nn.Module, inputs: object, output: object) -> None:
            if isinstance(output, Tensor) and output.requires_grad:
                outputs.append(_Output(name, output.shape, get_gradient_edge(output)))

        return note

    hooks = [m.register_forward_hook(watching(n)) for n, m in network.named_modules() if n]
    try:
        logits = run_plainly(network, picture)
    finally:
        for hook in hooks:
            hook.remove()
    called = [output.name for output in outputs]
    return [output for output in outputs if called.count(output.name) == 1], logits


def _with_places(
    outputs: list[_Output], size: tuple[int, int]
) -> Iterator[tuple[MapLayer, _Output]]:
    """Those outputs that may have a vector for each place of a picture (H, W)."""
    grid: tuple[int, int] | None = None
    for output in outputs:
        shape = tuple(output.shape)
        # Tokens keep the order of the map that they were made of.
        if len(shape) == 3 and grid and math.prod(grid) <= shape[1] < 2 * math.prod(grid):
            yield MapLayer(output.name, *grid, "tokens"), output
        elif len(shape) == 4:
            maps, places = _apart(shape[2:], size), _apart(shape[1:3], size)
            layout = "places" if places + _SURPRISE < maps else "maps"
            sides = shape[1:3] if layout == "places" else shape[2:]
            if math.prod(sides) > 1 and _apart(sides, size) <= _TOLERANCE:
                grid = (sides[0], sides[1])
                yield MapLayer(output.name, *grid, layout), output


def _apart(sides: Sequence[int], size: Sequence[int]) -> float:
    """How differently the two sides of a picture have shrunk: 0, or the logarithm of how much."""
    return abs(math.log(sides[0] * size[1] / (sides[1] * size[0])))


def _leads_around(start: GradientEdge, obstacle: GradientEdge, goal: GradientEdge) -> bool:
    """Whether torch's graph leads back from one value to another without passing a third."""
    closed = (obstacle.node, obstacle.output_nr)
    ways: list[tuple[Any, int]] = [(start.node, start.output_nr)]
    seen = {ways[0]}
    while ways:
        way = ways.pop()
        if way == closed:
            continue
        if way[0] == goal.node:
            return True
        further = [(n, i) for n, i in way[0].next_functions if n is not None and (n, i) not in seen]
        seen.update(further)
        ways += further
    return False


@contextmanager
def output_replaced(
    network: nn.Module, name: str, replace: Callable[[Tensor], Tensor]
) -> Iterator[None]:
    """The network goes on with what `replace` makes of the output of its layer `name`."""
    hook = network.get_submodule(name).register_forward_hook(
        lambda layer, inputs, output: replace(output)
    )
    try:
        yield
    finally:
        hook.remove()


def run_plainly(network: nn.Module, images: Tensor) -> Tensor:
    """Logits as the network gives them, without gradients of its parameters.

    A compiled network goes layer by layer, as it would not notice hooks. cuDNN goes back through
    recurrent layers in training only: a network that has some does without it.
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
        logits: Tensor = self.network.forward(images)
        return logits
