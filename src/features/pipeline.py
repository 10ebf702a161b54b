"""From the settings of a classical model to scikit-learn's estimators, not fitted yet."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sklearn.decomposition import PCA
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import Normalizer

from ..config.checks import Settings, own_fields
from ..config.features import CLASSIFIERS, ClassicalSettings, PixelsSettings
from ..machine.imports import import_object
from .scaling import BlockScaler, PartWhitening
from .selection import KeepBest

__all__ = ["make_classifier", "make_pipeline"]


def make_pipeline(
    settings: ClassicalSettings, sizes: Sequence[int], *, pictures: int, seed: int, threads: int
) -> Pipeline:
    """Return a pipeline of scaling, selection, normalisation and classifier, not fitted yet.

    Args:
        settings: what to use.
        sizes: features of each descriptor, D in all.
        pictures: that the smallest fit will see.
        seed: of every draw.
        threads: that a classifier may use.
    """
    steps: list[tuple[str, Any]] = [
        ("scale", BlockScaler(list(sizes), each=settings.scaling == "features"))
    ]
    keep = min(settings.keep, sum(sizes))
    if settings.selection == "pca":
        steps.append(("select", PCA(min(keep, pictures), random_state=seed)))
        if settings.whitening > 0:
            steps.append(("whiten", PartWhitening(settings.whitening)))
    elif settings.selection != "none":
        steps.append(("select", KeepBest(settings.selection, keep, seed)))
    if settings.normalise == "rows":
        steps.append(("normalise", Normalizer()))
    classifier = make_classifier(settings, pictures=pictures, seed=seed, threads=threads)
    return Pipeline([*steps, ("classify", classifier)])


def make_classifier(
    settings: ClassicalSettings | PixelsSettings, *, pictures: int, seed: int, threads: int
) -> Any:
    """Return the classifier alone, of pictures or of pixels; arguments as of `make_pipeline`."""
    make = import_object(CLASSIFIERS[settings.classifier])
    own = own_fields(getattr(settings, settings.classifier), Settings)
    return make(**own, seed=seed, threads=threads, pictures=pictures)
