"""How often forecasts of more training pictures hold, on pictures whose larger sets are there.

Classifiers are trained on an eighth, a quarter, a half and all of some pictures, judged by 400
held-out ones, and forecast with twice and four times as many. The truth is the mean, over draws, of
what they do with so many on thousands of further pictures. Digits, and Fashion-MNIST where it is
installed; no test part is used. `_FLATTENING` of `src/statistics/data_scaling.py` was chosen on
digits and on frozen features of clothing and CIFAR-10 photos, not on Fashion-MNIST.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.datasets import load_digits
from sklearn.ensemble import RandomForestClassifier
from sklearn.neighbors import KNeighborsClassifier
from sklearn.svm import SVC

from benchmarks.table import Row
from src.config.checks import ConfigError
from src.data.sources.fashion_mnist import load
from src.statistics.data_scaling import data_scaling

__all__ = ["measure"]

Pictures = tuple[NDArray[np.float32], NDArray[np.int64]]

_FRACTIONS, _FACTORS, _HELD_OUT = (0.125, 0.25, 0.5, 1.0), (2.0, 4.0), 400
_BAR = 0.936  # 95 %, but for what chance takes from some 200 forecasts
_BIAS_BAR = 0.3  # points
_CLASSIFIERS: dict[str, Callable[[], Any]] = {
    "support vector machine": lambda: SVC(C=5),
    "random forest": lambda: RandomForestClassifier(100, random_state=0),
    "nearest neighbours": lambda: KNeighborsClassifier(3),
}


def measure(draws: int = 24) -> list[Row]:
    """Coverage of losses and gains, and the mean error of the median gain."""
    rows = []
    for name, pictures, sizes, further in _sets():
        count = draws if len(pictures[1]) < 2000 else draws // 3  # a draw takes a minute
        found = [one for size in sizes for one in _held(pictures, size, further, count)]
        loss, gain, error, true = np.array(found, np.float64).T
        holds = min(loss.mean(), gain.mean())
        rows += [
            Row(
                f"{name}, {len(found)} forecasts of {', '.join(map(str, sizes))} pictures: 95 % "
                "intervals that hold the loss; the gain",
                f"{100 * loss.mean():.1f} %; {100 * gain.mean():.1f} %",
                f"{100 * _BAR:.1f} %",
                bool(holds >= _BAR),
            ),
            Row(
                "mean error of the median gain; mean true gain",
                f"{100 * error.mean():+.2f} points; {100 * true.mean():.1f}",
                f"{_BIAS_BAR} points",
                bool(abs(100 * error.mean()) <= _BIAS_BAR),
            ),
        ]
    return rows


def _sets() -> Iterator[tuple[str, Pictures, tuple[int, ...], int]]:
    digits = load_digits()
    values = (digits.data / 16).astype(np.float32), digits.target.astype(np.int64)
    yield "digits", values, (200,), 500
    try:
        source = load(None, Path("/nowhere"), False)
    except ConfigError:  # it is not installed
        return
    train = np.asarray(source.given_parts) == "train"
    images = np.asarray(source.arrays)[train].reshape(int(train.sum()), -1)
    values = (images / 255).astype(np.float32), source.targets[train].astype(np.int64)
    yield "Fashion-MNIST", values, (400, 1600), 5000


def _held(
    pictures: Pictures, size: int, further: int, draws: int
) -> Iterator[tuple[bool, bool, float, float]]:
    """Yield whether loss and gain lay within, the error of the median gain, and the true gain."""
    values, targets = pictures
    factors = [f for f in _FACTORS if f * size <= len(targets) - further - _HELD_OUT]
    shares = (*_FRACTIONS, *factors)
    for make in _CLASSIFIERS.values():
        wrong, truths = [], []
        for draw in range(draws):
            order = np.random.default_rng(draw).permutation(len(targets))
            judged = np.split(order, (_HELD_OUT, _HELD_OUT + further))
            answers = []
            for share in shares:
                some = judged[2][: round(share * size)]
                model = make().fit(values[some], targets[some])
                answers.append(
                    [model.predict(values[part]) != targets[part] for part in judged[:2]]
                )
            wrong.append(np.stack([one[0] for one in answers[: len(_FRACTIONS)]]))
            truths.append([one[1].mean() for one in answers])
        truth = np.mean(truths, axis=0)
        now = truth[len(_FRACTIONS) - 1]
        for errors in wrong:
            losses = (errors.sum(axis=1) + 0.5) / (_HELD_OUT + 1)
            law = data_scaling(_FRACTIONS, losses, np.cov(errors) / _HELD_OUT + 1e-6 * np.eye(4))
            for factor, later in zip(factors, truth[len(_FRACTIONS) :], strict=True):
                gain, ends = law.gain(factor)
                true = float(now - later)
                yield later in law.loss(factor)[1], true in ends, gain - true, true
