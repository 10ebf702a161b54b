"""Small classifiers on features of digits, as a run would make them."""

from __future__ import annotations

from collections.abc import Sequence

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

IMAGES = (load_digits().images[:200, None] * 15.9).astype(np.uint8)
TARGETS = load_digits().target[:200].astype(np.int64)
FAST = ("model.random_forest.trees=5", "model.gradient_boosting.rounds=3", "model.keep=8")


def classifier(*words: str, extractors: Sequence[Extractor] | None = None) -> FeatureClassifier:
    """One fitted to 200 digits with the settings of `model=handcrafted WORDS`."""
    settings = compose_settings(RunSettings, ["model=handcrafted", *FAST, *words])
    model = settings.model
    assert isinstance(model, ClassicalSettings)
    plain = to_plain(settings)
    extractors = extractors or extractors_of(plain["model"]["features"], plain["model"])
    features = [e(IMAGES) for e in extractors]
    fitted = CalibratedModel.fit(
        lambda n: make_pipeline(
            model, [f.shape[1] for f in features], pictures=n, seed=0, threads=1
        ),
        np.concatenate(features, axis=1),
        TARGETS,
        np.arange(200),
        num_classes=10,
        folds=2,
        seed=0,
    )
    metadata = {
        "settings": plain,
        "class_names": [str(k) for k in range(10)],
        "image_size": [8, 8],
        "channels": 1,
    }
    return FeatureClassifier(tuple(extractors), fitted, metadata)
