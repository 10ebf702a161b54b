"""Settings of one run, and its groups that have no variants."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import src.config.features  # noqa: F401 - registers the models that classify features
from src.config.augment import AugmentSettings
from src.config.checks import ConfigError, Settings, number_or_auto, setting, to_plain
from src.config.data import DataSettings
from src.config.models import TRAINING, ModelSettings
from src.config.tracking import TrackingSettings
from src.config.training import LossSettings, OptimizerSettings, SchedulerSettings

__all__ = [
    "CrossValidationSettings",
    "RunSettings",
    "RuntimeSettings",
    "TrainerSettings",
    "seconds_of",
]

_CLOCK = re.compile(r"(?:(?P<d>\d+):)?(?P<h>\d+):(?P<m>\d+):(?P<s>\d+)")
_UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


def seconds_of(duration: float | str) -> float:
    """Return the seconds of a number, `90s`, `10m`, `2h`, `1d`, `HH:MM:SS` or `DD:HH:MM:SS`.

    Raises:
        ValueError: anything else, and durations that are not above zero.
    """
    if isinstance(duration, str):
        clock = _CLOCK.fullmatch(duration)
        if clock:
            days, hours, minutes, seconds = (int(clock[k] or 0) for k in "dhms")
            value = ((days * 24 + hours) * 60 + minutes) * 60.0 + seconds
        elif duration[-1:] in _UNITS and re.fullmatch(r"\d+(\.\d+)?", duration[:-1]):
            value = float(duration[:-1]) * _UNITS[duration[-1]]
        else:
            raise ValueError("it must be seconds, or like 90s, 10m, 2h, 00:30:00")
    else:
        value = float(duration)
    if value <= 0:
        raise ValueError("it must be above 0")
    return value


def _duration(value: float | str) -> str | None:
    try:
        seconds_of(value)
    except ValueError as error:
        return str(error)
    return None


def _devices(value: int | str) -> str | None:
    fine = value == "auto" or (isinstance(value, int) and value >= 1)
    return None if fine else "it must be auto or a number of devices of at least 1"


@dataclass(frozen=True)
class TrainerSettings(Settings):
    """Duration, devices and refinements of a network's training."""

    max_epochs: int | str = setting(
        "passes over the training part; auto for 10 to 30, fewer the more pictures there are",
        at_least=1,
        check=number_or_auto,
    )
    stop_after: int | None = setting(
        "end after this many epochs of a schedule that is made for max_epochs; null for all",
        at_least=1,
    )
    max_time: float | str | None = setting(
        "training stops after this long: seconds, or like 90s, 10m, 2h, 00:30:00", check=_duration
    )
    accelerator: str = setting("what to train on", options=("auto", "cpu", "gpu"))
    devices: int | str = setting("how many devices, or auto for all of them", check=_devices)
    gradient_clip: float | None = setting("largest norm of the gradient; null for none", above=0)
    accumulate_batches: int = setting("batches a step of the optimizer", at_least=1)
    ema_decay: float = setting(
        "decay a step of the weights' moving average; 0 for none", at_least=0, below=1
    )
    early_stopping: int | None = setting(
        "stop after this many validations without improvement; null for never", at_least=1
    )
    monitor: str = setting(
        "what best.ckpt and early stopping look at", options=("val/accuracy", "val/loss")
    )
    final_weights: str = setting(
        "the weights that are evaluated and kept: of the last epoch, or of the best by monitor",
        options=("last", "best"),
    )
    tta: str = setting(
        "views that a prediction is the mean of: auto mirrors what training mirrored",
        options=("auto", "none", "flip", "shift", "flip_shift"),
    )
    validate_every: int = setting("epochs between validations", at_least=1)
    deterministic: bool = setting("use deterministic kernels where there are some")
    progress: bool = setting("show the progress of an epoch on a terminal")


@dataclass(frozen=True)
class RuntimeSettings(Settings):
    """Number format, memory layout, compilation and threads; they change speed, not meaning."""

    precision: str = setting(
        "number format of the network's arithmetic; auto for the fastest that is sound",
        options=("auto", "float32", "bfloat16", "float16"),
    )
    memory_format: str = setting(
        "layout of pictures and kernels in memory; auto for the faster",
        options=("auto", "contiguous", "channels_last"),
    )
    compile: bool | str = setting(
        "compile the network with torch.compile; auto where that pays",
        options=(True, False, "auto"),
    )
    threads: int | str | None = setting(
        "CPU threads; null for torch's own choice, auto for the fastest that has free cores",
        at_least=1,
        check=number_or_auto,
    )


@dataclass(frozen=True)
class CrossValidationSettings(Settings):
    """Cross-validation over the training and validation pictures."""

    folds: int | None = setting(
        "parts that are held out in turn, of the training and validation pictures together; null "
        "for a single run on the parts as they are",
        at_least=2,
    )
    repeats: int = setting("cross-validations, each with folds of its own", at_least=1)
    fold: int | None = setting(
        "train this one alone, counted from 1 on over all repeats; null for all of them",
        at_least=1,
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.folds is None and (self.repeats > 1 or self.fold is not None):
            key = "fold" if self.fold is not None else "repeats"
            raise ConfigError(
                f"{key} is {getattr(self, key)}, which means nothing while folds is null: say "
                "cv.folds=5."
            )
        if self.fold is not None and self.fold > self.count:
            raise ConfigError(f"fold is {self.fold}, but there are {self.count}.")

    @property
    def count(self) -> int:
        """Folds of all repeats together; 0 without cross-validation."""
        return 0 if self.folds is None else self.folds * self.repeats

    @property
    def is_whole(self) -> bool:
        """Whether all folds are trained, and not one alone or none."""
        return self.folds is not None and self.fold is None


@dataclass(frozen=True)
class RunSettings(Settings):
    """All settings of one run."""

    seed: int = setting("seed of weights, order and augmentation", at_least=0, below=2**31)
    evaluate_test: bool = setting("measure the test part at the end (and count that it was)")
    find_lr: bool = setting("set optimizer.lr by a learning-rate range test before training")
    output_dir: str = setting("folder under which runs, tracking database and counts are kept")
    resume: str | None = setting("id or folder of a run to continue")
    cv: CrossValidationSettings = setting("cross-validation")
    data: DataSettings = setting("the pictures")
    model: ModelSettings = setting("the model")
    optimizer: OptimizerSettings = setting("the optimizer")
    scheduler: SchedulerSettings = setting("the learning-rate schedule")
    loss: LossSettings = setting("the loss function")
    augment: AugmentSettings = setting("augmentation of training pictures")
    trainer: TrainerSettings = setting("duration, devices and refinements of the training")
    runtime: RuntimeSettings = setting("number format, memory layout and threads")
    tracking: TrackingSettings = setting("where the run is mirrored")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.cv.is_whole and self.trainer.devices != 1:
            raise ConfigError(
                f"trainer.devices is {self.trainer.devices}, but a cross-validation trains its "
                "folds one after another on one device: say trainer.devices=1, or run each "
                "cv.fold=NUMBER by itself."
            )
        if self.data.train_on_val and self.cv.folds is not None:
            raise ConfigError("data.train_on_val holds nothing out, and cv.folds does: say one.")
        chooses = {"early_stopping": None, "final_weights": "last"}
        for key, must in chooses.items() if self.data.train_on_val else ():
            if getattr(self.trainer, key) != must and not self.is_idle(f"trainer.{key}"):
                raise ConfigError(
                    "data.train_on_val leaves no validation part to choose by: say "
                    f"trainer.{key}={'null' if must is None else must}."
                )

    def is_idle(self, key: str) -> bool:
        """Return whether a key, or a whole group, changes nothing with this model."""

        def within(inner: str, outer: str) -> bool:
            return f"{inner}.".startswith(f"{outer}.")

        if any(within(key, group) for group in TRAINING):
            return not any(within(key, used) or within(used, key) for used in self.model.uses)
        return any(within(key, f"model.{name}") for name in self.model.unused())

    def effective(self) -> dict[str, Any]:
        """Return all settings but the idle ones, as nested plain containers."""

        def kept(plain: Any, where: str) -> Any:
            if not isinstance(plain, dict):
                return plain
            paths = {key: f"{where}{key}" for key in plain}
            return {k: kept(plain[k], f"{p}.") for k, p in paths.items() if not self.is_idle(p)}

        found: dict[str, Any] = kept(to_plain(self), "")
        return found
