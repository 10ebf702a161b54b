from __future__ import annotations

import csv
import io
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.text import Text
from sklearn.metrics import precision_recall_fscore_support

from src.metrics.classification import confusion_matrix
from src.metrics.intervals import wilson_interval
from src.reporting.class_table import class_rows, class_table, class_table_figure

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


def test_the_figure_lists_the_weakest_first() -> None:
    figure = class_table_figure(MATRIX, NAMES)
    texts = [text.get_text() for text in figure.findobj(Text)]
    assert [t for t in texts if t in NAMES] == ["b, with comma", "a", "d"]
    assert {"a (4 of 10)", "50.0%", "83.3%", "62.5%", "Classes, the weakest first"} <= set(texts)
    assert "mean recall 80.0%, mean F1 60.2%" in texts
    axes = figure.axes[1]
    recall = [bar for bar in axes.patches if bar.get_y() < 0][1]
    assert recall.get_width() / axes.patches[0].get_width() == pytest.approx(0.5)


def test_a_hundred_classes_are_shortened_to_the_weakest_fifty() -> None:
    rng = np.random.default_rng(0)
    matrix = rng.poisson(0.2, (100, 100)) + np.diag(np.arange(1, 101))
    figure = class_table_figure(matrix, [f"a rather long name {i}" for i in range(100)])
    figure.canvas.draw()
    texts = figure.findobj(Text)
    assert "The 50 weakest of 100 classes" in [text.get_text() for text in texts]
    written = [text.get_window_extent() for text in texts if text.get_text()]
    assert len(written) == 50 * 6 + 8
    for box in written:
        assert figure.bbox.x0 <= box.x0 < box.x1 <= figure.bbox.x1
        assert figure.bbox.y0 <= box.y0 < box.y1 <= figure.bbox.y1
    assert not any(a.overlaps(b) for i, a in enumerate(written) for b in written[:i])


def test_an_empty_matrix_is_refused() -> None:
    with pytest.raises(ValueError, match="no samples"):
        class_table_figure(np.zeros((2, 2), np.int64), ["a", "b"])
