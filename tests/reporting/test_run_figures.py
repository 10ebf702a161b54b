from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from src.records.class_maps import ClassMaps
from src.records.run import Predictions
from src.reporting.run_figures import draw_run_figures

HISTORY = {"train/loss": [[1, 2.0], [2, 1.0]], "val/loss": [[1, 2.1], [2, 0.9]]}
OF_A_PART = {f"{name}.png" for name in ("classes", "confusion_matrix", "mistakes", "reliability")}


def predictions(count: int, num_classes: int, *, all_right: bool = False) -> Predictions:
    rng = np.random.default_rng(count)
    probs = rng.dirichlet(np.ones(num_classes), count).astype(np.float32)
    targets = probs.argmax(axis=1) if all_right else rng.integers(0, num_classes, count)
    names = tuple(f"class number {i}" for i in range(num_classes))
    return Predictions(np.arange(100, 100 + count), None, targets, probs, names)


def read(sample_id: int) -> NDArray[np.uint8]:
    assert sample_id >= 100
    return np.full((1, 9, 7), sample_id % 256, np.uint8)


@pytest.mark.parametrize(
    ("num_classes", "all_right"), [(2, False), (10, False), (10, True), (100, False)]
)
def test_every_run_has_its_pictures(tmp_path: Path, num_classes: int, all_right: bool) -> None:
    asked: list[NDArray[np.int64]] = []

    def maps(images: NDArray[np.uint8], classes: NDArray[np.int64]) -> NDArray[np.float32]:
        asked.append(classes)
        return np.full((*classes.shape, *images.shape[2:]), 0.5, np.float32)

    parts = {name: predictions(60, num_classes, all_right=all_right) for name in ("val", "test")}
    mixed = np.full((4, num_classes), 1 / num_classes)
    batch = (np.full((4, 1, 9, 7), 260.7), mixed)
    class_maps = ClassMaps(maps, "Where the classes are")
    drawn = list(draw_run_figures(tmp_path, HISTORY, parts, read, batch, class_maps))
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
    drawn = draw_run_figures(tmp_path, HISTORY, {"val": predictions(9, 3)}, read, batch)
    assert "val_class_maps.png" not in [path.name for path in drawn]
