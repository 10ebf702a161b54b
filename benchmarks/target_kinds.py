"""Several labels a picture and ordered classes, against what one would do without the project.

Mosaics of one to four CIFAR-10 photos under the project's choice of classifiers on the features of
a frozen EfficientNet-Lite0, against scikit-learn's one-vs-rest logistic regression on the same
features, its strength chosen on the same validation part. RetinaMNIST with ordered classes against
the same candidates without an order, by the quadratic kappa of the test part.
"""

from __future__ import annotations

import csv
import os
import random
import tempfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score
from sklearn.multiclass import OneVsRestClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from benchmarks.photo_sets import photo_set
from benchmarks.table import Row
from src.config.compose import read_run_settings
from src.metrics.ordered import quadratic_kappa
from src.records.run import Predictions
from src.runs.build import build_data, build_extractors, feature_table
from src.runs.experiment import run_experiment

__all__ = ["measure"]

_NETWORK, _SIDE = "tf_efficientnet_lite0", 96
_MOSAICS, _TILE = 500, 48
_STRENGTHS = tuple(10.0**power for power in range(-4, 3))
_SEARCH_SECONDS = 600
# Within this many points of the other one counts as level: the test part has 75 pictures.
_LEVEL = 0.02
_NO_RECORD = ("tracking=none", "tracking.figures=false")
_ORDER = "data.order=[class0,class1,class2,class3,class4]"
_SEEDS = (0, 1, 2)


def measure() -> list[Row]:
    """Mean average precision and quadratic kappas on test parts."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        return [_mosaics(folder), *_retina(folder)]


def write_mosaics(photos: Path, target: Path, count: int) -> Path:
    """Write mosaics of one to four photos, every 25th of none, and their table; return it.

    Args:
        photos: with a folder of pictures a class.
        target: folder to make.
        count: mosaics.
    """
    rng = random.Random(0)
    files = {one.name: sorted(one.iterdir()) for one in sorted(photos.iterdir())}
    places = [(x, y) for x in (0, _TILE) for y in (0, _TILE)]
    target.mkdir()
    rows = [("path", "labels")]
    for number in range(count):
        canvas = Image.new("RGB", (2 * _TILE, 2 * _TILE), (127, 127, 127))
        labels = rng.choices(sorted(files), k=0 if number % 25 == 0 else rng.randint(1, 4))
        for label, spot in zip(labels, rng.sample(places, len(labels)), strict=True):
            with Image.open(rng.choice(files[label])) as photo:
                canvas.paste(photo.convert("RGB").resize((_TILE, _TILE)), spot)
        canvas.putpixel((0, 0), (number % 256, number // 256, 0))  # no two are copies
        canvas.save(target / f"{number:05d}.png")
        rows.append((f"{number:05d}.png", ";".join(sorted(set(labels)))))
    table = target / "labels.csv"
    with table.open("w", newline="") as stream:
        csv.writer(stream).writerows(rows)
    return table


def _mosaics(folder: Path) -> Row:
    table = write_mosaics(photo_set("cifar10", folder) / "test", folder / "mosaics", _MOSAICS)
    words = [
        *("data=folder", f"data.root={table}", "data.target=multi", "model=embedding"),
        *(f"model.networks=[{_NETWORK}]", f"model.input_size={_SIDE}"),
        *(f"model.auto.seconds={_SEARCH_SECONDS}", f"output_dir={folder / 'out'}", *_NO_RECORD),
    ]
    settings = read_run_settings(words)
    summary = run_experiment(settings)
    assert summary is not None
    ours = summary.metrics["test/map"]
    data = build_data(settings)
    features = feature_table(settings, data, build_extractors(settings, data))
    theirs = _one_vs_rest(
        {part: features.part(part) for part in ("train", "val", "test")},
        {
            part: data.pictures.targets[getattr(data.split, part)]
            for part in ("train", "val", "test")
        },
    )
    return Row(
        f"{_MOSAICS:,} mosaics of CIFAR-10 photos, features of {_NETWORK} at {_SIDE} pixels: test "
        "mAP of the classifiers that are chosen, and of one-vs-rest logistic regression",
        f"{100 * ours:.1f} and {100 * theirs:.1f} %",
        f"at most {100 * _LEVEL:.0f} points less",
        ours >= theirs - _LEVEL,
    )


def _one_vs_rest(
    features: dict[str, NDArray[np.float32]], targets: dict[str, NDArray[np.uint8]]
) -> float:
    """Return the test mAP of scikit-learn's, with the strength that is best on validation."""
    fitted = [
        make_pipeline(
            StandardScaler(), OneVsRestClassifier(LogisticRegression(C=strength, max_iter=2000))
        ).fit(features["train"], targets["train"])
        for strength in _STRENGTHS
    ]

    def score(model: object, part: str) -> float:
        probs = model.predict_proba(features[part])  # type: ignore[attr-defined]
        return float(average_precision_score(targets[part], probs))

    return score(max(fitted, key=lambda model: score(model, "val")), "test")


def _retina(folder: Path) -> list[Row]:
    root = photo_set("retinamnist", folder)
    base = ["data=folder", f"data.root={root}", f"output_dir={folder / 'out'}", *_NO_RECORD]
    ordinal = ["data.target=ordinal", _ORDER]
    network = ["model=cnn", "model.widths=[16,32,64]", "trainer.max_epochs=15"]
    features = ["model=embedding", f"model.networks=[{_NETWORK}]", f"model.input_size={_SIDE}"]
    rows = []
    for what, words, loss in (
        ("a network trained with CORN", network, ["loss=corn"]),
        ("logistic regression on frozen features, a border at a time", features, []),
    ):
        head = [] if loss else ["model.classifier=logistic"]
        seeds = _SEEDS if loss else _SEEDS[:1]
        ours = [_kappa([*base, *words, *head, *ordinal, *loss], seed) for seed in seeds]
        theirs = [_kappa([*base, *words, *head], seed) for seed in seeds]
        rows.append(
            Row(
                f"RetinaMNIST, {what}, and without an order: quadratic kappa on the test part",
                f"{_shown(ours)} and {_shown(theirs)}",
                f"at most {_LEVEL:g} less",
                float(np.mean(ours)) >= float(np.mean(theirs)) - _LEVEL,
            )
        )
    return rows


def _kappa(words: list[str], seed: int) -> float:
    summary = run_experiment(read_run_settings([*words, f"seed={seed}"]))
    assert summary is not None
    said = Predictions.read(os.path.join(summary.run_dir, "predictions", "test.parquet"))
    preds = said.probs.argmax(axis=1)
    return quadratic_kappa(preds, said.targets, len(said.class_names))


def _shown(values: list[float]) -> str:
    listed = ", ".join(f"{value:.3f}" for value in values)
    return f"{np.mean(values):.3f} ({listed})" if len(values) > 1 else listed
