from __future__ import annotations

from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter
from scipy.stats import norm
from sklearn.linear_model import LogisticRegression

from src.features.classifier import FeatureClassifier
from src.features.estimators import gradient_boosting, random_forest
from src.features.pixels import (
    PixelFeatures,
    PixelSample,
    blocks_of,
    fit_pixels,
    sample_pixels,
)

LEFT_OUT = 255


def test_features_are_those_around_each_pixel() -> None:
    images = np.random.default_rng(0).integers(0, 256, (2, 2, 20, 30)).astype(np.uint8)
    found = PixelFeatures(1.0, 4.0)(images)
    assert found.shape == (2, 20, 30, 2 * 3 * 4) and found.dtype == np.float32
    blurred = gaussian_filter(images[1, 1] / 255, 2.0, mode="nearest", truncate=4.0)
    np.testing.assert_allclose(found[1, :, :, 12 + 4], blurred, atol=1e-5)
    rows, columns = np.gradient(blurred)
    hessian = np.stack(
        [np.gradient(rows, axis=0), np.gradient(rows, axis=1), np.gradient(columns, axis=1)], -1
    )
    matrices = hessian[..., [0, 1, 1, 2]].reshape(20, 30, 2, 2)
    largest_first = np.linalg.eigvalsh(matrices)[..., ::-1]
    np.testing.assert_allclose(found[1, :, :, 12 + 6 : 12 + 8], largest_first, atol=1e-5)
    alone = PixelFeatures(1.0, 4.0, edges=False, texture=False)(images)
    np.testing.assert_array_equal(alone, found[..., [0, 4, 8, 12, 16, 20]])


def place(picture: NDArray[Any], rows: slice, columns: slice) -> NDArray[np.float32]:
    """A feature that says which pixel it is of, and one that says of which picture."""
    numbers = np.arange(picture[0].size).reshape(picture[0].shape)
    return np.stack([numbers, picture[0]], -1)[rows, columns].astype(np.float32)


def test_a_block_is_described_as_within_the_whole() -> None:
    picture = np.random.default_rng(0).integers(0, 256, (2, 60, 90)).astype(np.uint8)
    features = PixelFeatures(0.5, 3.0)
    (whole,) = features(picture[None])
    for rows, columns in product(
        (slice(0, 20), slice(23, 41), slice(40, 60)), (slice(0, 90), slice(30, 31), slice(55, 90))
    ):
        found = features.of_block(picture, rows, columns)
        np.testing.assert_allclose(found, whole[rows, columns], atol=1e-6)


def test_large_pictures_are_answered_block_by_block(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    picture = rng.integers(0, 256, (1, 70, 50)).astype(np.uint8)
    mask = rng.integers(0, 2, (70, 50)).astype(np.uint8)
    features = PixelFeatures(1.0, 2.0)
    found = []
    for _ in range(2):
        options: dict[str, Any] = {"num_classes": 2, "most": 300, "seed": 0}
        sample = sample_pixels(
            features.of_block, lambda one: picture, lambda one: mask, [0], **options
        )
        model = fit_pixels(
            lambda count: random_forest(trees=4, min_leaf=2, threads=1, seed=0, pictures=count),
            sample,
            folds=2,
            seed=0,
        )
        classifier = FeatureClassifier(
            (features,), model, {"class_names": ["a", "b"], "pixels": {}}
        )
        found.append(classifier(picture[None]))
        monkeypatch.setattr("src.features.pixels._PIXELS_AT_ONCE", 100)
        monkeypatch.setattr("src.features.pixels._BLOCK", 32)
    assert len(list(blocks_of(70, 50))) == 6
    # Rounding may decide on which side of a threshold a value is.
    assert (np.abs(found[0] - found[1]) > 1e-3).mean() < 0.01


@settings(deadline=None, max_examples=50)
@given(seed=st.integers(0, 99), most=st.integers(4, 3000), count=st.integers(1, 6))
def test_pixels_are_drawn_evenly_from_classes_and_pictures(
    seed: int, most: int, count: int
) -> None:
    rng = np.random.default_rng(seed)
    shares = [0.7, 0.2, 0.02, 0.08]
    masks = rng.choice([0, 1, 2, LEFT_OUT], (count, 15, 17), p=shares).astype(np.uint8)
    masks[0, 0, :2] = 0, 1
    ids = rng.permutation(20)[:count]
    by_id = dict(zip(ids.tolist(), masks))

    def read(one: int) -> NDArray[np.uint8]:
        return np.full((1, 15, 17), one, np.uint8)

    found = sample_pixels(
        place, read, by_id.__getitem__, ids.tolist(), num_classes=3, most=most, seed=seed
    )
    total = np.bincount(masks.ravel(), minlength=256)[:3]
    np.testing.assert_array_equal(found.counts, total)
    drawn = np.bincount(found.targets, minlength=3)
    quota = most / np.count_nonzero(total)
    np.testing.assert_allclose(drawn, np.minimum(total, quota), atol=0.51)
    where = list(zip(found.pictures.tolist(), found.features[:, 0].astype(int).tolist()))
    assert len(set(where)) == len(where), "a pixel was drawn twice"
    assert [by_id[one].flat[pixel] for one, pixel in where] == found.targets.tolist()
    np.testing.assert_array_equal(found.features[:, 1], found.pictures)
    for one, mask in by_id.items():
        own = np.bincount(found.targets[found.pictures == one], minlength=3)
        share = np.bincount(mask.ravel(), minlength=256)[:3] * np.minimum(
            1, quota / np.maximum(total, 1)
        )
        np.testing.assert_allclose(own, share, atol=1.01)


def test_pictures_with_one_class_cannot_be_learnt_from() -> None:
    read, mask = (
        (lambda one: np.zeros((1, 4, 4), np.uint8)),
        (lambda one: np.zeros((4, 4), np.uint8)),
    )
    with pytest.raises(ValueError, match="one class"):
        sample_pixels(place, read, mask, [0, 1], num_classes=2, most=9, seed=0)


@pytest.mark.parametrize("pictures", [1, 40])
def test_probabilities_are_those_of_pixels_as_they_occur(pictures: int) -> None:
    """Two normal distributions, one class 30 times rarer: the posterior is known."""
    rng, each, rare = np.random.default_rng(0), 4000, 30
    targets = np.repeat([0, 2], each)
    values = rng.normal(targets.astype(float), 1.0)
    of_picture = rng.integers(0, pictures, len(targets))
    counts = np.array([rare * each, 0, each])
    sample = PixelSample(values[:, None].astype(np.float32), targets, of_picture, counts)
    model = fit_pixels(lambda count: LogisticRegression(C=1e6), sample, folds=5, seed=0)
    grid = np.linspace(-2, 5, 50)
    weights = rare * norm.pdf(grid, 0), norm.pdf(grid, 2)
    found = model.probabilities(grid[:, None].astype(np.float32))
    np.testing.assert_allclose(found[:, 2], weights[1] / sum(weights), atol=0.03)
    assert not found[:, 1].any()
    np.testing.assert_allclose(found.sum(axis=1), 1, atol=1e-5)


@pytest.mark.parametrize(
    "make",
    [
        partial(random_forest, trees=5, min_leaf=2, threads=1),
        partial(gradient_boosting, rounds=5, rate=0.3, leaves=8),
    ],
)
def test_a_saved_model_answers_as_before(make: Any, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    masks = np.zeros((4, 24, 20), np.uint8)
    for mask, (y, x) in zip(masks, rng.integers(2, 10, (4, 2))):
        mask[y : y + 8, x : x + 8] = 1
    images = (60 + 100 * masks[:, None] + rng.integers(0, 40, (4, 3, 24, 20))).astype(np.uint8)
    features = PixelFeatures(1.0, 2.0, texture=False)
    sample = sample_pixels(
        features.of_block,
        images.__getitem__,
        masks.__getitem__,
        range(4),
        num_classes=2,
        most=500,
        seed=0,
    )
    model = fit_pixels(lambda count: make(seed=0, pictures=count), sample, folds=3, seed=0)
    metadata = {"class_names": ["background", "square"], "pixels": features.identity}
    classifier = FeatureClassifier((features,), model, metadata)
    probs = classifier(images)
    assert probs.shape == (4, 2, 24, 20)
    assert (probs.argmax(axis=1) == masks).mean() > 0.97
    classifier.save(tmp_path / "model.skops")
    again = FeatureClassifier.load(tmp_path / "model.skops")
    np.testing.assert_array_equal(again(images[:2]), probs[:2])
