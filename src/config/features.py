"""Settings of models that classify features: hand-crafted ones, or those of frozen networks.

Each descriptor and each classifier has a group of its own, named as the option that chooses it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from src.config.checks import ConfigError, Settings, setting, variant
from src.config.models import ModelSettings

__all__ = [
    "AutoClassifierSettings",
    "ClassicalSettings",
    "ColourSettings",
    "EmbeddingSettings",
    "ForestSettings",
    "GaborSettings",
    "GradientBoostingSettings",
    "HandcraftedSettings",
    "HaralickSettings",
    "HogSettings",
    "KnnSettings",
    "LbpSettings",
    "LinearClassifierSettings",
    "NearestMeanSettings",
    "RawSettings",
    "RbfSvmSettings",
    "ScatteringSettings",
]

FEATURES = ("hog", "lbp", "colour", "gabor", "haralick", "scattering", "raw")
SELECTIONS = ("none", "variance", "anova", "mutual_information", "l1", "pca")
CLASSIFIERS = (
    "linear_svm",
    "rbf_svm",
    "logistic",
    "ridge",
    "nearest_mean",
    "random_forest",
    "gradient_boosting",
    "knn",
)
# Chosen by the search for the best classifier.
_SEARCHED = ("scaling", "selection", "keep", "whitening", "normalise")


def _distinct(values: list[Any]) -> str | None:
    fine = values and len(set(values)) == len(values)
    return None if fine else "it must name at least one, and each once"


def _known(names: list[str]) -> str | None:
    unknown = [name for name in names if name not in FEATURES]
    if unknown:
        return f"it must be a list of some of {', '.join(FEATURES)}"
    return _distinct(list(names))


def _grid() -> Any:
    return setting("cells along each side of the picture, each described apart", at_least=1)


@dataclass(frozen=True)
class HogSettings(Settings):
    """Histograms of oriented gradients."""

    orientations: int = setting("directions told apart", at_least=1, at_most=90)
    cells: list[int] = setting(
        "cells along the shorter side, each of at least 2x2 pixels; several numbers make several "
        "descriptors",
        at_least=1,
        check=_distinct,
    )
    block: int = setting("cells along a side of what is normalised together", at_least=1)


@dataclass(frozen=True)
class LbpSettings(Settings):
    """Uniform local binary patterns."""

    radius: int = setting("pixels from the centre to its neighbours", at_least=1, at_most=16)
    grid: int = _grid()


@dataclass(frozen=True)
class ColourSettings(Settings):
    """Histograms of hue, saturation and value; of brightness where pictures are grey."""

    bins: int = setting("bins a channel", at_least=2, at_most=256)
    grid: int = _grid()


@dataclass(frozen=True)
class GaborSettings(Settings):
    """Mean and spread of the energy behind Gabor filters."""

    wavelengths: list[float] = setting("pixels of a wave", at_least=2, check=_distinct)
    orientations: int = setting("directions of waves", at_least=1, at_most=36)
    grid: int = _grid()


@dataclass(frozen=True)
class HaralickSettings(Settings):
    """Texture statistics of grey-level co-occurrences."""

    levels: int = setting("grey levels told apart", at_least=2, at_most=256)
    distances: list[int] = setting("pixels between the two of a pair", at_least=1, check=_distinct)


@dataclass(frozen=True)
class ScatteringSettings(Settings):
    """Wavelet scattering coefficients of first and second order."""

    octaves: int = setting(
        "sizes of the wavelets, each twice the last; fewer where a cell is too small for them",
        at_least=1,
        at_most=6,
    )
    orientations: int = setting("directions of the wavelets", at_least=1, at_most=16)
    grid: int = _grid()
    side: int = setting(
        "pixels of a side that larger pictures are shrunk to", at_least=4, at_most=512
    )


@dataclass(frozen=True)
class RawSettings(Settings):
    """The pixels themselves."""

    side: int = setting(
        "pixels of a side that larger pictures are shrunk to", at_least=1, at_most=256
    )


@dataclass(frozen=True)
class LinearClassifierSettings(Settings):
    """A linear classifier."""

    strength: float = setting("C: weight of the errors against a simple boundary", above=0)


@dataclass(frozen=True)
class RbfSvmSettings(Settings):
    """A support vector machine with a Gaussian kernel."""

    strength: float = setting("C: weight of the errors against a smooth boundary", above=0)
    gamma: float = setting(
        "narrowness of the kernel, in units of 1 over the features' total variance", above=0
    )
    exact_up_to: int = setting(
        "training pictures up to which the machine is solved exactly; beyond, a least-squares one "
        "over a sample of the pictures",
        at_least=0,
    )
    components: int = setting("pictures in that sample", at_least=1)


@dataclass(frozen=True)
class ForestSettings(Settings):
    """A random forest."""

    trees: int = setting("trees", at_least=1, at_most=100_000)
    min_leaf: int = setting("fewest pictures in a leaf", at_least=1)


@dataclass(frozen=True)
class GradientBoostingSettings(Settings):
    """Gradient boosting over binned features."""

    rounds: int = setting("trees a class", at_least=1, at_most=100_000)
    rate: float = setting("share of each tree that is added", above=0, at_most=1)
    leaves: int = setting("most leaves of a tree", at_least=2)


@dataclass(frozen=True)
class KnnSettings(Settings):
    """Nearest neighbours, weighted by distance."""

    neighbours: int = setting("pictures that vote", at_least=1)


@dataclass(frozen=True)
class NearestMeanSettings(Settings):
    """The nearest class mean, by a distance scaled with the covariance within classes."""

    shrinkage: float = setting(
        "of the covariance within classes towards equal variances: 1 is the Euclidean distance, "
        "near 0 linear discriminant analysis",
        above=0,
        at_most=1,
    )


@dataclass(frozen=True)
class AutoClassifierSettings(Settings):
    """The search for classifier, its strength, and the normalisation of the features."""

    seconds: float = setting(
        "after which no further classifier is tried; the final fit comes on top", above=0
    )


@dataclass(frozen=True)
class ClassicalSettings(ModelSettings):
    """Fields of every classifier on features."""

    uses: ClassVar[tuple[str, ...]] = ("runtime.threads",)

    mirror: bool | None = setting(
        "learn from every training picture mirrored left to right as well; null: where the data "
        "set says that this is harmless"
    )
    scaling: str = setting(
        "what is scaled to equal variance: blocks, each descriptor as a whole; features, also "
        "each of its numbers",
        options=("blocks", "features"),
    )
    selection: str = setting(
        "which features are kept, or pca for their principal components", options=SELECTIONS
    )
    keep: int = setting("features or components kept by the selection", at_least=1)
    whitening: float = setting(
        "power of their deviations that principal components are divided by: 0 leaves them as they "
        "are, 1 makes their spreads equal",
        at_least=0,
        at_most=1,
    )
    normalise: str = setting(
        "rows: scale the features of each picture to length 1; none: do not",
        options=("none", "rows"),
    )
    classifier: str = setting(
        "the classifier; auto: classifier, strength, scaling, selection and normalisation "
        "that are best on held-out folds of the training part",
        options=("auto", *CLASSIFIERS),
    )
    auto: AutoClassifierSettings = setting("search for the best of them")
    linear_svm: LinearClassifierSettings = setting("linear support vector machine")
    rbf_svm: RbfSvmSettings = setting("support vector machine with a Gaussian kernel")
    logistic: LinearClassifierSettings = setting("logistic regression")
    ridge: LinearClassifierSettings = setting("ridge regression on class indicators")
    nearest_mean: NearestMeanSettings = setting("nearest class mean")
    random_forest: ForestSettings = setting("random forest")
    gradient_boosting: GradientBoostingSettings = setting("gradient boosting")
    knn: KnnSettings = setting("nearest neighbours")
    calibration_folds: int = setting(
        "folds of the training part, so that probabilities are calibrated on pictures that the "
        "classifier has not seen",
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


@variant(ModelSettings, "src.features.fusion.extractors_of")
@dataclass(frozen=True)
class HandcraftedSettings(ClassicalSettings):
    """Hand-crafted descriptors."""

    features: list[str] = setting("descriptors, put one after another", check=_known)
    hog: HogSettings = setting("histograms of oriented gradients")
    lbp: LbpSettings = setting("local binary patterns")
    colour: ColourSettings = setting("colour histograms")
    gabor: GaborSettings = setting("Gabor filters")
    haralick: HaralickSettings = setting("grey-level co-occurrences")
    scattering: ScatteringSettings = setting("wavelet scattering")
    raw: RawSettings = setting("pixels")

    def chosen_groups(self) -> tuple[str, ...]:
        return (*super().chosen_groups(), *self.features)


@variant(ModelSettings, "src.features.embedding.NetworkFeatures")
@dataclass(frozen=True)
class EmbeddingSettings(ClassicalSettings):
    """The output of frozen networks before their last layer."""

    uses = ("runtime.threads", "trainer.accelerator")

    run: str | None = setting(
        "folder, id or name of a run, or champion, whose network is taken; null for one of timm"
    )
    networks: list[str] = setting(
        "timm's names of the networks; the features of several stand one after another",
        check=_distinct,
    )
    pretrained: bool | str = setting(
        "their weights: true for the published ones from wherever this machine can load them, "
        "'package', 'hub', or the path of a file"
    )
    input_size: int | None = setting(
        "pixels of a side that the networks take pictures at; null for their native size, of "
        "several the largest",
        at_least=8,
        at_most=1024,
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.run is None and self.pretrained is False:
            raise ConfigError(
                "pretrained is False: a network that has seen nothing has nothing to say."
            )

    def unused(self) -> tuple[str, ...]:
        published = ("networks", "pretrained", "input_size")
        return (*super().unused(), *(published if self.run is not None else ()))
