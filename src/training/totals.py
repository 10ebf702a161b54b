"""Running totals of an epoch: mean loss, accuracy, and the metrics of kinds of targets."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor

from ..config.metrics import further_metrics, reported_metrics
from ..machine.arrays import AnyArray, Float64Array, Int64Array
from ..metrics.classification import mean_cost
from ..targets import TargetKind, fixed_thresholds
from .links import kept_probabilities

__all__ = ["CollectedAnswers", "LossTotal", "RunningTotals", "ValidationMetrics"]


class RunningTotals:
    """Mean loss and accuracy over the batches added since the last `reset`.

    The sums are kept on the device: adding costs no synchronisation, `read` does.
    """

    def __init__(self) -> None:
        # Sum of the losses of all samples, and number of right answers.
        self._sums: tuple[Tensor, Tensor] | None = None
        self.samples = 0

    def add(self, loss: Tensor, logits: Tensor, targets: Tensor) -> None:
        """Add a batch: its mean loss (scalar), logits (B, K), targets (B,) or (B, K)."""
        with torch.no_grad():
            # float64 (float32 where a device has none): a million samples still count exactly.
            wide = torch.float32 if loss.device.type == "mps" else torch.float64
            if self._sums is None:
                zero = torch.zeros((), dtype=wide, device=loss.device)
                self._sums = zero, zero
            # A checkpoint may come from another device.
            losses, right = (sums.to(loss.device, wide) for sums in self._sums)
            losses = torch.add(losses, loss.detach(), alpha=len(logits))
            self._sums = losses, right + self.correct(logits, targets)
            self.samples += len(logits)

    def read(self, *, everywhere: bool = False) -> dict[str, float]:
        """Return `loss` (mean per sample) and `accuracy` in [0, 1]; empty when nothing was added.

        With `everywhere` the sums of all processes are added; every process must then call it.
        """
        if self._sums is None:
            return {}
        losses, right = self._sums
        sums = torch.stack([losses, right, torch.full_like(losses, self.samples)])
        if everywhere and dist.is_available() and dist.is_initialized():
            dist.all_reduce(sums)
        loss, correct, samples = sums.tolist()
        return {"loss": loss / samples, "accuracy": correct / samples}

    @staticmethod
    def correct(logits: Tensor, targets: Tensor) -> Tensor:
        """Return how many pictures of a batch are right."""
        labels = targets if targets.ndim == 1 else targets.argmax(dim=1)
        return (logits.argmax(dim=1) == labels).sum()

    def reset(self) -> None:
        self._sums, self.samples = None, 0

    def state_dict(self) -> dict[str, Any]:
        sums = None if self._sums is None else torch.stack(self._sums)
        return {"sums": sums, "samples": self.samples}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        sums = state["sums"]
        self._sums, self.samples = None if sums is None else sums.unbind(), state["samples"]


class LossTotal(RunningTotals):
    """Mean loss alone, of targets for which no batch says how good it is."""

    @staticmethod
    def correct(logits: Tensor, targets: Tensor) -> Tensor:
        return logits.new_zeros(())

    def read(self, *, everywhere: bool = False) -> dict[str, float]:
        """Return `loss`, mean per sample."""
        return {k: v for k, v in super().read(everywhere=everywhere).items() if k == "loss"}


@dataclass(frozen=True, eq=False)
class ValidationMetrics:
    """The metrics of the validation part after an epoch, computed as those of a finished run.

    Attributes:
        kind: of the targets.
        class_names: K of them.
        monitor: key of the metric that the training is judged by, as "val/auc".
        best_for: the metric that thresholds of answers are best for, each picture's by others
            where pictures choose them; None for answers without thresholds.
        groups: (N,) equal for pictures of the part that go together, in its order.
        costs: (K, K) of each prediction (column) for each class; None without.
    """

    kind: TargetKind
    class_names: Sequence[str]
    monitor: str
    best_for: str | None = None
    groups: Int64Array | None = None
    costs: Float64Array | None = None

    def __call__(self, probs: AnyArray, targets: AnyArray) -> dict[str, float]:
        """Return by plain name what is reported, of the whole part in its order.

        A metric that these pictures have none of, as the AUC of a single class, is left out.
        """
        kind = self.kind
        thresholds = fixed_thresholds(self.best_for, self.costs)
        if thresholds is None and self.best_for is not None and self.groups is not None:
            thresholds = kind.cross_fitted_thresholds(probs, targets, self.groups, self.best_for)
        found = kind.evaluate(probs, targets, self.class_names, thresholds)
        if self.costs is not None:
            found["cost"] = mean_cost(self.costs, kind.decide(probs, thresholds), targets)
        names = [key.partition("/")[2] for key in reported_metrics(kind.name, self.monitor)]
        found |= further_metrics(probs, targets, names)
        return {name: found[name] for name in names if name in found}


class CollectedAnswers(LossTotal):
    """Mean loss and the metrics of all answers of the batches added since `reset`.

    The answers are kept until then, on the device that they come from.

    Args:
        metrics: of the answers.
        link: from logits to probabilities.
    """

    def __init__(self, metrics: ValidationMetrics, link: str) -> None:
        super().__init__()
        self._metrics, self._link = metrics, link
        self._answers: list[tuple[Tensor, Tensor]] = []

    def add(self, loss: Tensor, logits: Tensor, targets: Tensor) -> None:
        super().add(loss, logits, targets)
        self._answers.append((logits.detach(), targets))

    def read(self, *, everywhere: bool = False) -> dict[str, float]:
        """Return `loss` and the metrics."""
        if not self._answers:
            return {}
        logits, targets = (_joined(list(one), everywhere) for one in zip(*self._answers))
        probs, found = kept_probabilities(logits, self._link), super().read(everywhere=everywhere)
        return found | self._metrics(probs, targets.numpy()) if np.isfinite(probs).all() else found

    def reset(self) -> None:
        super().reset()
        self._answers = []


def _joined(batches: list[Tensor], everywhere: bool) -> Tensor:
    """Return batches (B, ...) as one tensor on the CPU, with those of all processes if wanted.

    A process has a part of each batch, in the order of the processes (`BatchOrder`), so the result
    is in the order of the pictures.
    """
    mine = torch.cat(batches)
    if not (everywhere and dist.is_available() and dist.is_initialized()):
        return mine.cpu()
    world = dist.get_world_size()
    sizes = torch.tensor([len(one) for one in batches], device=mine.device)
    all_sizes = [torch.empty_like(sizes) for _ in range(world)]
    dist.all_gather(all_sizes, sizes)
    # Tensors that are gathered have one shape.
    counts = [one.tolist() for one in all_sizes]
    padded = mine.new_zeros(max(map(sum, counts)), *mine.shape[1:])
    padded[: len(mine)] = mine
    gathered = [torch.empty_like(padded) for _ in range(world)]
    dist.all_gather(gathered, padded)
    parts = [
        whole[: sum(own)].cpu().split(own) for whole, own in zip(gathered, counts, strict=True)
    ]
    return torch.cat([part for step in zip(*parts, strict=True) for part in step])
