from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.metrics import cohen_kappa_score, mean_absolute_error

from src.metrics import ordered

CLASSES = 5


def samples(count: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    rng = np.random.default_rng(count)
    targets = rng.integers(0, CLASSES, count)
    return np.clip(targets + rng.integers(-1, 3, count), 0, CLASSES - 1), targets


def test_figures_agree_with_scikit_learn() -> None:
    preds, targets = samples(200)
    kappa = ordered.quadratic_kappa(preds, targets, CLASSES)
    assert kappa == pytest.approx(cohen_kappa_score(preds, targets, weights="quadratic"))
    assert ordered.mean_absolute_error(preds, targets) == mean_absolute_error(targets, preds)


def test_answers_and_targets_of_one_class_agree_no_better_than_chance() -> None:
    same = np.ones(4, np.int64)
    assert ordered.quadratic_kappa(same, same, CLASSES) == 0
    assert not ordered.kappa_influence(same, same, CLASSES).any()


def test_one_answer_for_everything_has_no_kappa_at_all() -> None:
    for count in range(2, 40):
        _, targets = samples(count)
        for answer in range(CLASSES):
            preds = np.full(count, answer)
            kappa = ordered.quadratic_kappa(preds, targets, CLASSES)
            assert kappa == 0 and not np.signbit(kappa), "no rounding, no minus"


def test_influences_are_those_of_the_jackknife() -> None:
    preds, targets = samples(1000)
    whole = ordered.quadratic_kappa(preds, targets, CLASSES)
    lost = np.array(
        [
            whole - ordered.quadratic_kappa(np.delete(preds, i), np.delete(targets, i), CLASSES)
            for i in range(len(preds))
        ]
    ) * (len(preds) - 1)
    found = ordered.kappa_influence(preds, targets, CLASSES)
    assert found.mean() == pytest.approx(0, abs=1e-12)
    np.testing.assert_allclose(found, lost - lost.mean(), atol=2e-3)
