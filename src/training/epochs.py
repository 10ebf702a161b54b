"""What happens around an epoch: progress, history, checkpoints, early stopping, interruption."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytorch_lightning as pl

from src.training.interruption import Interruption
from src.training.progress import Progress
from src.training.task import ClassificationTask

__all__ = ["EpochKeeper", "NonFiniteLoss"]

History = dict[str, list[list[float]]]


class NonFiniteLoss(ArithmeticError):
    """The loss became NaN or infinite; the run fails and its last good checkpoint stays."""


class EpochKeeper(pl.Callback):
    """Keeps the books of a fit.

    The order at the end of an epoch matters: first the metrics are logged, then the checkpoint is
    written. A kill in between repeats the epoch on resuming, and its metrics, equal and already
    written, are skipped by the spool; the other order would leave a gap.

    Args:
        checkpoints: folder for `last.ckpt` and `best.ckpt`.
        interruption: asked after every batch.
        monitor: "val/accuracy" or "val/loss".
        patience: validations without improvement before stopping; None for never.
        max_seconds: of training, all starts of the run together; None for no limit.
        on_epoch: called with (epoch, metrics) at the end of every epoch; may raise to stop.
        progress: what a person watches, or None.
    """

    def __init__(
        self,
        checkpoints: Path,
        *,
        interruption: Interruption,
        monitor: str,
        patience: int | None = None,
        max_seconds: float | None = None,
        on_epoch: Callable[[int, dict[str, float]], None] | None = None,
        progress: Progress | None = None,
    ) -> None:
        self.last = checkpoints / "last.ckpt"
        self.best = checkpoints / "best.ckpt"
        self.history: History = {}
        self.best_value: float | None = None
        self.best_epoch = -1
        self.seconds = 0.0
        self._interruption = interruption
        self._monitor = monitor
        self._patience = patience
        self._max_seconds = max_seconds
        self._on_epoch = on_epoch
        self._progress = progress
        self._waited = 0
        self._clock = 0.0
        self._epoch_seconds = 0.0

    def state_dict(self) -> dict[str, Any]:
        return {
            "history": self.history,
            "best_value": self.best_value,
            "best_epoch": self.best_epoch,
            "waited": self._waited,
            "seconds": self.seconds,
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.history = state_dict["history"]
        self.best_value = state_dict["best_value"]
        self.best_epoch = state_dict["best_epoch"]
        self._waited = state_dict["waited"]
        self.seconds = state_dict["seconds"]

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._interruption.install()
        self._interruption.defer(True)
        if trainer.current_epoch == 0:  # a run that is killed in its first epoch is resumable too
            trainer.save_checkpoint(self.last)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._interruption.defer(False)

    def on_exception(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException
    ) -> None:
        self._interruption.defer(False)
        if self._progress is not None:
            self._progress.close()

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._clock = time.perf_counter()
        self._epoch_seconds = 0.0

    def on_train_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        self._interruption.check()
        assert isinstance(pl_module, ClassificationTask)
        if pl_module.device.type == "cpu":  # elsewhere this would wait for the device
            self._require_finite(trainer, float(outputs["loss"]))
        seconds = self.seconds + time.perf_counter() - self._clock
        if self._max_seconds is not None and seconds > self._max_seconds:
            trainer.should_stop = True
        if self._progress is not None:
            self._progress.step(trainer.current_epoch, batch_idx + 1, pl_module.totals["train"])

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._epoch_seconds = time.perf_counter() - self._clock

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        assert isinstance(pl_module, ClassificationTask)
        metrics = self._epoch_metrics(trainer, pl_module)
        epoch = trainer.current_epoch
        for key, value in metrics.items():
            self.history.setdefault(key, []).append([epoch + 1, value])
        if trainer.is_global_zero:
            for logger in trainer.loggers:
                logger.log_metrics(metrics, step=epoch + 1)
        improved = self._note_best(metrics, epoch)
        self.seconds += time.perf_counter() - self._clock
        if improved:
            trainer.save_checkpoint(self.best)
        trainer.save_checkpoint(self.last)
        if self._progress is not None:
            self._progress.epoch(epoch, metrics)
        if self._patience is not None and self._waited >= self._patience:
            trainer.should_stop = True
        if self._on_epoch is not None:
            self._on_epoch(epoch, metrics)

    def _epoch_metrics(self, trainer: pl.Trainer, task: ClassificationTask) -> dict[str, float]:
        train, val = task.totals["train"], task.totals["val"]
        seconds = self._epoch_seconds or time.perf_counter() - self._clock
        # Validation first: MLflow's plots begin with the first metric they met.
        metrics = {f"val/{k}": v for k, v in val.read(everywhere=True).items()}
        metrics |= {f"train/{k}": v for k, v in train.read(everywhere=True).items()}
        self._require_finite(trainer, metrics.get("train/loss", 0.0))
        metrics["train/lr"] = float(trainer.optimizers[0].param_groups[-1]["lr"])
        metrics["train/images_per_second"] = train.samples * trainer.world_size / seconds
        train.reset()
        val.reset()
        return metrics

    def _note_best(self, metrics: dict[str, float], epoch: int) -> bool:
        if self._monitor not in metrics:
            return False
        value = metrics[self._monitor]
        sign = 1.0 if self._monitor == "val/accuracy" else -1.0
        if self.best_value is not None and sign * value <= sign * self.best_value:
            self._waited += 1
            return False
        self.best_value, self.best_epoch, self._waited = value, epoch, 0
        return True

    @staticmethod
    def _require_finite(trainer: pl.Trainer, loss: float) -> None:
        if not math.isfinite(loss):
            rate = trainer.optimizers[0].param_groups[-1]["lr"]
            raise NonFiniteLoss(
                f"the loss became {loss} in epoch {trainer.current_epoch + 1}, "
                f"step {trainer.global_step}, at learning rate {rate:.3g}: "
                "lower optimizer.lr or set trainer.gradient_clip"
            )
