"""A trained network as what a predictor asks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from src.data.augmentation.transforms import normalize
from src.serving.predictor import Classify
from src.training.inference import MEMORY_FORMATS, autocast, averaged_logits

__all__ = ["network_classifier"]


def network_classifier(
    network: nn.Module, passport: Mapping[str, Any], device: torch.device
) -> Classify:
    """What gives probabilities (N, K) to pictures (N, C, H, W) uint8, with the run's arithmetic.

    Args:
        network: trained, normalised pictures (B, C, H, W) -> logits (B, K).
        passport: what the run's checkpoints say of it; see `ClassificationTask`.
        device: where to compute.
    """
    runtime, tta = passport["settings"]["runtime"], passport["settings"]["trainer"]["tta"]
    memory_format = MEMORY_FORMATS[runtime["memory_format"]]
    network = network.to(device).to(memory_format=memory_format).eval()
    mean = torch.tensor(passport["mean"], device=device)
    std = torch.tensor(passport["std"], device=device)

    def classify(images: NDArray[np.uint8]) -> NDArray[np.float32]:
        with torch.inference_mode(), autocast(device, runtime["precision"]):
            pictures = normalize(torch.from_numpy(images).to(device), mean, std)
            pictures = pictures.contiguous(memory_format=memory_format)
            logits = averaged_logits(network, pictures, tta)
            probs: NDArray[np.float32] = torch.softmax(logits.double(), dim=1).float().cpu().numpy()
        return probs

    return classify
