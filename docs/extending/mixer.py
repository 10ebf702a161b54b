"""A small MLP-Mixer (Tolstikhin et al., 2021, arXiv:2105.01601) and its settings."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from src.config.checks import setting, variant
from src.config.models import ModelSettings, OwnNetworkSettings


@variant(ModelSettings, "mixer.Mixer")
@dataclass(frozen=True)
class MixerSettings(OwnNetworkSettings):
    """The arguments of `Mixer`."""

    patches: int = setting("patches along each side", at_least=1, at_most=32, default=4)
    width: int = setting("features of a patch", at_least=1, default=64)
    depth: int = setting("blocks", at_least=1, at_most=24, default=2)


class Mixer(nn.Module):
    """Normalised pictures (B, C, H, W) to logits (B, K)."""

    head_prefixes = ("head.",)

    def __init__(
        self,
        in_channels: int,
        num_classes: int,
        image_size: tuple[int, int],
        *,
        patches: int,
        width: int,
        depth: int,
    ) -> None:
        super().__init__()
        side = min(image_size) // patches
        if side == 0:
            raise ValueError(f"patches is {patches}: the pictures have fewer pixels a side.")
        self.embed = nn.Sequential(
            nn.Conv2d(in_channels, width, side, side), nn.AdaptiveAvgPool2d(patches)
        )
        self.blocks = nn.Sequential(*(_Block(patches**2, width) for _ in range(depth)))
        self.head = nn.Linear(width, num_classes)

    def forward(self, images: Tensor) -> Tensor:
        features = self.embed(images).flatten(2).transpose(1, 2)  # (B, patches, width)
        logits: Tensor = self.head(self.blocks(features).mean(dim=1))
        return logits


class _Block(nn.Module):
    """A perceptron over patches, then one over features: (B, patches, width) to the same."""

    def __init__(self, patches: int, width: int) -> None:
        super().__init__()
        self.across = nn.Sequential(nn.Linear(patches, patches), nn.GELU())
        self.within = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, width), nn.GELU())

    def forward(self, features: Tensor) -> Tensor:
        features = features + self.across(features.transpose(1, 2)).transpose(1, 2)
        mixed: Tensor = features + self.within(features)
        return mixed
