"""How often forecasts of more training pictures hold, on pictures whose larger sets are there.

Classifiers are trained on an eighth, a quarter, a half and all of some pictures, judged by 400
held-out ones, and forecast with twice and four times as many. The truth is the mean, over draws, of
what they do with so many on thousands of further pictures. Digits, and Fashion-MNIST where it is
installed. A perceptron is trained and forecast through the command, whose truth is a training on
more. No test part is used. `_FLATTENING` of `src/statistics/data_scaling.py` was chosen on digits
and on frozen features of clothing and CIFAR-10 photos, not on Fashion-MNIST.
"""

from __future__ import annotations

import io
import tempfile
from collections.abc import Callable, Iterator
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.datasets import load_digits
from sklearn.ensemble import RandomForestClassifier
from sklearn.neighbors import KNeighborsClassifier
from sklearn.svm import SVC

from benchmarks.commands import environment
from benchmarks.table import Row
from src.api import Model, Run, fit, scaling
from src.config.checks import ConfigError
from src.data.sources.fashion_mnist import load
from src.statistics.data_scaling import data_scaling

__all__ = ["measure"]

Pictures = tuple[NDArray[np.float32], NDArray[np.int64]]

_FRACTIONS, _FACTORS, _HELD_OUT = (0.125, 0.25, 0.5, 1.0), (2.0, 4.0), 400
_BAR = 0.936  # 95 %, but for what chance takes from some 200 forecasts
_BIAS_BAR = 0.3  # points
_PERCEPTRON = (
    *("model=mlp", "model.hidden=[64]", "augment=none", "data.batch_size=32"),
    *("trainer.max_epochs=6", "data.test_fraction=0"),
    *("tracking=none", "tracking.figures=false", "evaluate_test=false"),
)
_TRAINED, _TRUTH = 800, 4000
_CLASSIFIERS: dict[str, Callable[[], Any]] = {
    "support vector machine": lambda: SVC(C=5),
    "random forest": lambda: RandomForestClassifier(100, random_state=0),
    "nearest neighbours": lambda: KNeighborsClassifier(3),
}


def measure(draws: int = 24, trained: int = 6) -> list[Row]:
    """Coverage of losses and gains, and the mean error of the median gain.

    Args:
        draws: of pictures for classifiers.
        trained: draws for a perceptron.
    """
    rows = _of_networks(trained)
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


def _of_networks(draws: int) -> list[Row]:
    """Return the row of a perceptron that the command forecasts; none without its pictures."""
    try:
        source = load(None, Path("/nowhere"), True)
    except ConfigError:  # it is not installed
        return []
    images, labels = np.asarray(source.arrays)[:, 0], np.asarray(source.targets)
    with (
        tempfile.TemporaryDirectory() as name,
        environment(BAKEOFF_CACHE=f"{name}/cache"),
        redirect_stdout(io.StringIO()),
        redirect_stderr(io.StringIO()),
    ):
        found = [
            one
            for draw in range(draws)
            for one in _trained(Path(name) / str(draw), images, labels, draw)
        ]
    figure, gain, error, true = np.array(found, np.float64).T
    return [
        Row(
            f"a perceptron of {_TRAINED} pictures of Fashion-MNIST, {len(found)} forecasts of the "
            "command: 95 % intervals that hold the accuracy; the gain; mean error of the median "
            "gain; mean true gain",
            f"{int(figure.sum())}; {int(gain.sum())}; {100 * error.mean():+.1f} points; "
            f"{100 * true.mean():.1f}",
            "all but two",
            bool(min(figure.sum(), gain.sum()) >= len(found) - 2),
        )
    ]


def _trained(
    folder: Path, images: NDArray[np.uint8], labels: NDArray[np.int64], draw: int
) -> Iterator[tuple[bool, bool, float, float]]:
    """Yield for each factor the same as `_held`, by one training on so many times the pictures."""
    folder.mkdir()
    truth, rest = np.split(np.random.default_rng(0).permutation(len(labels)), [_TRUTH])
    order = np.random.default_rng(draw).permutation(rest)

    def true(model: Model) -> float:
        names = np.array([int(name) for name in model.class_names])
        preds = names[model.probabilities(list(images[truth])).argmax(axis=1)]
        return float((preds == labels[truth]).mean())

    def of(times: float) -> Run:
        count = round(times * _TRAINED) + _HELD_OUT
        file = folder / f"{count}.npz"
        np.savez(file, images=images[order[:count]], labels=labels[order[:count]])
        seeds = (f"seed={draw}", f"data.split_seed={draw}")
        held_out = f"data.val_fraction={_HELD_OUT / count}"
        return fit(str(file), *_PERCEPTRON, *seeds, held_out, output_dir=folder)

    run = of(1)
    now, forecast = true(run.model()), scaling(str(run.folder), output_dir=folder).record
    for factor, one in zip(_FACTORS, forecast.forecasts, strict=True):
        later = true(of(factor).model())
        gain = later - now
        yield (
            one.low <= later <= one.high,
            one.gain_low <= gain <= one.gain_high,
            one.gain - gain,
            gain,
        )


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
