"""A network with all that trains it, from settings or from a checkpoint."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from ...config.augment import OPERATIONS
from ...config.checks import ConfigError, Settings, input_of, own_fields
from ...config.models import NetworkSettings, ZooSettings
from ...config.schema import RunSettings, stored_settings
from ...config.training import LossSettings, OptimizerSettings, SchedulerSettings
from ...data.augmentation.augment import Augment
from ...data.loading.picture_data import PictureData
from ...data.splitting.folds import training_seed
from ...machine.imports import import_object, is_foreign
from ...models.arithmetic import MEMORY_FORMATS
from ...targets import TargetKind, kind_of
from ...training.checkpoints import read_checkpoint
from ...training.freezing import Freezing, head_prefixes
from ...training.inference import require_finite
from ...training.links import link_of, outputs_of
from ...training.losses import OF_SETS, weights_of
from ...training.optimizers import parameter_groups
from ...training.pixels import CollectedPixels
from ...training.totals import CollectedAnswers, RunningTotals, ValidationMetrics
from .data import model_metadata
from .network import (
    NetworkShape,
    build_network,
    network_arguments,
    network_of,
    rebuild_arguments,
    rebuild_network,
)

if TYPE_CHECKING:
    from ...training.task import ClassificationTask

__all__ = ["build_task", "load_task", "made", "made_loss", "make_schedule"]

# What the totals of batches tell of single labels, without their answers.
_COUNTED = ("val/accuracy", "val/loss")


def build_task(
    settings: RunSettings, data: PictureData, *, resumed: Mapping[str, Any] | None = None
) -> ClassificationTask:
    """Network, loss, augmentation, optimizer and schedule, joined in a LightningModule.

    Args:
        settings, data: of the run.
        resumed: metadata of the checkpoint that brings the weights; None for those that the
            settings name.

    Raises:
        ConfigError: the network cannot be made for these pictures, or its weights not be found.
    """
    pictures, model = data.pictures, network_of(settings)
    with input_of("loss"):
        weights = weights_of(settings.loss.class_weights, torch.as_tensor(data.class_counts))
    loss = made_loss(settings, kind_of(pictures.kind), weights)
    torch.manual_seed(training_seed(settings.seed, settings.cv.fold))  # the weights' draw
    outputs = outputs_of(loss.link, len(pictures.class_names))
    shape = NetworkShape(pictures.channels, outputs, pictures.image_size, settings.data.target)
    if resumed is None:
        network = build_network(model, shape)
        arguments = rebuild_arguments(model, network)
        mean, std = data.normalization(network)
    else:
        arguments = _resumed_arguments(model, resumed)
        with input_of("model"):
            network = rebuild_network(model, arguments, shape)
        mean, std = resumed["mean"], resumed["std"]
    metadata = {
        **model_metadata(settings, data),
        "network": {
            "target": model.network_class(settings.data.target),
            "arguments": arguments,
        },
        "mean": list(mean),
        "std": list(std),
    }
    if loss.link != "softmax":
        metadata["link"] = loss.link
    augment = _made_augmentation(settings, data)
    if model.stores_views and augment.soft_targets:
        raise ConfigError(
            f"model.stored_views is {model.stored_views}, but augment.mix_probability is "
            f"{settings.augment.mix_probability:g}: what is stored of single pictures cannot be "
            "mixed; set one of them to 0."
        )
    validation = _validation_totals(settings, data, loss.link)
    task = _assemble(settings, network, metadata, loss=loss, augment=augment, validation=validation)
    _check_batch(settings, task, data)
    return task


def _validation_totals(settings: RunSettings, data: PictureData, link: str) -> RunningTotals | None:
    """Return what measures the validation part after an epoch; None for loss and accuracy alone.

    Raises:
        ConfigError: what is monitored cannot be measured on these pictures.
    """
    kind, class_names = kind_of(data.pictures.kind), data.pictures.class_names
    monitor, best_for, val = settings.trainer.monitor, settings.data.best_for, data.split.val
    if kind.name == "single" and monitor in _COUNTED and best_for is None:
        return None
    targets = data.pictures.targets[val]
    if monitor == "val/auc" and len(val) and (targets == targets[0]).all():
        raise ConfigError(
            "trainer.monitor is val/auc, and all pictures of the validation part are labelled "
            "alike, so that there is no AUC: set another trainer.monitor, or a larger "
            "data.val_fraction."
        )
    groups = val if data.groups is None else data.groups[val]
    metrics = ValidationMetrics(kind, class_names, monitor, best_for, groups, data.costs)
    return CollectedPixels(metrics) if kind.pixels else CollectedAnswers(metrics, link)


def _made_augmentation(settings: RunSettings, data: PictureData) -> Augment:
    augment = Augment(
        settings.augment,
        further=[
            import_object(make)(**own_fields(getattr(settings.augment, name), Settings))
            for name, make in OPERATIONS.items()
            if hasattr(settings.augment, name)
        ],
        flip_ok=settings.data.mirror_ok,
        num_classes=len(data.pictures.class_names),
    )
    height, width = data.pictures.image_size
    if settings.augment.turns == "quarter" and height != width:
        raise ConfigError(
            f"augment.turns is quarter, but pictures are taken at {width}x{height} pixels: set "
            "augment.turns=half, or data.image_size=SIDE for squares."
        )
    return augment


def _resumed_arguments(model: NetworkSettings, resumed: Mapping[str, Any]) -> dict[str, Any]:
    """Return what makes the network of settings that a checkpoint brings the weights of.

    Of the checkpoint's own arguments it is only the size that the weights chose: where the settings
    describe another network, that is refused later.
    """
    arguments = network_arguments(model.without_weights())
    if isinstance(model, ZooSettings) and model.input_size is None:
        arguments["input_size"] = resumed["network"]["arguments"]["input_size"]
    return arguments


def _check_batch(settings: RunSettings, task: ClassificationTask, data: PictureData) -> None:
    """Check that the network can be trained on batches of a single picture, where these are.

    Raises:
        ConfigError: it has a batch norm that would see one value a channel.
    """
    devices = settings.trainer.devices if isinstance(settings.trainer.devices, int) else 1
    if min(data.batch_size, data.samples // devices) > 1:
        return
    form = data.pictures.format
    picture = torch.zeros(1, form.channels, *form.image_size)
    try:
        with torch.no_grad():
            copy.deepcopy(task.network)(picture)  # whose statistics stay as they are
    except ValueError as error:
        if "more than 1 value per channel" not in str(error):
            raise
        raise ConfigError(
            f"data.batch_size is {data.batch_size}, with {data.samples} training pictures: "
            f"{task.network.__class__.__name__} normalises over a batch, which needs two pictures "
            "a device at least; set data.batch_size=2 or more."
        ) from None


def load_task(checkpoint: Path) -> ClassificationTask:
    """Return the trained task of a checkpoint, on the CPU in eval mode.

    Its `metadata` has the settings, class names, picture size and `epochs` trained.

    Raises:
        ConfigError: the file is no checkpoint of a run, or holds code.
    """
    with input_of("run"), _of_a_run(checkpoint):
        stored = read_checkpoint(checkpoint)
        metadata = stored.get("bakeoff")
        if not isinstance(metadata, dict):
            raise ValueError(f"{checkpoint} is not a checkpoint of a Bakeoff run")
        settings = stored_settings(metadata["settings"])
        network = rebuild_network(
            network_of(settings),
            metadata["network"]["arguments"],
            NetworkShape(
                metadata["channels"],
                outputs_of(link_of(metadata), len(metadata["class_names"])),
                tuple(metadata["image_size"]),
                settings.data.target,
            ),
        )
        metadata["epochs"] = stored["epoch"] + 1
        task = _assemble(settings, network, metadata, loss=nn.CrossEntropyLoss(), augment=None)
        weights = {k: v for k, v in stored["state_dict"].items() if not k.startswith("loss.")}
        task.load_state_dict(weights)
        try:
            require_finite(task.evaluated)
        except ValueError as error:
            raise ValueError(f"{checkpoint} cannot be used: {error}") from None
        return task.eval()


@contextmanager
def _of_a_run(checkpoint: Path) -> Iterator[None]:
    """Raise a ValueError for a checkpoint that lacks something, or has it of another kind."""
    try:
        yield
    except (LookupError, TypeError, AttributeError, RuntimeError) as error:
        # Any other RuntimeError of torch's is about memory or the device.
        if isinstance(error, RuntimeError) and not str(error).startswith("Error(s) in loading"):
            raise
        what = " ".join(str(error).split())
        raise ValueError(
            f"{checkpoint} is not a checkpoint of a Bakeoff run "
            f"({type(error).__name__}: {what:.160})"
        ) from error


def _assemble(
    settings: RunSettings,
    network: nn.Module,
    metadata: dict[str, Any],
    *,
    loss: nn.Module,
    augment: Augment | None,
    validation: RunningTotals | None = None,
) -> ClassificationTask:
    # Lightning takes seconds to import, and what is fitted in one go needs none of it.
    from ...training.task import ClassificationTask

    memory_format = MEMORY_FORMATS[settings.runtime.memory_format]
    model = network_of(settings)
    network = network.to(memory_format=memory_format)
    with input_of("model"):
        freezing = Freezing(
            network,
            head_prefixes(network),
            stages=model.frozen_stages,
            # Statistics that nothing has measured are not worth keeping.
            norm=bool(model.freeze_norm and model.pretrained),
            head_epochs=model.freeze_epochs,
        )
        return ClassificationTask(
            network,
            metadata,
            loss=loss,
            augment=augment,
            make_optimizer=partial(_make_optimizer, settings.optimizer, model),
            make_schedule=partial(make_schedule, settings.scheduler),
            seed=training_seed(settings.seed, settings.cv.fold),
            freezing=freezing,
            stored_views=model.stored_views if model.stores_views else 0,
            ema_decay=settings.trainer.ema_decay,
            memory_format=memory_format,
            cuda_graphs=_can_be_graphed(settings),
            target=settings.data.target,
            validation=validation,
        )


def _can_be_graphed(settings: RunSettings) -> bool:
    """Return whether each pass of the network is followed by the step that uses its gradients."""
    trainer, runtime = settings.trainer, settings.runtime
    alone = trainer.devices == 1 or (trainer.devices == "auto" and torch.cuda.device_count() == 1)
    once = trainer.accumulate_batches == 1
    return bool(runtime.cuda_graphs and not runtime.compile and alone and once)


def made_loss(settings: RunSettings, kind: TargetKind, weights: torch.Tensor | None) -> Any:
    """Return the loss that the settings name, as it is for these targets."""
    name = settings.loss._target_.removeprefix("src.training.losses.")
    if kind.sets and name in OF_SETS:
        return OF_SETS[name](class_weights=weights, **own_fields(settings.loss, LossSettings))
    return made(settings.loss, LossSettings, class_weights=weights)


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
    built: torch.optim.Optimizer = made(optimizer, OptimizerSettings, params=groups)
    return built


def make_schedule(scheduler: SchedulerSettings, total_steps: int) -> Callable[[int], float]:
    """Return step -> factor of the learning rate, of a training of so many steps.

    The function raises a ConfigError where that of a plugin gives no factor, which would pass for a
    learning rate that is too high.
    """
    schedule: Callable[[int], float] = made(scheduler, SchedulerSettings, total_steps=total_steps)
    if not is_foreign(scheduler._target_):
        return schedule

    def checked(step: int) -> float:
        factor = schedule(step)
        if not 0 <= float(factor) < math.inf:  # nor NaN
            raise ConfigError(
                f"scheduler: {scheduler._target_} gives {factor} at step {step} of {total_steps}: "
                "a finite number is needed that is not negative."
            )
        return factor

    return checked


def made(settings: Any, base: type[Settings], **arguments: Any) -> Any:
    """Make the object that settings with a `_target_` describe."""
    return import_object(settings._target_)(**arguments, **own_fields(settings, base))
