"""The network that settings describe, and the check of one that a plugin brings."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from ...config.checks import ConfigError, input_of, own_fields
from ...config.models import EncoderSettings, NetworkSettings, SegmentationSettings, ZooSettings
from ...config.plugins import fault_text
from ...config.schema import RunSettings
from ...machine.imports import import_object, is_foreign
from ...models.pretrained import load_weights
from ...targets import kind_of

__all__ = [
    "NetworkShape",
    "build_network",
    "check_network",
    "network_arguments",
    "network_of",
    "rebuild_arguments",
    "rebuild_network",
]

# A plugin's network is tried on pictures of this size, and for so many classes, before the data
# set is opened.
_SIDE = 32
_CLASSES = 5
_SHAPE = "Network(in_channels, num_classes, image_size, *, ...)"


@dataclass(frozen=True)
class NetworkShape:
    """The pictures that a network takes, and the logits that it answers with.

    Attributes:
        channels: C of the pictures.
        classes: K of the logits.
        image_size: height and width in pixels.
        target: what a picture is labelled with, see `src.targets`.
    """

    channels: int
    classes: int
    image_size: tuple[int, int]
    target: str = "single"


def network_of(settings: RunSettings) -> NetworkSettings:
    """Return the settings of the run's network.

    Raises:
        TypeError: the run's model is none.
    """
    if not isinstance(settings.model, NetworkSettings):
        raise TypeError(f"{settings.model.name} is no network")
    return settings.model


def network_arguments(model: NetworkSettings) -> dict[str, Any]:
    """Return what the network is made with, beside the pictures that it is for."""
    arguments = own_fields(model, NetworkSettings)
    if isinstance(model, ZooSettings | SegmentationSettings):
        arguments["name"] = model.name
    # These find published weights themselves.
    if isinstance(model, ZooSettings | SegmentationSettings | EncoderSettings):
        arguments["pretrained"] = model.pretrained
    return arguments


def rebuild_arguments(model: NetworkSettings, network: nn.Module) -> dict[str, Any]:
    """Return what makes a network that `build_network` made once more, for weights at hand.

    Published weights, which are not looked for then, may have chosen the size of its pictures.
    """
    arguments = network_arguments(model.without_weights())
    if isinstance(model, ZooSettings) and model.pretrained and model.input_size is None:
        size: tuple[int, int] | None = network.input_size  # type: ignore[assignment]
        arguments["input_size"] = None if size is None else size[0]
    return arguments


def build_network(model: NetworkSettings, shape: NetworkShape) -> nn.Module:
    """Return the network for pictures and targets of a shape, with the weights that it starts from.

    Raises:
        ConfigError: it cannot be made for these pictures, or its weights not be found.
    """
    if is_foreign(model._target_):
        _check(model, shape)
    with input_of("model"):
        network = _made(model, shape, network_arguments(model))
        loaded = load_weights(network, model.pretrained, head=model.head_start == "fitted")
        if loaded is not None:
            fresh = f", {', '.join(loaded.fresh)} start afresh" if loaded.fresh else ""
            print(f"model: {loaded.used} tensors from {model.pretrained}{fresh}")
        return network


def rebuild_network(
    model: NetworkSettings,
    arguments: Mapping[str, Any],
    shape: NetworkShape,
) -> nn.Module:
    """Return the network of a checkpoint, which brings the weights: none are looked for.

    Args:
        model: of the checkpoint's settings, with the arguments that its network did not know yet.
        arguments: as `rebuild_arguments` returned them when it was built.
        shape: as of `build_network`.
    """
    return _made(model, shape, {**network_arguments(model.without_weights()), **arguments})


def _made(model: NetworkSettings, shape: NetworkShape, arguments: Mapping[str, Any]) -> nn.Module:
    make = import_object(model.network_class(shape.target))
    network: nn.Module = make(shape.channels, shape.classes, shape.image_size, **arguments)
    return network


def check_network(settings: RunSettings) -> None:
    """Build the network of a plugin and try it on two blank pictures; those of the project pass.

    What the settings leave open of the pictures is replaced by 3 channels and 32x32 pixels.

    Raises:
        ConfigError: names the file, the class, and all that it lacks.
    """
    model, data = settings.model, settings.data
    if not isinstance(model, NetworkSettings) or not is_foreign(model._target_):
        return
    side = data.image_size or _SIDE
    size = (side, side) if isinstance(side, int) else (side[0], side[1])
    _check(model, NetworkShape(data.channels or 3, _CLASSES, size, data.target))


def _check(model: NetworkSettings, shape: NetworkShape) -> None:
    with input_of("model"):
        make = import_object(model.network_class(shape.target))
    with torch.random.fork_rng(devices=[]):
        problems = list(_problems(make, model, shape))
    if problems:
        file = inspect.getsourcefile(make) or model._target_
        raise ConfigError(f"model: {file}, {make.__name__}: {'; '.join(problems)}.")


def _problems(make: type, model: NetworkSettings, shape: NetworkShape) -> Iterator[str]:
    """Yield what the class lacks to give logits of the wanted shape, each with what to add."""
    channels, classes, size = shape.channels, shape.classes, shape.image_size
    wanted = (2, classes, *size) if kind_of(shape.target).pixels else (2, classes)
    if not (isinstance(make, type) and issubclass(make, nn.Module)):
        yield f"it is no class derived from torch.nn.Module: write it as {_SHAPE}"
        return
    arguments = network_arguments(model.without_weights())
    try:
        inspect.signature(make).bind(channels, classes, size, **arguments)
    except TypeError as error:
        yield f"its constructor does not take the settings ({error}): write it as {_SHAPE}"
        return
    try:
        network = make(channels, classes, size, **arguments)
        logits = network.eval()(torch.zeros(2, channels, *size))
    except Exception as error:
        batch = f"(2, {channels}, {size[0]}, {size[1]})"
        yield f"it fails on a batch {batch}: {fault_text(error)}"
        return
    if not isinstance(logits, torch.Tensor) or tuple(logits.shape) != wanted:
        given = tuple(logits.shape) if isinstance(logits, torch.Tensor) else type(logits).__name__
        logits_shape = "(B, num_classes)" if len(wanted) == 2 else "(B, num_classes, H, W)"
        yield f"forward returns {given}: it must return logits {logits_shape}, {wanted}"
    names = [name for name, _ in network.named_parameters()]
    if not names:
        yield "it has no parameters to train"
    prefixes = getattr(network, "head_prefixes", None)
    if prefixes is None:
        yield (
            "it does not name its classifier head, which fine-tuning and weight decay treat by "
            'itself: add `head_prefixes = ("head.",)` with the beginnings of its parameters\' names'
        )
    elif isinstance(prefixes, str) or not any(name.startswith(tuple(prefixes)) for name in names):
        yield (
            f"head_prefixes is {prefixes!r}: it must be a tuple of beginnings of the parameters' "
            f"names, which are {', '.join(names[:3])}, ..."
        )
