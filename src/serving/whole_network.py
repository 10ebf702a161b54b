"""A network with the normalisation and test-time augmentation of its run, as one module."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from ..data.augmentation.transforms import normalize
from ..machine.arrays import Float32Array
from ..models.arithmetic import MEMORY_FORMATS, autocast
from ..records.pictures import Pixels
from ..training.inference import averaged_logits, in_pieces
from ..training.links import link_of, outputs_of, probabilities
from ..training.sliding_windows import over_windows
from .exported import Logits
from .predictor import Classify, Describe, Predictor, kind_in

__all__ = [
    "WholeNetwork",
    "eager",
    "network_classifier",
    "network_describer",
    "network_predictor",
]

# Lines of a picture whose logits become probabilities at once.
_LINES = 64


class WholeNetwork(nn.Module):
    """Decoded pictures (B, C, H, W) to logits (B, K) or (B, K, H, W) float32, in evaluation mode.

    Args:
        network: trained; normalised pictures (B, C, H, W) -> logits (B, K). It is not copied.
        metadata: of the run's checkpoints; see `ClassificationTask`.
        memory_format: of the pictures, by the name in the runtime settings; None for the run's own.

    Attributes:
        link: how logits become probabilities; see `links`.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self, network: nn.Module, metadata: Mapping[str, Any], memory_format: str | None = None
    ) -> None:
        super().__init__()
        settings = metadata["settings"]
        self._memory_format = MEMORY_FORMATS[memory_format or settings["runtime"]["memory_format"]]
        self._tta, self.link = settings["trainer"]["tta"], link_of(metadata)
        self.network = network.to(memory_format=self._memory_format)
        self._metadata = metadata
        self.register_buffer("mean", torch.tensor(metadata["mean"]))
        self.register_buffer("std", torch.tensor(metadata["std"]))
        self.eval()

    def forward(self, images: Tensor) -> Tensor:
        return over_windows(self.at_once, self._metadata)(images)

    def at_once(self, images: Tensor) -> Tensor:
        """Return the logits of pictures, or of windows of large ones, of the network's size."""
        pictures = normalize(images, self.mean, self.std)
        pictures = pictures.contiguous(memory_format=self._memory_format)
        return averaged_logits(self.network, pictures, self._tta, self.link).float()


def network_classifier(
    network: nn.Module, metadata: Mapping[str, Any], device: torch.device
) -> Classify:
    """Return a function from pictures (N, C, H, W) to probabilities (N, K) or (N, K, H, W) float32.

    It computes in the number format of the run, on `device`; other arguments as of `WholeNetwork`.
    """
    whole = WholeNetwork(network, metadata).to(device)
    precision, link = metadata["settings"]["runtime"]["precision"], link_of(metadata)

    def classify(images: Pixels) -> Float32Array:
        with torch.inference_mode(), autocast(device, precision):
            logits = in_pieces(whole, torch.from_numpy(images).to(device)).cpu()
            if logits.ndim == 2:  # in double precision, so that rows sum to 1 within float32
                logits = probabilities(logits.double(), link).float()
            else:  # of pixels, which are many, in the place of the logits
                for lines in logits.split(_LINES, dim=2):
                    lines.copy_(probabilities(lines, link))
            probs: Float32Array = logits.numpy()
        return probs

    return classify


def network_predictor(
    network: nn.Module, metadata: Mapping[str, Any], device: torch.device, batch_size: int
) -> Predictor:
    """Return a predictor with a trained network, which `compile` has not changed."""
    classify = network_classifier(network, metadata, device)
    outputs = outputs_of(link_of(metadata), len(metadata["class_names"]))
    pixels = kind_in(metadata).pixels  # which have features of their own
    describe = None if pixels else network_describer(network, classify, outputs)
    return Predictor(classify, metadata, describe=describe, batch_size=batch_size)


def eager(network: WholeNetwork, precision: str = "float32") -> Logits:
    """Return the network computed by PyTorch, operation by operation, on the CPU.

    It takes pictures of the size of the training, of large ones windows.
    """

    def logits(images: Pixels) -> Float32Array:
        with torch.inference_mode(), autocast(torch.device("cpu"), precision):
            found: Float32Array = network.at_once(torch.from_numpy(images)).numpy()
        return found

    return logits


def network_describer(network: nn.Module, classify: Classify, outputs: int) -> Describe | None:
    """Return a function from pictures (N, C, H, W) to probabilities and features.

    The features (N, F) float32 are what the last layer takes, averaged over the places of the
    picture where it has a vector for each.

    Args:
        network: trained, without what `compile` makes of it.
        classify: runs the network.
        outputs: of the network, one a class or one less (see `src.training.links.outputs_of`).

    Returns:
        None for a network that does not end with a linear layer for them.
    """
    last = _last_layer(network, outputs)
    if last is None:
        return None
    # A server answers requests in threads, whose pictures all pass this layer.
    alone = threading.Lock()

    def describe(
        images: Pixels,
    ) -> tuple[Float32Array, Float32Array]:
        taken, own = list[Tensor](), threading.get_ident()

        def take(layer: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            if threading.get_ident() == own:
                taken.append(inputs[0])

        with alone:
            hook = last.register_forward_pre_hook(take)
            try:
                probs = classify(images)
            finally:
                hook.remove()
        # Of several views of test-time augmentation the first is the pictures themselves.
        views = sum(map(len, taken)) // len(images)
        return probs, torch.cat([*map(_averaged, taken[::views])]).float().cpu().numpy()

    return describe


def _last_layer(network: nn.Module, wanted: int) -> nn.Module | None:
    """Return the last layer if it gives so many values."""
    layers = [one for one in network.modules() if isinstance(one, nn.Linear | nn.Conv2d)]
    if not layers:
        return None
    last = layers[-1]
    outputs = last.out_features if isinstance(last, nn.Linear) else last.out_channels
    return last if outputs == wanted else None


def _averaged(values: Tensor) -> Tensor:
    """Return (N, F) of maps (N, F, H, W), tokens (N, T, F) or features (N, F)."""
    if values.dim() == 4:
        return values.mean(dim=(2, 3))
    return values.flatten(1, -2).mean(dim=1) if values.dim() > 2 else values
