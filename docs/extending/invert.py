"""Inverted brightness, as an augmentation."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from src.config.augment import augmentation
from src.config.checks import Settings, setting


@augmentation("invert", "invert.Invert")
@dataclass(frozen=True)
class InvertSettings(Settings):
    """Inverted brightness."""

    probability: float = setting(
        "share of pictures that become their negative", at_least=0, at_most=1, default=0.0
    )


@dataclass(frozen=True)
class Invert:
    """Pictures (B, C, H, W), 0 to 255, to the same with some of them inverted."""

    probability: float
    streams: int = 1

    def __call__(self, images: Tensor, draws: Tensor) -> Tensor:
        if not self.probability:
            return images
        chosen = draws[0].view(-1, 1, 1, 1) < self.probability
        return torch.where(chosen, 255 - images, images)
