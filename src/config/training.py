"""Settings of a network's training: optimizer, schedule, loss, duration and arithmetic."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import ClassVar, Literal

from .checks import ConfigError, Settings, positive, positive_int, setting, variant
from .metrics import key_of_metric, metric_setting, monitored_metrics, plain_metric

__all__ = [
    "LossSettings",
    "OptimizerSettings",
    "RuntimeSettings",
    "SchedulerSettings",
    "TrainerSettings",
    "seconds_of",
]

_CLOCK = re.compile(r"(?:(?P<d>\d+):)?(?P<h>\d+):(?P<m>\d+):(?P<s>\d+)")
_UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


@dataclass(frozen=True)
class OptimizerSettings(Settings):
    """Settings of every optimizer; the fields of a subclass are its factory's own arguments."""

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


@variant(OptimizerSettings, "src.training.optimizers.MuonSGD")
@dataclass(frozen=True)
class _MuonSGDSettings(OptimizerSettings):
    """Muon for hidden matrices and kernels that keep their norm, SGD for everything else."""

    momentum: float = positive("share of SGD's last step kept in the next", 0.85, below=1)
    matrix_momentum: float = setting(
        "decay of the matrices' gradient average", 0.6, at_least=0, below=1
    )
    vectors_lr_scale: float = positive("factor of the rate of biases and other vectors", 1.0)
    head_lr_scale: float = positive("factor of the rate of the head's matrices", 1.0)


@dataclass(frozen=True)
class SchedulerSettings(Settings):
    """Settings of every schedule; the fields of a subclass are its factory's own arguments."""

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
    """Settings of every loss; the fields of a subclass are its module's own arguments.

    `targets` are the kinds of targets that the loss is for.
    """

    targets: ClassVar[tuple[str, ...]] = ("single", "multi", "ordinal", "dense")

    _target_: str = setting("import path of the loss's class")
    name: str = setting("the loss's name in tables and plots")
    class_weights: Literal["none", "balanced", "root"] = setting(
        "weights of the classes: none, balanced (inverse to their training pictures, or pixels) or "
        "root (the square roots of those)",
        "none",
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
    monitor: str = metric_setting(
        "the metric that best.ckpt and early stopping look at; auto for accuracy, for map of "
        "several labels, for kappa of ordered classes, for mean IoU of pixels, in a sweep for what "
        "that goes by",
        "auto",
        lambda: ["auto", *map(plain_metric, monitored_metrics())],
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
    progress: bool = setting("show what happens within an epoch", True)

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "monitor", key_of_metric(self.monitor))

    @property
    def epochs(self) -> int:
        """`max_epochs` where it is settled, as in the settings of a run that trains.

        Raises:
            TypeError: it is still `auto`.
        """
        if not isinstance(self.max_epochs, int):
            raise TypeError("trainer.max_epochs is auto")
        return self.max_epochs

    @property
    def max_seconds(self) -> float | None:
        """`max_time` in seconds; None for no limit."""
        return None if self.max_time is None else seconds_of(self.max_time)


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
    cuda_graphs: bool = setting(
        "on a GPU, launch the network's passes as captured CUDA graphs where they can be: not when "
        "compiled, on several devices, or with trainer.accumulate_batches above 1",
        True,
    )
