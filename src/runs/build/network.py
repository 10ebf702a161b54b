"""The network that settings describe."""

from __future__ import annotations

from typing import Any

from torch import nn

from src.config.models import NetworkSettings, ZooSettings
from src.config.schema import RunSettings
from src.models.pretrained import load_weights
from src.runs.build.objects import get_object, input_of, own_fields

__all__ = ["build_network", "network_arguments", "network_of", "rebuild_arguments"]


def network_of(settings: RunSettings) -> NetworkSettings:
    """The settings of the run's network.

    Raises:
        TypeError: the run's model is none.
    """
    if not isinstance(settings.model, NetworkSettings):
        raise TypeError(f"{settings.model.name} is no network")
    return settings.model


def network_arguments(model: NetworkSettings) -> dict[str, Any]:
    """What the network is made with, beside the pictures that it is for."""
    arguments = own_fields(model, NetworkSettings)
    if isinstance(model, ZooSettings):  # these fetch published weights themselves
        arguments |= {"name": model.name, "pretrained": model.pretrained}
    return arguments


def rebuild_arguments(model: NetworkSettings, network: nn.Module) -> dict[str, Any]:
    """Return what makes the same network once more, for weights that are at hand.

    Published weights, which are not looked for then, may have chosen the size of its pictures.

    Args:
        model: the settings that `network` was built from.
        network: as `build_network` made it.
    """
    arguments = network_arguments(model.without_weights())
    if isinstance(model, ZooSettings) and model.pretrained and model.input_size is None:
        size: tuple[int, int] | None = network.input_size  # type: ignore[assignment]
        arguments["input_size"] = None if size is None else size[0]
    return arguments


def build_network(
    model: NetworkSettings, *, channels: int, classes: int, image_size: tuple[int, int]
) -> nn.Module:
    """The network, with the weights that it starts from.

    Raises:
        ConfigError: it cannot be made for these pictures, or its weights not be found.
    """
    make, arguments = get_object(model._target_), network_arguments(model)
    with input_of("model"):
        network: nn.Module = make(channels, classes, image_size, **arguments)
        loaded = load_weights(network, model.pretrained)
        if loaded is not None:
            fresh = f", {', '.join(loaded.fresh)} start afresh" if loaded.fresh else ""
            print(f"model: {loaded.used} tensors from {model.pretrained}{fresh}")
        return network
