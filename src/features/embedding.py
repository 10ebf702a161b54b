"""Features of a frozen network: the input of its classifier head."""

from __future__ import annotations

import copy
import hashlib
import json
import threading
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ..machine.arrays import Float32Array
from ..machine.imports import import_object
from ..models.arithmetic import MEMORY_FORMATS, autocast
from ..models.folding import fold_batch_norms
from ..records.pictures import Pixels

__all__ = ["DescribingNetwork", "NetworkFeatures"]

# Apple's GPU takes the work of one thread at a time: with that of two torch crashes (issue 197805
# of PyTorch, of September 2026).
_APPLE = threading.Lock()

# Settings that do not change features: their layout in memory, and later stages.
_NO_DIFFERENCE = ("memory_format", "classes")


class DescribingNetwork(nn.Module):
    """Pictures (B, C, H, W) with values from 0 to 255 to features (B, D) float32.

    Args:
        network: without its classifier head.
        mean, std: of its pictures, (C,) each, in units of 255.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, network: nn.Module, mean: Tensor, std: Tensor) -> None:
        super().__init__()
        self.network = network
        self.register_buffer("mean", mean.view(1, -1, 1, 1))
        self.register_buffer("std", std.view(1, -1, 1, 1))

    def forward(self, images: Tensor) -> Tensor:
        # The first step makes a copy: pictures in single precision may be the caller's own.
        pixels = images.to(torch.float32).div(255).sub_(self.mean).div_(self.std)
        found: Tensor = self.network(pixels)
        if found.ndim > 2:  # (B, D, ...)
            found = found.flatten(2).mean(dim=2)
        return found.float()


class NetworkFeatures:
    """The input of a network's classifier head, averaged over places where it has some.

    Donahue et al., "DeCAF: A Deep Convolutional Activation Feature for Generic Visual Recognition"
    (ICML 2014).

    Args:
        network: of src.models; it is changed.
        metadata: plain values, how it was built: `target`, `arguments`, `channels`, `classes`,
            `image_size`, the `mean` and `std` of its pictures, and the `precision` ("float32" by
            default, "bfloat16", "float16") and `memory_format` ("contiguous" by default,
            "channels_last") that it computes in.
        device: where to compute.

    Attributes:
        metadata, device: as given.
    """

    in_processes = False  # torch keeps all cores busy by itself
    # Number of pictures at once: the activations of more large ones exceed the caches of a
    # processor, and fewer leave most of a GPU idle.
    _AT_ONCE, _AT_ONCE_ON_GPU = 16, 256

    def __init__(
        self, network: nn.Module, metadata: Mapping[str, Any], device: torch.device
    ) -> None:
        for prefix in network.head_prefixes:  # type: ignore[union-attr]
            owner, _, leaf = str(prefix).rstrip(".").rpartition(".")
            setattr(network.get_submodule(owner), leaf, nn.Identity())
        self.metadata = dict(metadata)
        self._layout = MEMORY_FORMATS[metadata.get("memory_format", "contiguous")]
        self._network = network.requires_grad_(False).eval().cpu()
        self.device = device
        self.on_gpu = device.type != "cpu"
        self._compute: DescribingNetwork | None = None
        self._streams: dict[int, torch.cuda.Stream] = {}  # by thread

    @classmethod
    def restored(
        cls,
        metadata: Mapping[str, Any],
        weights: Mapping[str, NDArray[np.generic]],
        device: torch.device,
    ) -> NetworkFeatures:
        """Return the features of a network of this metadata and these weights.

        Raises:
            ValueError: they do not belong together, or name no network of the project.
        """
        network = import_object(str(metadata["target"]), within="src.models.")(
            metadata["channels"],
            metadata["classes"],
            tuple(metadata["image_size"]),
            **metadata["arguments"],
        )
        features = cls(network, metadata, device)
        try:
            features._network.load_state_dict(
                {key: torch.from_numpy(np.array(value)) for key, value in weights.items()}
            )
        except (RuntimeError, TypeError) as error:
            raise ValueError(f"the weights do not fit {metadata['target']}: {error}") from error
        return features

    @property
    def name(self) -> str:
        """The name of a published network, else that of its class."""
        own = str(self.metadata["target"]).rpartition(".")[2]
        return str(self.metadata["arguments"].get("name", own))

    @cached_property  # to hash the weights takes a moment; they stay as they are from then on
    def identity(self) -> dict[str, Any]:
        from ..config.plugins import code_digest  # a bundle has no settings, and keeps no features

        digest = hashlib.blake2b(digest_size=16)
        for name, value in sorted(self.weights().items()):
            digest.update(name.encode())
            digest.update(np.ascontiguousarray(value).tobytes())
        stated = {k: v for k, v in self.metadata.items() if k not in _NO_DIFFERENCE}
        stated["arguments"] = stated["arguments"] | {"drop_rate": 0.0}
        found = {"network": json.dumps(stated, sort_keys=True), "weights": digest.hexdigest()}
        code = code_digest(str(stated["target"]))
        return found | {"code": code} if code else found

    def weights(self) -> dict[str, NDArray[np.generic]]:
        """Return the weights by name, on the CPU, without those of the head."""
        state = self._network.state_dict()
        return {name: tensor.detach().cpu().numpy() for name, tensor in state.items()}

    def __call__(self, images: Pixels) -> Float32Array:
        """Return (N, D) float32 of pictures (N, C, H, W).

        Where half precision has no finite answer for one, it is described in single precision.
        """
        network = self._ready()  # before the arithmetic becomes less exact
        some = self._AT_ONCE_ON_GPU if self.on_gpu else self._AT_ONCE
        with self._own_stream():
            found = self._rows(network, images, some, self.precision)
            beyond = ~np.isfinite(found).all(axis=1)
            if beyond.any() and self.precision != "float32":  # half precision ends at 65,504
                found[beyond] = self._rows(network, images[beyond], some, "float32")
        return found

    def _rows(
        self, network: DescribingNetwork, images: Pixels, some: int, precision: str
    ) -> Float32Array:
        starts = range(0, len(images), some)
        rows = [self._described(network, images[at : at + some], precision) for at in starts]
        found: Float32Array = torch.cat(rows).cpu().numpy()  # a GPU is waited for once
        return found

    def _own_stream(self) -> AbstractContextManager[object]:
        """Return a CUDA stream of the thread's own, whose copies pass beside others' kernels.

        Of Apple's GPU it is the whole device.
        """
        if self.device.type == "mps":
            return _APPLE
        if self.device.type != "cuda":
            return nullcontext()
        thread = threading.get_ident()
        if thread not in self._streams:
            self._streams[thread] = torch.cuda.Stream(self.device)
        return torch.cuda.stream(self._streams[thread])

    @property
    def precision(self) -> str:
        """The number format that it computes in."""
        return str(self.metadata.get("precision", "float32"))

    def on_cpu(self, precision: str) -> NetworkFeatures:
        """Return the features of a copy of the network that computes on the CPU, in a precision."""
        metadata = {**self.metadata, "precision": precision}
        return NetworkFeatures(copy.deepcopy(self._network), metadata, torch.device("cpu"))

    def module(self) -> DescribingNetwork:
        """Return a copy on the CPU that computes in single precision."""
        return copy.deepcopy(self._ready()).cpu().to(memory_format=torch.contiguous_format)

    def _ready(self) -> DescribingNetwork:
        """Return the network as it computes fastest."""
        if self._compute is None:  # on first use: weights may be loaded after the constructor
            channels, size = self.metadata["channels"], self.metadata["image_size"]
            noise = torch.rand(2, channels, *size, generator=torch.Generator().manual_seed(0))
            mean, std = (torch.tensor(self.metadata[name]) for name in ("mean", "std"))
            example = (noise - mean.view(1, -1, 1, 1)) / std.view(1, -1, 1, 1)
            folded = fold_batch_norms(self._network, example)
            whole = DescribingNetwork(folded, mean, std).eval()
            self._compute = whole.to(self.device).to(memory_format=self._layout)
            if self.device.type == "cuda":  # before a stream of its own reads the weights
                torch.cuda.synchronize(self.device)
        return self._compute

    def _described(self, network: DescribingNetwork, images: Pixels, precision: str) -> Tensor:
        with torch.inference_mode(), autocast(self.device, precision):
            pixels = torch.from_numpy(images)
            if self.device.type == "cuda":  # the only memory that is copied while others compute
                pixels = pixels.pin_memory()
            pixels = pixels.to(self.device, non_blocking=True)
            found: Tensor = network(pixels.to(torch.float32, memory_format=self._layout))
            return found
