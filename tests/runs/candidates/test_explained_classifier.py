"""Maps of what a classifier on a frozen network looked at."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from src.features.calibration import CalibratedModel
from src.records.pictures import Pixels
from src.runs.candidates.trained_classifier import TrainedClassifier
from tests.features.classifiers import CLASSES
from tests.features.test_classifier_network import features, made

SIDE = 24
PLACE = slice(4, 10)


def pictures(count: int) -> Pixels:
    """Grey noise, and in the pictures of class 1 a bright square at one place."""
    found = np.random.default_rng(0).integers(60, 120, (count, 3, SIDE, SIDE), dtype=np.uint8)
    found[CLASSES[:count] == 1, :, PLACE, PLACE] = 250
    return found


def classifier(*overrides: str) -> TrainedClassifier:
    extractor = features(image_size=[SIDE, SIDE])
    with torch.no_grad():  # features of bright places
        extractor._network.body[0].weight.abs_()  # type: ignore[union-attr, operator]
    images = pictures(300)
    found = made(*overrides, extractors=[extractor], classes=[0, 1], images=images)
    return TrainedClassifier(found, Path("model.skops"))


@pytest.mark.parametrize("slope", [1, 20])
@pytest.mark.parametrize("kind", ["logistic", "linear_svm"])
def test_maps_are_brightest_where_the_class_shows(kind: str, slope: float) -> None:
    """Also of answers whose probability is 1 in single precision."""
    trained = classifier("model.selection=none", f"model.classifier={kind}")
    model = trained.classifier.model
    assert isinstance(model, CalibratedModel)
    steeper = replace(model.calibration, slope=slope * model.calibration.slope)
    model = replace(model, calibration=steeper)
    trained = replace(trained, classifier=replace(trained.classifier, model=model))
    shown = pictures(300)[CLASSES[:300] == 1][:5]
    assert (model.probabilities(trained.classifier.features(shown))[:, 1] == 1).all() == (slope > 1)
    maps = trained.class_maps()
    assert maps is not None
    found = maps.of(shown, np.ones((5, 1), np.int64))
    assert found.shape == (5, 1, SIDE, SIDE) and found.dtype == np.float32
    assert found.min() >= 0 and found.max() == pytest.approx(1, abs=0.2)
    inside = found[..., PLACE, PLACE].mean(axis=(1, 2, 3))
    outside = (found.sum(axis=(1, 2, 3)) - inside * 36) / (SIDE**2 - 36)
    assert (inside > 3 * outside).all()


def test_what_no_gradient_leads_through_has_no_maps() -> None:
    """A forest, and features of two networks, of which no one layer knows all."""
    assert classifier("model.classifier=random_forest").class_maps() is None
    two = [features(), features(24)]
    assert TrainedClassifier(made(extractors=two), Path("model.skops")).class_maps() is None
