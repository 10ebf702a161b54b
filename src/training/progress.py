"""The terminal's display while a network trains: a bar with the time left, a line per epoch."""

from __future__ import annotations

import logging
import sys
import time
import warnings
from collections.abc import Callable
from typing import TextIO

from rich.console import Console
from rich.progress import BarColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

from ..config.console import direct
from ..machine.text import duration, percent
from ..metrics.registry import unit_of
from ..metrics.summary import accuracy_name, metric_name
from .totals import RunningTotals

__all__ = ["Progress", "quiet_lightning"]

# Metrics in the line of an epoch, in addition to the loss.
_NAMES_IN_LINE = {"accuracy": "accuracy", "map": "mAP", "kappa": "kappa", "miou": "mean IoU"}
_REFRESH_SECONDS, _PLAIN_SECONDS = 0.25, 60.0
_WORTH_SAYING = 2.0  # seconds that are left
_BAR_WIDTH = 20
# Lightning's advice about things that are done on purpose: own loaders, records and checkpoints.
_ADVICE = (
    r".*does not have many workers.*",
    r".*is smaller than the logging interval.*",
    r".*`isinstance\(treespec, LeafSpec\)` is deprecated.*",
    r".*Checkpoint directory .* exists and is not empty.*",
    r".*The `srun` command is available.*",
    r".*You're resuming from a checkpoint that ended before the epoch ended.*",
    r"Found \d+ module\(s\) in eval mode.*",
    r".*lr_scheduler\.step\(\).* before .*optimizer\.step\(\).*",
)


class Progress:
    """Writes to standard error, as standard output is for results.

    The bar is drawn on a terminal only and at most four times a second: reading the running totals
    waits for the device, so it is not done every step. Logs and notebooks get a line a minute
    within an epoch, and beside each epoch the time that is left.

    Args:
        epochs: planned number.
        steps: batches per epoch.
        moving: show what happens within an epoch.
        stream: where to write; None for standard error.
    """

    def __init__(
        self, epochs: int, steps: int, *, moving: bool = True, stream: TextIO | None = None
    ) -> None:
        self._epochs = epochs
        self._steps = steps
        self._epoch_started = (-1, 0.0)
        self._began: tuple[float, int] | None = None  # when, and after how many batches
        stream = direct(stream or sys.stderr)
        self._wanted, self._moving = moving, moving and stream.isatty()
        self._drawn = 0.0 if self._moving else time.perf_counter()
        self._bar = Bar(
            TextColumn("{task.description}", markup=False),
            BarColumn(_BAR_WIDTH),
            TimeRemainingColumn(),
            TextColumn("{task.fields[figures]}", markup=False),
            console=Console(
                file=stream, force_terminal=self._moving, highlight=False, force_jupyter=False
            ),
            auto_refresh=False,
            transient=True,
            redirect_stdout=False,
            redirect_stderr=False,
        )

    def step(self, epoch: int, step: int, totals: RunningTotals) -> None:
        """Show where the training is after batch `step` (from 1) of `epoch` (from 0)."""
        if not self._wanted:
            return
        now, done = time.perf_counter(), epoch * self._steps + step
        if self._began is None:
            self._began = now, done - 1
        if self._epoch_started[0] != epoch:
            self._epoch_started = (epoch, now)
        if now - self._drawn < (_REFRESH_SECONDS if self._moving else _PLAIN_SECONDS):
            return
        self._drawn = now
        read = totals.read()
        elapsed = now - self._epoch_started[1]
        speed = f"  {totals.samples / elapsed:,.0f} images/s" if elapsed > _REFRESH_SECONDS else ""
        accuracy = f"  accuracy {percent(read['accuracy'])}" if "accuracy" in read else ""
        figures = f"{step}/{self._steps}  loss {read['loss']:.3f}{accuracy}{speed}"
        if self._moving:
            self._write(lambda: self._draw(epoch, done, figures))
        else:
            self._print([self._label(epoch), figures, *self._left(done)])

    def epoch(self, epoch: int, metrics: dict[str, float]) -> None:
        """Write a line after an epoch (from 0), with its metrics by key."""
        parts = [self._label(epoch)]
        names = _NAMES_IN_LINE | {"accuracy": accuracy_name("val/map" in metrics)}
        for part, _, name in (key.partition("/") for key in metrics):
            if part == "val" and name not in (*names, "loss"):  # which the training watches
                names[name] = metric_name(name)
        for split in ("train", "val"):
            if f"{split}/loss" in metrics:
                shown = [
                    f"{own} {percent(value) if unit_of(name) == 'percent' else f'{value:.3f}'}"
                    for name, own in names.items()
                    if (value := metrics.get(f"{split}/{name}")) is not None
                ]
                loss = f"{split} loss {metrics[f'{split}/loss']:.4f}"
                parts.append(" ".join([loss, *shown]))
        parts.append(f"{metrics['train/images_per_second']:,.0f} images/s")
        self._print([*parts, *self._left((epoch + 1) * self._steps)])

    def close(self) -> None:
        """Remove the bar, so that a message begins on a line of its own."""
        if self._bar.tasks:
            self._write(self._bar.stop)

    def _left(self, done: int) -> list[str]:
        """Return the time that is left after so many batches, unless the bar shows it."""
        if self._moving or self._began is None:
            return []
        began, before = self._began
        each = (time.perf_counter() - began) / max(1, done - before)
        seconds = each * (self._epochs * self._steps - done)
        return [f"{duration(seconds)} left"] if seconds >= _WORTH_SAYING else []

    def _print(self, parts: list[str]) -> None:
        line = "  ".join(parts)
        self._write(lambda: self._bar.console.print(line, markup=False, soft_wrap=True))

    def _draw(self, epoch: int, done: int, figures: str) -> None:
        label = self._label(epoch)
        if not self._bar.tasks:  # a resumed training begins where it was, and not at 0
            self._bar.add_task(label, total=self._epochs * self._steps, completed=done, figures="")
            self._bar.start()
        self._bar.update(
            self._bar.task_ids[0], completed=done, description=label, figures=figures, refresh=True
        )

    def _label(self, epoch: int) -> str:
        width = len(str(self._epochs))
        return f"epoch {epoch + 1:>{width}}/{self._epochs}"

    def _write(self, write: Callable[[], object]) -> None:
        try:
            write()
        except (OSError, ValueError):  # the terminal is gone; training goes on
            self._wanted = self._moving = False


def quiet_lightning() -> None:
    """Silence Lightning's banner, tips and advice; errors and the project's own messages stay."""
    for name in ("pytorch_lightning", "lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.ERROR)
    for message in _ADVICE:
        warnings.filterwarnings("ignore", message=message)
