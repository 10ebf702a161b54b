"""Makes `other_packages.json`: what others answer to `test_other_packages.py`.

They are no dependencies: a small file of their numbers tests as much and installs nothing. In an
environment of its own with crepes, MAPIE, baycomp and arch, from the root of the repository:

    python -m tests.statistics.other_packages
"""

from __future__ import annotations

import json
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tests.statistics.fields import random_field

FILE = Path(__file__).with_name("other_packages.json")
COVERAGES = (0.8, 0.9, 0.95)
BAND = 0.003
FIELDS, SHARES = 12, (0.86, 0.85, 0.84, 0.8, 0.75)


def answers() -> tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.float64]]:
    """Return (150, 4) probabilities for calibration, (150,) their labels, and (60, 4) new ones."""
    generator = np.random.default_rng(0)
    probs = generator.dirichlet([0.6] * 4, 210)
    targets = np.array([generator.choice(4, p=row) for row in probs[:150]])
    return probs[:150], targets, probs[150:]


def fold_differences() -> NDArray[np.float64]:
    """Return (30,) differences of two models over three times ten folds."""
    return np.random.default_rng(1).normal(0.004, 0.01, 30)


def _crepes() -> dict[str, Any]:
    probs, targets, new = answers()
    classifier = import_module("crepes").ConformalClassifier()
    classifier.fit(1 - probs[np.arange(len(targets)), targets])
    return {
        str(coverage): classifier.predict_set(1 - new, confidence=coverage, smoothing=False)
        .astype(int)
        .tolist()
        for coverage in COVERAGES
    }


def _mapie() -> dict[str, Any]:
    from sklearn.base import BaseEstimator, ClassifierMixin

    class Known(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
        """Answers with what it is asked."""

        classes_ = np.arange(4)

        def fit(self, *_: Any) -> Known:
            return self

        def predict_proba(self, probs: Any) -> Any:
            return probs

        def predict(self, probs: Any) -> Any:
            return probs.argmax(axis=1)

        def __sklearn_is_fitted__(self) -> bool:
            return True

    probs, targets, new = answers()
    classifier = import_module("mapie.classification").SplitConformalClassifier(
        Known(), confidence_level=list(COVERAGES), conformity_score="lac", prefit=True
    )
    classifier.conformalize(probs, targets)
    _, sets = classifier.predict_set(new)
    return {str(c): sets[:, :, i].astype(int).tolist() for i, c in enumerate(COVERAGES)}


def _baycomp() -> dict[str, Any]:
    test = import_module("baycomp").CorrelatedTTest
    differences = fold_differences()
    left, within, right = test.probs(np.zeros(30), differences, rope=BAND, runs=3)
    return {"less": left, "within": within, "more": right}


def _arch() -> list[list[int]]:
    """Return for each field the candidates of the model confidence set at 5 %."""
    found = []
    for seed in range(FIELDS):
        field = random_field(SHARES, [1] * len(SHARES), 600, seed=seed)
        losses = np.stack([1.0 - one.right[0] for one in field], axis=1)
        mcs = import_module("arch.bootstrap").MCS(
            losses, size=0.05, reps=1000, block_size=1, method="max", seed=0
        )
        mcs.compute()
        found.append(sorted(int(index) for index in mcs.included))
    return found


if __name__ == "__main__":
    packages = ("crepes", "mapie", "baycomp", "arch")
    numbers = {
        "versions": {name: version(name) for name in packages},
        "sets_of_crepes": _crepes(),
        "sets_of_mapie": _mapie(),
        "correlated_t_of_baycomp": _baycomp(),
        "confidence_sets_of_arch": _arch(),
    }
    FILE.write_text(json.dumps(numbers) + "\n", encoding="utf-8")
