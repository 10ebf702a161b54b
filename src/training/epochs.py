"""The callback of a fit: metrics, history, checkpoints, early stopping, interruption, progress."""

from __future__ import annotations

import math
import signal
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytorch_lightning as pl

from ..config.checks import ConfigError
from ..config.metrics import direction_of
from ..config.training import TrainerSettings
from ..machine.failures import RunFailed
from ..machine.interruption import Interrupted, Interruption
from .cost import wait_for
from .progress import Progress
from .task import ClassificationTask

__all__ = ["EpochKeeper", "LogMetrics", "NonFiniteLoss", "has_best", "has_ended"]

History = dict[str, list[list[float]]]
# Called with the metrics of an epoch by key, and its number from 1.
LogMetrics = Callable[[dict[str, float], int], None]


def has_best(checkpoint: Mapping[str, Any]) -> bool:
    """Return whether an epoch of the training so far was the best one, and has a checkpoint.

    Raises:
        KeyError: the checkpoint is not one of `EpochKeeper`.
    """
    return checkpoint["callbacks"][EpochKeeper.__name__]["best_value"] is not None


def has_ended(checkpoint: Mapping[str, Any], settings: TrainerSettings) -> bool:
    """Return whether a training resumed from a checkpoint of `EpochKeeper` would end at once.

    Args:
        checkpoint: of the training.
        settings: that it goes on with, without any `auto`.

    Raises:
        KeyError: the checkpoint is of another kind.
    """
    kept = checkpoint["callbacks"][EpochKeeper.__name__]
    within = checkpoint["position"]["step"]
    epochs = checkpoint["epoch"] + (0 if within else 1)
    patience, limit = settings.early_stopping, settings.max_seconds
    return (
        (not within and epochs >= min(settings.epochs, settings.stop_after or settings.epochs))
        or (patience is not None and kept["waited"] >= patience)
        or (limit is not None and kept["seconds"] > limit)
    )


class NonFiniteLoss(RunFailed, ArithmeticError):
    """The loss became NaN or infinite; the run fails and its last good checkpoint stays."""


class EpochKeeper(pl.Callback):
    """Records a fit: metrics and history of every epoch, and its checkpoints.

    At the end of an epoch the metrics are logged before the checkpoint is written. A kill in
    between repeats the epoch on resuming, and the spool skips its metrics, which are equal and
    recorded already; the other order would leave a gap.

    An interruption writes a checkpoint in the middle of the epoch, with the position of the loader,
    the running totals and the time spent, so that nothing is lost and nothing counted twice. It is
    written where an optimizer step is complete and batches follow; an epoch whose last batch is
    done is completed with its validation. On several devices the checkpoint of the epoch before is
    kept, since each device has totals of its own.

    Args:
        checkpoints: folder for `last.ckpt` and `best.ckpt`.
        settings: without any `auto`; `max_time` is of all starts of the run together.
        interruption: checked where the state is consistent.
        log: records the metrics of an epoch; None for no record.
        on_epoch: called with (epoch, metrics) at the end of every epoch; may raise to stop.
        progress: shows what happens within an epoch; None to show nothing.
    """

    def __init__(
        self,
        checkpoints: Path,
        settings: TrainerSettings,
        interruption: Interruption,
        *,
        log: LogMetrics | None = None,
        on_epoch: Callable[[int, dict[str, float]], None] | None = None,
        progress: Progress | None = None,
    ) -> None:
        self.last = checkpoints / "last.ckpt"
        self.best = checkpoints / "best.ckpt"
        self.history: History = {}
        self.best_value: float | None = None
        self.seconds = 0.0
        self._settings = settings
        self._max_seconds = settings.max_seconds
        self._interruption = interruption
        self._log_metrics = log
        self._on_epoch = on_epoch
        self._progress = progress
        self._waited = 0
        self._position: dict[str, int] | None = None
        # When the epoch began, moved back by what earlier starts of the run spent in it.
        self._clock = 0.0
        self._within_epoch = 0.0
        self._epoch_seconds = 0.0

    def state_dict(self) -> dict[str, Any]:
        return {
            "history": self.history,
            "best_value": self.best_value,
            "waited": self._waited,
            "seconds": self.seconds,
            "within_epoch": time.perf_counter() - self._clock,
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.history = state_dict["history"]
        self.best_value = state_dict["best_value"]
        self._waited = state_dict["waited"]
        self.seconds = state_dict["seconds"]
        self._within_epoch = state_dict["within_epoch"]

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        assert isinstance(pl_module, ClassificationTask)
        checkpoint["totals"] = pl_module.totals["train"].state_dict()
        loader: Any = trainer.train_dataloader
        checkpoint["position"] = loader.state_dict()

    def on_load_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        assert isinstance(pl_module, ClassificationTask)
        before, now = checkpoint["bakeoff"], pl_module.metadata
        if any(before.get(key) != now.get(key) for key in ("split_fingerprint", "class_names")):
            raise ConfigError(
                "resume: the pictures are not those that the run began with: "
                "bring them back, or start a new run."
            )
        pl_module.totals["train"].load_state_dict(checkpoint["totals"])
        self._position = checkpoint["position"]

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        # The spool skips what it has already, and lacks what a full disk kept out of it.
        for key, points in self.history.items():
            for step, value in points:
                self._log(trainer, {key: value}, int(step))

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._interruption.install()
        self._interruption.defer(True)
        if trainer.received_sigterm:  # it came while Lightning's own handlers were in place
            raise Interrupted(signal.SIGTERM)
        self._clock = time.perf_counter() - self._within_epoch
        if self._position is None:  # a run that is killed in its first epoch is resumable too
            trainer.save_checkpoint(self.last)
            return
        # Lightning created its loaders before it read the checkpoint, and does not restore their
        # position.
        loader: Any = trainer.train_dataloader
        loader.load_state_dict(self._position)
        if self._is_over(trainer, trainer.current_epoch):  # it had stopped before it was killed
            trainer.should_stop = True

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._end()
        self._interruption.check()

    def on_exception(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException
    ) -> None:
        self._end()

    def _end(self) -> None:
        if self._progress is not None:
            self._progress.close()
        self._interruption.defer(False)

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
        assert isinstance(pl_module, ClassificationTask)
        if pl_module.device.type == "cpu":  # elsewhere this would wait for the device
            self._require_finite(trainer, float(outputs["loss"]))
        if self._interruption.pending:
            self._stop_within(trainer, pl_module, batch_idx + 1)
        if self._out_of_time(trainer):
            trainer.should_stop = True
        if self._progress is not None:
            self._progress.step(trainer.current_epoch, batch_idx + 1, pl_module.totals["train"])

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._epoch_seconds = self._since_its_begin(pl_module)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        assert isinstance(pl_module, ClassificationTask)
        metrics = self._epoch_metrics(trainer, pl_module)
        epoch = trainer.current_epoch
        for key, value in metrics.items():
            self.history.setdefault(key, []).append([epoch + 1, value])
        self._log(trainer, metrics, epoch + 1)
        improved = self._note_best(metrics)
        self._count_time()
        if improved:
            trainer.save_checkpoint(self.best)
        over = self._is_over(trainer, epoch + 1) or epoch + 1 == trainer.max_epochs
        due = (epoch + 1) % self._settings.checkpoint_every == 0
        if over or due or self._anywhere(trainer, self._interruption.pending):
            trainer.save_checkpoint(self.last)
        self._count_time()
        if self._progress is not None:
            self._progress.epoch(epoch, metrics)
        # Writing may have taken the time that was left.
        if over or (due and self._is_over(trainer, epoch + 1)):
            trainer.should_stop = True
        if self._on_epoch is not None:
            self._on_epoch(epoch, metrics)
        self._interruption.check()

    def _stop_within(self, trainer: pl.Trainer, task: ClassificationTask, batches: int) -> None:
        """Save and stop after `batches` of the epoch, if this is a place where that can be done."""
        if trainer.world_size > 1:
            self._interruption.check()
        if batches == trainer.num_training_batches or batches % trainer.accumulate_grad_batches:
            return
        # On a GPU the loss is not read every step, and a checkpoint must be of a finite loss.
        self._require_finite(trainer, task.totals["train"].read().get("loss", 0.0))
        trainer.save_checkpoint(self.last)
        self._interruption.check()

    def _count_time(self) -> None:
        now = time.perf_counter()
        self.seconds, self._clock = self.seconds + now - self._clock, now

    def _is_over(self, trainer: pl.Trainer, epochs: int) -> bool:
        """Return whether a training of so many whole epochs ends before the planned last one."""
        patience, stop_after = self._settings.early_stopping, self._settings.stop_after
        patient = patience is None or self._waited < patience
        wanted = stop_after is None or epochs < stop_after
        return not (patient and wanted) or self._out_of_time(trainer)

    def _out_of_time(self, trainer: pl.Trainer) -> bool:
        return self._max_seconds is not None and self._anywhere(trainer, self.share_of_time() > 1)

    def share_of_time(self) -> float:
        """Return the share of `max_seconds` that is spent; 0 without, and before training."""
        if self._max_seconds is None or not self._clock:
            return 0.0
        return (self.seconds + time.perf_counter() - self._clock) / self._max_seconds

    @staticmethod
    def _anywhere(trainer: pl.Trainer, decision: bool) -> bool:
        """Return whether any device decides so; all must call it.

        Each has a clock and signals of its own. One that stopped or saved alone would wait for the
        others for ever, and they for it. On several devices this waits for the step's end.
        """
        return trainer.strategy.reduce_boolean_decision(decision, all=False)

    def _since_its_begin(self, module: pl.LightningModule) -> float:
        """Return the seconds of the epoch so far, to the end of its steps on the device."""
        wait_for(module.device)
        return time.perf_counter() - self._clock

    def _log(self, trainer: pl.Trainer, metrics: dict[str, float], epoch: int) -> None:
        if self._log_metrics is not None and trainer.is_global_zero:
            self._log_metrics(metrics, epoch)

    def _epoch_metrics(self, trainer: pl.Trainer, task: ClassificationTask) -> dict[str, float]:
        train, val = task.totals["train"], task.totals["val"]
        seconds = self._epoch_seconds or self._since_its_begin(task)
        # Validation first, and the loss last: MLflow's comparison begins with the first metric.
        measured = sorted(val.read(everywhere=True).items(), key=lambda item: item[0] == "loss")
        metrics = {f"val/{key}": value for key, value in measured}
        metrics |= {f"train/{k}": v for k, v in train.read(everywhere=True).items()}
        self._require_finite(trainer, metrics.get("train/loss", 0.0))
        metrics["train/lr"] = float(trainer.optimizers[0].param_groups[-1]["lr"])
        metrics["train/images_per_second"] = train.samples * trainer.world_size / seconds
        train.reset()
        val.reset()
        return metrics

    def _note_best(self, metrics: dict[str, float]) -> bool:
        if "val/loss" not in metrics:  # there was no validation
            return False
        # Answers that are not finite may have a loss alone. NaN is neither better nor worse than
        # anything, so it would pass for an improvement, and so would whatever follows.
        monitor = self._settings.monitor
        value = metrics.get(monitor, math.nan)
        sign = 1.0 if direction_of(monitor) == "maximize" else -1.0
        better = self.best_value is None or sign * value > sign * self.best_value
        if not (math.isfinite(value) and better):
            self._waited += 1
            return False
        self.best_value, self._waited = value, 0
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
