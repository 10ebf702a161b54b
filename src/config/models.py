"""Settings of the model group: one class per kind of model, selected by `_target_`.

Each class states which settings of a run it uses; every other key that trains networks is idle.
Those of classifiers on features are in src/config/features.py.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any, ClassVar, Literal, Self

from ..machine.package import PRESETS
from ..machine.yaml_text import read_yaml
from .checks import (
    ConfigError,
    Settings,
    distinct,
    positive,
    positive_int,
    setting,
    variant,
    variants_of,
)
from .plugins import plugin_folders

__all__ = [
    "EncoderSettings",
    "EnsembleSettings",
    "ModelSettings",
    "NetworkSettings",
    "OwnNetworkSettings",
    "SegmentationSettings",
    "WeightsSettings",
    "ZooSettings",
    "models_for",
]

_Cell = Literal["rnn", "lstm", "gru"]
# What `pretrained` is for published weights.
_PUBLISHED = (True, "hub", "package")
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
        targets: the kinds of targets that it can learn, see `src.targets`.
    """

    uses: ClassVar[tuple[str, ...]] = ()
    targets: ClassVar[tuple[str, ...]] = ("single", "multi", "ordinal")

    _target_: str = setting("import path of the model's class")
    name: str = setting("the model's name in run names, tables and plots")

    def chosen_groups(self) -> tuple[str, ...]:
        """Return the groups of settings below this one that belong to a chosen option."""
        return ()

    def is_idle(self, key: str) -> bool:
        """Return whether a key of a run, or a whole group, changes nothing with this model."""

        def within(inner: str, outer: str) -> bool:
            return f"{inner}.".startswith(f"{outer}.")

        if any(within(key, group) for group in TRAINING):
            return not any(within(key, used) or within(used, key) for used in self.uses)
        return any(within(key, f"model.{name}") for name in self.unused())

    def unused(self) -> tuple[str, ...]:
        """Return the fields that change nothing because of the values of others."""
        groups = [f.name for f in fields(self) if isinstance(getattr(self, f.name), Settings)]
        return tuple(name for name in groups if name not in self.chosen_groups())


@dataclass(frozen=True)
class NetworkSettings(ModelSettings):
    """Fields of every network; those of a subclass are its constructor's own arguments.

    Attributes:
        batch_norms: whether the network may have some.
    """

    uses = TRAINING
    batch_norms: ClassVar[bool] = True

    pretrained: bool | str | None = setting(
        "weights to start from: null or false for none, true for the published ones wherever they "
        "can be had (an installed package, a local cache, the hub), 'package' or 'hub' for those "
        "from there alone, or the path of a weights file",
        None,
        literal=True,
    )
    freeze_epochs: int = setting(
        "epochs at the start in which only the classifier head is trained", 0, at_least=0
    )
    backbone_lr_scale: float = positive(
        "learning rate of everything but the head, as a multiple of optimizer.lr", 1.0, at_most=1
    )
    layer_decay: float = positive(
        "factor of the learning rate a level of depth, counted from the head down; 1 for none",
        1.0,
        at_most=1,
    )
    head_start: Literal["fitted", "random"] = setting(
        "the classifier head that training starts from: fitted for a logistic regression on the "
        "features of the pretrained weights; where it is not a single linear layer, that of "
        "pretrained=FILE, if for as many classes; random for a new one in any case",
        "fitted",
    )
    freeze_norm: bool = setting(
        "batch normalisation outside of the head keeps the statistics that it starts with, those "
        "of the pretrained weights; of no effect without any",
        False,
    )
    frozen_stages: int = setting(
        "stages at the input side that are never trained; 0 for none", 0, at_least=0
    )
    stored_views: int = setting(
        "views of a training picture for which the frozen stages are computed once and kept, one "
        "an epoch in turn; 0 to compute them anew for another view in every epoch",
        0,
        at_least=0,
    )

    def unused(self) -> tuple[str, ...]:
        needs = {
            "head_start": self.pretrained,
            "stored_views": self.frozen_stages,
            "freeze_norm": self.batch_norms,
        }
        return (*super().unused(), *(name for name, needed in needs.items() if not needed))

    @property
    def stores_views(self) -> bool:
        """Whether training begins at what frozen stages gave for stored views of pictures."""
        return bool(self.frozen_stages and self.stored_views)

    @property
    def weights_file(self) -> str | None:
        """The path of the weights that training starts from; None for published ones or none."""
        return None if self.pretrained in (None, False, *_PUBLISHED) else str(self.pretrained)

    def without_weights(self) -> Self:
        """Return settings of the same network that load no weights, which may be gone."""
        return replace(self, pretrained=None)

    def network_class(self, target: str) -> str:
        """Return the import path of the network for targets of a kind, one of `targets`."""
        return self._target_


def _dropout(where: str) -> Any:
    return setting(f"dropout {where}", 0.0, at_least=0, below=1)


def _some(values: list[int]) -> str | None:
    return None if values else "it must have at least one entry"


@dataclass(frozen=True)
class OwnNetworkSettings(NetworkSettings):
    """A network of which no weights are published: one of this project, or of a plugin."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.pretrained in _PUBLISHED:
            raise ConfigError(
                f"pretrained is {self.pretrained!r}: there are no published weights of "
                f"{self.name}; give the path of a file."
            )


@variant(ModelSettings, "src.models.cnn.CNN")
@dataclass(frozen=True)
class CNNSettings(OwnNetworkSettings):
    """A small residual network."""

    widths: list[int] = positive_int("channels of each stage", check=_some)
    blocks: int = positive_int("residual blocks a stage", at_most=100)
    dropout: float = _dropout("before the classifier")


@variant(ModelSettings, "src.models.whitened.WhitenedCNN")
@dataclass(frozen=True)
class WhitenedSettings(OwnNetworkSettings):
    """A network for trainings of seconds, whose first layer whitens the pictures."""

    widths: list[int] = positive_int("channels of each block", check=_some)


@variant(ModelSettings, "src.models.fcn.FCN")
@dataclass(frozen=True)
class FCNSettings(OwnNetworkSettings):
    """A fully convolutional network."""

    targets = (*OwnNetworkSettings.targets, "dense")

    channels: list[int] = positive_int(
        "channels of each convolution + pooling block; the last ones go where pictures are too "
        "small for all",
        check=_some,
    )
    dropout: float = _dropout("before the classifier")

    def network_class(self, target: str) -> str:
        return "src.models.fcn.DenseFCN" if target == "dense" else self._target_


@variant(ModelSettings, "src.models.mlp.MLP")
@dataclass(frozen=True)
class MLPSettings(OwnNetworkSettings):
    """A multi-layer perceptron."""

    hidden: list[int] = positive_int("units of each hidden layer")
    batch_norm: bool = setting("normalise each hidden layer")
    dropout: float = _dropout("after each hidden layer")

    def unused(self) -> tuple[str, ...]:
        return (*super().unused(), *(() if self.batch_norm else ("freeze_norm",)))


@variant(ModelSettings, "src.models.recurrent.RecurrentNet")
@dataclass(frozen=True)
class RecurrentSettings(OwnNetworkSettings):
    """A recurrent network that reads the picture as a sequence."""

    batch_norms = False

    cell: _Cell = setting("recurrent cell")
    reading: Literal["rows", "columns", "patches"] = setting(
        "what one step of the sequence is", "rows"
    )
    step_size: int | None = positive_int(
        "rows, columns or side of a patch a step; null for one, or for at most 64 patches", None
    )
    hidden_size: int = positive_int("units of a layer and direction", 128)
    layers: int = positive_int("stacked recurrent layers", 2, at_most=20)
    bidirectional: bool = setting("read the sequence backwards as well", True)
    pooling: Literal["last", "mean"] = setting("which states are classified", "mean")
    dropout: float = _dropout("between layers and before the classifier")


@variant(ModelSettings, "src.models.renet.ReNet")
@dataclass(frozen=True)
class ReNetSettings(OwnNetworkSettings):
    """Recurrent networks that sweep the picture in two dimensions."""

    batch_norms = False

    cell: _Cell = setting("recurrent cell")
    patch_sizes: list[int] = positive_int(
        "one layer an entry: side of the patches it reads", check=_some
    )
    hidden_size: int = positive_int("units of each of a layer's four networks")
    dropout: float = _dropout("before the classifier")


@variant(ModelSettings, "src.models.vit.ViT")
@dataclass(frozen=True)
class ViTSettings(OwnNetworkSettings):
    """A vision transformer."""

    patch_size: int | None = positive_int(
        "side of a patch in pixels; null for at most 64 patches", None
    )
    width: int = setting("features of a patch; a multiple of heads and of 4", at_least=4)
    depth: int = positive_int("transformer blocks", at_most=100)
    heads: int = positive_int("attention heads a block")
    mlp_ratio: float = positive("units of a block's perceptron, as a multiple of width")
    pooling: Literal["mean", "token"] = setting("what is classified", "mean")
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
        None,
        at_least=8,
        at_most=1024,
    )
    stem: Literal["auto", "keep", "small"] = setting(
        "small: take early reductions out, so that small pictures keep their detail; keep: do "
        "not; auto: small for pictures up to 64 pixels where nothing is pretrained",
        "auto",
    )
    drop_rate: float | None = setting(
        "dropout before the classifier, where the network has one; null for the library's own, "
        "which is up to 0.5 in torchvision's",
        None,
        at_least=0,
        below=1,
    )

    def without_weights(self) -> Self:
        # With first weights, auto kept the stem; without, it would choose again and differ.
        kept = self.stem == "auto" and self.pretrained
        return replace(self, pretrained=None, stem="keep" if kept else self.stem)


@dataclass(frozen=True)
class EncoderSettings(NetworkSettings):
    """A network for pixels over an encoder of timm, whose published weights `pretrained` means."""

    targets = ("dense",)

    encoder: str = setting(
        "timm's name of the network that gives the maps", "tf_efficientnet_lite0"
    )


def _steps(channels: list[int]) -> str | None:
    return None if 3 <= len(channels) <= 5 else "it must have 3, 4 or 5 entries"


@variant(ModelSettings, "src.models.unet.UNet")
@dataclass(frozen=True)
class UNetSettings(EncoderSettings):
    """A U-Net."""

    decoder_channels: list[int] = positive_int(
        "channels of each step of the decoder, coarse to fine; as many steps as halvings of the "
        "encoder are used",
        check=_steps,
    )


@variant(ModelSettings, "src.models.deeplab.DeepLab")
@dataclass(frozen=True)
class DeepLabSettings(EncoderSettings):
    """DeepLabV3+."""

    output_stride: Literal[8, 16] = setting(
        "pixels between two places of the encoder's last map; 8 sees finer and costs more", 16
    )
    rates: list[int] = positive_int(
        "the three dilations of the decoder; twice the usual ones with an output_stride of 8",
        check=lambda rates: None if len(rates) == 3 else "it must have 3 entries",
    )
    decoder_channels: int = positive_int("channels of the decoder's convolutions")
    dropout: float = _dropout("after the dilated convolutions")


@variant(ModelSettings, "src.models.segmentation.SegmentationNet")
@dataclass(frozen=True)
class SegmentationSettings(NetworkSettings):
    """A network of torchvision for pixels; `name` is the library's name of it."""

    targets = ("dense",)


@variant(ModelSettings, "src.ensembles.combine.combine")
@dataclass(frozen=True)
class EnsembleSettings(ModelSettings):
    """Several finished runs that predict together; nothing is trained again."""

    targets = (*ModelSettings.targets, "dense")
    uses = ("trainer.monitor",)  # by which it is judged

    runs: list[str] = setting("folders, ids or names of the runs to choose from, two at least")
    way: Literal["best", "greedy", "stacking", "soup"] = setting(
        "greedy: a weighted mean of probabilities; stacking: of their logarithms; best: the one of "
        "these two that does better; soup: one network whose weights are the mean of several's",
        "best",
    )
    at_most: int = positive_int(
        "runs that the ensemble is made of, at most; each has to answer every picture", 8
    )


@dataclass(frozen=True)
class WeightsSettings(Settings):
    """`python -m src.weights`."""

    config_name = "weights"

    filter: str | None = setting(
        "part of the names of the networks to list, upper and lower case alike; null for all",
        None,
        literal=True,
    )
    fetch: list[str] | Literal["suggested"] = setting(
        "networks of timm or torchvision whose published weights are fetched, from the hub or the "
        "library's address, for every later race; 'suggested' for those of `suggested`"
    )
    suggested: list[str] = setting("networks that suit photos", check=distinct)

    @property
    def fetched(self) -> list[str]:
        """Names of the networks to fetch."""
        names = self.suggested if self.fetch == "suggested" else self.fetch
        return list(dict.fromkeys(names))


def models_for(target: str) -> list[str]:
    """Return the options of conf/model/, those of plugins included, for targets of a kind."""
    known = variants_of(ModelSettings)
    able = {path for path, settings in known.items() if target in settings.targets}
    folders = (PRESETS / "conf", *plugin_folders("conf"))
    files = (file for folder in folders for file in (folder / "model").glob("*.yaml"))
    named = {file.stem: read_yaml(file.read_text(encoding="utf-8")) for file in files}
    targets = {k: v.get("_target_") for k, v in named.items() if isinstance(v, dict)}
    return sorted(name for name, path in targets.items() if path in able)
