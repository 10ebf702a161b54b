"""Lightning's trainer of a run, and the check of the devices that it trains on."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import torch

from ...config.checks import ConfigError
from ...config.schema import RunSettings
from ...machine.hardware import device_of
from ...machine.parallel import available_cores
from .network import network_of

if TYPE_CHECKING:
    import pytorch_lightning as pl

    from ...training.epochs import EpochKeeper

__all__ = ["build_trainer", "check_devices"]

_LIGHTNING_PRECISION = {"float32": "32-true", "bfloat16": "bf16-mixed", "float16": "16-mixed"}


def check_devices(settings: RunSettings) -> str | None:
    """Check that the devices asked for are there; return a remark on those that will be slow.

    Raises:
        ConfigError: they are not there, or cannot compute in the precision.
    """
    trainer, runtime = settings.trainer, settings.runtime
    if trainer.accelerator == "gpu" and not torch.cuda.is_available():
        raise ConfigError("trainer.accelerator is gpu, but torch sees no GPU on this machine.")
    if trainer.accelerator == "mps" and not torch.backends.mps.is_available():
        raise ConfigError("trainer.accelerator is mps, but torch sees no Apple GPU here.")
    device = device_of(trainer.accelerator).type
    on_cpu = device == "cpu"
    if on_cpu and runtime.precision == "float16":
        raise ConfigError("runtime.precision is float16, which needs a GPU: bfloat16 works here.")
    if not isinstance(trainer.devices, int):
        return None
    present = {"cpu": available_cores(), "mps": 1}.get(device, torch.cuda.device_count())
    if trainer.devices <= present:
        return None
    if on_cpu:
        cores = f"{present} CPU core{'s' * (present > 1)}"
        return (
            f"trainer.devices is {trainer.devices}, with {cores} here: the processes wait for each "
            "other, and one trains faster"
        )
    raise ConfigError(f"trainer.devices is {trainer.devices}, but this machine has {present} GPUs.")


def build_trainer(settings: RunSettings, keeper: EpochKeeper, run_dir: Path) -> pl.Trainer:
    """Return Lightning's trainer with the project's records and checkpoints, and without output.

    Raises:
        ConfigError: the devices asked for are not there.
    """
    import pytorch_lightning as pl

    from ...training.lightning_parts import AtomicCheckpointIO
    from ...training.progress import quiet_lightning
    from ...training.synchronized_norms import SynchronizedNorms

    check_devices(settings)
    quiet_lightning()
    trainer, runtime = settings.trainer, settings.runtime
    device = device_of(trainer.accelerator).type
    on_cuda = device == "cuda"
    devices = 1 if not on_cuda and trainer.devices == "auto" else trainer.devices
    several = devices != 1 and not (devices == "auto" and torch.cuda.device_count() == 1)
    strategy = "ddp_find_unused_parameters_true" if network_of(settings).freeze_epochs else "ddp"
    # Deterministic kernels do not need new memory filled, which takes some 8 % of a step.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    return pl.Trainer(
        accelerator="gpu" if on_cuda else device,  # auto would be Apple's GPU on a Mac
        devices=devices,
        strategy=strategy if several else "auto",
        precision=_LIGHTNING_PRECISION[runtime.precision],  # type: ignore[arg-type]
        max_epochs=trainer.epochs,
        gradient_clip_val=trainer.gradient_clip,
        accumulate_grad_batches=trainer.accumulate_batches,
        check_val_every_n_epoch=trainer.validate_every,
        limit_val_batches=0 if settings.data.train_on_val else None,
        # False rather than None, which would leave it as the process's last training had it.
        deterministic="warn" if trainer.deterministic else False,
        benchmark=on_cuda and not trainer.deterministic,  # all batches are of one size
        use_distributed_sampler=False,  # the loaders divide the batches themselves
        num_sanity_val_steps=0,
        logger=False,
        callbacks=[keeper],
        plugins=[AtomicCheckpointIO(), *([SynchronizedNorms()] if several and on_cuda else [])],
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=run_dir,
    )
