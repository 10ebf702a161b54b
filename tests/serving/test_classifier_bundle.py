"""The bundle of a classifier on features: needs no checkout, and without a network no torch."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from src.features.classifier import FeatureClassifier
from src.features.embedding import NetworkFeatures
from src.serving.bundle import open_predictor
from src.serving.bundle_writing import write_classifier_bundle
from tests.features.classifiers import IMAGES, classifier
from tests.serving.bundles import network_and_metadata
from tests.serving.stranger import a_stranger_asks_all

FEATURES = "model.features=[hog,lbp,colour,gabor,haralick,raw]"


def write(folder: Path, made: FeatureClassifier) -> str:
    folder.mkdir(exist_ok=True)
    made.save(folder / "model.skops")
    return write_classifier_bundle(
        folder / "model", folder / "model.skops", made.metadata, IMAGES[0]
    )


def test_it_predicts_as_its_classifier_does_to_the_bit(tmp_path: Path) -> None:
    made = classifier()
    digest = write(tmp_path, made)
    opened = open_predictor(tmp_path / "model")
    np.testing.assert_array_equal(opened.probabilities(IMAGES), made(IMAGES))
    assert opened.class_names == tuple("0123456789")
    assert opened.answer(list(IMAGES[:3, 0])).argmax(axis=1).tolist() == [0, 1, 2]
    assert (tmp_path / "model" / "digest.txt").read_text().strip() == digest
    assert write(tmp_path / "again", made) != write(tmp_path, classifier("model.classifier=knn"))


@pytest.mark.slow
def test_it_needs_neither_the_checkout_nor_what_trains_and_brings_the_networks_of_its_features(
    tmp_path: Path,
) -> None:
    made = {
        tmp_path / "plain": classifier(FEATURES),
        tmp_path / "rbf": classifier(FEATURES, "model.classifier=rbf_svm"),
        tmp_path / "trees": classifier(
            "model.features=[raw]", "model.classifier=gradient_boosting"
        ),
        tmp_path / "network": _on_a_network(),
    }
    for folder, one in made.items():
        write(folder, one)
    said, heavy = a_stranger_asks_all({folder / "model": IMAGES[:9] for folder in made})
    # scikit-learn imports torch itself, where it is installed.
    assert heavy - {"torch"} == {"scipy", "sklearn"}
    for probs, one in zip(said, made.values(), strict=True):
        np.testing.assert_allclose(probs, one(IMAGES[:9]), atol=1e-6)


def _on_a_network() -> FeatureClassifier:
    network, metadata = network_and_metadata(model="cnn", shape=(1, 8, 8))
    kept = {key: metadata[key] for key in ("channels", "image_size", "mean", "std")}
    stated = metadata["network"] | kept | {"classes": 4}
    features = NetworkFeatures(network, stated, torch.device("cpu"))
    made = classifier("model.classifier=logistic", extractors=[features])
    made.metadata["networks"] = [stated]
    return made


def test_it_holds_arrays_text_and_a_picture_and_nothing_pickled(tmp_path: Path) -> None:
    write(tmp_path, classifier())
    files = [path for path in (tmp_path / "model").rglob("*") if path.is_file()]
    assert {path.suffix for path in files} == {".json", ".png", ".py", ".skops", ".txt"}
    packages = (tmp_path / "model" / "requirements.txt").read_text()
    assert "scikit-learn==" in packages and "torch" not in packages


def test_a_damaged_one_is_refused_with_the_place(tmp_path: Path) -> None:
    write(tmp_path, classifier())
    (tmp_path / "model" / "classifier.skops").write_bytes(b"\x80\x04code")
    with pytest.raises(ValueError, match=r"classifier\.skops cannot be read as a model"):
        open_predictor(tmp_path / "model")
