"""Settings of the model group: one class per network, told apart by `_target_`."""

from __future__ import annotations

from dataclasses import dataclass

from src.config.checks import Settings, setting, variant

__all__ = ["CNNSettings", "ModelSettings"]


@dataclass(frozen=True)
class ModelSettings(Settings):
    """What every model has; the fields of a subclass are its network's own arguments."""

    _target_: str = setting("import path of the network's class")
    name: str = setting("the model's name in run names, tables and plots")
    pretrained: bool | str | None = setting(
        "weights to start from: null or false for none, true or 'hub' for the published ones, "
        "'package' for those of an installed package, or the path of a weights file"
    )
    freeze_epochs: int = setting(
        "epochs at the start in which only the classifier head is trained", at_least=0
    )
    backbone_lr_scale: float = setting(
        "learning rate of everything but the head, as a multiple of optimizer.lr",
        above=0,
        at_most=1,
    )


@variant(ModelSettings, "src.models.cnn.CNN")
@dataclass(frozen=True)
class CNNSettings(ModelSettings):
    """A small residual network."""

    widths: list[int] = setting("channels of each stage", at_least=1)
    blocks: int = setting("residual blocks a stage", at_least=1, at_most=100)
    dropout: float = setting("dropout before the classifier", at_least=0, below=1)
