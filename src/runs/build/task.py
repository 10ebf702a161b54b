"""A network with all that trains it, from settings or from a checkpoint."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

from src.config.augment import OPERATIONS
from src.config.checks import ConfigError, Settings, input_of, own_fields, to_plain
from src.config.models import NetworkSettings
from src.config.schema import RunSettings
from src.config.stored import stored_settings
from src.config.training import LossSettings, OptimizerSettings, SchedulerSettings
from src.data.augmentation.augment import Augment
from src.data.loading.datamodule import PictureData
from src.data.splitting.folds import training_seed
from src.machine.imports import import_object
from src.runs.build.network import build_network, network_arguments, network_of, rebuild_arguments
from src.training.checkpoints import read_checkpoint
from src.training.inference import MEMORY_FORMATS, require_finite
from src.training.losses import balanced_weights
from src.training.optimizers import parameter_groups
from src.training.task import ClassificationTask, head_prefixes

__all__ = ["build_task", "load_task"]


def build_task(settings: RunSettings, data: PictureData) -> ClassificationTask:
    """Network, loss, augmentation, optimizer and schedule, joined in a LightningModule.

    Raises:
        ConfigError: the network cannot be made for these pictures, or its weights not be found.
    """
    pictures, model = data.pictures, network_of(settings)
    torch.manual_seed(training_seed(settings.seed, settings.cv.fold))  # the weights' draw
    network = build_network(
        model,
        channels=pictures.channels,
        classes=len(pictures.class_names),
        image_size=pictures.image_size,
    )
    mean, std = getattr(network, "input_statistics", None) or data.channel_statistics
    passport = {
        # A run that was interrupted ends as the same model as one that was not.
        "settings": to_plain(settings) | {"resume": None},
        "network": {
            "target": model._target_,
            "arguments": rebuild_arguments(model, network),
        },
        "class_names": list(pictures.class_names),
        **pictures.format.plain(),
        "mean": list(mean),
        "std": list(std),
        "split_fingerprint": data.split.fingerprint,
    }
    with input_of("loss"):
        balanced = settings.loss.class_weights == "balanced"
        weights = balanced_weights(torch.as_tensor(data.class_counts)) if balanced else None
    loss = import_object(settings.loss._target_)(
        **own_fields(settings.loss, LossSettings), class_weights=weights
    )
    augment = Augment(
        settings.augment,
        further=[
            import_object(make)(**own_fields(getattr(settings.augment, name), Settings))
            for name, make in OPERATIONS.items()
            if hasattr(settings.augment, name)
        ],
        flip_ok=settings.data.mirror_ok,
        num_classes=len(pictures.class_names),
    )
    if model.frozen_stages and model.stored_views and augment.soft_targets:
        raise ConfigError(
            f"model.stored_views is {model.stored_views}, but augment.mix_probability is "
            f"{settings.augment.mix_probability:g}: what is stored of single pictures cannot be "
            "mixed; set one of them to 0."
        )
    return _assemble(settings, network, passport, loss=loss, augment=augment)


def load_task(checkpoint: Path) -> ClassificationTask:
    """The trained task of a checkpoint, on the CPU in eval mode.

    Its `passport` says the rest: settings, class names, picture size, `epochs` trained.

    Raises:
        ConfigError: the file is no checkpoint of a run, or holds code.
    """
    with input_of("run"):
        stored = read_checkpoint(checkpoint)
        passport = stored.get("bakeoff")
        if not isinstance(passport, dict):
            raise ValueError(f"{checkpoint} is not a checkpoint of a Bakeoff run")
        settings = stored_settings(passport["settings"])
        # The checkpoint brings the weights; nothing is to be fetched for it. Its settings have the
        # arguments that its network did not know yet, its network those that building decided.
        model = network_of(settings).without_weights()
        arguments = network_arguments(model) | passport["network"]["arguments"]
        network = import_object(model._target_)(
            passport["channels"],
            len(passport["class_names"]),
            tuple(passport["image_size"]),
            **arguments,
        )
        passport["epochs"] = stored["epoch"] + 1
        task = _assemble(settings, network, passport, loss=nn.CrossEntropyLoss(), augment=None)
        weights = {k: v for k, v in stored["state_dict"].items() if not k.startswith("loss.")}
        task.load_state_dict(weights)
        try:
            require_finite(task.evaluated)
        except ValueError as error:
            raise ValueError(f"{checkpoint} cannot be used: {error}") from None
        return task.eval()


def _assemble(
    settings: RunSettings,
    network: nn.Module,
    passport: dict[str, Any],
    *,
    loss: nn.Module,
    augment: Augment | None,
) -> ClassificationTask:
    memory_format = MEMORY_FORMATS[settings.runtime.memory_format]
    model = network_of(settings)
    with input_of("model"):
        return ClassificationTask(
            network.to(memory_format=memory_format),
            loss=loss,
            mean=passport["mean"],
            std=passport["std"],
            augment=augment,
            make_optimizer=partial(_make_optimizer, settings.optimizer, model),
            make_schedule=partial(_make_schedule, settings.scheduler),
            seed=training_seed(settings.seed, settings.cv.fold),
            freeze_epochs=model.freeze_epochs,
            frozen_stages=model.frozen_stages,
            freeze_norm=model.freeze_norm,
            stored_views=model.stored_views if model.frozen_stages else 0,
            ema_decay=settings.trainer.ema_decay,
            memory_format=memory_format,
            metadata=passport,
        )


def _make_optimizer(
    optimizer: OptimizerSettings, model: NetworkSettings, network: nn.Module
) -> torch.optim.Optimizer:
    groups = parameter_groups(
        network,
        lr=optimizer.lr,
        weight_decay=optimizer.weight_decay,
        backbone_lr_scale=model.backbone_lr_scale,
        layer_decay=model.layer_decay,
        head_prefixes=head_prefixes(network),
    )
    made: torch.optim.Optimizer = import_object(optimizer._target_)(
        params=groups, **own_fields(optimizer, OptimizerSettings)
    )
    return made


def _make_schedule(scheduler: SchedulerSettings, total_steps: int) -> Callable[[int], float]:
    made: Callable[[int], float] = import_object(scheduler._target_)(
        total_steps=total_steps, **own_fields(scheduler, SchedulerSettings)
    )
    return made
