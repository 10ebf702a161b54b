from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from src.metrics.probabilistic import reliability_bins
from src.records.pictures import ClassMaps
from src.records.run import Predictions
from src.reporting.charts import reliability_diagram
from src.reporting.run_figures import draw_run_figures, learning_curves
from tests.reporting.figures import HISTORY, texts

pytestmark = pytest.mark.filterwarnings("error")


def test_curves_of_both_parts_with_the_best_epoch_named() -> None:
    figure = learning_curves(HISTORY)
    loss, accuracy = figure.axes
    assert loss.get_title("left") == "Loss: best 0.9 in epoch 1"
    assert accuracy.get_title("left") == "Accuracy: best 65.0 % in epoch 2"
    assert {"training", "validation"} <= set(texts(figure))
    drawn = {line.get_label(): line.get_xydata().tolist() for line in loss.lines}
    assert drawn["training"] == [[0, 2.0], [1, 1.0], [2, 0.5]]
    assert drawn["validation"] == [[0, 2.1], [1, 0.9], [2, 1.2]]


def test_curves_of_what_is_there() -> None:
    (axes,) = learning_curves({"val/accuracy": [(0, 0.5)], "train/loss": []}).axes
    assert axes.get_title("left") == "Accuracy: best 50.0 % in epoch 0"
    with pytest.raises(ValueError, match="neither a loss nor an accuracy"):
        learning_curves({"train/lr": [(0, 0.1)]})


@pytest.mark.parametrize(
    ("name", "title"),
    [
        ("map", "Mean average precision: best 65.0 % in epoch 1"),
        ("kappa", "Quadratic kappa: best 0.650 in epoch 1"),
        ("miou", "Mean IoU: best 65.0 % in epoch 1"),
        ("auc", "AUC: best 0.650 in epoch 1"),
        ("cost", "Mean cost: best 0.3000 in epoch 2"),
        ("mcc", "Mcc"),
    ],
)
def test_curves_are_of_what_the_run_is_judged_by(name: str, title: str) -> None:
    watched = {f"val/{name}": [(1, 0.65), (2, 0.3)]}
    history = {"train/accuracy": [(0, 0.2)], **watched, "val/accuracy": [(0, 0.1)]}
    loss, judged = learning_curves(history | {"val/loss": [(0, 1.0)]}).axes
    assert loss.get_title("left") == "Loss: best 1 in epoch 0"
    assert judged.get_title("left") == title


def test_curves_leave_gaps_where_training_diverged() -> None:
    figure = learning_curves({"val/loss": [(0, 1.0), (1, math.inf), (2, math.nan)]})
    assert figure.axes[0].get_title("left") == "Loss: best 1 in epoch 0"
    lost = learning_curves({"val/loss": [(0, math.nan)]})
    assert lost.axes[0].get_title("left") == "Loss"
    texts(lost)


def test_reliability_bars_reach_from_accuracy_to_confidence() -> None:
    probs = np.array([[0.9, 0.1], [0.9, 0.1], [0.6, 0.4], [0.6, 0.4]])
    targets = np.array([0, 1, 0, 0])
    figure = reliability_diagram(reliability_bins(probs, targets, num_bins=5))
    upper, lower = figure.axes
    bars = {c.get_label(): [(b.get_y(), b.get_height()) for b in c] for c in upper.containers}
    # In the bin of 60 % everything is right, in the bin of 90 % one half.
    np.testing.assert_allclose(bars["accuracy"], [(0, 0.6), (0, 0.5)])
    np.testing.assert_allclose(bars["more than predicted"], [(0.6, 0.4), (0.5, 0)])
    np.testing.assert_allclose(bars["less than predicted"], [(0.6, 0), (0.5, 0.4)])
    assert [bar.get_height() for bar in lower.patches] == [0.5, 0.5]
    assert (
        f"Calibration error {100 * reliability_bins(probs, targets, 5).calibration_error:.1f} %"
        in texts(figure)
    )


RUN_HISTORY = {"train/loss": [[1, 2.0], [2, 1.0]], "val/loss": [[1, 2.1], [2, 0.9]]}
OF_A_PART = {
    f"{name}.png" for name in ("classes", "confusion_matrix", "mistakes", "reliability", "roc")
}


def predictions(count: int, num_classes: int, *, all_right: bool = False) -> Predictions:
    rng = np.random.default_rng(count)
    probs = rng.dirichlet(np.ones(num_classes), count).astype(np.float32)
    targets = probs.argmax(axis=1) if all_right else rng.integers(0, num_classes, count)
    names = tuple(f"class number {i}" for i in range(num_classes))
    return Predictions(np.arange(100, 100 + count), None, targets, probs, names)


def read(sample_id: int) -> NDArray[np.uint8]:
    assert sample_id >= 100
    return np.full((1, 9, 7), sample_id % 256, np.uint8)


@pytest.mark.parametrize(("num_classes", "all_right"), [(2, False), (10, True), (60, False)])
def test_every_run_has_its_pictures(tmp_path: Path, num_classes: int, all_right: bool) -> None:
    asked: list[NDArray[np.int64]] = []

    def maps(images: NDArray[np.uint8], classes: NDArray[np.int64]) -> NDArray[np.float32]:
        asked.append(classes)
        return np.full((*classes.shape, *images.shape[2:]), 0.5, np.float32)

    names = ("val", "test") if num_classes == 10 else ("val",)
    parts = {name: predictions(60, num_classes, all_right=all_right) for name in names}
    mixed = np.full((4, num_classes), 1 / num_classes)
    batch = (np.full((4, 1, 9, 7), 260.7), mixed)
    class_maps = ClassMaps(maps, "Where the classes are")
    drawn = list(
        draw_run_figures(tmp_path, RUN_HISTORY, parts, read, batch=batch, class_maps=class_maps)
    )
    assert {path.name for path in drawn} == {
        "learning_curves.png",
        "training_batch.png",
        "val_class_maps.png",
        *(f"{part}_{name}" for part in parts for name in OF_A_PART | {"classes.csv"}),
    }
    for path in drawn:
        if path.suffix == ".png":
            with Image.open(path) as image:
                assert max(image.size) < 4000
    (classes,) = asked
    assert classes.shape == (len(classes), 2) and classes.max() < num_classes
    right = classes[:, 0] == classes[:, 1]
    assert right.any() and right.all() == all_right


def test_a_network_without_maps_has_no_picture_of_them(tmp_path: Path) -> None:
    batch = (np.zeros((4, 1, 9, 7), np.uint8), np.zeros(4, np.int64))
    drawn = draw_run_figures(tmp_path, RUN_HISTORY, {"val": predictions(9, 3)}, read, batch=batch)
    assert "val_class_maps.png" not in [path.name for path in drawn]
