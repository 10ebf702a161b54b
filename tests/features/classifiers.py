"""Small classifiers on features of digits, as a run would make them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import get_args, get_type_hints

import numpy as np
from sklearn.datasets import load_digits

from src.config.checks import to_plain
from src.config.compose import compose_settings
from src.config.features import ClassicalSettings
from src.config.schema import RunSettings
from src.features.calibration import CalibratedModel
from src.features.classifier import FeatureClassifier
from src.features.fusion import Extractor, extractors_of
from src.features.pipeline import make_pipeline

DIGITS = (load_digits().data / 16).astype(np.float32)
CLASSES = load_digits().target.astype(np.int64)
IMAGES = (load_digits().images[:200, None] * 15.9).astype(np.uint8)
SELECTIONS = get_args(get_type_hints(ClassicalSettings)["selection"])
FAST = ("model.random_forest.trees=5", "model.gradient_boosting.rounds=3", "model.keep=8")


def settings(*overrides: str) -> ClassicalSettings:
    """Those of `model=handcrafted OVERRIDES`."""
    model = compose_settings(RunSettings, ["model=handcrafted", *overrides]).model
    assert isinstance(model, ClassicalSettings)
    return model


def fitted(
    model: ClassicalSettings,
    features: np.ndarray,
    targets: np.ndarray,
    *,
    sizes: Sequence[int] = (64,),
    num_classes: int = 10,
    folds: int = 3,
) -> CalibratedModel:
    return CalibratedModel.fit(
        lambda n: make_pipeline(model, sizes, pictures=n, seed=0, threads=1),
        features,
        targets,
        np.arange(len(targets)),
        num_classes=num_classes,
        folds=folds,
        seed=0,
    )


def classifier(*overrides: str, extractors: Sequence[Extractor] | None = None) -> FeatureClassifier:
    """One fitted to 200 digits with the settings of `model=handcrafted OVERRIDES`."""
    run = compose_settings(RunSettings, ["model=handcrafted", *FAST, *overrides])
    assert isinstance(run.model, ClassicalSettings)
    plain = to_plain(run)
    extractors = extractors or extractors_of(plain["model"]["features"], plain["model"])
    blocks = [e(IMAGES) for e in extractors]
    sizes = [block.shape[1] for block in blocks]
    features = np.concatenate(blocks, axis=1)
    model = fitted(run.model, features, CLASSES[:200], sizes=sizes, folds=2)
    names = [str(k) for k in range(10)]
    metadata = {"settings": plain, "class_names": names, "image_size": [8, 8], "channels": 1}
    return FeatureClassifier(tuple(extractors), model, metadata)
