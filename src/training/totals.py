"""Running totals of an epoch: mean loss, accuracy, and the metrics of kinds of targets."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor

from ..machine.arrays import Float64Array
from ..metrics.classification import mean_cost
from ..targets import TargetKind
from .links import probabilities

__all__ = ["CollectedAnswers", "LossTotal", "RunningTotals"]


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
            if self._sums is None:
                # float64 (float32 where a device has none): a million samples still count exactly.
                wide = torch.float32 if loss.device.type == "mps" else torch.float64
                zero = torch.zeros((), dtype=wide, device=loss.device)
                self._sums = zero, zero
            losses, right = (sums.to(loss.device) for sums in self._sums)
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


class CollectedAnswers(LossTotal):
    """Mean loss and the metrics of a kind of targets over the batches added since `reset`.

    All answers are kept until then, on the device that they come from.

    Args:
        kind: of the targets.
        link: from logits to probabilities.
        costs: (K, K) of each prediction for each class, for `cost`; None without.
    """

    def __init__(self, kind: TargetKind, link: str, costs: Float64Array | None = None) -> None:
        super().__init__()
        self._kind, self._link, self._costs = kind, link, costs
        self._answers: list[tuple[Tensor, Tensor]] = []

    def add(self, loss: Tensor, logits: Tensor, targets: Tensor) -> None:
        super().add(loss, logits, targets)
        self._answers.append((logits.detach(), targets))

    def read(self, *, everywhere: bool = False) -> dict[str, float]:
        """Return `loss` and what the kind measures after each epoch."""
        if not self._answers:
            return {}
        # On the CPU first: Apple's GPU has no double precision.
        logits = torch.cat([logits for logits, _ in self._answers]).cpu().double()
        targets = torch.cat([targets for _, targets in self._answers]).cpu().numpy()
        probs = probabilities(logits, self._link).numpy()
        if not np.isfinite(probs).all():
            return super().read()
        found = super().read() | self._kind.epoch_metrics(probs, targets)
        if self._costs is not None:
            found["cost"] = mean_cost(self._costs, self._kind.decide(probs), targets)
        return found

    def reset(self) -> None:
        super().reset()
        self._answers = []
