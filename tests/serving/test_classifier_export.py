"""Files of classifiers on networks' features give the probabilities of the classifier."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.special import expit, softmax

from src.features.binary import BinaryModels
from src.features.classifier import FeatureClassifier
from src.features.classifier_network import ClassifierNetwork
from src.features.embedding import NetworkFeatures
from src.serving.bundle import open_predictor
from src.serving.bundle_writing import write_exported_bundle
from src.serving.export_formats import outputs_note, traced, write_int8, write_onnx, write_pt2
from src.serving.exported import open_onnx, open_pt2
from tests.features.classifiers import CLASSES, IMAGES, classifier, fitted, settings
from tests.serving.bundles import network_and_metadata

pytestmark = pytest.mark.usefixtures("shared_operations")

WITH_EXTRA = importlib.util.find_spec("onnxruntime") is not None
ROWS = ["model.selection=pca", "model.keep=12", "model.normalise=rows"]
SAMPLED = ["model.rbf_svm.exact_up_to=0", "model.rbf_svm.components=40"]


def on_networks(kind: str, *overrides: str) -> tuple[FeatureClassifier, dict[str, Any]]:
    """A classifier of digits of a kind, on two networks, and the metadata of its run."""
    extractors = []
    for model, small in {"cnn": "model.widths=[8,16]", "mlp": "model.hidden=[32]"}.items():
        network, metadata = network_and_metadata(small, model=model, shape=(1, 8, 8))
        stated = {key: metadata[key] for key in ("channels", "image_size", "mean", "std")}
        stated |= metadata["network"] | {"classes": 4}
        extractors.append(NetworkFeatures(network, stated, torch.device("cpu")))
    made = classifier(*overrides, extractors=extractors)
    made.metadata["settings"]["data"]["target"] = kind
    labels, metadata = CLASSES[:200], made.metadata
    if kind == "single":
        return made, metadata
    rows, targets = made.features(IMAGES), np.minimum(labels, 3)
    if kind == "multi":
        targets = np.stack([labels > k for k in (2, 4, 6)], axis=1).astype(np.int64)
    model = BinaryModels.fit(
        kind,
        targets,
        3 if kind == "multi" else 4,
        lambda one: fitted(
            settings(*overrides), rows, one, sizes=(rows.shape[1],), num_classes=2, folds=2
        ),
    )
    metadata = {**metadata, "class_names": ["a", "b", "c", "d"][: 3 if kind == "multi" else 4]}
    return FeatureClassifier(made.extractors, model, metadata), metadata


@pytest.mark.parametrize(
    ("kind", "overrides"),
    [
        ("single", ["model.classifier=linear_svm", *ROWS]),
        pytest.param("single", ["model.classifier=rbf_svm"], marks=pytest.mark.slow),
        pytest.param("single", ["model.classifier=rbf_svm", *SAMPLED], marks=pytest.mark.slow),
        pytest.param("multi", ["model.classifier=logistic", *ROWS], marks=pytest.mark.slow),
        pytest.param("ordinal", ["model.classifier=ridge"], marks=pytest.mark.slow),
    ],
    ids=lambda value: value if isinstance(value, str) else " ".join(value),
)
def test_files_answer_batches_of_any_size_as_the_classifier(
    kind: str, overrides: list[str], tmp_path: Path
) -> None:
    made, metadata = on_networks(kind, *overrides)
    network = ClassifierNetwork(made)
    metadata = {**metadata, "link": network.link, "variant": "pt2"}
    program, note = traced(network, (1, 8, 8)), outputs_note(metadata)
    assert note["targets"] == kind
    files = [tmp_path / "network.pt2"]
    write_pt2(program, files[0], note)
    opened = [open_pt2(files[0])]
    if WITH_EXTRA:
        files.append(tmp_path / "network.onnx")
        write_onnx(program, files[1], note)
        opened.append(open_onnx(files[1]))
    for count in (1, 2, 30):
        images, link = IMAGES[-count:], expit if kind == "multi" else softmax_rows
        for logits in opened:
            found = link(logits(images).astype(np.float64))
            np.testing.assert_allclose(found, made(images), rtol=0, atol=2e-5)
    for file in files:
        write_exported_bundle(tmp_path / "bundle", file, metadata, IMAGES[0])
        predictor = open_predictor(tmp_path / "bundle")
        np.testing.assert_allclose(predictor.probabilities(IMAGES), made(IMAGES), rtol=0, atol=2e-5)
    if WITH_EXTRA:
        import onnxruntime

        session = onnxruntime.InferenceSession(files[1])
        names = json.loads(session.get_modelmeta().custom_metadata_map["class_names"])
        assert names == list(metadata["class_names"])
        probs = session.run(["probabilities"], {"images": IMAGES})[0]
        np.testing.assert_allclose(probs, made(IMAGES), rtol=0, atol=2e-5)


@pytest.mark.slow
@pytest.mark.skipif(not WITH_EXTRA, reason="the extra `export` is not installed")
def test_of_8_bits_are_the_networks_and_the_classifier_stays_exact(tmp_path: Path) -> None:
    import onnx

    made, _ = on_networks("single", "model.classifier=rbf_svm", *ROWS)
    exact, rough = tmp_path / "network.onnx", tmp_path / "int8.onnx"
    write_onnx(traced(ClassifierNetwork(made), (1, 8, 8)), exact, {})
    write_int8(exact, rough, [*IMAGES[:40]])
    probs = softmax_rows(open_onnx(rough)(IMAGES).astype(np.float64))
    assert (probs.argmax(axis=1) == made(IMAGES).argmax(axis=1)).mean() > 0.9
    graph = onnx.load(rough).graph
    assert sum(node.op_type == "QuantizeLinear" for node in graph.node) > 4
    after, kinds = {"network.head.mean"}, []
    for node in graph.node:
        if after.intersection(node.input):
            after.update(node.output)
            kinds.append(node.op_type)
    assert {"Gemm", "Exp", "Tanh"} <= {*kinds} and "QuantizeLinear" not in kinds


def softmax_rows(raw: np.ndarray) -> np.ndarray:
    return softmax(raw, axis=1)
