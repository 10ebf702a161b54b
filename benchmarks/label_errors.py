"""How many of the labels that a model contradicts are wrong, on real pictures.

Classifiers of three strengths are cross-validated on frozen features, as a run with `cv.folds=5`
is, with labels as they are and with 2, 5 and 10 % of them changed: into any other class, or into
the class that the picture is most easily taken for. Labels that were wrong before count as right
ones. No test part is used.

BAKEOFF_PHOTOS names the folder with the pictures; BAKEOFF_TASKS=digits,clothing,cifar10 chooses.
"""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits

from benchmarks.label_next import Features, photo_features
from benchmarks.table import Row
from src.records.pictures import SURE_SCORE
from src.statistics.label_errors import label_suspects

__all__ = ["measure"]

_TASKS = ("digits", "clothing", "cifar10")
_SHARES = (0.02, 0.05, 0.1)


def measure() -> list[Row]:
    """Of each data set and classifier, with labels as they are and changed."""
    wanted = os.environ.get("BAKEOFF_TASKS", ",".join(_TASKS)).split(",")
    if unknown := [name for name in wanted if name not in _TASKS]:
        sys.exit(f"there is no task {', '.join(unknown)}: choose of {', '.join(_TASKS)}")
    with tempfile.TemporaryDirectory() as place, threadpool_limits(1):  # the fits are small
        return [
            row
            for name in wanted
            for row in _of_set(
                name, *(_digits() if name == "digits" else photo_features(name, Path(place)))
            )
        ]


def _digits() -> Features:
    images, targets = load_digits(return_X_y=True)
    return images.astype(np.float32), targets


def _classifiers() -> dict[str, BaseEstimator]:
    strong = LogisticRegression(C=0.003, tol=1e-3)
    found: dict[str, BaseEstimator] = {"all features": strong}
    for components in (20, 8):
        fit = LogisticRegression(C=0.03, tol=1e-3)
        found[f"{components} components"] = make_pipeline(PCA(components, random_state=0), fit)
    return found


def _of_set(name: str, features: NDArray[np.float32], targets: NDArray[np.int64]) -> list[Row]:
    features = StandardScaler().fit_transform(features)
    classifiers = _classifiers()
    probs = _held_out(classifiers["all features"], features, targets)
    probs[np.arange(len(targets)), targets] = -1.0
    confused = probs.argmax(axis=1)
    return [
        _row(f"{name}, {kind}, {change}", classifier, features, targets, given)
        for kind, classifier in classifiers.items()
        for change, given in _changed(targets, confused).items()
    ]


def _changed(
    targets: NDArray[np.int64], confused: NDArray[np.int64]
) -> dict[str, NDArray[np.int64]]:
    """Return the labels as they are, and with shares of them changed in both ways."""
    classes, found = int(targets.max()) + 1, {"as they are": targets}
    for share in _SHARES:
        for alike in (False, True):
            draw = np.random.default_rng(1)
            rows = draw.permutation(len(targets))[: round(share * len(targets))]
            others = (targets[rows] + draw.integers(1, classes, len(rows))) % classes
            given = targets.copy()
            given[rows] = confused[rows] if alike else others
            found[f"{share:.0%} {'taken for another class' if alike else 'changed'}"] = given
    return found


def _held_out(
    classifier: BaseEstimator, features: NDArray[np.float32], given: NDArray[np.int64]
) -> NDArray[np.float64]:
    folds = StratifiedKFold(5, shuffle=True, random_state=0)
    return cross_val_predict(classifier, features, given, cv=folds, method="predict_proba")


def _row(
    what: str,
    classifier: BaseEstimator,
    features: NDArray[np.float32],
    targets: NDArray[np.int64],
    given: NDArray[np.int64],
) -> Row:
    probs = _held_out(classifier, features, given)
    found, wrong = label_suspects(probs, given), given != targets
    hits, sure = wrong[found.indices], found.scores >= SURE_SCORE
    first = hits[: max(1, len(hits) // 4)]
    agreement = (probs.argmax(axis=1) == given).mean()
    measured = f"agrees with {agreement:.1%}; contradicts {len(hits)}, {sure.sum()} of them surely"
    if not wrong.any():
        return Row(what, measured, "none is changed", None)
    measured += (
        f"; changed: {hits.mean():.0%} of these, {first.mean():.0%} of the first quarter, "
        f"{hits[sure].sum()} of the sure ones; found: {hits.sum() / wrong.sum():.0%}"
    )
    finds = hits.sum() > wrong.sum() / 2 and first.mean() > hits.mean()
    return Row(what, measured, "half are found, more of them first", bool(finds))
