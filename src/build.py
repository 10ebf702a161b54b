"""Composition root: settings in, objects out. Nothing else turns a `_target_` into an object."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytorch_lightning as pl
import torch
from hydra.utils import get_object
from torch import nn

from src.config.checks import ConfigError, Settings, to_plain
from src.config.features import EmbeddingSettings, HandcraftedSettings
from src.config.models import NetworkSettings, ZooSettings
from src.config.schema import RunSettings
from src.config.stored import stored_settings
from src.config.training import LossSettings, OptimizerSettings, SchedulerSettings
from src.data.augment import Augment
from src.data.cache import cache_folder
from src.data.datamodule import PictureData
from src.data.folds import training_seed
from src.data.parallel import available_cores
from src.data.splits import Split
from src.models.pretrained import load_weights
from src.run_folder import RunFolder
from src.training.checkpoints import AtomicCheckpointIO, read_checkpoint
from src.training.epochs import EpochKeeper
from src.training.inference import MEMORY_FORMATS
from src.training.losses import balanced_weights
from src.training.optimizers import parameter_groups
from src.training.task import ClassificationTask, head_prefixes

if TYPE_CHECKING:  # scikit-image takes a moment, and networks need none of it
    from src.features.fusion import Extractor

__all__ = [
    "build_data",
    "build_extractors",
    "build_fold",
    "build_task",
    "build_trainer",
    "first_batch_size",
    "load_task",
]

# Until `data.batch_size=auto` has been measured (src/resolve.py).
_PROVISIONAL_BATCH = 128
_LIGHTNING_PRECISION = {"float32": "32-true", "bfloat16": "bf16-mixed", "float16": "16-mixed"}


@contextmanager
def _input_of(group: str) -> Iterator[None]:
    """What a room refuses with ValueError was the user's choice in this config group."""
    try:
        yield
    except ConfigError:
        raise
    except ValueError as error:
        raise ConfigError(f"{group}: {error}") from error


def _own_fields(settings: Settings, base: type[Settings]) -> dict[str, Any]:
    """The fields a variant adds to its base: the arguments of what it describes."""
    shared = getattr(base, "__dataclass_fields__", {})  # Settings itself has no fields
    own = [name for name in vars(settings) if name not in shared]
    return {name: getattr(settings, name) for name in own}


def build_data(settings: RunSettings) -> PictureData:
    """List, decode, split and measure the pictures.

    Raises:
        ConfigError: the pictures are not there, not readable, or too few for the parts.
    """
    data = settings.data
    cache = cache_folder(data.cache_dir).absolute()
    load = get_object(data._target_)
    root = None if data.root is None else Path(data.root).absolute()
    with _input_of("data"):
        opened = PictureData.open(
            load(root, cache, data.download),
            image_size=data.image_size,
            channels=data.channels,
            cache_dir=cache,
            cache_limit_gb=data.cache_limit_gb,
            on_bad_image=data.on_bad_image,
            on_duplicates=data.on_duplicates,
            split_seed=data.split_seed,
            val_fraction=data.val_fraction,
            test_fraction=data.test_fraction,
            train_on_val=data.train_on_val,
            batch_size=first_batch_size(settings),
            seed=settings.seed,
            workers=data.num_workers or available_cores(),
        )
    return opened if settings.cv.fold is None else build_fold(settings, opened)


def build_fold(settings: RunSettings, data: PictureData) -> PictureData:
    """The pictures divided for the one fold that the settings name.

    Args:
        settings: with `cv.fold`.
        data: as `build_data` gives it without.

    Raises:
        ConfigError: a class has fewer pictures than there are folds.
    """
    cv = settings.cv
    if cv.folds is None or cv.fold is None:
        raise TypeError("the settings name no fold")
    with _input_of("cv.folds"):
        seed = training_seed(settings.seed, cv.fold)
        held_out = data.fold(cv.fold, cv.folds, split_seed=settings.data.split_seed, seed=seed)
    held_out.batch_size = first_batch_size(settings)
    return held_out


def first_batch_size(settings: RunSettings) -> int:
    """Pictures a step; while `data.batch_size=auto` waits to be measured, a provisional number."""
    size = settings.data.batch_size
    return size if isinstance(size, int) else _PROVISIONAL_BATCH


def _network_of(settings: RunSettings) -> NetworkSettings:
    if not isinstance(settings.model, NetworkSettings):
        raise TypeError(f"{settings.model.name} is no network")
    return settings.model


def _network_arguments(model: NetworkSettings) -> dict[str, Any]:
    arguments = _own_fields(model, NetworkSettings)
    if isinstance(model, ZooSettings):  # these fetch published weights themselves
        arguments |= {"name": model.name, "pretrained": model.pretrained}
    return arguments


def _build_network(
    model: NetworkSettings, *, channels: int, classes: int, image_size: tuple[int, int]
) -> nn.Module:
    make, arguments = get_object(model._target_), _network_arguments(model)
    with _input_of("model"):
        network: nn.Module = make(channels, classes, image_size, **arguments)
        loaded = load_weights(network, model.pretrained)
        if loaded is not None:
            fresh = f", {', '.join(loaded.fresh)} start afresh" if loaded.fresh else ""
            print(f"model: {loaded.used} tensors from {model.pretrained}{fresh}")
        return network


def build_task(settings: RunSettings, data: PictureData) -> ClassificationTask:
    """Network, loss, augmentation, optimizer and schedule, joined in a LightningModule.

    Raises:
        ConfigError: the network cannot be made for these pictures, or its weights not be found.
    """
    pictures, model = data.pictures, _network_of(settings)
    torch.manual_seed(training_seed(settings.seed, settings.cv.fold))  # the weights' draw
    network = _build_network(
        model,
        channels=pictures.channels,
        classes=len(pictures.class_names),
        image_size=pictures.image_size,
    )
    mean, std = getattr(network, "input_statistics", None) or (data.mean, data.std)
    passport = {
        # A run that was interrupted ends as the same model as one that was not.
        "settings": to_plain(settings) | {"resume": None},
        "network": {
            "target": model._target_,
            "arguments": _network_arguments(model.without_weights()),
        },
        "class_names": list(pictures.class_names),
        "image_size": list(pictures.image_size),
        "channels": pictures.channels,
        "mean": list(mean),
        "std": list(std),
        "split_fingerprint": data.split.fingerprint,
    }
    with _input_of("loss"):
        balanced = settings.loss.class_weights == "balanced"
        weights = balanced_weights(torch.as_tensor(data.class_counts)) if balanced else None
    loss = get_object(settings.loss._target_)(
        **_own_fields(settings.loss, LossSettings), class_weights=weights
    )
    augment = Augment(
        **_own_fields(settings.augment, Settings),
        flip_ok=settings.data.mirror_ok,
        num_classes=len(pictures.class_names),
    )
    return _assemble(settings, network, passport, loss=loss, augment=augment)


def _assemble(
    settings: RunSettings,
    network: nn.Module,
    passport: dict[str, Any],
    *,
    loss: nn.Module,
    augment: Augment | None,
) -> ClassificationTask:
    memory_format = MEMORY_FORMATS[settings.runtime.memory_format]
    model = _network_of(settings)
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
        ema_decay=settings.trainer.ema_decay,
        memory_format=memory_format,
        passport=passport,
    )


def build_extractors(settings: RunSettings, data: PictureData) -> tuple[Extractor, ...]:
    """What describes the pictures: hand-crafted descriptors, or a frozen network.

    Raises:
        ConfigError: there is no such network, it takes other pictures, or it has seen some that it
            would be judged by.
    """
    model = settings.model
    make = get_object(model._target_)
    if isinstance(model, HandcraftedSettings):
        with _input_of("model"):
            return tuple(make(model.features, to_plain(model)))
    if not isinstance(model, EmbeddingSettings):
        raise TypeError(f"{model.name} has no features")
    network, passport = _own_network(model, settings, data) if model.run else _zoo(model, data)
    gpu = settings.trainer.accelerator != "cpu" and torch.cuda.is_available()
    return (make(network, passport, torch.device("cuda" if gpu else "cpu")),)


def _zoo(model: EmbeddingSettings, data: PictureData) -> tuple[nn.Module, dict[str, Any]]:
    pictures = data.pictures
    zoo = ZooSettings(
        _target_="src.models.zoo.TimmNet",
        name=model.network,
        pretrained=model.pretrained,
        freeze_epochs=0,
        backbone_lr_scale=1.0,
        input_size=model.input_size,
        stem="keep",
        drop_rate=0.0,
    )
    classes = len(pictures.class_names)
    network = _build_network(
        zoo, channels=pictures.channels, classes=classes, image_size=pictures.image_size
    )
    mean, std = getattr(network, "input_statistics", None) or (data.mean, data.std)
    return network, {
        "target": zoo._target_,
        "arguments": _network_arguments(zoo.without_weights()),
        "channels": pictures.channels,
        "classes": classes,
        "image_size": list(pictures.image_size),
        "mean": list(mean),
        "std": list(std),
    }


def _own_network(
    model: EmbeddingSettings, settings: RunSettings, data: PictureData
) -> tuple[nn.Module, dict[str, Any]]:
    """The network of an earlier run, which must not know the pictures it will be judged by."""
    with _input_of("model.run"):
        folder = RunFolder.find(str(model.run), Path(settings.output_dir))
        task = load_task(folder.chosen_checkpoint())
        passport, pictures = task.passport, data.pictures
        takes = (passport["channels"], *passport["image_size"])
        if takes != (pictures.channels, *pictures.image_size):
            raise ValueError(
                f"{folder.name} takes pictures of {takes[1]}x{takes[2]}x{takes[0]}: say "
                f"data.image_size=[{takes[1]},{takes[2]}] data.channels={takes[0]}"
            )
        earlier = Split.read(folder.split)
        seen = earlier.content_hashes[np.concatenate([earlier.train, earlier.val])]
        judged = np.concatenate([data.split.val, data.split.test])
        known = int(np.isin(pictures.content_hashes[judged], seen).sum())
        if passport["split_fingerprint"] != data.split.fingerprint and known:
            raise ValueError(
                f"{folder.name} was trained or chosen with {known} of the pictures that are "
                "validated or tested on here: split both alike (data.split_seed and fractions)"
            )
    return task.evaluated, {
        **passport["network"],
        "channels": passport["channels"],
        "classes": len(passport["class_names"]),
        "image_size": passport["image_size"],
        "mean": passport["mean"],
        "std": passport["std"],
    }


def _make_optimizer(
    optimizer: OptimizerSettings, model: NetworkSettings, network: nn.Module
) -> torch.optim.Optimizer:
    groups = parameter_groups(
        network,
        lr=optimizer.lr,
        weight_decay=optimizer.weight_decay,
        backbone_lr_scale=model.backbone_lr_scale,
        head_prefixes=head_prefixes(network),
    )
    made: torch.optim.Optimizer = get_object(optimizer._target_)(
        params=groups, **_own_fields(optimizer, OptimizerSettings)
    )
    return made


def _make_schedule(scheduler: SchedulerSettings, total_steps: int) -> Callable[[int], float]:
    made: Callable[[int], float] = get_object(scheduler._target_)(
        total_steps=total_steps, **_own_fields(scheduler, SchedulerSettings)
    )
    return made


def build_trainer(
    settings: RunSettings, keeper: EpochKeeper, logger: Any, run_dir: Path
) -> pl.Trainer:
    """Lightning's trainer with our books, our checkpoint files and none of its own output.

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
    strategy = "ddp_find_unused_parameters_true" if _network_of(settings).freeze_epochs else "ddp"
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
        logger=logger or False,
        callbacks=[keeper],
        plugins=[AtomicCheckpointIO()],
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=run_dir,
    )


def load_task(checkpoint: Path) -> ClassificationTask:
    """The trained task of a checkpoint, on the CPU in eval mode.

    Its `passport` says the rest: settings, class names, picture size, `epochs` trained.

    Raises:
        ConfigError: the file is no checkpoint of a run, or holds code.
    """
    with _input_of("run"):
        stored = read_checkpoint(checkpoint)
        passport = stored.get("bakeoff")
        if not isinstance(passport, dict):
            raise ValueError(f"{checkpoint} is not a checkpoint of a Bakeoff run")
        settings = stored_settings(passport["settings"])
        # The checkpoint brings the weights; nothing is to be fetched for it.
        model = _network_of(settings).without_weights()
        network = _build_network(
            model,
            channels=passport["channels"],
            classes=len(passport["class_names"]),
            image_size=tuple(passport["image_size"]),
        )
        passport["epochs"] = stored["epoch"] + 1
        task = _assemble(settings, network, passport, loss=nn.CrossEntropyLoss(), augment=None)
        weights = {k: v for k, v in stored["state_dict"].items() if not k.startswith("loss.")}
        task.load_state_dict(weights)
        return task.eval()
