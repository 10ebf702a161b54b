"""What a frozen network says of a picture before its last layer."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from importlib import import_module
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from src.features.picture import Floats

__all__ = ["NetworkFeatures"]

_NETWORKS = "src.models."


class NetworkFeatures:
    """The input of a network's classifier head, averaged over places where it has some.

    Donahue et al., "DeCAF: A Deep Convolutional Activation Feature for Generic Visual Recognition"
    (ICML 2014).

    Args:
        network: of src.models; it is changed.
        passport: plain values that tell how it was built: `target`, `arguments`, `channels`,
            `classes`, `image_size`, and the `mean` and `std` that its pictures are normalised with.
        device: where to compute.
        autocast: number format of the arithmetic that may be less exact; None for single precision.
        memory_format: of pictures and kernels.
    """

    in_processes = False  # torch keeps all cores busy by itself

    def __init__(
        self,
        network: nn.Module,
        passport: Mapping[str, Any],
        device: torch.device,
        *,
        autocast: torch.dtype | None = None,
        memory_format: torch.memory_format = torch.contiguous_format,
    ) -> None:
        for prefix in network.head_prefixes:  # type: ignore[union-attr]
            owner, _, leaf = str(prefix).rstrip(".").rpartition(".")
            setattr(network.get_submodule(owner), leaf, nn.Identity())
        self.passport = dict(passport)
        network = network.requires_grad_(False).eval()
        self._network = network.to(memory_format=memory_format).to(device)
        self._autocast = autocast
        self._memory_format = memory_format
        self._device = device
        shape = (1, -1, 1, 1)
        self._mean = torch.tensor(passport["mean"], device=device).view(shape)
        self._std = torch.tensor(passport["std"], device=device).view(shape)

    @classmethod
    def restored(
        cls,
        passport: Mapping[str, Any],
        weights: Mapping[str, NDArray[np.generic]],
        device: torch.device,
    ) -> NetworkFeatures:
        """The one of this passport and these weights.

        Raises:
            ValueError: they do not belong together, or name no network of the project.
        """
        module, _, name = str(passport["target"]).rpartition(".")
        if not f"{module}.".startswith(_NETWORKS):
            raise ValueError(f"{passport['target']} is no network of {_NETWORKS}*")
        network = getattr(import_module(module), name)(
            passport["channels"],
            passport["classes"],
            tuple(passport["image_size"]),
            **passport["arguments"],
        )
        features = cls(network, passport, device)
        try:
            features._network.load_state_dict(
                {key: torch.from_numpy(np.array(value)) for key, value in weights.items()}
            )
        except (RuntimeError, TypeError) as error:
            raise ValueError(f"the weights do not fit {passport['target']}: {error}") from error
        return features

    @property
    def identity(self) -> dict[str, Any]:
        digest = hashlib.blake2b(digest_size=16)
        for name, value in sorted(self.weights().items()):
            digest.update(name.encode())
            digest.update(np.ascontiguousarray(value).tobytes())
        stated = json.dumps(self.passport, sort_keys=True)
        found = {"network": stated, "weights": digest.hexdigest()}
        if self._autocast is not None:
            found["precision"] = str(self._autocast)
        return found

    def weights(self) -> dict[str, NDArray[np.generic]]:
        """By name, on the CPU, without those of the head."""
        state = self._network.state_dict()
        return {name: tensor.detach().cpu().numpy() for name, tensor in state.items()}

    def __call__(self, images: NDArray[np.uint8]) -> Floats:
        """(N, D) float32 of pictures (N, C, H, W) uint8."""
        half = torch.autocast(
            self._device.type, dtype=self._autocast, enabled=self._autocast is not None
        )
        with torch.inference_mode(), half:
            pixels = torch.from_numpy(images).to(self._device, torch.float32)
            pictures = (pixels / 255 - self._mean) / self._std
            found: Tensor = self._network(pictures.contiguous(memory_format=self._memory_format))
            if found.ndim > 2:  # (N, D, ...)
                found = found.flatten(2).mean(dim=2)
            rows: Floats = found.float().cpu().numpy()
        return rows
