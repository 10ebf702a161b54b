"""Several labels a picture and ordered classes, against what one would do without the project.

Mosaics of one to four CIFAR-10 photos under the project's choice of classifiers on the features of
a frozen EfficientNet-Lite0, against scikit-learn's one-vs-rest logistic regression on the same
features, its strength chosen on the same validation part. RetinaMNIST and solar cells with ordered
classes against the same candidates without an order, by the quadratic kappa of the test part: a
small network, a tuned one with published weights, and logistic regression on frozen features.

BAKEOFF_PHOTOS names the folder with the pictures; the solar cells come with the package
elpv-dataset. BAKEOFF_TASKS=mosaics,retinamnist,elpv_grades chooses what is measured,
BAKEOFF_SEEDS=0,1,2 the seeds of networks, and BAKEOFF_MOSAICS=5000 is how many mosaics there are.
"""

from __future__ import annotations

import csv
import os
import random
import sys
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

__all__ = ["ORDERED", "SMALL", "TUNED", "measure", "words_of"]

_NETWORK, _SIDE = "tf_efficientnet_lite0", 96
_MOSAICS, _TILE = 5000, 48
_STRENGTHS = tuple(10.0**power for power in range(-4, 3))
_SEARCH_SECONDS = 600
# Within this many points of the other one counts as level: seeds differ by as much.
_LEVEL = 0.02
_NO_RECORD = ("tracking=none", "tracking.figures=false")
# Classes of each set of ordered ones.
ORDERED = {"retinamnist": 5, "elpv_grades": 4}
SMALL = ("model=cnn", "model.widths=[16,32,64]", "trainer.max_epochs=15")
TUNED = (
    *("recipe=finetune", "model.input_size=96", "data.image_size=96", "data.train_limit=500"),
    "trainer.max_epochs=3",
)
_LOGISTIC = "model.classifier=logistic"
_FROZEN = ("model=embedding", f"model.networks=[{_NETWORK}]", f"model.input_size={_SIDE}")


def measure() -> list[Row]:
    """Mean average precision and quadratic kappas on test parts."""
    tasks = ("mosaics", *ORDERED)
    wanted = os.environ.get("BAKEOFF_TASKS", ",".join(tasks)).split(",")
    if unknown := [name for name in wanted if name not in tasks]:
        sys.exit(f"there is no task {', '.join(unknown)}: choose of {', '.join(tasks)}")
    rows = []
    with tempfile.TemporaryDirectory() as place:
        for name in wanted:
            folder = Path(place)
            rows += [_mosaics(folder)] if name == "mosaics" else _ordered(name, folder)
    return rows


def write_mosaics(
    photos: Path, target: Path, count: int, *, uneven: bool = False, seed: int = 0
) -> Path:
    """Write mosaics of one to four photos, every 25th of none, and their table; return it.

    Args:
        photos: with a folder of pictures a class.
        target: folder to make.
        count: mosaics.
        uneven: the k-th class is shown 1/k times as often as the first.
        seed: of what is shown.
    """
    rng = random.Random(seed)
    files = {one.name: sorted(one.iterdir()) for one in sorted(photos.iterdir())}
    places = [(x, y) for x in (0, _TILE) for y in (0, _TILE)]
    weights = [1 / k for k in range(1, len(files) + 1)] if uneven else None
    target.mkdir()
    rows = [("path", "labels")]
    for number in range(count):
        canvas = Image.new("RGB", (2 * _TILE, 2 * _TILE), (127, 127, 127))
        shown = 0 if number % 25 == 0 else rng.randint(1, 4)
        labels = rng.choices(sorted(files), weights, k=shown)
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
    count = int(os.environ.get("BAKEOFF_MOSAICS", str(_MOSAICS)))
    table = write_mosaics(photo_set("cifar10", folder) / "test", folder / "mosaics", count)
    overrides = [
        *("data=folder", f"data.root={table}", "data.target=multi", "model=embedding"),
        *(f"model.networks=[{_NETWORK}]", f"model.input_size={_SIDE}"),
        *(f"model.auto.seconds={_SEARCH_SECONDS}", f"output_dir={folder / 'out'}", *_NO_RECORD),
    ]
    settings = read_run_settings(overrides)
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
        f"{count:,} mosaics of CIFAR-10 photos, features of {_NETWORK} at {_SIDE} pixels: test "
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


def words_of(name: str, folder: Path) -> tuple[list[str], list[str]]:
    """Return the overrides for a set of `ORDERED`, and those that tell its order.

    Args:
        name: of the set.
        folder: for pictures and runs.
    """
    root = photo_set(name, folder)
    base = ["data=folder", f"data.root={root}", f"output_dir={folder / 'out'}", *_NO_RECORD]
    order = ",".join(f"class{number}" for number in range(ORDERED[name]))
    return base, ["data.target=ordinal", f"data.order=[{order}]"]


def _ordered(name: str, folder: Path) -> list[Row]:
    base, ordinal = words_of(name, folder)
    every = [int(one) for one in os.environ.get("BAKEOFF_SEEDS", "0,1,2").split(",")]
    rows = []
    for what, overrides, own, seeds in (
        ("a small network trained with CORN", SMALL, ["loss=corn"], every),
        ("a published network tuned with CORN", TUNED, ["loss=corn"], every),
        ("logistic regression, a border at a time", (*_FROZEN, _LOGISTIC), [], every[:1]),
    ):
        ours = [_kappa([*base, *overrides, *ordinal, *own], seed) for seed in seeds]
        theirs = [_kappa([*base, *overrides], seed) for seed in seeds]
        rows.append(
            Row(
                f"{name}, {what}, and without an order: quadratic kappa on the test part",
                f"{_shown(ours)} and {_shown(theirs)}",
                f"at most {_LEVEL:g} less",
                float(np.mean(ours)) >= float(np.mean(theirs)) - _LEVEL,
            )
        )
    return rows


def _kappa(overrides: list[str], seed: int) -> float:
    summary = run_experiment(read_run_settings([*overrides, f"seed={seed}"]))
    assert summary is not None
    said = Predictions.read(os.path.join(summary.run_dir, "predictions", "test.parquet"))
    return quadratic_kappa(said.decided, said.targets, len(said.class_names))


def _shown(values: list[float]) -> str:
    listed = ", ".join(f"{value:.3f}" for value in values)
    return f"{np.mean(values):.3f} ({listed})" if len(values) > 1 else listed
