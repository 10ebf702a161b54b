"""Training losses on logits; targets are class numbers or, after mixing, probabilities.

Each loss names the `link` by which logits become probabilities: see `src.training.links`. Those of
one class a picture take logits (B, K, H, W) and class numbers (B, H, W) as well, a class for every
pixel; pixels with the number `IGNORED` are left out.
"""

from __future__ import annotations

from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..config.checks import ConfigError
from ..targets.labels import IGNORED

__all__ = [
    "OF_SETS",
    "Asymmetric",
    "BinaryCrossEntropy",
    "BinaryFocal",
    "Corn",
    "CrossEntropy",
    "CrossEntropyDice",
    "Dice",
    "Focal",
    "balanced_weights",
    "plain_loss",
    "weights_of",
]


def balanced_weights(class_counts: Tensor) -> Tensor:
    """Return class weights (K,) N / (K * count), float32, 1 on average over the training pictures.

    Raises:
        ConfigError: `class_counts` (K,) has a class without training pictures.
    """
    empty = torch.nonzero(class_counts <= 0).flatten().tolist()
    if empty:
        raise ConfigError(
            "loss.class_weights is 'balanced', but there are no training pictures of class number "
            f"{', '.join(map(str, empty))}: add some, or set loss.class_weights=none."
        )
    counts = class_counts.double()
    return (counts.sum() / (len(counts) * counts)).float()


def weights_of(kind: str, class_counts: Tensor) -> Tensor | None:
    """Return class weights (K,), float32, by `loss.class_weights`; None for equal ones.

    Args:
        kind: none, balanced as of `balanced_weights`, or root for the square roots of these, which
            raise rare classes without letting a few pixels outweigh all others.
        class_counts: (K,) of the training part; with root a class may have none.

    Raises:
        ConfigError: as of `balanced_weights`.
    """
    match kind:
        case "none":
            return None
        case "root":  # the weight of a class that never comes counts for nothing
            return balanced_weights(class_counts.clamp_min(1)).sqrt()
        case _:
            return balanced_weights(class_counts)


class _Weighted(nn.Module):
    """A loss whose classes have weights (K,), positive floats; None for equal ones."""

    class_weights: Tensor | None

    def __init__(self, *, class_weights: Tensor | None = None) -> None:
        super().__init__()
        # Not persistent: a property of the training data, not of the network.
        self.register_buffer("class_weights", class_weights, persistent=False)


class _Smoothed(_Weighted):
    """A loss of targets that are smoothed by a share in [0, 1)."""

    def __init__(self, *, label_smoothing: float, class_weights: Tensor | None = None) -> None:
        super().__init__(class_weights=class_weights)
        self.label_smoothing = label_smoothing


class CrossEntropy(_Smoothed):
    """Cross-entropy, the mean over the batch as `torch.nn.CrossEntropyLoss` takes it.

    With class weights it is the weighted mean, also for probabilities (where torch divides by the
    batch size): a one-hot row counts exactly as its class number does.

    Args:
        label_smoothing: share of every target spread evenly over all classes, in [0, 1)
            (Szegedy et al. 2016).
        class_weights: (K,) positive floats, or None for equal weights.
    """

    link = "softmax"

    def forward(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Compute the scalar loss.

        Args:
            logits: (B, K) or (B, K, H, W) float; half precision is computed in float32.
            targets: (B,) int64 in [0, K), or (B, K) float rows that sum to 1; of pixels (B, H, W)
                int64, in [0, K) or `IGNORED`.
        """
        logits, targets = _comparable(logits, targets)
        entropy = partial(
            F.cross_entropy, weight=self.class_weights, label_smoothing=self.label_smoothing
        )
        if logits.ndim == 4:
            counted = _weights_of(targets, self.class_weights, logits).sum()
            total = entropy(logits, targets, ignore_index=IGNORED, reduction="sum")
            return total / counted.clamp_min(_tiny(logits))  # 0 where no pixel counts
        hard = not targets.is_floating_point()
        if self.class_weights is None and hard and self.label_smoothing:
            # Half as many operations as torch's own, which looks for targets to ignore.
            log_probs = logits.log_softmax(dim=1)
            share, plain = self.label_smoothing, F.nll_loss(log_probs, targets)
            return torch.add((1 - share) * plain, log_probs.mean(), alpha=-share)
        if self.class_weights is None or hard:
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
        counted: Tensor | float = 1.0
        if logits.ndim == 4:
            # Pixels that do not count weigh nothing; to leave them out, the device would have to be
            # asked which they are.
            counted = (targets.reshape(-1, 1) != IGNORED).to(logits.dtype)
            logits = logits.movedim(1, -1).reshape(-1, num_classes)
            targets = counted * F.one_hot(targets.reshape(-1).clamp_min(0), num_classes)
        elif not targets.is_floating_point():
            targets = F.one_hot(targets, num_classes).to(logits.dtype)
        weights = logits.new_ones(num_classes) if self.class_weights is None else self.class_weights
        share = self.label_smoothing
        smooth = targets * (1 - share) + counted * (share / num_classes)
        log_probs = logits.log_softmax(dim=1)
        # 1 - p without cancellation near p = 1; the floor keeps the slope of a fractional power
        # finite where p rounds to 1.
        missing = (-torch.expm1(log_probs)).clamp_min(_tiny(logits))
        losses = smooth * weights * missing**self.gamma * -log_probs
        total = (targets @ weights).sum()
        return losses.sum() / (total + (total == 0))  # 0 where no pixel counts


class Dice(_Weighted):
    """Soft Dice loss of pixels: 1 - 2 |P and T| / (|P| + |T|), the mean over the classes.

    Milletari et al., "V-Net", 3DV 2016, without the squares: P sums the probabilities of a class
    over all pixels of the batch that count, T its pixels. Classes without a pixel in the batch are
    left out, as their Dice is 0 whatever is predicted.

    Args:
        class_weights: (K,) positive floats, which make the mean a weighted one; None for equal
            weights.
    """

    link = "softmax"

    def forward(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Compute the scalar loss, in [0, 1]; 0 where no pixel counts.

        Args:
            logits: (B, K, H, W) float; half precision is computed in float32.
            targets: (B, H, W) int64 in [0, K), or `IGNORED`.
        """
        logits, targets = _comparable(logits, targets)
        counts = (targets != IGNORED)[:, None]
        probs = logits.softmax(dim=1) * counts
        of_class = targets.clamp_min(0)[:, None]
        places = torch.zeros_like(probs).scatter_(1, of_class, counts.to(probs.dtype))
        shared, given, present = (
            each.sum(dim=(0, 2, 3)) for each in (probs * places, probs, places)
        )
        known = (present > 0).to(probs.dtype)
        weights = known if self.class_weights is None else known * self.class_weights
        losses = 1 - 2 * shared / (given + present).clamp_min(_tiny(probs))
        return (weights * losses).sum() / weights.sum().clamp_min(_tiny(probs))


class CrossEntropyDice(CrossEntropy):
    """`CrossEntropy` plus a multiple of `Dice`, both with the same class weights.

    Isensee et al., "nnU-Net", Nature Methods 2021, train with the sum of both (`dice_weight` 1).

    Args:
        dice_weight: of `Dice`, above 0.
        label_smoothing, class_weights: as in `CrossEntropy`.
    """

    def __init__(
        self, *, dice_weight: float, label_smoothing: float, class_weights: Tensor | None = None
    ) -> None:
        super().__init__(label_smoothing=label_smoothing, class_weights=class_weights)
        self.dice_weight = dice_weight
        self.dice = Dice(class_weights=class_weights)

    def forward(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Compute the scalar loss; arguments as in `Dice.forward`."""
        return super().forward(logits, targets) + self.dice_weight * self.dice(logits, targets)


class BinaryCrossEntropy(_Smoothed):
    """Binary cross-entropy of label sets, the mean over pictures and labels.

    Args:
        label_smoothing: share of every target replaced by one half, in [0, 1).
        class_weights: (K,) positive floats, or None for equal weights; each label's loss counts so
            often, and the mean is the weighted one.
    """

    link = "sigmoid"

    def forward(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Compute the scalar loss.

        Args:
            logits: (B, K) float; half precision is computed in float32.
            targets: (B, K) in [0, 1]: whether a label is there, or after mixing its share.
        """
        logits, targets = _comparable(logits, targets)
        smooth = targets.to(logits.dtype) * (1 - self.label_smoothing) + self.label_smoothing / 2
        losses = self.losses(logits, smooth)
        if self.class_weights is None:
            return losses.mean()
        return (losses.mean(dim=0) @ self.class_weights) / self.class_weights.sum()

    def losses(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Return (B, K) losses of smoothed targets."""
        return F.binary_cross_entropy_with_logits(logits, targets, reduction="none")


class BinaryFocal(BinaryCrossEntropy):
    """Focal loss (Lin et al. 2017) of label sets: t (1 - p)^gamma (-log p) and its mirror image.

    With gamma 0 it is `BinaryCrossEntropy` of the same arguments.

    Args:
        gamma: how fast the weight of well-classified labels falls, at least 0.
        label_smoothing, class_weights: as in `BinaryCrossEntropy`.
    """

    def __init__(
        self, *, gamma: float, label_smoothing: float, class_weights: Tensor | None = None
    ) -> None:
        super().__init__(label_smoothing=label_smoothing, class_weights=class_weights)
        self.gamma = gamma

    def losses(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Return (B, K) losses of smoothed targets."""
        there, absent = logits.sigmoid(), (-logits).sigmoid()
        tiny = _tiny(logits)  # keeps the slope of a fractional power finite
        return -(
            targets * absent.clamp_min(tiny) ** self.gamma * F.logsigmoid(logits)
            + (1 - targets) * there.clamp_min(tiny) ** self.gamma * F.logsigmoid(-logits)
        )


class Asymmetric(BinaryCrossEntropy):
    """Asymmetric loss of label sets, the mean over pictures and labels.

    Ridnik et al., "Asymmetric Loss For Multi-Label Classification", ICCV 2021: focal loss with an
    exponent of its own for labels that are there and for those that are not; of the latter the
    probability is lowered by a margin first, so that easy ones cost nothing. The paper sums over
    labels. With both exponents and the margin 0 it is `BinaryCrossEntropy` without smoothing.

    Args:
        gamma_positive, gamma_negative: exponents, at least 0; 0 and 4 in the paper.
        margin: in [0, 1); 0.05 in the paper.
        class_weights: as in `BinaryCrossEntropy`.
    """

    def __init__(
        self,
        *,
        gamma_positive: float,
        gamma_negative: float,
        margin: float,
        class_weights: Tensor | None = None,
    ) -> None:
        super().__init__(label_smoothing=0.0, class_weights=class_weights)
        self.gamma_positive, self.gamma_negative = gamma_positive, gamma_negative
        self.margin = margin

    def losses(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Return (B, K) losses of targets."""
        tiny = _tiny(logits)
        missing = (-logits).sigmoid()
        positive = missing.clamp_min(tiny) ** self.gamma_positive * -F.logsigmoid(logits)
        if self.margin:
            lowered = (logits.sigmoid() - self.margin).clamp_min(0.0)
            log_absent = torch.log1p(-lowered)
        else:
            lowered, log_absent = logits.sigmoid(), F.logsigmoid(-logits)
        negative = lowered.clamp_min(tiny) ** self.gamma_negative * -log_absent
        return targets * positive + (1 - targets) * negative


class Corn(_Weighted):
    """CORN for ordered classes: K - 1 questions, whether the class is above k if it is k at least.

    Shi, Cao and Raschka, "Deep Neural Networks for Rank-Consistent Ordinal Regression Based On
    Conditional Probabilities", 2021 (arXiv 2111.08851): each question is trained on the pictures
    that it is about, and the mean is over all of these pairs.

    Args:
        class_weights: (K,) of the pictures of each class; None for equal weights.
    """

    link = "corn"

    def forward(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Compute the scalar loss.

        Args:
            logits: (B, K - 1) float; half precision is computed in float32.
            targets: (B,) int64 in [0, K), or (B, K) float rows that sum to 1.
        """
        logits, targets = _comparable(logits, targets)
        if not targets.is_floating_point():
            targets = F.one_hot(targets, logits.shape[1] + 1).to(logits.dtype)
        weights = 1.0 if self.class_weights is None else (targets @ self.class_weights)[:, None]
        # Share of each picture that is of class k or above, k from 0.
        least = targets.flip(1).cumsum(1).flip(1)
        asked, above = least[:, :-1], least[:, 1:]
        losses = -(above * F.logsigmoid(logits) + (asked - above) * F.logsigmoid(-logits))
        return (weights * losses).sum() / (weights * asked).sum()


# What the losses of one class a picture are with label sets.
OF_SETS: dict[str, type[nn.Module]] = {"CrossEntropy": BinaryCrossEntropy, "Focal": BinaryFocal}


def plain_loss(link: str) -> nn.Module:
    """Return the loss that validation goes by, without weights and smoothing, for logits of a link.

    Raises:
        KeyError: there is no such link; see `src.training.links`.
    """
    if link == "corn":
        return Corn()
    return {"softmax": CrossEntropy, "sigmoid": BinaryCrossEntropy}[link](label_smoothing=0.0)


def _comparable(logits: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Return both in the precision of the loss."""
    if logits.dtype in (torch.float16, torch.bfloat16):
        logits = logits.float()
    return logits, targets.to(logits.dtype) if targets.is_floating_point() else targets


def _weights_of(targets: Tensor, class_weights: Tensor | None, like: Tensor) -> Tensor:
    """Return the weight of each target, 0 of those that are ignored."""
    counts = targets != IGNORED
    if class_weights is None:
        return counts.to(like.dtype)
    return class_weights[targets.clamp_min(0)] * counts


def _tiny(values: Tensor) -> float:
    return torch.finfo(values.dtype).tiny
