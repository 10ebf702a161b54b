"""Training losses on logits; targets are class numbers or, after mixing, probabilities."""

from __future__ import annotations

from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..config.checks import ConfigError

__all__ = ["CrossEntropy", "Focal", "balanced_weights"]


def balanced_weights(class_counts: Tensor) -> Tensor:
    """Return class weights (K,) N / (K * count), float32, 1 on average over the training pictures.

    Raises:
        ConfigError: `class_counts` (K,) has a class without training pictures.
    """
    empty = torch.nonzero(class_counts <= 0).flatten().tolist()
    if empty:
        raise ConfigError(
            "loss.class_weights is 'balanced', but there are no training pictures of class number "
            f"{', '.join(map(str, empty))}: add some, or say loss.class_weights=none."
        )
    counts = class_counts.double()
    return (counts.sum() / (len(counts) * counts)).float()


class CrossEntropy(nn.Module):
    """Cross-entropy, the mean over the batch as `torch.nn.CrossEntropyLoss` takes it.

    With class weights it is the weighted mean, also for probabilities (where torch divides by the
    batch size): a one-hot row counts exactly as its class number does.

    Args:
        label_smoothing: share of every target spread evenly over all classes, in [0, 1)
            (Szegedy et al. 2016).
        class_weights: (K,) positive floats, or None for equal weights.
    """

    class_weights: Tensor | None

    def __init__(self, *, label_smoothing: float, class_weights: Tensor | None = None) -> None:
        super().__init__()
        self.label_smoothing = label_smoothing
        # Not persistent: a property of the training data, not of the network.
        self.register_buffer("class_weights", class_weights, persistent=False)

    def forward(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Compute the scalar loss.

        Args:
            logits: (B, K) float; half precision is computed in float32.
            targets: (B,) int64 in [0, K), or (B, K) float rows that sum to 1.
        """
        logits, targets = _comparable(logits, targets)
        entropy = partial(
            F.cross_entropy, weight=self.class_weights, label_smoothing=self.label_smoothing
        )
        if self.class_weights is None or not targets.is_floating_point():
            return entropy(logits, targets)
        return entropy(logits, targets, reduction="sum") / (targets @ self.class_weights).sum()


class Focal(CrossEntropy):
    """Focal loss (Lin et al. 2017) over K classes: sum_k t_k (1 - p_k)^gamma (-log p_k).

    With gamma 0 it is `CrossEntropy` of the same arguments, class weights included.

    Args:
        gamma: how fast the weight of well-classified pictures falls, at least 0.
        label_smoothing: as in `CrossEntropy`.
        class_weights: as in `CrossEntropy`; the paper's alpha.
    """

    def __init__(
        self, *, gamma: float, label_smoothing: float, class_weights: Tensor | None = None
    ) -> None:
        super().__init__(label_smoothing=label_smoothing, class_weights=class_weights)
        self.gamma = gamma

    def forward(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Compute the scalar loss; arguments as in `CrossEntropy.forward`."""
        logits, targets = _comparable(logits, targets)
        num_classes = logits.shape[1]
        if not targets.is_floating_point():
            targets = F.one_hot(targets, num_classes).to(logits.dtype)
        weights = logits.new_ones(num_classes) if self.class_weights is None else self.class_weights
        smooth = targets * (1 - self.label_smoothing) + self.label_smoothing / num_classes
        log_probs = logits.log_softmax(dim=1)
        # 1 - p without cancellation near p = 1; the floor keeps the slope of a fractional power
        # finite where p rounds to 1.
        missing = (-torch.expm1(log_probs)).clamp_min(torch.finfo(logits.dtype).tiny)
        losses = smooth * weights * missing**self.gamma * -log_probs
        return losses.sum() / (targets @ weights).sum()


def _comparable(logits: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Return both in the precision of the loss."""
    if logits.dtype in (torch.float16, torch.bfloat16):
        logits = logits.float()
    return logits, targets.to(logits.dtype) if targets.is_floating_point() else targets
