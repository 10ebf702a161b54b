"""A calibrated model, packed and loaded as MLflow does it, with and without promises."""

from __future__ import annotations

import importlib.util
import marshal
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd
import pytest
from mlflow.entities import LoggedModel
from mlflow.exceptions import MlflowException

from src.serving.bundle import open_predictor
from src.serving.bundle_writing import add_certainty
from src.serving.trust import Promise, Trust
from src.tracking.logged_models import pack
from tests.serving.bundles import CLASSES, bundle, certainty_of, feature_sample

pytestmark = pytest.mark.slow  # MLflow is imported, and a model is loaded twice


def pictures(count: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, 16, 24, 3), dtype=np.uint8)


def loaded(folder: Path, place: Path) -> Any:
    model = LoggedModel(
        experiment_id="0",
        model_id="m-0",
        name="model",
        artifact_location=place.as_uri(),
        creation_timestamp=0,
        last_updated_timestamp=0,
    )
    pack(folder, place, model)
    return mlflow.pyfunc.load_model(str(place))


def calibrated(folder: Path) -> None:
    """Give a bundle the calibration of a model that is right as often as it says."""
    predictor = open_predictor(folder)
    probs, features = predictor.described(pictures(300, 0).transpose(0, 3, 1, 2).copy())
    assert features is not None
    chance = np.random.default_rng(0)
    targets = np.array([chance.choice(4, p=row / row.sum()) for row in probs.astype(float)])
    sample = feature_sample(features[:100], features)
    add_certainty(folder, certainty_of(probs, targets, sample))


def test_parameters_ask_for_promises(tmp_path: Path) -> None:
    bundle(tmp_path / "bundle")
    calibrated(tmp_path / "bundle")
    model = loaded(tmp_path / "bundle", tmp_path / "packed")
    table = pd.DataFrame({"image": list(pictures(5, 1))})

    plain = model.predict(table)
    assert [*plain] == ["label", "probability", "probabilities", "novelty", "unlike"]
    asked = model.predict(table, params={"coverage": 0.8, "max_error": 0.95})
    assert [*asked][3:] == ["label_set", "answered", "novelty", "unlike"]
    predictor = open_predictor(tmp_path / "bundle")
    trust = Trust(predictor.certainty, Promise(coverage=0.8, max_error=0.95))
    _, verdicts = predictor.judge(list(pictures(5, 1)), trust)
    assert asked["label_set"].tolist() == [list(one.label_set or ()) for one in verdicts]
    assert asked["answered"].tolist() == [one.answered for one in verdicts]
    np.testing.assert_allclose(asked["novelty"], [one.novelty for one in verdicts])
    assert {label for labels in asked["label_set"] for label in labels} <= set(CLASSES)

    for params, reason in (
        ({"coverage": 1.5}, "coverage is 1.5"),
        ({"classwise": True}, "give coverage as well"),
        ({"max_error": 0.001}, "max_error=0.001 needs at least 2,995 calibration pictures"),
    ):
        with pytest.raises(MlflowException, match=reason):
            model.predict(table, params=params)


def test_a_model_without_calibration_answers_and_promises_nothing(tmp_path: Path) -> None:
    bundle(tmp_path / "bundle")
    model = loaded(tmp_path / "bundle", tmp_path / "packed")
    table = pd.DataFrame({"image": list(pictures(2, 1))})
    assert [*model.predict(table)] == ["label", "probability", "probabilities"]
    with pytest.raises(MlflowException, match="carries no calibration"):
        model.predict(table, params={"coverage": 0.9})


def test_sets_of_several_labels_are_served_as_predict_writes_them(tmp_path: Path) -> None:
    bundle(tmp_path / "bundle", link="sigmoid")
    opened = open_predictor(tmp_path / "bundle")
    probs = opened.probabilities(pictures(300, 0).transpose(0, 3, 1, 2).copy())
    targets = (np.random.default_rng(0).random(probs.shape) < probs).astype(np.int64)
    add_certainty(tmp_path / "bundle", certainty_of(probs, targets))
    model = loaded(tmp_path / "bundle", tmp_path / "packed")
    table = pd.DataFrame({"image": list(pictures(50, 1))})
    plain = model.predict(table)
    assert [*plain] == ["labels", "probabilities"]
    ranked = model.predict(table, params={"top_k": 2})
    assert [*ranked] == ["labels", "probabilities", "most_probable"]
    least = dict(zip(CLASSES, (0.2, 0.5, 0.55, 0.7), strict=True))  # of the bundle
    for named, given, likely in zip(
        plain["labels"], plain["probabilities"], ranked["most_probable"], strict=True
    ):
        order = sorted(given, key=lambda name: -given[name])
        assert (
            named == [name for name in order if given[name] >= least[name]] and likely == order[:2]
        )
    with pytest.raises(MlflowException, match="top_k is 0"):
        model.predict(table, params={"top_k": 0})
    asked = model.predict(table, params={"coverage": 0.8})
    assert [*asked] == ["labels", "probabilities", "label_set"]
    trust = Trust(open_predictor(tmp_path / "bundle").certainty, Promise(coverage=0.8))
    _, verdicts = opened.judge(list(pictures(50, 1)), trust)
    assert asked["label_set"].tolist() == [list(one.label_set or ()) for one in verdicts]
    with pytest.raises(MlflowException, match="max_error is for pictures with one label"):
        model.predict(table, params={"max_error": 0.1})


def plant(source: Path) -> Path:
    """Write what Python would run in the place of a module, as it has its time and size."""
    cached = Path(importlib.util.cache_from_source(str(source)))
    cached.parent.mkdir(exist_ok=True)
    status = source.stat()
    times = (int(status.st_mtime).to_bytes(4, "little"), status.st_size.to_bytes(4, "little"))
    code = marshal.dumps(compile("raise SystemExit(5)", str(source), "exec"))
    cached.write_bytes(b"".join((importlib.util.MAGIC_NUMBER, bytes(4), *times, code)))
    return cached


def test_a_model_that_is_not_what_was_packed_is_not_loaded(tmp_path: Path) -> None:
    bundle(tmp_path / "bundle")
    place = tmp_path / "packed"
    answers = loaded(tmp_path / "bundle", place).predict([{"image": pictures(1, 1)[0]}])
    for name, old, said in (
        ("mlflow_model.py", b"Predict a table", "mlflow_model.py in .* is not what was packed"),
        ("input_example.json", b"image", "input_example.json in .* is not what was packed"),
        ("digests.json", b"MLmodel", "digests.json cannot be read: its checksum"),
        ("artifacts/bundle/code/src/serving/masks.py", b"Return", "is damaged"),
    ):
        whole = (place / name).read_bytes()
        assert old in whole
        (place / name).write_bytes(whole.replace(old, old.swapcase(), 1))
        with pytest.raises(ValueError, match=said):
            mlflow.pyfunc.load_model(str(place))
        (place / name).write_bytes(whole)
    plant(place / "artifacts/bundle/code/src/serving/inputs.py")
    again = mlflow.pyfunc.load_model(str(place)).predict([{"image": pictures(1, 1)[0]}])
    assert again.equals(answers)
    assert [*place.rglob("*.pyc")] == []


def test_what_python_compiled_in_a_bundle_is_neither_run_nor_packed(tmp_path: Path) -> None:
    bundle(tmp_path / "bundle")
    code = tmp_path / "bundle" / "code" / "src"
    planted = [plant(code / "serving" / name) for name in ("mlflow_model.py", "inputs.py")]
    model = loaded(tmp_path / "bundle", tmp_path / "packed")
    assert len(model.predict([{"image": pictures(1, 1)[0]}])) == 1
    assert b"pyc" not in (tmp_path / "packed" / "digests.json").read_bytes()
    assert all(path.exists() for path in planted), "nothing of the bundle is changed"
