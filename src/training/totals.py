"""Running sums of an epoch, kept on the device and read once."""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

__all__ = ["Totals"]


class Totals:
    """Mean loss and accuracy over the batches added since the last `reset`.

    Adding costs no synchronisation with the device; `read` does.
    """

    def __init__(self) -> None:
        self._sums: Tensor | None = None
        self.samples = 0

    def add(self, loss: Tensor, logits: Tensor, targets: Tensor) -> None:
        """Add a batch: its mean loss (scalar), logits (B, K), targets (B,) or (B, K)."""
        with torch.no_grad():
            size = len(logits)
            labels = targets if targets.ndim == 1 else targets.argmax(dim=1)
            correct = (logits.argmax(dim=1) == labels).sum()
            # float64 (float32 where a device has none): a million samples still count exactly.
            wide = torch.float32 if loss.device.type == "mps" else torch.float64
            batch = torch.stack([loss.detach().to(wide) * size, correct.to(wide)])
            self._sums = batch if self._sums is None else self._sums.to(batch.device) + batch
            self.samples += size

    def read(self, *, everywhere: bool = False) -> dict[str, float]:
        """`loss` (mean a sample) and `accuracy` in [0, 1]; nothing when nothing was added.

        With `everywhere` the sums of all processes count; then every process must call it.
        """
        if self._sums is None:
            return {}
        sums = torch.cat([self._sums, self._sums.new_tensor([float(self.samples)])])
        if everywhere and dist.is_available() and dist.is_initialized():
            dist.all_reduce(sums)
        loss, correct, samples = sums.tolist()
        return {"loss": loss / samples, "accuracy": correct / samples}

    def reset(self) -> None:
        self._sums = None
        self.samples = 0

    def state_dict(self) -> dict[str, Any]:
        """The sums so far, for a checkpoint in the middle of an epoch."""
        return {"sums": self._sums, "samples": self.samples}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from what `state_dict` gave."""
        self._sums, self.samples = state["sums"], state["samples"]
