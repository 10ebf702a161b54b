"""What is promised about single answers, held against pictures that calibrated nothing.

A model of each of four sets is trained once. Its held-out pictures are divided at random, again and
again: one half calibrates, the other is judged. And pictures of other sets, and noise, are told
from clothing photos by their distance to the training pictures.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from sklearn.metrics import roc_auc_score

from benchmarks.commands import environment
from benchmarks.photo_sets import photo_set
from benchmarks.table import Row
from src.config.compose import read_run_settings
from src.records.run import Predictions
from src.runs.experiment import run_experiment
from src.runs.finished.evaluate import Revisited, revisit
from src.runs.folder import RunFolder
from src.statistics.conformal import set_thresholds
from src.statistics.novelty import feature_rows, feature_scale, neighbour_distances
from src.statistics.risk_control import answering_rule

__all__ = ["measure"]

_COVERAGE, _ERROR = 0.9, 0.02
_CALIBRATE = 1000  # of the pictures of Fashion-MNIST, whose others stand for the truth
_STRANGERS = 300
_FROZEN = (
    *("model=embedding", "model.networks=[tf_efficientnet_lite0]", "model.input_size=96"),
    "model.classifier=logistic",
)


def measure(splits: int = 1000, coverage_splits: int = 100) -> list[Row]:
    """Coverage, promised error and novelty.

    Args:
        splits: of the promised error.
        coverage_splits: of the coverage.
    """
    with tempfile.TemporaryDirectory() as folder:
        cache = os.environ.get("BAKEOFF_CACHE", f"{folder}/cache")
        with environment(BAKEOFF_CACHE=cache):
            return _measured(Path(folder), splits, coverage_splits)


def _measured(place: Path, splits: int, coverage_splits: int) -> list[Row]:
    clothing = photo_set("clothing", place / "sets")
    retina = photo_set("retinamnist", place / "sets")
    runs = {
        "digits": _run(place, "data=digits", "model=handcrafted", "model.features=[raw]"),
        "Fashion-MNIST": _run(place, "data=fashion_mnist", "model=mlp", "trainer.max_epochs=2"),
        "clothing": _run(place, "data=folder", f"data.root={clothing}", *_FROZEN),
        "RetinaMNIST": _run(place, "data=folder", f"data.root={retina}", *_FROZEN),
    }
    held_out = {name: _held_out(run) for name, run in runs.items()}
    rows = [_coverage(name, one, coverage_splits) for name, one in held_out.items()]
    rows.append(_promised_error(held_out["Fashion-MNIST"], splits))
    return [*rows, *_novelty(runs["clothing"], place)]


def _run(place: Path, *overrides: str) -> RunFolder:
    further = ("tracking=none", "tracking.figures=false", "evaluate_test=true")
    settings = read_run_settings([*overrides, *further, f"output_dir={place / 'out'}"])
    summary = run_experiment(settings)
    assert summary is not None
    return RunFolder.open(Path(summary.run_dir))


def _held_out(run: RunFolder) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Return probabilities (N, K) and classes (N,) of validation and test pictures."""
    parts = [Predictions.read(run.predictions / f"{part}.parquet") for part in ("val", "test")]
    probs = np.concatenate([part.probs for part in parts])
    return probs, np.concatenate([part.targets for part in parts])


def _coverage(
    name: str, held_out: tuple[NDArray[np.float32], NDArray[np.int64]], splits: int
) -> Row:
    probs, targets = held_out
    classes = probs.shape[1]
    overall, by_class = [], []
    for seed in range(splits):
        order = np.random.default_rng(seed).permutation(len(targets))
        known, new = np.array_split(order, 2)
        label_probs = probs[known, targets[known]]
        held = []
        for classwise in (False, True):
            thresholds = set_thresholds(
                label_probs, targets[known], _COVERAGE, num_classes=classes, classwise=classwise
            )
            held.append(probs[new, targets[new]] >= thresholds[targets[new]])
        overall.append(held[0].mean())
        own = [targets[new] == label for label in range(classes)]
        by_class.append([held[1][of].mean() if of.any() else np.nan for of in own])
    mean, worst = float(np.mean(overall)), float(np.nanmean(by_class, axis=0).min())
    return Row(
        f"label sets of {name} at 90 %, {splits} splits: mean coverage, and of the worst class "
        "where each class is covered",
        f"{100 * mean:.1f} %, {100 * worst:.1f} %",
        "89 to 91.5 %, 85 %",
        0.89 <= mean <= 0.915 and worst >= 0.85,
    )


def _promised_error(held_out: tuple[NDArray[np.float32], NDArray[np.int64]], splits: int) -> Row:
    probs, targets = held_out
    confidences, correct = probs.max(axis=1), probs.argmax(axis=1) == targets
    broken, promised, shares = 0, 0, []
    for seed in range(splits):
        order = np.random.default_rng(seed).permutation(len(targets))
        known, new = order[:_CALIBRATE], order[_CALIBRATE:]
        rule = answering_rule(confidences[known], correct[known], _ERROR)
        if rule is None:
            continue
        answered = confidences[new] >= rule.threshold
        promised += 1
        broken += float(np.mean(~correct[new][answered])) > _ERROR
        shares.append(answered.mean())
    share = f"{100 * np.mean(shares):.0f} %" if shares else "nothing"
    return Row(
        f"an error of 2 % promised by {_CALIBRATE:,} pictures of Fashion-MNIST, {splits} splits: "
        "exceeded among the others; answered",
        f"{100 * broken / splits:.1f} % (promised in {promised}), {share}",
        "at most 5 %",
        broken <= 0.05 * splits,
    )


def _novelty(run: RunFolder, place: Path) -> list[Row]:
    again = revisit(run, run.chosen_checkpoint())
    split = again.data.split
    known = _features(again, "train", np.arange(len(split.train)))
    scale = feature_scale(known)
    reference = feature_rows(known, scale)

    def distances(features: NDArray[np.float32]) -> NDArray[np.float32]:
        return neighbour_distances(feature_rows(features, scale), reference)

    familiar = distances(_features(again, "test", np.arange(len(split.test))))
    strangers = {
        "CIFAR-10": _pictures(photo_set("cifar10", place / "sets") / "test"),
        "tiles": _pictures(photo_set("tiles", place / "sets")),
        "noise": [
            Image.fromarray(
                np.random.default_rng(seed).integers(0, 256, (96, 96, 3), dtype=np.uint8)
            )
            for seed in range(_STRANGERS)
        ],
    }
    rows = []
    for name, pictures in strangers.items():
        found = distances(_described(again, pictures))
        truth = np.repeat([0, 1], [len(familiar), len(found)])
        area = float(roc_auc_score(truth, np.concatenate([familiar, found])))
        rows.append(
            Row(
                f"clothing photos told from {name}, by distance: area under the curve",
                f"{area:.3f}",
                "0.95",
                area >= 0.95,
            )
        )
    return rows


def _features(again: Revisited, part: str, rows: NDArray[np.int64]) -> NDArray[np.float32]:
    found = again.trained.features(again.data, part, rows)
    assert found is not None
    return found


def _pictures(folder: Path) -> list[Image.Image]:
    files = sorted([*folder.rglob("*.jpg"), *folder.rglob("*.png")])
    drawn = np.random.default_rng(0).permutation(len(files))[:_STRANGERS]
    return [Image.open(files[number]).convert("RGB") for number in drawn]


def _described(again: Revisited, pictures: Sequence[Image.Image]) -> NDArray[np.float32]:
    predictor = again.trained.predictor(32)
    pixels = [predictor.pixels(picture) for picture in pictures]
    found = []
    for start in range(0, len(pixels), 32):
        features = predictor.described(np.stack(pixels[start : start + 32]))[1]
        assert features is not None
        found.append(features)
    return np.concatenate(found)
