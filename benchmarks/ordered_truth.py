"""Intervals of quadratic kappa, held against the kappa of all pictures that draws are of.

A logistic regression and a random forest are trained on 400 pictures of RetinaMNIST, and answer the
other 1,200, which are taken for all that there are: validation parts are drawn from them with
replacement, alone or as groups of four views that answer alike. In the third measurement they are
cross-validated on 150 pictures, and judged by the models of the folds on all others. Answers are
the most probable class, or by borders for kappa, each picture's by the others and the truth's by
all, as for a champion. BAKEOFF_PHOTOS names the folder with `medmnist/retinamnist.npz`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from benchmarks.photo_sets import given
from benchmarks.table import Row
from src.metrics.ordered import quadratic_kappa
from src.records.run import Predictions
from src.runs.candidates.candidate import cross_fitted
from src.statistics.candidates import Measure, MeasuredRun, candidates_of
from src.statistics.evidence import Evidence, normal_quantile
from src.statistics.intervals import difference_interval, figure_interval
from src.targets import kind_of

__all__ = ["measure"]

Floats = NDArray[np.float32]
Classes = NDArray[np.int64]
# Whether each candidate's interval holds, and that of their difference.
Held = tuple[bool, bool, bool]

_CLASSES, _TRAINED, _FOLDS, _OF_FOLDS = 5, 400, 5, 150
_BAR = 92.5  # percent: 95, but for what chance takes from some 300 draws
_MODELS: tuple[Callable[[], Any], ...] = (
    lambda: make_pipeline(StandardScaler(), LogisticRegression(C=0.01, max_iter=300)),
    lambda: RandomForestClassifier(60, min_samples_leaf=3, random_state=0),
)
_ANSWERS = {None: "the most probable class", "kappa": "data.answer=kappa"}


def measure(draws: int = 300, folded: int = 60) -> list[Row]:
    """Shares of 95 % intervals that hold.

    Args:
        draws: of validation parts.
        folded: draws of pictures that are cross-validated.
    """
    file = given("medmnist/retinamnist.npz")
    if file is None:
        return [Row("intervals of kappa", "BAKEOFF_PHOTOS has no RetinaMNIST", "", None)]
    with np.load(file) as arrays:
        parts = ("train", "val", "test")
        images = np.concatenate([arrays[f"{part}_images"] for part in parts])
        targets = np.concatenate([arrays[f"{part}_labels"] for part in parts])[:, 0]
    targets = targets.astype(np.int64)
    answers, rows = _answers(images, targets), []
    for size, views in ((40, 1), (120, 1), (15, 4), (30, 4), (80, 4)):
        what = f"{size} pictures" if views == 1 else f"{size} groups of {views} pictures"
        for wanted in _ANSWERS:
            rows.append(_row(what, wanted, list(_drawn(answers, size, views, wanted, draws))))
    out_of_fold = list(_out_of_fold(images, targets, folded))
    for wanted in _ANSWERS:
        what = f"{_OF_FOLDS} pictures out of fold"
        rows.append(_row(what, wanted, list(_folded(out_of_fold, wanted))))
    return rows


def _row(what: str, wanted: str | None, held: Sequence[Held]) -> Row:
    *alone, difference = 100 * np.mean(held, axis=0)
    shares = f"{np.mean(alone):.1f}; {difference:.1f} % of {len(held)}"
    name = f"{what}, {_ANSWERS[wanted]}: intervals of kappa that hold; of a difference"
    return Row(name, shares, f"{_BAR} %", bool(min(np.mean(alone), difference) >= _BAR))


def _features(images: NDArray[np.uint8]) -> Floats:
    """Return (N, 294) means and deviations of the squares of four pixels of (N, 28, 28, 3)."""
    squares = images.reshape(len(images), 7, 4, 7, 4, 3) / 255
    found = [one(squares, axis=(2, 4)).reshape(len(images), -1) for one in (np.mean, np.std)]
    return np.hstack(found).astype(np.float32)


def _probabilities(model: Any, features: Floats) -> Floats:
    found = np.zeros((len(features), _CLASSES), np.float32)
    found[:, model.classes_] = model.predict_proba(features)
    return found


def _answers(images: NDArray[np.uint8], targets: Classes) -> tuple[list[Floats], Classes]:
    """Return of each model (N, 4, K) its answers to four views of each, and (N,) the classes."""
    order = np.random.default_rng(0).permutation(len(targets))
    own, others = np.split(order, [_TRAINED])
    views = [images, images[:, :, ::-1], images[:, ::-1], images[:, ::-1, ::-1]]
    found = []
    for make in _MODELS:
        model = make().fit(_features(images[own]), targets[own])
        each = [_probabilities(model, _features(view[others])) for view in views]
        found.append(np.stack(each, axis=1))
    return found, targets[others]


def _drawn(
    answers: tuple[list[Floats], Classes], size: int, views: int, wanted: str | None, draws: int
) -> Iterator[Held]:
    probs, classes = answers
    everything = np.repeat(classes, views)
    for draw in range(draws):
        rows = np.random.default_rng((size, draw)).integers(len(classes), size=size)
        targets, groups = (np.repeat(one, views) for one in (classes[rows], np.arange(size)))
        found = [
            _answered(one[rows, :views].reshape(-1, _CLASSES), targets, wanted, groups)
            for one in probs
        ]
        truth = [
            _kappa(one[:, :views].reshape(-1, _CLASSES), everything, cuts)
            for one, (_, cuts) in zip(probs, found, strict=True)
        ]
        yield _held([one for one, _ in found], truth, groups)


def _out_of_fold(images: NDArray[np.uint8], targets: Classes, draws: int) -> Iterator[Any]:
    """Yield the classes of some pictures and of all others, and of each model what it answers.

    To the former out of fold (n, K), and to the latter by the models of all folds (F, N - n, K).
    """
    features = _features(images)
    for draw in range(draws):
        order = np.random.default_rng(draw).permutation(len(targets))
        own, others = np.split(order, [_OF_FOLDS])
        answers = []
        for make in _MODELS:
            out_of_fold, by_folds = np.zeros((_OF_FOLDS, _CLASSES), np.float32), []
            folds = StratifiedKFold(_FOLDS, shuffle=True, random_state=draw)
            for train, held_out in folds.split(own, targets[own]):
                model = make().fit(features[own[train]], targets[own[train]])
                out_of_fold[held_out] = _probabilities(model, features[own[held_out]])
                by_folds.append(_probabilities(model, features[others]))
            answers.append((out_of_fold, by_folds))
        yield targets[own], targets[others], answers


def _folded(found: Sequence[Any], wanted: str | None) -> Iterator[Held]:
    for own, others, answers in found:
        said = [_answered(out_of_fold, own, wanted) for out_of_fold, _ in answers]
        truth = [
            float(np.mean([_kappa(one, others, cuts) for one in by_folds]))
            for (_, by_folds), (_, cuts) in zip(answers, said, strict=True)
        ]
        yield _held([one for one, _ in said], truth)


def _answered(
    probs: Floats, targets: Classes, wanted: str | None, groups: Classes | None = None
) -> tuple[Predictions, NDArray[np.float64] | None]:
    """Return predictions, answered as in the figures of a run, and the borders that it keeps."""
    found = Predictions(
        sample_ids=np.arange(len(targets)),
        paths=None,
        targets=targets,
        probs=probs,
        class_names=tuple(map(str, range(_CLASSES))),
        kind="ordinal",
        groups=groups,
    )
    if wanted is None:
        return found, None
    cuts = kind_of("ordinal").thresholds(probs, targets, wanted)
    return cross_fitted(replace(found, thresholds=cuts), wanted)[0], cuts


def _kappa(probs: Floats, targets: Classes, cuts: NDArray[np.float64] | None) -> float:
    return quadratic_kappa(kind_of("ordinal").decide(probs, cuts), targets, _CLASSES)


def _held(
    said: Sequence[Predictions], truth: Sequence[float], groups: Classes | None = None
) -> Held:
    runs = [
        MeasuredRun.of(
            one,
            run_id=f"c{number}",
            configuration=f"c{number}",
            name=f"c{number}",
            seed=0,
            part="val",
            split_fingerprint=None,
            measure=Measure("kappa"),
        )
        for number, one in enumerate(said)
    ]
    evidence = Evidence.of(candidates_of(runs), groups, lowest=-1.0)
    first, second = (
        bool(figure in figure_interval(evidence, number, normal_quantile(0.95)))
        for number, figure in enumerate(truth)
    )
    return first, second, bool(truth[0] - truth[1] in difference_interval(evidence, 0, 1))
