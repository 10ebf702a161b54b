from __future__ import annotations

import math
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from mlflow.entities import Metric
from mlflow.utils.validation import _validate_metric

from src.metrics.share_intervals import wilson_interval
from src.metrics.summary import metric_key, metric_name, safe_class_names, scalar_metrics

SCALARS = {
    "accuracy",
    "accuracy_low",
    "accuracy_high",
    "balanced_accuracy",
    "macro_f1",
    "log_loss",
    "brier",
    "calibration_error",
    "auc",
}


def predictions(count: int, num_classes: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    probs = rng.dirichlet(np.ones(num_classes), count).astype(np.float32)
    return probs, rng.integers(0, num_classes, count)


@pytest.mark.parametrize(
    ("num_classes", "top5", "listed"),
    [(2, False, True), (5, False, True), (6, True, True), (20, True, True), (21, True, False)],
)
def test_which_metrics_are_there(num_classes: int, top5: bool, listed: bool) -> None:
    probs, targets = predictions(3000, num_classes)
    metrics = scalar_metrics(probs, targets, [f"c{i}" for i in range(num_classes)])
    expected = SCALARS | ({"top5_accuracy"} if top5 else set())
    expected |= {f"recall/c{i}" for i in range(num_classes)} if listed else set()
    assert set(metrics) == expected
    assert all(type(value) is float and math.isfinite(value) for value in metrics.values())


def test_a_known_case() -> None:
    probs = np.array([[0.9, 0.1], [0.6, 0.4], [0.2, 0.8], [0.7, 0.3]])
    metrics = scalar_metrics(probs, [0, 1, 1, 0], ["cat", "dog"])
    assert metrics["accuracy"] == 0.75
    assert (metrics["accuracy_low"], metrics["accuracy_high"]) == wilson_interval(3, 4)
    assert metrics["recall/cat"] == 1.0
    assert metrics["recall/dog"] == 0.5
    assert metrics["balanced_accuracy"] == 0.75
    assert metrics["auc"] == 1.0  # a threshold of 0.35 divides them
    assert metrics["macro_f1"] == pytest.approx((0.8 + 2 / 3) / 2)
    assert metrics["log_loss"] == pytest.approx(-np.log([0.9, 0.4, 0.8, 0.7]).mean())
    assert metrics["brier"] == pytest.approx(2 * np.mean([0.01, 0.36, 0.04, 0.09]))
    assert metrics["calibration_error"] == pytest.approx((0.1 + 0.6 + 0.2 + 0.3) / 4)


def test_a_class_without_targets_has_no_recall() -> None:
    metrics = scalar_metrics(np.array([[0.9, 0.05, 0.05]]), [0], ["a", "b", "c"])
    assert [key for key in metrics if key.startswith("recall/")] == ["recall/a"]
    assert "auc" not in metrics


def test_refuses_names_that_do_not_fit() -> None:
    with pytest.raises(ValueError, match="1 class names for 2 classes"):
        scalar_metrics(np.eye(2), [0, 1], ["a"])


@settings(deadline=None)
@given(st.lists(st.text(max_size=300), min_size=1, max_size=20))
@example(["a/b", "a:b", "a_b", "..", ".", "", " x ", "A_B", "图片", "图/片", "a_b_2", "x" * 400])
def test_safe_names_are_distinct_and_accepted_by_mlflow(names: list[str]) -> None:
    safe = safe_class_names(names)
    assert len({name.casefold() for name in safe}) == len(names)
    for name in safe:
        key = metric_key("val", f"recall/{name}")
        metric = Metric(key, 0.5, 0, 0)
        _validate_metric(metric.key, metric.value, metric.timestamp, metric.step)
        assert len(key) <= 250


@pytest.mark.parametrize(
    ("key", "name"),
    [
        ("val/miou", "validation mean IoU"),
        ("miou", "mean IoU"),
        ("train/accuracy", "training accuracy"),
        ("test/balanced_accuracy", "test balanced accuracy"),
        ("val/cost", "validation mean cost"),
        ("cost", "mean cost"),
        ("cost/latency_ms", "latency"),
        ("cost/parameters", "parameters"),
        ("test/recall/t_shirt", "test recall of t_shirt"),
        ("recall/a/b", "recall of a/b"),
    ],
)
def test_readers_see_names_and_no_keys(key: str, name: str) -> None:
    assert metric_name(key) == name


def test_what_sets_of_labels_have_all_right_is_an_exact_match() -> None:
    assert metric_name("val/accuracy", sets=True) == "validation exact match"


def test_a_mean_of_folds_is_called_one_and_costs_are_none() -> None:
    assert metric_name("val/kappa", folds=True) == "validation quadratic kappa (mean of folds)"
    assert metric_name("cost/latency_ms", folds=True) == "latency"


def test_safe_names_keep_what_is_already_safe() -> None:
    names = ["cat", "T-shirt", "3.5 mm", "snow_leopard", "图片"]
    assert safe_class_names(names) == names


def test_equal_names_are_numbered() -> None:
    assert safe_class_names(["a/b", "a:b", "A_b"]) == ["a_b", "a_b_2", "A_b_3"]


def test_metrics_import_neither_torch_nor_scikit_learn() -> None:
    code = (
        "import sys, src.metrics.summary;sys.exit(not {'torch', 'sklearn'}.isdisjoint(sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
