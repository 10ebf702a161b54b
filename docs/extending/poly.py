"""Poly-1 cross-entropy (Leng et al., "PolyLoss", ICLR 2022), as a loss."""

from __future__ import annotations

from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor, nn

from src.config.checks import setting, variant
from src.config.training import LossSettings


@variant(LossSettings, "poly.Poly")
@dataclass(frozen=True)
class PolySettings(LossSettings):
    """The arguments of `Poly`, beside the weights of the classes."""

    targets = ("single",)

    epsilon: float = setting("weight of the first term of the series", at_least=-1, default=1.0)


class Poly(nn.Module):
    """Logits (B, K) and targets, (B,) int64 or after mixing (B, K) shares, to a scalar."""

    link = "softmax"

    def __init__(self, *, epsilon: float, class_weights: Tensor | None) -> None:
        super().__init__()
        self.epsilon = epsilon
        self.register_buffer("class_weights", class_weights, persistent=False)

    def forward(self, logits: Tensor, targets: Tensor) -> Tensor:
        if targets.ndim == 1:
            targets = F.one_hot(targets, logits.shape[1]).to(logits.dtype)
        weights = targets if self.class_weights is None else targets * self.class_weights
        entropy = -(weights * logits.log_softmax(dim=1)).sum(dim=1)
        doubt = (weights * (1 - logits.softmax(dim=1))).sum(dim=1)
        return (entropy + self.epsilon * doubt).sum() / weights.sum()
