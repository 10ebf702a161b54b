"""Lightning's part of a training."""

from __future__ import annotations

from pathlib import Path

import pytorch_lightning as pl
import torch

from src.config.checks import ConfigError
from src.config.schema import RunSettings
from src.runs.build.network import network_of
from src.training.checkpoints import AtomicCheckpointIO
from src.training.epochs import EpochKeeper

__all__ = ["build_trainer"]

_LIGHTNING_PRECISION = {"float32": "32-true", "bfloat16": "bf16-mixed", "float16": "16-mixed"}


def build_trainer(settings: RunSettings, keeper: EpochKeeper, run_dir: Path) -> pl.Trainer:
    """Return Lightning's trainer with the project's records and checkpoints, and without output.

    Raises:
        ConfigError: the devices asked for are not there.
    """
    trainer, runtime = settings.trainer, settings.runtime
    if trainer.accelerator == "gpu" and not torch.cuda.is_available():
        raise ConfigError("trainer.accelerator is gpu, but torch sees no GPU on this machine.")
    on_cpu = trainer.accelerator == "cpu" or not torch.cuda.is_available()
    if on_cpu and runtime.precision == "float16":
        raise ConfigError("runtime.precision is float16, which needs a GPU: bfloat16 works here.")
    if not on_cpu and isinstance(trainer.devices, int):
        present = torch.cuda.device_count()
        if trainer.devices > present:
            raise ConfigError(
                f"trainer.devices is {trainer.devices}, but this machine has {present} GPUs."
            )
    devices = 1 if on_cpu and trainer.devices == "auto" else trainer.devices
    several = devices != 1 and not (devices == "auto" and torch.cuda.device_count() == 1)
    strategy = "ddp_find_unused_parameters_true" if network_of(settings).freeze_epochs else "ddp"
    return pl.Trainer(
        accelerator=trainer.accelerator,
        devices=devices,
        strategy=strategy if several else "auto",
        precision=_LIGHTNING_PRECISION[runtime.precision],  # type: ignore[arg-type]
        max_epochs=int(trainer.max_epochs),
        gradient_clip_val=trainer.gradient_clip,
        accumulate_grad_batches=trainer.accumulate_batches,
        check_val_every_n_epoch=trainer.validate_every,
        limit_val_batches=0 if settings.data.train_on_val else None,
        deterministic="warn" if trainer.deterministic else None,
        sync_batchnorm=several and not on_cpu,
        use_distributed_sampler=False,  # the loaders divide the batches themselves
        num_sanity_val_steps=0,
        logger=False,
        callbacks=[keeper],
        plugins=[AtomicCheckpointIO()],
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=run_dir,
    )
