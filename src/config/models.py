"""Settings of the model group: one class per kind of model, selected by `_target_`.

Those of classifiers on features are in src/config/features.py. Each class states which settings of
a run it uses; every other key that trains networks is idle with it. Beside them: the settings of
the list of pretrained networks.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any, ClassVar, Self

from src.config.checks import ConfigError, Settings, setting, variant

__all__ = [
    "TRAINING",
    "CNNSettings",
    "EnsembleSettings",
    "FCNSettings",
    "MLPSettings",
    "ModelSettings",
    "NetworkSettings",
    "ReNetSettings",
    "RecurrentSettings",
    "ViTSettings",
    "WeightsSettings",
    "ZooSettings",
]


# Groups and keys of a run's settings that train a network, batch by batch. All others, such as the
# pictures, are used with every kind of model.
TRAINING = (
    *("recipe", "optimizer", "scheduler", "loss", "augment", "trainer", "runtime"),
    *("find_lr", "data.batch_size"),
)


@dataclass(frozen=True)
class ModelSettings(Settings):
    """Fields of every model.

    Attributes:
        uses: groups and keys within `TRAINING` that change something with this kind of model.
    """

    uses: ClassVar[tuple[str, ...]] = ()

    _target_: str = setting("import path of the model's class")
    name: str = setting("the model's name in run names, tables and plots")

    def chosen_groups(self) -> tuple[str, ...]:
        """Return the groups of settings below this one that belong to a chosen option."""
        return ()

    def unused(self) -> tuple[str, ...]:
        """Return the fields that change nothing because of the values of others."""
        groups = [f.name for f in fields(self) if isinstance(getattr(self, f.name), Settings)]
        return tuple(name for name in groups if name not in self.chosen_groups())


@dataclass(frozen=True)
class NetworkSettings(ModelSettings):
    """Fields of every network; those of a subclass are its constructor's own arguments."""

    uses = TRAINING

    pretrained: bool | str | None = setting(
        "weights to start from: null or false for none, true for the published ones wherever they "
        "can be had (an installed package, a local cache, the hub), 'package' or 'hub' for those "
        "from there alone, or the path of a weights file"
    )
    freeze_epochs: int = setting(
        "epochs at the start in which only the classifier head is trained", at_least=0
    )
    backbone_lr_scale: float = setting(
        "learning rate of everything but the head, as a multiple of optimizer.lr",
        above=0,
        at_most=1,
    )
    layer_decay: float = setting(
        "factor of the learning rate a level of depth, counted from the head down; 1 for none",
        above=0,
        at_most=1,
    )
    head_start: str = setting(
        "the classifier head that training starts from: fitted for a logistic regression on the "
        "features of the pretrained weights, where the head is a single linear layer, or random",
        options=("fitted", "random"),
    )
    freeze_norm: bool = setting(
        "batch normalisation outside of the head keeps the statistics that it starts with"
    )
    frozen_stages: int = setting(
        "stages at the input side that are never trained; 0 for none", at_least=0
    )
    stored_views: int = setting(
        "views of a training picture for which the frozen stages are computed once and kept, one "
        "an epoch in turn; 0 to compute them anew for another view in every epoch",
        at_least=0,
    )

    def unused(self) -> tuple[str, ...]:
        needs = {"head_start": self.pretrained, "stored_views": self.frozen_stages}
        return (*super().unused(), *(name for name, needed in needs.items() if not needed))

    def without_weights(self) -> Self:
        """Return settings of the same network that load no weights, which may be gone."""
        return replace(self, pretrained=None)


def _dropout(where: str) -> Any:
    return setting(f"dropout {where}", at_least=0, below=1)


def _cell() -> Any:
    return setting("recurrent cell", options=("rnn", "lstm", "gru"))


def _some(values: list[int]) -> str | None:
    return None if values else "it must have at least one entry"


@dataclass(frozen=True)
class _OwnSettings(NetworkSettings):
    """Networks of this project: nobody publishes weights for them."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.pretrained in (True, "hub", "package"):
            raise ConfigError(
                f"pretrained is {self.pretrained!r}: there are no published weights of "
                f"{self.name}; give the path of a file."
            )


@variant(ModelSettings, "src.models.cnn.CNN")
@dataclass(frozen=True)
class CNNSettings(_OwnSettings):
    """A small residual network."""

    widths: list[int] = setting("channels of each stage", at_least=1, check=_some)
    blocks: int = setting("residual blocks a stage", at_least=1, at_most=100)
    dropout: float = _dropout("before the classifier")


@variant(ModelSettings, "src.models.fcn.FCN")
@dataclass(frozen=True)
class FCNSettings(_OwnSettings):
    """A fully convolutional network."""

    channels: list[int] = setting(
        "channels of each convolution + pooling block; the last ones go where pictures are too "
        "small for all",
        at_least=1,
        check=_some,
    )
    dropout: float = _dropout("before the classifier")


@variant(ModelSettings, "src.models.mlp.MLP")
@dataclass(frozen=True)
class MLPSettings(_OwnSettings):
    """A multi-layer perceptron."""

    hidden: list[int] = setting("units of each hidden layer", at_least=1)
    batch_norm: bool = setting("normalise each hidden layer")
    dropout: float = _dropout("after each hidden layer")


@variant(ModelSettings, "src.models.recurrent.RecurrentNet")
@dataclass(frozen=True)
class RecurrentSettings(_OwnSettings):
    """A recurrent network that reads the picture as a sequence."""

    cell: str = _cell()
    reading: str = setting(
        "what one step of the sequence is", options=("rows", "columns", "patches")
    )
    step_size: int | None = setting(
        "rows, columns or side of a patch a step; null for one, or for at most 64 patches",
        at_least=1,
    )
    hidden_size: int = setting("units of a layer and direction", at_least=1)
    layers: int = setting("stacked recurrent layers", at_least=1, at_most=20)
    bidirectional: bool = setting("read the sequence backwards as well")
    pooling: str = setting("which states are classified", options=("last", "mean"))
    dropout: float = _dropout("between layers and before the classifier")


@variant(ModelSettings, "src.models.renet.ReNet")
@dataclass(frozen=True)
class ReNetSettings(_OwnSettings):
    """Recurrent networks that sweep the picture in two dimensions."""

    cell: str = _cell()
    patch_sizes: list[int] = setting(
        "one layer an entry: side of the patches it reads", at_least=1, check=_some
    )
    hidden_size: int = setting("units of each of a layer's four networks", at_least=1)
    dropout: float = _dropout("before the classifier")


@variant(ModelSettings, "src.models.vit.ViT")
@dataclass(frozen=True)
class ViTSettings(_OwnSettings):
    """A vision transformer."""

    patch_size: int | None = setting(
        "side of a patch in pixels; null for at most 64 patches", at_least=1
    )
    width: int = setting("features of a patch; a multiple of heads and of 4", at_least=4)
    depth: int = setting("transformer blocks", at_least=1, at_most=100)
    heads: int = setting("attention heads a block", at_least=1)
    mlp_ratio: float = setting("units of a block's perceptron, as a multiple of width", above=0)
    pooling: str = setting("what is classified", options=("mean", "token"))
    dropout: float = _dropout("after each attention and perceptron")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.width % self.heads or self.width % 4:
            raise ConfigError(
                f"width is {self.width}: it must be a multiple of heads ({self.heads}) and of 4."
            )


@variant(ModelSettings, "src.models.zoo.TorchvisionNet")
@variant(ModelSettings, "src.models.zoo.TimmNet")
@dataclass(frozen=True)
class ZooSettings(NetworkSettings):
    """A network of torchvision or timm; `name` is the library's name of it."""

    input_size: int | None = setting(
        "pixels of a side that pictures are resized to inside the network; null for the size that "
        "its weights were trained for where it is pretrained, else for the pictures' own size, or "
        "the smallest that works",
        at_least=8,
        at_most=1024,
    )
    stem: str = setting(
        "small: take early reductions out, so that small pictures keep their detail; keep: do "
        "not; auto: small for pictures up to 64 pixels where nothing is pretrained",
        options=("auto", "keep", "small"),
    )
    drop_rate: float = _dropout("before the classifier, where the network has one")

    def without_weights(self) -> Self:
        # With first weights, auto kept the stem; without, it would choose again and differ.
        kept = self.stem == "auto" and self.pretrained
        return replace(self, pretrained=None, stem="keep" if kept else self.stem)


@variant(ModelSettings, "src.ensembles.combine.combine")
@dataclass(frozen=True)
class EnsembleSettings(ModelSettings):
    """Several finished runs that predict together; nothing is trained again."""

    runs: list[str] = setting("folders, ids or names of the runs to choose from, two at least")
    way: str = setting(
        "greedy: a weighted mean of probabilities; stacking: of their logarithms; best: the one of "
        "these two that does better; soup: one network whose weights are the mean of several's",
        options=("best", "greedy", "stacking", "soup"),
    )
    at_most: int = setting(
        "runs that the ensemble is made of, at most; each has to answer every picture", at_least=1
    )


@dataclass(frozen=True)
class WeightsSettings(Settings):
    """`python -m src.weights`."""

    filter: str | None = setting(
        "part of the names of the networks to list, upper and lower case alike; null for all"
    )
