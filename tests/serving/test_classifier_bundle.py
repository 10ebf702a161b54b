"""The bundle of a classifier on features: needs no checkout, and without a network no torch."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from src.features.classifier import FeatureClassifier
from src.serving.bundle import open_predictor, write_classifier_bundle
from tests.features.classifiers import IMAGES, classifier
from tests.serving.stranger import a_stranger_asks


def bundle(folder: Path, *words: str) -> tuple[FeatureClassifier, str]:
    made = classifier(*words)
    made.save(folder / "model.skops")
    digest = write_classifier_bundle(
        folder / "model", folder / "model.skops", made.metadata, IMAGES[0]
    )
    return made, digest


def test_it_predicts_as_its_classifier_does_to_the_bit(tmp_path: Path) -> None:
    made, digest = bundle(tmp_path)
    opened = open_predictor(tmp_path / "model")
    np.testing.assert_array_equal(opened.probabilities(IMAGES), made(IMAGES))
    assert opened.class_names == tuple("0123456789")
    assert opened.answer(list(IMAGES[:3, 0])).argmax(axis=1).tolist() == [0, 1, 2]
    assert (tmp_path / "model" / "digest.txt").read_text().strip() == digest
    (tmp_path / "again").mkdir()
    assert bundle(tmp_path / "again")[1] != bundle(tmp_path, "model.classifier=knn")[1]


def test_it_needs_neither_the_checkout_nor_what_trains(tmp_path: Path) -> None:
    made, _ = bundle(tmp_path, "model.features=[hog,lbp,colour,gabor,haralick,raw]")
    said, heavy = a_stranger_asks(tmp_path / "model", IMAGES[:9])
    assert heavy == {"sklearn"}
    np.testing.assert_allclose(said, made(IMAGES[:9]), atol=1e-6)


def test_it_holds_arrays_text_and_a_picture_and_nothing_pickled(tmp_path: Path) -> None:
    bundle(tmp_path)
    files = [path for path in (tmp_path / "model").rglob("*") if path.is_file()]
    assert {path.suffix for path in files} == {".json", ".png", ".py", ".skops", ".txt"}
    packages = (tmp_path / "model" / "requirements.txt").read_text()
    assert "scikit-learn==" in packages and "torch" not in packages


def test_a_damaged_one_is_refused_with_the_place(tmp_path: Path) -> None:
    bundle(tmp_path)
    (tmp_path / "model" / "classifier.skops").write_bytes(b"\x80\x04code")
    with pytest.raises(ValueError, match=r"classifier\.skops cannot be read as a model"):
        open_predictor(tmp_path / "model")
