"""Classifiers on features, served as MLflow does it, far from the checkout."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from src.features.classifier import FeatureClassifier
from src.features.embedding import NetworkFeatures
from src.serving.bundle import write_classifier_bundle
from src.serving.predictor import Predictor
from src.tracking.addresses import default_uri
from src.tracking.mlflow_models import pack
from tests.features.classifiers import IMAGES, classifier
from tests.serving.bundles import network_and_metadata
from tests.serving.served import ask, served, text

pytestmark = pytest.mark.slow
ALL = "model.features=[hog,lbp,colour,gabor,haralick,raw]"
KINDS = {
    "rbf_svm": (ALL, "model.classifier=rbf_svm"),
    "gradient_boosting": ("model.features=[raw]", "model.classifier=gradient_boosting"),
    "embedding": ("model.classifier=logistic",),
}


@pytest.fixture(scope="module", params=KINDS)
def asked(
    request: pytest.FixtureRequest,
    environment: dict[str, str],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[tuple[FeatureClassifier, str]]:
    """A classifier, and the address that its model answers at."""
    folder = tmp_path_factory.mktemp("a classifier")
    extractors = [_network()] if request.param == "embedding" else None
    made = classifier(*KINDS[request.param], extractors=extractors)
    if extractors is not None:
        made.metadata["networks"] = [extractors[0].metadata]
    made.save(folder / "model.skops")
    bundle = folder / "bundle"
    write_classifier_bundle(bundle, folder / "model.skops", made.metadata, IMAGES[0])
    place = folder / "packed"
    pack(bundle, place, model_id="m-1", run_id=None, place=place.as_uri())
    (folder / "elsewhere" / "src").mkdir(parents=True)  # a stranger's package of that name
    (folder / "elsewhere" / "src" / "__init__.py").touch()
    uri = default_uri(folder / "elsewhere")
    with served(str(place), uri, environment, folder / "elsewhere") as address:
        yield made, address


def _network() -> NetworkFeatures:
    network, metadata = network_and_metadata(model="cnn", shape=(1, 8, 8))
    stated = {
        **metadata["network"],
        "channels": 1,
        "classes": 4,
        "image_size": [8, 8],
        "mean": metadata["mean"],
        "std": metadata["std"],
    }
    return NetworkFeatures(network, stated, torch.device("cpu"))


def test_bytes_and_arrays_get_the_answers_of_predict(
    asked: tuple[FeatureClassifier, str], pictures: Path
) -> None:
    made, address = asked
    files = sorted(pictures.iterdir())
    predictor = Predictor(made, made.metadata)
    expected = made(np.stack([predictor.pixels(file) for file in files]))
    rows = [[text(file.read_bytes())] for file in files]
    status, answers = ask(address, {"dataframe_split": {"columns": ["image"], "data": rows}})
    assert status == 200, answers
    _same(answers, expected)
    # JPEG files are decoded at the size that is needed, arrays have theirs.
    chosen = [i for i, file in enumerate(files) if file.match("grey*.png")]
    arrays = [{"image": np.asarray(Image.open(files[i])).tolist()} for i in chosen]
    for body in ({"dataframe_records": arrays}, {"inputs": arrays}):
        status, answers = ask(address, body)
        assert status == 200, answers
        _same(answers, expected[chosen])


def test_what_is_no_picture_is_named_and_the_server_lives(
    asked: tuple[FeatureClassifier, str], pictures: Path
) -> None:
    good = text((pictures / "grey0.png").read_bytes())
    for bad, words in ((text(b"no picture"), "is no picture"), ([[0, 300]] * 9, "0 to 255")):
        body = {"dataframe_records": [{"image": good}, {"image": bad}]}
        status, said = ask(asked[1], body)
        assert status == 400 and "row 1" in said and words in said, said
    status, answers = ask(asked[1], {"dataframe_records": [{"image": good}]})
    assert status == 200 and len(answers) == 1


def _same(answers: list[dict[str, object]], expected: NDArray[np.float32]) -> None:
    assert json.loads(json.dumps([a["label"] for a in answers])) == [
        str(index) for index in expected.argmax(axis=1)
    ]
    probs = [[a["probabilities"][str(k)] for k in range(10)] for a in answers]  # type: ignore[index]
    np.testing.assert_allclose(probs, expected, atol=1e-6)
