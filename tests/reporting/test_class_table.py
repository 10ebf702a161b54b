from __future__ import annotations

import csv
import io
import math

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import precision_recall_fscore_support

from src.machine.text import from_csv_cell
from src.metrics.classification import confusion_matrix
from src.metrics.intervals import wilson_interval
from src.reporting.class_table import class_rows, class_table

MATRIX = np.array([[9, 1, 0, 0], [4, 5, 1, 0], [0, 0, 0, 0], [0, 0, 0, 10]])
NAMES = ["a", "b, with comma", "c", "d"]


@given(st.integers(0, 2**32 - 1), st.integers(2, 6))
def test_rows_agree_with_scikit_learn(seed: int, num_classes: int) -> None:
    rng = np.random.default_rng(seed)
    probs, targets = rng.dirichlet(np.ones(num_classes), 40), rng.integers(0, num_classes, 40)
    rows = class_rows(confusion_matrix(probs, targets))
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
    row = class_rows(MATRIX)[2]
    assert math.isnan(row.recall) and math.isnan(row.recall_low)
    assert (row.pictures, row.precision, row.confused_with) == (0, 0.0, None)


def test_the_table_has_every_class_in_order() -> None:
    rows = list(csv.DictReader(io.StringIO(class_table(MATRIX, NAMES))))
    assert [row["class"] for row in rows] == NAMES
    low, high = wilson_interval(5, 10)
    assert rows[1] == {
        "class": "b, with comma", "pictures": "10", "recall": "0.5000",
        "recall_low": f"{low:.4f}", "recall_high": f"{high:.4f}", "precision": "0.8333",
        "f1": "0.6250", "most_confused_with": "a", "confused": "4",
    }  # fmt: skip
    assert (rows[2]["recall"], rows[2]["most_confused_with"]) == ("", "")


def test_a_class_that_is_called_like_a_formula_is_computed_by_no_spreadsheet() -> None:
    names = ["=1+1", "@home", "-5", "plain"]
    rows = list(csv.reader(io.StringIO(class_table(MATRIX, names))))[1:]
    assert [row[0] for row in rows] == ["'=1+1", "'@home", "-5", "plain"]
    assert [from_csv_cell(row[0]) for row in rows] == names
