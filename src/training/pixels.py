"""Predictions of networks with a class for every pixel, and their running totals."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ..data.decoding.mask_files import mask_png
from ..machine.arrays import AnyArray, Int64Array
from ..models.arithmetic import autocast
from ..records.pixel_answers import pixel_answers
from ..targets.labels import IGNORED
from .inference import averaged_logits, evaluating, in_pieces, on_host
from .sliding_windows import over_windows
from .totals import LossTotal, ValidationMetrics

if TYPE_CHECKING:
    from ..data.loading.loaders import Batch
    from .task import ClassificationTask

__all__ = ["CollectedPixels", "answers_of", "confusion_matrices", "predict_pixels"]


def confusion_matrices(preds: Tensor, targets: Tensor, classes: int) -> Tensor:
    """Return (B, K, K) int64 pixels of each picture by target (rows) and prediction (columns).

    Args:
        preds: (B, H, W) int64 in [0, K).
        targets: (B, H, W) int64 in [0, K), or `IGNORED` for pixels that do not count.
        classes: K.
    """
    # What does not count has a place of its own: to select the rest would wait for the device.
    left_out = classes**2
    places = torch.where(targets == IGNORED, left_out, targets * classes + preds).flatten(1)
    counts = places.new_zeros(len(preds), left_out + 1)
    counts.scatter_add_(1, places, torch.ones_like(places))
    return counts[:, :left_out].unflatten(1, (classes, classes))


class CollectedPixels(LossTotal):
    """Mean loss and the metrics of pixels over the batches added since `reset`.

    The loss is the mean over all pixels that count, of which batches hold different numbers.

    Args:
        metrics: of the answers.
    """

    def __init__(self, metrics: ValidationMetrics) -> None:
        super().__init__()
        self._metrics = metrics
        self._matrix: Tensor | None = None
        self._losses: list[Tensor] = []

    def add(self, loss: Tensor, logits: Tensor, targets: Tensor) -> None:
        """Add a batch: its mean loss (scalar), logits (B, K, H, W), targets (B, H, W)."""
        logits = logits.detach()
        matrices = confusion_matrices(logits.argmax(dim=1), targets, logits.shape[1])
        found = matrices.sum(dim=0)
        # The sums weigh batches by their pictures, and this one counts by its pixels.
        super().add(loss * found.sum() / len(logits), logits, targets)
        self._matrix = found if self._matrix is None else self._matrix + found
        if self._metrics.monitor == "val/log_loss":  # a mean over pictures
            self._losses.append(_log_losses(logits.float(), targets, matrices))

    def read(self, *, everywhere: bool = False) -> dict[str, float]:
        """Return `loss` and the metrics."""
        if self._matrix is None:
            return {}
        matrix = self._matrix.cpu().numpy()
        held = (matrix.sum(axis=1) > 0)[None].astype(np.uint8)
        per_pixel = self.samples / max(1, int(matrix.sum()))
        loss = {name: per_pixel * value for name, value in super().read().items()}
        found = self._metrics(pixel_answers(matrix[None], np.zeros(1), [None]), held)
        if self._losses:
            losses = torch.cat(self._losses).cpu().numpy().astype(np.float32)
            found["log_loss"] = float(losses.mean(dtype=np.float64))
        return loss | found

    def reset(self) -> None:
        super().reset()
        self._matrix, self._losses = None, []


def predict_pixels(
    task: ClassificationTask,
    batches: Iterable[Batch],
    *,
    device: torch.device,
    precision: str = "float32",
    tta: str = "none",
) -> tuple[AnyArray, Int64Array]:
    """Compute the answers (N,) about the pixels of all batches, and sample ids (N,) int64.

    Args:
        task: on `device`; the modes of its modules are kept.
        batches, precision, tta: as of `predict`.
    """
    network = over_windows(partial(averaged_logits, task.evaluated, kind=tta), task.metadata)

    def logits_of(images: Tensor) -> Tensor:
        return network(task.normalized(images)).float()

    def answered(batch: Batch) -> tuple[Tensor, ...]:
        logits = in_pieces(logits_of, batch.images.to(device))
        return *_computed(logits, batch.targets.to(device)), batch.sample_ids

    with evaluating(task), torch.inference_mode(), autocast(device, precision):
        found = [
            (_kept(*answers), ids.numpy()) for *answers, ids in on_host(map(answered, batches))
        ]
    answers, ids = (np.concatenate(one) for one in zip(*found, strict=True))
    return answers, ids


def answers_of(logits: Tensor, targets: Tensor) -> AnyArray:
    """Return answers (B,), as of `src.records.pixel_answers`, of logits or log-probabilities.

    Args:
        logits: (B, K, H, W) float32.
        targets: (B, H, W) int64 in [0, K), or `IGNORED`.
    """
    return _kept(*(one.cpu() for one in _computed(logits, targets)))


def _computed(logits: Tensor, targets: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return matrices (B, K, K) int64, log-losses (B,) float64 and predictions (B, H, W) uint8."""
    preds = logits.argmax(dim=1)
    matrices = confusion_matrices(preds, targets, logits.shape[1])
    return matrices, _log_losses(logits, targets, matrices), preds.to(torch.uint8)


def _kept(matrices: Tensor, log_losses: Tensor, preds: Tensor) -> AnyArray:
    maps = [mask_png(one) for one in preds.numpy()]
    return pixel_answers(matrices.numpy(), log_losses.numpy(), maps)


def _log_losses(logits: Tensor, targets: Tensor, matrices: Tensor) -> Tensor:
    """Return (B,) float64: the mean log-loss of each picture's pixels that count.

    They lie on the device of the logits, but for Apple's GPU, which has no double precision.
    """
    losses = F.cross_entropy(logits, targets, reduction="none", ignore_index=IGNORED)
    if losses.device.type == "mps":
        losses, matrices = losses.cpu(), matrices.cpu()
    sums = losses.sum(dim=(1, 2), dtype=torch.float64)
    return sums / matrices.sum(dim=(1, 2)).clamp_min(1)
