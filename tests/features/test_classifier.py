"""The file of a classifier on features: whole, without pickle, and refused when tampered with."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import numpy as np
import pytest
import skops.io
import torch
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import FunctionTransformer

from src.config.features import CLASSIFIERS
from src.features.classifier import FeatureClassifier, check_trees, numbers_in
from src.features.embedding import NetworkFeatures
from src.machine.hardware import device_of
from src.models.cnn import CNN
from tests.features.classifiers import IMAGES, SELECTIONS, classifier

VARIANTS = [
    *([f"model.classifier={name}"] for name in CLASSIFIERS),
    *([f"model.selection={name}"] for name in SELECTIONS),
    ["model.rbf_svm.exact_up_to=0", "model.rbf_svm.components=30"],
    ["model.features=[hog,lbp,colour,gabor,haralick,raw]", "model.hog.cells=[2,4]"],
]


@pytest.mark.parametrize("overrides", VARIANTS, ids=" ".join)
def test_what_was_saved_answers_to_the_bit(overrides: list[str], tmp_path: Path) -> None:
    made = classifier(*overrides)
    made.save(tmp_path / "model.skops")
    loaded = FeatureClassifier.load(tmp_path / "model.skops")
    assert loaded.metadata == made.metadata
    np.testing.assert_array_equal(loaded(IMAGES), made(IMAGES))
    with zipfile.ZipFile(tmp_path / "model.skops") as archive:
        assert {Path(name).suffix for name in archive.namelist()} <= {".json", ".npy", ".npz"}
    assert numbers_in(tmp_path / "model.skops") > 100


def network_features(side: int = 8) -> NetworkFeatures:
    torch.manual_seed(0)
    arguments = {"widths": [8, 16], "blocks": 1, "dropout": 0.0}
    metadata = {
        "target": "src.models.cnn.CNN",
        "arguments": arguments,
        "channels": 1,
        "classes": 10,
        "image_size": [side, side],
        "mean": [0.3],
        "std": [0.4],
    }
    network = CNN(1, 10, (side, side), **arguments)
    return NetworkFeatures(network, metadata, device_of("auto"))


def test_a_picture_beyond_half_precision_is_described_in_single() -> None:
    images = np.random.default_rng(0).integers(0, 256, (20, 1, 8, 8), dtype=np.uint8)
    half, single = network_features(), network_features()
    for one in (half, single):  # of each channel and place up to some 100,000
        norms = [m for m in one._network.modules() if isinstance(m, torch.nn.BatchNorm2d)]
        torch.nn.init.constant_(norms[-1].weight, 1e5)
    half = NetworkFeatures(half._network, half.metadata | {"precision": "float16"}, half.device)
    expected, found = single(images), half(images)
    assert expected.max() > 65_504
    np.testing.assert_allclose(found, expected, rtol=0.05, atol=0.01 * expected.max())


def test_a_network_that_describes_is_part_of_the_file(tmp_path: Path) -> None:
    features = network_features()
    assert features(IMAGES).shape == (200, 16)
    made = classifier(extractors=[features])
    made.save(tmp_path / "model.skops")
    loaded = FeatureClassifier.load(tmp_path / "model.skops")
    np.testing.assert_array_equal(loaded(IMAGES), made(IMAGES))
    restored = loaded.extractors[0]
    assert restored.identity == features.identity
    metadata = features.metadata
    stranger = {**metadata, "target": "os.system"}
    with pytest.raises(ValueError, match="not of a plugin"):
        NetworkFeatures.restored(stranger, features.weights(), torch.device("cpu"))
    with pytest.raises(ValueError, match="do not fit"):
        NetworkFeatures.restored(metadata, {}, torch.device("cpu"))


def test_a_network_describes_on_the_device_that_its_run_was_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = classifier(extractors=[network_features()])
    trainer = made.metadata.setdefault("settings", {}).setdefault("trainer", {})
    devices = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(NetworkFeatures, "restored", lambda *given: devices.append(given[-1].type))
    for accelerator in ("cpu", "auto"):
        trainer["accelerator"] = accelerator
        made.save(tmp_path / "model.skops")
        FeatureClassifier.load(tmp_path / "model.skops")
    assert devices == ["cpu", "cuda"]


def rewritten(source: Path, target: Path, change) -> Path:
    """The file with another schema."""
    with zipfile.ZipFile(source) as archive, zipfile.ZipFile(target, "w") as changed:
        for name in archive.namelist():
            content = archive.read(name)
            if name == "schema.json":
                content = change(content.decode()).encode()
            changed.writestr(name, content)
    return target


def test_a_file_that_names_other_code_is_refused_before_it_runs(tmp_path: Path) -> None:
    classifier().save(tmp_path / "model.skops")

    def tamper(schema: str) -> str:
        assert "src.features.rbf" in schema
        return schema.replace("src.features.rbf", "subprocess").replace("RbfMachine", "Popen")

    bad = rewritten(tmp_path / "model.skops", tmp_path / "bad.skops", tamper)
    with pytest.raises(ValueError, match=r"holds subprocess\.Popen, so it is not loaded"):
        FeatureClassifier.load(bad)


@pytest.mark.parametrize("name", ["random_forest", "gradient_boosting"])
@pytest.mark.parametrize("field", ["left", "right", "feature"])
def test_a_tree_that_leads_astray_is_refused(name: str, field: str, tmp_path: Path) -> None:
    made = classifier(f"model.classifier={name}")
    machine = made.model.pipeline.steps[-1][1]
    check_trees(machine)
    if name == "random_forest":
        state = machine.estimators_[0].tree_.__getstate__()
        column = {"left": "left_child", "right": "right_child", "feature": "feature"}[field]
        state["nodes"][column][0] = 0 if field != "feature" else 10**6
        machine.estimators_[0].tree_.__setstate__(state)
    else:
        nodes = machine._predictors[0][0].nodes
        column = field if field != "feature" else "feature_idx"
        nodes[column][0] = 0 if field != "feature" else 10**6
    made.save(tmp_path / "model.skops")
    with pytest.raises(ValueError, match=r"of a tree leads nowhere|feature that does not exist"):
        FeatureClassifier.load(tmp_path / "model.skops")


def test_harmless_parts_that_no_model_has_are_refused_too(tmp_path: Path) -> None:
    classifier().save(tmp_path / "model.skops")
    content = skops.io.load(
        tmp_path / "model.skops",
        trusted=skops.io.get_untrusted_types(file=tmp_path / "model.skops"),
    )
    content["pipeline"] = Pipeline([("classify", FunctionTransformer(np.exp))])
    skops.io.dump(content, tmp_path / "bad.skops")
    with pytest.raises(ValueError, match="is not the model of a run"):
        FeatureClassifier.load(tmp_path / "bad.skops")


def test_damaged_files_and_those_of_other_things_are_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="there is no model"):
        FeatureClassifier.load(tmp_path / "model.skops")
    for content in (b"", b"\x80\x04code", b"PK\x03\x04" + b"\0" * 99):
        (tmp_path / "model.skops").write_bytes(content)
        with pytest.raises(ValueError, match=r"model\.skops cannot be read as a model"):
            FeatureClassifier.load(tmp_path / "model.skops")
    skops.io.dump({"some": 1}, tmp_path / "model.skops")
    with pytest.raises(ValueError, match=r"model\.skops"):
        FeatureClassifier.load(tmp_path / "model.skops")
    with zipfile.ZipFile(tmp_path / "other.skops", "w") as archive:
        archive.writestr("schema.json", json.dumps({"a": 1}))
    with pytest.raises(ValueError, match=r"other\.skops"):
        FeatureClassifier.load(tmp_path / "other.skops")
