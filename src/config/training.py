"""Settings of the optimizer, scheduler and loss groups, told apart by `_target_`."""

from __future__ import annotations

from dataclasses import dataclass

from src.config.checks import ConfigError, Settings, setting, variant

__all__ = [
    "AdamWSettings",
    "ConstantSettings",
    "CosineSettings",
    "CrossEntropySettings",
    "FocalSettings",
    "LinearSettings",
    "LossSettings",
    "MuonSettings",
    "OneCycleSettings",
    "OptimizerSettings",
    "SGDSettings",
    "SchedulerSettings",
]


@dataclass(frozen=True)
class OptimizerSettings(Settings):
    """What every optimizer has; the fields of a subclass are its factory's own arguments."""

    _target_: str = setting("import path of the optimizer's factory")
    name: str = setting("the optimizer's name in run names, tables and plots")
    lr: float = setting("peak learning rate; the schedule multiplies it", above=0)
    weight_decay: float = setting("weight decay of matrices and convolution kernels", at_least=0)


def _two(betas: list[float]) -> str | None:
    return None if len(betas) == 2 else "it must be two numbers"


@dataclass(frozen=True)
class _WithAdamW(OptimizerSettings):
    betas: list[float] = setting(
        "decays of AdamW's averages of the gradient and of its square",
        at_least=0,
        below=1,
        check=_two,
    )
    eps: float = setting("what AdamW adds to the denominator of its step", above=0)


@variant(OptimizerSettings, "src.training.optimizers.adamw")
@dataclass(frozen=True)
class AdamWSettings(_WithAdamW):
    """Adam with decoupled weight decay."""


@variant(OptimizerSettings, "src.training.optimizers.sgd")
@dataclass(frozen=True)
class SGDSettings(OptimizerSettings):
    """Stochastic gradient descent with momentum."""

    momentum: float = setting("share of the last step kept in the next", at_least=0, below=1)
    nesterov: bool = setting("look ahead along the momentum before stepping")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.nesterov and self.momentum == 0:
            raise ConfigError("nesterov is True: it needs a momentum above 0.")


@variant(OptimizerSettings, "src.training.optimizers.Muon")
@dataclass(frozen=True)
class MuonSettings(_WithAdamW):
    """Orthogonalised momentum for hidden matrices and kernels, AdamW for everything else."""

    momentum: float = setting("decay of the matrices' gradient average", at_least=0, below=1)


@dataclass(frozen=True)
class SchedulerSettings(Settings):
    """What every schedule has; the fields of a subclass are its factory's own arguments."""

    _target_: str = setting("import path of the schedule's factory")
    name: str = setting("the schedule's name in tables and plots")


@dataclass(frozen=True)
class _WarmUpAndDecay(SchedulerSettings):
    warmup_fraction: float = setting(
        "share of the training in which the rate rises to optimizer.lr", at_least=0, below=1
    )
    start_divisor: float = setting("the rate starts at optimizer.lr divided by this", at_least=1)
    final_divisor: float = setting("the rate ends at optimizer.lr divided by this", at_least=1)


@variant(SchedulerSettings, "src.training.schedules.one_cycle")
@dataclass(frozen=True)
class OneCycleSettings(_WarmUpAndDecay):
    """Up and down again, both along a cosine."""


@variant(SchedulerSettings, "src.training.schedules.cosine")
@dataclass(frozen=True)
class CosineSettings(_WarmUpAndDecay):
    """A straight warm-up, then down along a cosine."""


@variant(SchedulerSettings, "src.training.schedules.linear")
@dataclass(frozen=True)
class LinearSettings(_WarmUpAndDecay):
    """A straight warm-up, then straight down."""


@variant(SchedulerSettings, "src.training.schedules.constant")
@dataclass(frozen=True)
class ConstantSettings(SchedulerSettings):
    """optimizer.lr throughout."""


@dataclass(frozen=True)
class LossSettings(Settings):
    """What every loss has; the fields of a subclass are its module's own arguments."""

    _target_: str = setting("import path of the loss's class")
    name: str = setting("the loss's name in tables and plots")
    class_weights: str = setting(
        "weights of the classes: none, or balanced (inverse to their training pictures)",
        options=("none", "balanced"),
    )


@dataclass(frozen=True)
class _Smoothed(LossSettings):
    label_smoothing: float = setting(
        "share of each target spread evenly over all classes", at_least=0, below=1
    )


@variant(LossSettings, "src.training.losses.CrossEntropy")
@dataclass(frozen=True)
class CrossEntropySettings(_Smoothed):
    """Cross-entropy, the default."""


@variant(LossSettings, "src.training.losses.Focal")
@dataclass(frozen=True)
class FocalSettings(_Smoothed):
    """Cross-entropy with less weight on pictures that are already right."""

    gamma: float = setting("how fast the weight falls; 0 is cross-entropy", at_least=0, at_most=10)
