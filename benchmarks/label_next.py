"""What pictures that `predict label_next=N` names are worth, against pictures drawn at random.

A logistic regression on frozen features of EfficientNet-Lite1 is trained on some photos and chooses
further ones, on which it and other classifiers are then trained as well. Accuracy is that on a
third of the pictures that takes no part in any of it. No test part is used.
BAKEOFF_PHOTOS names the folder with the pictures.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, clone
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC
from threadpoolctl import threadpool_limits

from benchmarks.photo_sets import photo_set
from benchmarks.table import Row
from src.data.decoding.decode import decode_picture
from src.data.decoding.picture_format import PictureFormat
from src.features.embedding import NetworkFeatures
from src.models.zoo import TimmNet
from src.targets import kind_of

__all__ = ["measure"]

_NETWORK, _SIDE, _AT_ONCE = "tf_efficientnet_lite1", 192, 256
# Pictures with labels at first, and pictures added, of each set.
_SETS = {"clothing": (300, 100), "tiles": (200, 100), "cifar10": (500, 200)}
_DRAWS = 10
_CHOOSES = "logistic regression"
_CLASSIFIERS = {
    _CHOOSES: LogisticRegression(C=0.003, tol=1e-3),
    "support vector machine": SVC(C=5),
    "nearest neighbours": KNeighborsClassifier(5, metric="cosine"),
}
_TIMES = (1.0, 1.5, 2.0, 3.0, 4.0)

Features = tuple[NDArray[np.float32], NDArray[np.int64]]


def measure() -> list[Row]:
    """The gain in accuracy by pictures chosen, and by as many at random and more."""
    rows = []
    with tempfile.TemporaryDirectory() as folder, threadpool_limits(1):  # the fits are small
        for name, (first, added) in _SETS.items():
            described = _described(photo_set(name, Path(folder)))
            gains = np.array([_gains(described, first, added, seed) for seed in range(_DRAWS)])
            for judge, found in zip(_CLASSIFIERS, np.moveaxis(gains, 0, -1), strict=True):
                rows.append(_row(f"{name}, {judge}, {added} pictures beside {first}", found))
    return rows


def _described(root: Path) -> Features:
    """Return features and classes of all pictures but those of the test part."""
    found = sorted(path for path in root.rglob("*") if path.suffix in (".jpg", ".png"))
    files = [file for file in found if file.relative_to(root).parts[0] != "test"]
    names = [file.parent.name for file in files]
    size = (_SIDE, _SIDE)
    network = TimmNet(
        3,
        2,
        size,
        name=_NETWORK,
        pretrained=True,
        input_size=_SIDE,
        stem="keep",
        drop_rate=None,
    )
    mean, std = network.input_statistics or ((0.5,) * 3, (0.5,) * 3)
    metadata = {"channels": 3, "image_size": size, "mean": mean, "std": std}
    describe = NetworkFeatures(network, metadata, torch.device("cpu"))
    starts = range(0, len(files), _AT_ONCE)
    rows = [describe(np.stack([*map(_pixels, files[at : at + _AT_ONCE])])) for at in starts]
    return np.concatenate(rows), np.unique(names, return_inverse=True)[1]


def _pixels(file: Path) -> NDArray[np.uint8]:
    pixels = decode_picture(file, PictureFormat((_SIDE, _SIDE), 3))
    return pixels.astype(np.uint8)


def _row(what: str, gains: NDArray[np.float64]) -> Row:
    """Return the row of the gains (1 + times, draws) of a classifier."""
    chosen, *drawn = 100 * gains
    better = chosen - drawn[0]
    error = better.std(ddof=1) / np.sqrt(len(better))
    means = np.maximum.accumulate(np.mean(drawn, axis=1))
    worth = np.interp(chosen.mean(), means, _TIMES)
    beyond = "more than " if chosen.mean() > means[-1] else ""
    return Row(
        f"{what}: points of accuracy by those chosen; by those at random",
        f"{chosen.mean():.1f}; {means[0]:.1f} ({better.mean():+.1f}, standard error {error:.1f}), "
        f"worth {beyond}{worth:.1f} times as many at random",
        "no less than at random",
        bool(better.mean() > -2 * error),
    )


def _gains(described: Features, first: int, added: int, seed: int) -> list[list[float]]:
    """Return the gain of each classifier by pictures chosen, and by `_TIMES` as many drawn."""
    features, targets = described
    order = np.random.default_rng(seed).permutation(len(targets))
    held, pool = np.split(order, [len(order) // 3])
    start, rest = np.split(pool, [first])

    def fitted(classifier: BaseEstimator, rows: NDArray[np.int64]) -> Pipeline:
        steps = make_pipeline(StandardScaler(), clone(classifier))
        return steps.fit(features[rows], targets[rows])

    now = fitted(_CLASSIFIERS[_CHOOSES], start)
    uncertain = kind_of("single").uncertainties(now.predict_proba(features[rest]))
    chosen = rest[np.argsort(-uncertain, kind="stable")[:added]]
    further = [rest[:0], chosen, *(rest[: round(times * added)] for times in _TIMES)]
    gains = []
    for classifier in _CLASSIFIERS.values():
        models = [fitted(classifier, np.concatenate([start, one])) for one in further]
        before, *after = [float(one.score(features[held], targets[held])) for one in models]
        gains.append([one - before for one in after])
    return gains
