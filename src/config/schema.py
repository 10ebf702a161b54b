"""Settings of one run: its training, its groups without a module of their own, and all together."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from . import features  # noqa: F401 - registers the models that classify features
from .augment import AugmentSettings
from .checks import (
    ConfigError,
    ForeignCode,
    Settings,
    from_plain,
    positive,
    positive_int,
    setting,
    to_plain,
    variant,
)
from .cross_validation import CrossValidationSettings
from .data import DataSettings
from .metrics import PRIMARY
from .models import ModelSettings, NetworkSettings, models_for
from .tracking import TrackingSettings

__all__ = [
    "LossSettings",
    "OptimizerSettings",
    "RunSettings",
    "SchedulerSettings",
    "seconds_of",
    "stored_settings",
]

_Monitored = Literal["auto", "val/accuracy", "val/map", "val/kappa", "val/miou", "val/loss"]
_CLOCK = re.compile(r"(?:(?P<d>\d+):)?(?P<h>\d+):(?P<m>\d+):(?P<s>\d+)")
# Of what is fitted in one go: it has no use for them, and its stored settings leave them out.
_UNUSED = {
    "optimizer": {"_target_": "src.training.optimizers.sgd", "name": "sgd", "lr": 0.1},
    "scheduler": {"_target_": "src.training.schedules.constant", "name": "constant"},
    "loss": {"_target_": "src.training.losses.CrossEntropy", "name": "cross_entropy"},
}
_UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


@dataclass(frozen=True)
class OptimizerSettings(Settings):
    """What every optimizer has; the fields of a subclass are its factory's own arguments."""

    _target_: str = setting("import path of the optimizer's factory")
    name: str = setting("the optimizer's name in run names, tables and plots")
    lr: float = positive("peak learning rate; the schedule multiplies it")
    weight_decay: float = setting(
        "weight decay of matrices and convolution kernels", 0.02, at_least=0
    )


@variant(OptimizerSettings, "src.training.optimizers.adamw")
@dataclass(frozen=True)
class _AdamWSettings(OptimizerSettings):
    """Adam with decoupled weight decay."""

    betas: list[float] = setting(
        "decays of AdamW's averages of the gradient and of its square",
        [0.9, 0.99],
        at_least=0,
        below=1,
        check=lambda betas: None if len(betas) == 2 else "it must be two numbers",
    )
    eps: float = positive("what AdamW adds to the denominator of its step", 1e-8)


@variant(OptimizerSettings, "src.training.optimizers.sgd")
@dataclass(frozen=True)
class _SGDSettings(OptimizerSettings):
    """Stochastic gradient descent with momentum."""

    momentum: float = setting("share of the last step kept in the next", 0.9, at_least=0, below=1)
    nesterov: bool = setting("look ahead along the momentum before stepping", True)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.nesterov and self.momentum == 0:
            raise ConfigError("nesterov is True: it needs a momentum above 0.")


@variant(OptimizerSettings, "src.training.optimizers.Muon")
@dataclass(frozen=True)
class _MuonSettings(_AdamWSettings):
    """Orthogonalised momentum for hidden matrices and kernels, AdamW for everything else."""

    momentum: float = setting("decay of the matrices' gradient average", 0.95, at_least=0, below=1)


@dataclass(frozen=True)
class SchedulerSettings(Settings):
    """What every schedule has; the fields of a subclass are its factory's own arguments."""

    _target_: str = setting("import path of the schedule's factory")
    name: str = setting("the schedule's name in tables and plots")


@variant(SchedulerSettings, "src.training.schedules.one_cycle")
@variant(SchedulerSettings, "src.training.schedules.cosine")
@variant(SchedulerSettings, "src.training.schedules.linear")
@dataclass(frozen=True)
class _WarmUpAndDecay(SchedulerSettings):
    warmup_fraction: float = setting(
        "share of the training in which the rate rises to optimizer.lr", 0.05, at_least=0, below=1
    )
    start_divisor: float = setting(
        "the rate starts at optimizer.lr divided by this", 100.0, at_least=1
    )
    final_divisor: float = setting(
        "the rate ends at optimizer.lr divided by this", 1000.0, at_least=1
    )


variant(SchedulerSettings, "src.training.schedules.constant")(SchedulerSettings)


@dataclass(frozen=True)
class LossSettings(Settings):
    """What every loss has; the fields of a subclass are its module's own arguments.

    `targets` are the kinds of targets that the loss is for.
    """

    targets: ClassVar[tuple[str, ...]] = ("single", "multi", "ordinal", "dense")

    _target_: str = setting("import path of the loss's class")
    name: str = setting("the loss's name in tables and plots")
    class_weights: Literal["none", "balanced"] = setting(
        "weights of the classes: none, or balanced (inverse to their training pictures)", "none"
    )


@variant(LossSettings, "src.training.losses.CrossEntropy")
@dataclass(frozen=True)
class _CrossEntropySettings(LossSettings):
    label_smoothing: float = setting(
        "share of each target spread evenly over all classes", 0.05, at_least=0, below=1
    )


@variant(LossSettings, "src.training.losses.Focal")
@dataclass(frozen=True)
class _FocalSettings(_CrossEntropySettings):
    gamma: float = setting(
        "how fast the weight falls; 0 is cross-entropy", 2.0, at_least=0, at_most=10
    )


@variant(LossSettings, "src.training.losses.Dice")
@dataclass(frozen=True)
class _DiceSettings(LossSettings):
    targets = ("dense",)


@variant(LossSettings, "src.training.losses.CrossEntropyDice")
@dataclass(frozen=True)
class _CrossEntropyDiceSettings(_CrossEntropySettings):
    targets = ("dense",)

    dice_weight: float = positive("of the Dice loss, beside the cross-entropy's 1", 1.0)


@variant(LossSettings, "src.training.losses.Asymmetric")
@dataclass(frozen=True)
class _AsymmetricSettings(LossSettings):
    targets = ("multi",)

    gamma_positive: float = setting(
        "how fast the weight of labels that are there falls", 0.0, at_least=0, at_most=10
    )
    gamma_negative: float = setting(
        "how fast the weight of labels that are not there falls", 4.0, at_least=0, at_most=10
    )
    margin: float = setting(
        "probability up to which a label that is not there costs nothing", 0.05, at_least=0, below=1
    )


@variant(LossSettings, "src.training.losses.Corn")
@dataclass(frozen=True)
class _CornSettings(LossSettings):
    targets = ("ordinal",)


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


@dataclass(frozen=True)
class TrainerSettings(Settings):
    """Duration, devices and refinements of a network's training."""

    max_epochs: int | Literal["auto"] = positive_int(
        "passes over the training part; auto for 10 to 30, fewer the more pictures there are",
        "auto",
    )
    stop_after: int | None = positive_int(
        "end after this many epochs of a schedule that is made for max_epochs; null for all", None
    )
    max_time: float | str | None = setting(
        "training stops after this long: seconds, or like 90s, 10m, 2h, 00:30:00",
        None,
        check=_duration,
    )
    accelerator: Literal["auto", "cpu", "gpu", "mps"] = setting(
        "what to train on: auto for a GPU of CUDA where there is one, else the CPU; mps is Apple's",
        "auto",
    )
    devices: int | Literal["auto"] = positive_int("how many devices, or auto for all of them", 1)
    gradient_clip: float | None = positive("largest norm of the gradient; null for none", 1.0)
    accumulate_batches: int = positive_int("batches a step of the optimizer", 1)
    ema_decay: float = setting(
        "decay a step of the weights' moving average; 0 for none", 0.99, at_least=0, below=1
    )
    early_stopping: int | None = positive_int(
        "stop after this many validations without improvement; null for never", None
    )
    monitor: _Monitored = setting(
        "what best.ckpt and early stopping look at; auto for accuracy, for map of several labels, "
        "for kappa of ordered classes, for mean IoU of pixels",
        "auto",
    )
    final_weights: Literal["last", "best"] = setting(
        "the weights that are evaluated and kept: of the last epoch, or of the best by monitor",
        "last",
    )
    tta: Literal["auto", "none", "flip", "shift", "flip_shift"] = setting(
        "views that a prediction is the mean of: auto mirrors what training mirrored", "auto"
    )
    validate_every: int = positive_int("epochs between validations", 1)
    checkpoint_every: int = positive_int(
        "epochs from one last.ckpt to the next, which a killed training goes on from; the last "
        "epoch has one in any case",
        1,
    )
    deterministic: bool = setting("use deterministic kernels where there are some", True)
    progress: bool = setting("show the progress of an epoch on a terminal", True)


@dataclass(frozen=True)
class RuntimeSettings(Settings):
    """Number format, memory layout, compilation and threads; they change speed, not meaning."""

    precision: Literal["auto", "float32", "bfloat16", "float16"] = setting(
        "number format of the network's arithmetic; auto for the fastest that is sound", "auto"
    )
    memory_format: Literal["auto", "contiguous", "channels_last"] = setting(
        "layout of pictures and kernels in memory; auto for the faster", "auto"
    )
    compile: Literal[True, False, "auto"] = setting(
        "compile the network with torch.compile; auto where that pays", "auto"
    )
    threads: int | Literal["auto"] | None = positive_int(
        "CPU threads; null for torch's own choice, auto for the fastest that has free cores",
        "auto",
    )


@dataclass(frozen=True)
class RunSettings(Settings):
    """All settings of one run."""

    seed: int = setting("seed of weights, order and augmentation", 0, at_least=0, below=2**31)
    evaluate_test: bool = setting("measure the test part at the end (and count that it was)", True)
    find_lr: bool = setting("set optimizer.lr by a learning-rate range test before training", False)
    output_dir: str = setting(
        "folder under which runs, tracking database and counts are kept", "outputs", literal=True
    )
    resume: str | None = setting("id or folder of a run to continue", None, literal=True)
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
        self._check_target()
        self._check_choice()
        self._check_stored()

    def _check_choice(self) -> None:
        """Check that there is a validation where something is chosen by one."""
        trainer = self.trainer
        lacking = "data.train_on_val leaves no validation part to choose by: say"
        never = isinstance(trainer.max_epochs, int) and trainer.validate_every > trainer.max_epochs
        if never and not self.data.train_on_val:
            lacking = (
                f"trainer.validate_every is {trainer.validate_every}, and with "
                f"{trainer.max_epochs} epochs there is never a validation to choose by: take a "
                "lower one, or say"
            )
        chooses = {"early_stopping": None, "final_weights": "last"}
        for key, must in chooses.items() if never or self.data.train_on_val else ():
            if getattr(trainer, key) != must and not self.is_idle(f"trainer.{key}"):
                value = "null" if must is None else must
                raise ConfigError(f"{lacking} trainer.{key}={value}.")

    def _check_stored(self) -> None:
        """Check that the network is not compiled where stored views bypass it."""
        model = self.model
        if not isinstance(model, NetworkSettings) or not model.stores_views:
            return
        if self.runtime.compile is True:
            raise ConfigError(
                f"runtime.compile is true, and with model.stored_views={model.stored_views} "
                "training goes past what would be compiled: say runtime.compile=false, or "
                "model.stored_views=0."
            )

    def _check_target(self) -> None:
        """Check that loss, monitor and devices go with what pictures are labelled with."""
        target, loss = self.data.target, self.loss
        self._check_model()
        if target not in loss.targets and not self.is_idle("loss"):
            raise ConfigError(
                f"loss is {loss.name}, which is for target={' or '.join(loss.targets)}, and "
                f"data.target is {target}: say loss=cross_entropy."
            )
        accuracy = () if target == "dense" else ("val/accuracy",)
        known = ("auto", *accuracy, "val/loss", PRIMARY[target])
        if self.trainer.monitor not in known:
            raise ConfigError(
                f"trainer.monitor is {self.trainer.monitor}, which is not measured with "
                f"data.target={target}: say one of {', '.join(known)}."
            )
        if target != "single" and self.trainer.devices != 1:
            raise ConfigError(
                f"trainer.devices is {self.trainer.devices}, but with data.target={target} one "
                "device trains: say trainer.devices=1."
            )
        if target == "dense":
            self._check_pixels()

    def _check_model(self) -> None:
        """Check that the model can learn what pictures are labelled with."""
        target, model = self.data.target, self.model
        if target not in model.targets:
            raise ConfigError(
                f"model is {model.name}, which is for target={' or '.join(model.targets)}, and "
                f"data.target is {target}: say one of model={', '.join(models_for(target))}."
            )

    def _check_pixels(self) -> None:
        """Check that nothing is asked for that a class for every pixel does not allow."""
        augment, views = self.augment, self.trainer.tta
        if self.is_idle("augment"):
            return
        if augment.mix_probability and (augment.mixup_alpha or augment.cutmix_alpha):
            raise ConfigError(
                f"augment.mix_probability is {augment.mix_probability:g}, and pictures with a "
                "class for every pixel are not mixed: say augment.mix_probability=0."
            )
        if views not in ("auto", "none", "flip"):
            raise ConfigError(
                f"trainer.tta is {views}, and the classes of pixels are averaged over mirrored "
                "views alone: say trainer.tta=flip or none."
            )
        model = self.model
        if isinstance(model, NetworkSettings) and model.stores_views:
            raise ConfigError(
                f"model.stored_views is {model.stored_views}, and masks are not stored with views: "
                "say model.stored_views=0."
            )

    def is_idle(self, key: str) -> bool:
        """Return whether a key, or a whole group, changes nothing with this model."""
        return self.model.is_idle(key)

    def effective(self) -> dict[str, Any]:
        """Return all settings but the idle ones, as nested plain containers.

        `stored_settings` gives the others their defaults.
        """

        def kept(plain: Any, where: str) -> Any:
            if not isinstance(plain, dict):
                return plain
            paths = {key: f"{where}{key}" for key in plain}
            return {k: kept(plain[k], f"{p}.") for k, p in paths.items() if not self.is_idle(p)}

        found: dict[str, Any] = kept(to_plain(self), "")
        return found


def stored_settings(plain: Mapping[str, Any]) -> RunSettings:
    """Return the settings of a run's config.yaml or of the metadata in its checkpoint.

    Raises:
        ConfigError: they are not what this version of the project writes, or name a plugin's code
            that is not allowed here.
    """
    try:
        return from_plain(RunSettings, {**_UNUSED, **plain})
    except ForeignCode:
        raise
    except ConfigError as error:
        raise ConfigError(
            f"the settings of this run are damaged or of another version, so it cannot be used "
            f"any more ({str(error).rstrip('.')}): train it again."
        ) from error
