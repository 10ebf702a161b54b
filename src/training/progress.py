"""What a person watches while a network trains: a line that moves, and one an epoch that stays."""

from __future__ import annotations

import sys
import time
from typing import TextIO

from src.config.console import direct
from src.training.totals import Totals

__all__ = ["Progress"]

_REFRESH_SECONDS = 0.25
_BAR_WIDTH = 20


class Progress:
    """Writes to standard error, so that standard output stays for results.

    The moving line is drawn on a terminal only and at most four times a second: reading the
    running sums is what costs (it waits for the device), so it is not done a step.

    Args:
        epochs: planned number.
        steps: batches an epoch.
        moving: draw the moving line where the stream is a terminal.
    """

    def __init__(
        self, epochs: int, steps: int, *, moving: bool = True, stream: TextIO | None = None
    ) -> None:
        self._epochs = epochs
        self._steps = steps
        self._stream = direct(stream or sys.stderr)
        self._moving = moving and self._stream.isatty()
        self._drawn = 0.0
        self._epoch_started = (-1, 0.0)

    def step(self, epoch: int, step: int, totals: Totals) -> None:
        """After batch `step` (from 1) of `epoch` (from 0)."""
        if not self._moving:
            return
        now = time.perf_counter()
        if self._epoch_started[0] != epoch:
            self._epoch_started = (epoch, now)
        if now - self._drawn < _REFRESH_SECONDS:
            return
        self._drawn = now
        sums = totals.read()
        filled = round(_BAR_WIDTH * step / self._steps)
        elapsed = now - self._epoch_started[1]
        speed = f"  {totals.samples / elapsed:,.0f} images/s" if elapsed > _REFRESH_SECONDS else ""
        bar = "█" * filled + "░" * (_BAR_WIDTH - filled)
        self._write(
            f"\r{self._label(epoch)} {bar} {step}/{self._steps}"
            f"  loss {sums['loss']:.3f}  accuracy {sums['accuracy']:.1%}{speed}\033[K"
        )

    def epoch(self, epoch: int, metrics: dict[str, float]) -> None:
        """After an epoch (from 0), with its metrics by key."""
        parts = [self._label(epoch)]
        for split in ("train", "val"):
            if f"{split}/loss" in metrics:
                loss, accuracy = metrics[f"{split}/loss"], metrics[f"{split}/accuracy"]
                parts.append(f"{split} loss {loss:.4f} accuracy {accuracy:.2%}")
        parts.append(f"{metrics['train/images_per_second']:,.0f} images/s")
        start, end = ("\r", "\033[K\n") if self._moving else ("", "\n")
        self._write(f"{start}{'  '.join(parts)}{end}")

    def close(self) -> None:
        """Leave the moving line, so that a message stands on a line of its own."""
        if self._moving and self._drawn:
            self._write("\n")

    def _label(self, epoch: int) -> str:
        width = len(str(self._epochs))
        return f"epoch {epoch + 1:>{width}}/{self._epochs}"

    def _write(self, text: str) -> None:
        try:
            self._stream.write(text)
            self._stream.flush()
        except (OSError, ValueError):  # the terminal went away; training goes on
            self._moving = False
