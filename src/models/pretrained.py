"""Loading of weights from a file or a run's checkpoint into a network."""

from __future__ import annotations

import math
import pickle
import textwrap
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import torch
from torch import Tensor, nn

__all__ = [
    "LoadedWeights",
    "adapt_input",
    "check_weights",
    "load_weights",
    "read_weights",
    "reason_of",
    "tensor_shapes",
]

T = TypeVar("T")

# What a checkpoint of a run puts before the names of its network's parameters; the averaged
# weights, where there are some, are the better ones.
_RUN_PREFIXES = ("average.network.", "network.")
# What other programs' wrappers put there.
_WRAPPERS = ("", "module.", "model.", "_orig_mod.")
# Where the zoo's networks keep the library's own, whose published files know nothing of it.
_ZOO_PREFIX = "backbone."
# Counted in training, missing in files of early versions of torch, and of no use to a prediction.
_COUNTED = "num_batches_tracked"


class LoadedWeights(NamedTuple):
    """The number of loaded tensors, and the names of those that keep their initial values."""

    used: int
    fresh: tuple[str, ...]


def load_weights(
    network: nn.Module, pretrained: bool | str | None, *, head: bool = True
) -> LoadedWeights | None:
    """Put weights into a network; those of a head for other classes are left out.

    The first convolution is adapted where the pictures have another number of channels. Names are
    taken as a run's checkpoint, a library or a training wrapper ("module.") writes them.

    Args:
        network: of any kind; its `head_prefixes` may stay fresh.
        pretrained: path of a .safetensors file, a state dict or a run's checkpoint; None, False,
            True, "hub" and "package" are none and leave the network as it is.
        head: whether a head for as many classes is loaded as well.

    Returns:
        What was loaded; None where there was no file to load.

    Raises:
        ValueError: no such file, no weights in it, or not those of this network.
    """
    if pretrained is None or isinstance(pretrained, bool) or pretrained in ("hub", "package"):
        return None
    own = network.state_dict()
    weights = _renamed(read_weights(Path(pretrained)), own)
    first = next((name for name, tensor in own.items() if tensor.ndim == 4), None)
    if first in weights and weights[first].ndim == 4:
        weights[first] = adapt_input(weights[first], own[first].shape[1])
    heads = tuple(getattr(network, "head_prefixes", ()))
    wanted = own if head else {n: t for n, t in own.items() if not n.startswith(heads)}
    fitting = {n: t for n, t in weights.items() if n in wanted and own[n].shape == t.shape}
    body = [name for name in own if not name.startswith(heads) and not name.endswith(_COUNTED)]
    if not any(name in fitting for name in body):
        raise ValueError(f"no tensor of {pretrained} fits this network: is it of another kind?")
    for name in body:
        if name not in fitting:
            shape = list(weights[name].shape) if name in weights else "missing"
            raise ValueError(
                f"{pretrained} does not fit this network: {name} is {shape} in the file and "
                f"{list(own[name].shape)} in the network"
            )
    network.load_state_dict(fitting, strict=False)
    return LoadedWeights(len(fitting), tuple(name for name in own if name not in fitting))


def adapt_input(weight: Tensor, channels: int) -> Tensor:
    """Return a convolution's weight (D, C, h, w) for another number of channels, as timm does it.

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
    """Return `weights` with the prefix taken off or put on that matches the most names of `own`."""
    candidates = [
        {put_on + name.removeprefix(wrapper): tensor for name, tensor in weights.items()}
        for wrapper in _WRAPPERS
        for put_on in ("", _ZOO_PREFIX)
    ]
    return max(candidates, key=lambda names: len(names.keys() & own.keys()))


def read_weights(path: Path) -> dict[str, Tensor]:
    """Read the named tensors of a file onto the CPU, without running code that may be in it.

    Of a run's checkpoint these are the network's, averaged ones first.

    Raises:
        ValueError: no such file, damaged, no weights, or more than weights.
    """
    return _network_tensors(path, _content(path))


def tensor_shapes(path: Path) -> dict[str, torch.Size] | None:
    """Read the names and shapes of a file's tensors, not their values.

    None for torch's format before version 1.6, which can only be read whole.

    Raises:
        ValueError: as `read_weights`, except for a damage among the values.
    """
    if path.suffix == ".safetensors":
        return _opened(path, lambda: _safetensors_shapes(path))
    _check_file(path)
    if not zipfile.is_zipfile(path):
        return None
    tensors = _network_tensors(path, _content(path, mmap=True))
    return {name: tensor.shape for name, tensor in tensors.items()}


def check_weights(path: Path) -> None:
    """Raise a ValueError unless a file holds weights and no code."""
    if tensor_shapes(path) is None:
        read_weights(path)


def reason_of(error: Exception) -> str:
    """Return an error's kind and the first line that says what is wrong, cut short."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    if len(lines) > 1 and lines[0].startswith("Error(s) in loading state_dict"):
        lines = lines[1:]
    detail = f": {textwrap.shorten(lines[0].rstrip('.'), 160, placeholder=' ...')}" if lines else ""
    return f"{type(error).__name__}{detail}"


def _safetensors_shapes(path: Path) -> dict[str, torch.Size]:
    from safetensors import safe_open

    with safe_open(path, framework="pt") as file:
        names = file.keys()
        return {name: torch.Size(file.get_slice(name).get_shape()) for name in names}


def _content(path: Path, *, mmap: bool = False) -> Any:
    """Return what a file of weights holds, on the CPU."""
    if path.suffix == ".safetensors":
        from safetensors.torch import load_file

        return _opened(path, lambda: load_file(path))
    return _opened(path, lambda: torch.load(path, map_location="cpu", weights_only=True, mmap=mmap))


def _check_file(path: Path) -> None:
    # A device gives bytes for ever, and a pipe may never give one.
    if not path.is_file():
        what = "is no plain file" if path.exists() else "does not exist"
        raise ValueError(f"pretrained is {str(path)!r}, which {what}")


def _opened(path: Path, read: Callable[[], T]) -> T:
    """Return what `read` returns; its errors as one sentence."""
    _check_file(path)
    try:
        return read()
    except pickle.UnpicklingError as error:
        # torch raises the same for code and for files that are no pickles, with different reasons.
        if any(word in str(error).lower() for word in ("global", "reduce")):
            raise ValueError(
                f"{path} holds more than weights (it could run code), so it is not loaded"
            ) from None
        raise ValueError(
            f"{path} cannot be read as weights: it is damaged, or none of torch's"
        ) from None
    except Exception as error:  # safetensors and torch have many words for a damaged file
        raise ValueError(f"{path} cannot be read as weights ({reason_of(error)})") from None


def _network_tensors(path: Path, content: Any) -> dict[str, Tensor]:
    state: Any = content.get("state_dict", content) if isinstance(content, dict) else {}
    pairs = state.items() if isinstance(state, dict) else ()
    weights = {str(name): value for name, value in pairs if isinstance(value, Tensor)}
    if not weights:
        raise ValueError(f"{path} holds no weights")
    for prefix in _RUN_PREFIXES:
        own = {n.removeprefix(prefix): v for n, v in weights.items() if n.startswith(prefix)}
        if own:
            return own
    return weights
