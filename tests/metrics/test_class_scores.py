from __future__ import annotations

import math

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import precision_recall_fscore_support

from src.metrics.class_scores import class_scores
from src.metrics.classification import confusion_matrix

MATRIX = np.array([[9, 1, 0, 0], [4, 5, 1, 0], [0, 0, 0, 0], [0, 0, 0, 10]])
NAMES = ["a", "b, with comma", "c", "d"]


@given(st.integers(0, 2**32 - 1), st.integers(2, 6))
def test_rows_agree_with_scikit_learn(seed: int, num_classes: int) -> None:
    rng = np.random.default_rng(seed)
    probs, targets = rng.dirichlet(np.ones(num_classes), 40), rng.integers(0, num_classes, 40)
    rows = class_scores(confusion_matrix(probs, targets))
    expected = precision_recall_fscore_support(
        targets, probs.argmax(axis=1), labels=range(num_classes), zero_division=np.nan
    )
    found = [(row.precision, row.recall, row.f1, row.pictures) for row in rows]
    np.testing.assert_allclose(np.array(found).T, np.array(expected))
    for row in rows:
        wrong = probs.argmax(axis=1)[(targets == row.index) & (probs.argmax(axis=1) != row.index)]
        assert row.confused == max(np.bincount(wrong, minlength=1))
        if row.confused_with is not None:
            assert (wrong == row.confused_with).sum() == row.confused > 0


def test_a_class_without_pictures_has_no_recall_and_no_confusion() -> None:
    row = class_scores(MATRIX)[2]
    assert math.isnan(row.recall) and math.isnan(row.recall_low)
    assert (row.pictures, row.precision, row.confused_with) == (0, 0.0, None)
