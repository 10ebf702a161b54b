"""A classifier on networks' features as one module gives the probabilities of the classifier."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
import torch
from scipy.special import expit, softmax
from torch import nn

from src.config.features import CLASSIFIERS, EXPORTED
from src.features.binary import BinaryModels
from src.features.classifier import FeatureClassifier
from src.features.classifier_network import ClassifierNetwork, classifier_logits
from src.features.embedding import NetworkFeatures
from src.features.fusion import Extractor, extractors_of
from src.records.pictures import Pixels
from tests.features.classifiers import CLASSES, fitted, settings

COLOURS, SIDE = 3, 8
LIMIT = 2e-5  # of a probability: what is left of single precision after some thousand additions
STEPS = [
    ["model.selection=none"],
    ["model.selection=none", "model.scaling=features", "model.normalise=rows"],
    ["model.selection=anova", "model.keep=9"],
    ["model.selection=l1", "model.keep=9", "model.normalise=rows"],
    ["model.selection=pca", "model.keep=9"],
    ["model.selection=pca", "model.keep=9", "model.whitening=0.5", "model.normalise=rows"],
]
SAMPLED = ["model.rbf_svm.exact_up_to=0", "model.rbf_svm.components=50"]
KINDS = [
    *([f"model.classifier={name}"] for name in EXPORTED),
    ["model.classifier=rbf_svm", *SAMPLED],
]


class Maps(nn.Module):
    """A network with features for each place of a picture, and a head that is taken away."""

    head_prefixes = ("head.",)

    def __init__(self, channels: int, width: int, seed: int) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.body = nn.Sequential(
            nn.Conv2d(channels, width, 3, stride=2), nn.BatchNorm2d(width), nn.ReLU()
        )
        nn.init.uniform_(self.body[1].running_var, 0.5, 2.0)
        nn.init.uniform_(self.body[1].running_mean, -1.0, 1.0)
        self.head = nn.Linear(width, 10)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.head(self.body(images))


def features(width: int = 40, channels: int = COLOURS, **metadata: object) -> NetworkFeatures:
    stated = {"channels": channels, "image_size": [SIDE, SIDE], "mean": [0.2] * channels}
    stated |= {"std": [0.1 + 0.1 * k for k in range(channels)], "target": "Maps", **metadata}
    return NetworkFeatures(Maps(channels, width, width), stated, torch.device("cpu"))


def pictures(count: int, channels: int = COLOURS, dtype: str = "uint8") -> Pixels:
    """Pictures that differ by class, `CLASSES[:count]`, in the brightness of a place."""
    rng = np.random.default_rng(0)
    found = rng.integers(0, 160, (count, channels, SIDE, SIDE)).astype(np.float32)
    for image, label in zip(found, CLASSES, strict=False):
        image[:, label % 5, label % 7] += 90
        image[label % channels] *= 1 + 0.05 * label
    return found.clip(0, 255).astype(dtype) + (0.25 if dtype == "float32" else np.uint8(0))


def made(
    *overrides: str,
    extractors: Sequence[Extractor] | None = None,
    classes: Sequence[int] = range(10),
    images: Pixels | None = None,
) -> FeatureClassifier:
    """A classifier on pictures of some of ten classes."""
    images = pictures(300) if images is None else images
    rows = np.isin(CLASSES[: len(images)], classes)
    extractors = extractors or [features()]
    blocks = [one(images[rows]) for one in extractors]
    model = fitted(
        settings(*overrides),
        np.concatenate(blocks, axis=1),
        CLASSES[: len(images)][rows],
        sizes=[block.shape[1] for block in blocks],
    )
    return FeatureClassifier(tuple(extractors), model, {})


def logits_of(network: ClassifierNetwork, images: Pixels) -> np.ndarray:
    with torch.inference_mode():
        found = network.at_once(torch.from_numpy(images))
    assert found.dtype == torch.float32
    return found.numpy()


def require_same(
    classifier: FeatureClassifier, images: Pixels, of_logits: float = 1e-3
) -> np.ndarray:
    """Return the probabilities, which are those of the classifier, as are the logits."""
    network = ClassifierNetwork(classifier)
    logits, wanted = logits_of(network, images), classifier(images)
    link = {"softmax": lambda raw: softmax(raw, axis=1), "sigmoid": expit}[network.link]
    found = link(logits.astype(np.float64))
    assert wanted.std() > 0.05  # there is something to tell apart
    np.testing.assert_allclose(found, wanted, rtol=0, atol=LIMIT)
    np.testing.assert_allclose(
        logits, classifier_logits(classifier, images), rtol=0, atol=of_logits
    )
    return found


@pytest.mark.parametrize("steps", STEPS, ids=" ".join)
@pytest.mark.parametrize("classifier", KINDS, ids=" ".join)
def test_every_classifier_after_every_step(classifier: list[str], steps: list[str]) -> None:
    require_same(made(*classifier, *steps), pictures(300)[200:])


@pytest.mark.parametrize("classes", [(3, 7), (1, 4, 8)], ids=["two", "three"])
@pytest.mark.parametrize("classifier", KINDS, ids=" ".join)
def test_classes_that_were_not_there_have_probability_0(
    classifier: list[str], classes: Sequence[int]
) -> None:
    found = require_same(made(*classifier, classes=classes), pictures(300)[200:])
    absent = np.setdiff1d(np.arange(10), classes)
    assert (found[:, absent].astype(np.float32) == 0).all() and (found[:, classes] > 0).all()


@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("dtype", ["uint8", "float32"])
def test_pictures_of_any_depth_and_several_networks(dtype: str, channels: int) -> None:
    images = pictures(300, channels, dtype)
    before = images.copy()
    extractors = [features(40, channels), features(16, channels, mean=[0.6] * channels)]
    classifier = made("model.classifier=logistic", extractors=extractors, images=images)
    require_same(classifier, images[200:])
    np.testing.assert_array_equal(images, before)


def test_features_are_means_over_places_of_normalised_pictures() -> None:
    images, given = pictures(20), features(mean=[0.1, 0.2, 0.3])
    centre, scale = (torch.tensor(given.metadata[key])[:, None, None] for key in ("mean", "std"))
    with torch.inference_mode():
        maps = Maps(COLOURS, 40, 40).eval().body((torch.from_numpy(images) / 255 - centre) / scale)
        wanted = maps.mean(dim=(2, 3)).numpy()
        found = given.module()(torch.from_numpy(images)).numpy()
    np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-5 * wanted.max())
    np.testing.assert_allclose(given(images), wanted, rtol=0, atol=1e-5 * wanted.max())


def test_the_features_of_a_network_leave_pictures_as_they_are() -> None:
    images = pictures(20, dtype="float32")
    before = images.copy()
    first = features()(images)
    np.testing.assert_array_equal(images, before)
    np.testing.assert_array_equal(features()(images), first)


def test_features_that_a_run_computes_in_half_precision_are_computed_in_single() -> None:
    half = features(precision="bfloat16", memory_format="channels_last")
    images = pictures(20)
    with torch.inference_mode():
        found = half.module()(torch.from_numpy(images)).numpy()
    np.testing.assert_allclose(found, features()(images), rtol=0, atol=1e-5 * np.abs(found).max())
    np.testing.assert_array_equal(half.on_cpu("bfloat16")(images), half(images))
    single = half.on_cpu("float32")(images)
    np.testing.assert_allclose(single, found, rtol=0, atol=1e-5 * np.abs(found).max())
    assert np.abs(half(images) - found).max() > 1e-4


@pytest.mark.parametrize("kind", ["multi", "ordinal"])
@pytest.mark.parametrize("machine", ["ridge", "rbf_svm"])
def test_kinds_that_are_made_of_binary_problems(kind: str, machine: str) -> None:
    images, labels = pictures(300), CLASSES[:300]
    given = features()
    rows = given(images)

    def fit_one(targets: np.ndarray) -> object:
        return fitted(
            settings(f"model.classifier={machine}", "model.keep=9", "model.normalise=rows"),
            rows,
            targets,
            sizes=(rows.shape[1],),
            num_classes=2,
        )

    if kind == "multi":  # the second label was never seen, the third always
        targets = np.stack(
            [labels > 4, np.zeros(300), np.ones(300), labels % 2, labels % 3 == 0], axis=1
        ).astype(np.int64)
        count = targets.shape[1]
    else:  # nothing is of the highest class
        targets, count = np.minimum(labels // 2, 4), 6
    model = BinaryModels.fit(kind, targets, count, fit_one)
    assert sum(isinstance(one, float) for one in model.models) == (2 if kind == "multi" else 1)
    classifier = FeatureClassifier((given,), model, {})
    found = require_same(classifier, images, of_logits=1e-3 if kind == "multi" else 0.05)
    if kind == "ordinal":  # where the borders cross, a probability of 0 is one of 1e-7
        assert (model.probabilities(rows) == 0).any()
        np.testing.assert_allclose(found.sum(axis=1), 1, atol=1e-6)


@pytest.mark.parametrize("name", sorted(set(CLASSIFIERS) - set(EXPORTED)))
def test_other_classifiers_are_refused_by_name(name: str) -> None:
    few = ["model.random_forest.trees=2", "model.gradient_boosting.rounds=1"]
    with pytest.raises(ValueError, match=r"there is no module for \w+Classifier$"):
        ClassifierNetwork(made(f"model.classifier={name}", *few))


def test_hand_crafted_features_are_refused_by_name() -> None:
    raw = extractors_of(["raw"], {"raw": {"side": 8}})
    with pytest.raises(ValueError, match="raw is no network"):
        ClassifierNetwork(made("model.classifier=ridge", extractors=raw))
