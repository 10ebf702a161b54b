"""Settings of models that classify features: hand-crafted ones, or those of frozen networks.

Each descriptor and each classifier has a group of its own, named as the option that chooses it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, TypeVar

from ..machine.text import nearest
from .added_groups import group_of
from .checks import (
    ConfigError,
    Settings,
    distinct,
    fraction,
    positive,
    positive_int,
    setting,
    variant,
)
from .models import ModelSettings

__all__ = [
    "CLASSIFIERS",
    "DESCRIPTORS",
    "EXPORTED",
    "ClassicalSettings",
    "EmbeddingSettings",
    "HandcraftedSettings",
    "PixelsSettings",
    "classifier",
    "descriptor",
]

T = TypeVar("T")

# The descriptors, and what makes those of plugins: callables of a picture (H, W, C) float32 in
# [0, 1], which return (D,) float32. src/features/fusion.py makes the others.
DESCRIPTORS: dict[str, str | None] = {}
# The classifiers, and what makes them: functions of the fields of their settings and of `seed`,
# `threads` and `pictures` (that the smallest fit will see), which return a scikit-learn estimator.
CLASSIFIERS: dict[str, str] = {}
# Those that exported files compute; see src/features/classifier_network.py.
EXPORTED = ("linear_svm", "rbf_svm", "logistic", "ridge", "nearest_mean")
# Chosen by the search for the best classifier.
_SEARCHED = ("scaling", "selection", "keep", "whitening", "normalise")


def _known(names: list[str]) -> str | None:
    unknown = [name for name in names if name not in DESCRIPTORS]
    if unknown:
        hint = nearest(unknown[0], DESCRIPTORS)
        return f"it must be a list of some of {', '.join(DESCRIPTORS)}{hint}"
    return distinct(list(names))


def _is_classifier(name: str) -> str | None:
    options = ("auto", *CLASSIFIERS)
    wrong = f"it must be one of {', '.join(options)}{nearest(name, options)}"
    return None if name in options else wrong


@dataclass(frozen=True)
class AutoClassifierSettings(Settings):
    """The search for classifier, its strength, and the normalisation of the features."""

    seconds: float = positive(
        "after which no further classifier is tried, nor once an idle core would have worked for a "
        "third of them, so that a busy machine finds the same; the final fit comes on top",
        60.0,
    )


@dataclass(frozen=True)
class ClassicalSettings(ModelSettings):
    """Fields of every classifier on features."""

    uses: ClassVar[tuple[str, ...]] = ("runtime.threads",)

    mirror: bool | None = setting(
        "learn from every training picture mirrored left to right as well; null: where the data "
        "set says that this is harmless",
        None,
    )
    scaling: Literal["blocks", "features"] = setting(
        "what is scaled to equal variance: blocks, each descriptor as a whole; features, also "
        "each of its numbers",
        "blocks",
    )
    selection: Literal["none", "variance", "anova", "mutual_information", "l1", "pca"] = setting(
        "which features are kept, or pca for their principal components", "pca"
    )
    keep: int = positive_int("features or components kept by the selection", 200)
    whitening: float = fraction(
        "power of their deviations that principal components are divided by: 0 leaves them as they "
        "are, 1 makes their spreads equal",
        0.0,
    )
    normalise: Literal["none", "rows"] = setting(
        "rows: scale the features of each picture to length 1; none: do not", "none"
    )
    classifier: str = setting(
        "the classifier; auto: classifier, strength, scaling, selection and normalisation "
        "that are best on held-out folds of the training part",
        "auto",
        check=_is_classifier,
    )
    auto: AutoClassifierSettings = setting("search for the best of them")
    calibration_folds: int = setting(
        "folds of the training part, so that probabilities are calibrated on pictures that the "
        "classifier has not seen",
        5,
        at_least=2,
        at_most=20,
    )

    def chosen_groups(self) -> tuple[str, ...]:
        return (self.classifier,)

    def unused(self) -> tuple[str, ...]:
        if self.classifier == "auto":
            return (*super().unused(), *_SEARCHED)
        used = {"pca": ("keep", "whitening"), "none": ()}.get(self.selection, ("keep",))
        return (*super().unused(), *(key for key in ("keep", "whitening") if key not in used))

    def views(self, mirror_ok: bool) -> int:
        """Return how often a training picture is described: 2 with its mirror image, else 1.

        Args:
            mirror_ok: whether the data set says that this is harmless.
        """
        return 1 + (mirror_ok if self.mirror is None else self.mirror)


@variant(ModelSettings, "src.features.fusion.extractors_of")
@dataclass(frozen=True)
class HandcraftedSettings(ClassicalSettings):
    """Hand-crafted descriptors."""

    features: list[str] = setting("descriptors, put one after another", check=_known)

    def chosen_groups(self) -> tuple[str, ...]:
        return (*super().chosen_groups(), *self.features)


@variant(ModelSettings, "src.features.embedding.NetworkFeatures")
@dataclass(frozen=True)
class EmbeddingSettings(ClassicalSettings):
    """The output of frozen networks before their last layer."""

    uses = ("runtime.threads", "trainer.accelerator")

    run: str | None = setting(
        "folder, id or name of a run, or champion, whose network is taken; null for one of timm",
        None,
        literal=True,
    )
    networks: list[str] = setting(
        "timm's names of the networks; the features of several stand one after another",
        ["tf_efficientnet_lite2"],
        check=distinct,
    )
    pretrained: bool | str = setting(
        "their weights: true for the published ones from wherever this machine can load them, "
        "'package', 'hub', or the path of a file",
        True,
    )
    input_size: int | None = setting(
        "pixels of a side that the networks take pictures at; null for their native size, of "
        "several the largest",
        None,
        at_least=8,
        at_most=1024,
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.run is None and self.pretrained is False:
            raise ConfigError("pretrained is False: an untrained network has no useful features.")

    def unused(self) -> tuple[str, ...]:
        published = ("networks", "pretrained", "input_size")
        return (*super().unused(), *(published if self.run is not None else ()))


def descriptor(name: str, target: str | None = None) -> Callable[[type[T]], type[T]]:
    """Register a descriptor, whose settings are the decorated class and stand in `model.NAME`.

    `model.features` chooses it by its name; see `DESCRIPTORS` for the target.
    """
    return group_of(HandcraftedSettings, name, DESCRIPTORS, target)


def classifier(name: str, target: str) -> Callable[[type[T]], type[T]]:
    """Register a classifier, whose settings are the decorated class and stand in `model.NAME`.

    `model.classifier` chooses it by its name; see `CLASSIFIERS` for the target.
    """
    return group_of(ClassicalSettings, name, CLASSIFIERS, target)


def _grid(default: int) -> Any:
    return positive_int("cells along each side of the picture, each described apart", default)


@descriptor("hog")
@dataclass(frozen=True)
class HogSettings(Settings):
    """Histograms of oriented gradients."""

    orientations: int = positive_int("number of directions", 9, at_most=90)
    cells: list[int] = positive_int(
        "cells along the shorter side, each of at least 2x2 pixels; several numbers make several "
        "descriptors",
        [7],
        check=distinct,
    )
    block: int = positive_int("cells along a side of what is normalised together", 2)


@descriptor("lbp")
@dataclass(frozen=True)
class LbpSettings(Settings):
    """Uniform local binary patterns."""

    radius: int = positive_int("pixels from the centre to its neighbours", 1, at_most=16)
    grid: int = _grid(4)


@descriptor("colour")
@dataclass(frozen=True)
class ColourSettings(Settings):
    """Histograms of hue, saturation and value; of brightness where pictures are grey."""

    bins: int = setting("bins a channel", 8, at_least=2, at_most=256)
    grid: int = _grid(2)


@descriptor("gabor")
@dataclass(frozen=True)
class GaborSettings(Settings):
    """Mean and spread of the energy behind Gabor filters."""

    wavelengths: list[float] = setting("pixels of a wave", [3.0, 6.0], at_least=2, check=distinct)
    orientations: int = positive_int("directions of waves", 4, at_most=36)
    grid: int = _grid(4)


@descriptor("haralick")
@dataclass(frozen=True)
class HaralickSettings(Settings):
    """Texture statistics of grey-level co-occurrences."""

    levels: int = setting("number of grey levels", 16, at_least=2, at_most=256)
    distances: list[int] = positive_int("pixels between the two of a pair", [1, 2], check=distinct)


@descriptor("scattering")
@dataclass(frozen=True)
class ScatteringSettings(Settings):
    """Wavelet scattering coefficients of first and second order."""

    octaves: int = positive_int(
        "sizes of the wavelets, each twice the last; fewer where a cell is too small for them",
        3,
        at_most=6,
    )
    orientations: int = positive_int("directions of the wavelets", 4, at_most=16)
    grid: int = _grid(7)
    side: int = setting(
        "pixels of a side that larger pictures are shrunk to", 64, at_least=4, at_most=512
    )


@descriptor("raw")
@dataclass(frozen=True)
class RawSettings(Settings):
    """The pixels themselves."""

    side: int = positive_int("pixels of a side that larger pictures are shrunk to", 16, at_most=256)


@classifier("linear_svm", "src.features.estimators.linear_svm")
@dataclass(frozen=True)
class LinearSvmSettings(Settings):
    """A linear support vector machine."""

    strength: float = positive("C: weight of the errors against a simple boundary", 10.0)


@classifier("rbf_svm", "src.features.estimators.rbf_svm")
@dataclass(frozen=True)
class RbfSvmSettings(Settings):
    """A support vector machine with a Gaussian kernel."""

    strength: float = positive("C: weight of the errors against a smooth boundary", 10.0)
    gamma: float = positive(
        "narrowness of the kernel, in units of 1 over the features' total variance", 1.0
    )
    exact_up_to: int = setting(
        "training pictures up to which the machine is solved exactly; beyond, a least-squares one "
        "over a sample of the pictures",
        120000,
        at_least=0,
    )
    components: int = positive_int("pictures in that sample", 5000)


@classifier("logistic", "src.features.estimators.logistic")
@dataclass(frozen=True)
class LogisticSettings(Settings):
    """Logistic regression."""

    strength: float = positive("C: weight of the errors against a simple boundary", 100.0)


@classifier("ridge", "src.features.estimators.ridge")
@dataclass(frozen=True)
class RidgeSettings(Settings):
    """Ridge regression on class indicators."""

    strength: float = positive("C: weight of the errors against a simple boundary", 1.0)


@classifier("nearest_mean", "src.features.estimators.nearest_mean")
@dataclass(frozen=True)
class NearestMeanSettings(Settings):
    """The nearest class mean, by a distance scaled with the covariance within classes."""

    shrinkage: float = positive(
        "of the covariance within classes towards equal variances: 1 is the Euclidean distance, "
        "near 0 linear discriminant analysis",
        0.1,
        at_most=1,
    )


@classifier("random_forest", "src.features.estimators.random_forest")
@dataclass(frozen=True)
class ForestSettings(Settings):
    """A random forest."""

    trees: int = positive_int("trees", 300, at_most=100_000)
    min_leaf: int = positive_int("fewest pictures in a leaf", 1)


@classifier("gradient_boosting", "src.features.estimators.gradient_boosting")
@dataclass(frozen=True)
class GradientBoostingSettings(Settings):
    """Gradient boosting over binned features."""

    rounds: int = positive_int("trees a class", 100, at_most=100_000)
    rate: float = positive("share of each tree that is added", 0.1, at_most=1)
    leaves: int = setting("most leaves of a tree", 31, at_least=2)


@classifier("knn", "src.features.estimators.knn")
@dataclass(frozen=True)
class KnnSettings(Settings):
    """Nearest neighbours, weighted by distance."""

    neighbours: int = positive_int("pictures that vote", 5)


@variant(ModelSettings, "src.features.pixels.PixelFeatures")
@dataclass(frozen=True)
class PixelsSettings(ModelSettings):
    """A classifier of single pixels, by features of what is around each."""

    uses = ("runtime.threads",)
    targets = ("dense",)

    intensity: bool = setting("the blurred values of each channel are features", True)
    edges: bool = setting("the length of their gradients are features", True)
    texture: bool = setting("the eigenvalues of their Hessians are features", True)
    sigma_min: float = positive("deviation of the narrowest Gaussian that blurs, in pixels", 0.5)
    sigma_max: float = positive(
        "deviation of the widest Gaussian, in pixels; each is about twice the one before",
        16.0,
        at_most=256,
    )
    pixels: int = positive_int(
        "training pixels that are drawn, of each class alike many as far as there are as many",
        50_000,
    )
    classifier: Literal["random_forest", "gradient_boosting"] = setting(
        "the classifier", "random_forest"
    )
    random_forest: ForestSettings = setting("a random forest")
    gradient_boosting: GradientBoostingSettings = setting("gradient boosting over binned features")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.sigma_min > self.sigma_max:
            raise ConfigError(
                f"sigma_min is {self.sigma_min:g}: it must be at most sigma_max "
                f"({self.sigma_max:g})."
            )
        if not (self.intensity or self.edges or self.texture):
            raise ConfigError("intensity, edges and texture are all false: one must be true.")

    def chosen_groups(self) -> tuple[str, ...]:
        return (self.classifier,)
