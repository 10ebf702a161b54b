from __future__ import annotations

import numpy as np
import pytest
from matplotlib.text import Text

from src.reporting.class_figure import class_figure

MATRIX = np.array([[9, 1, 0, 0], [4, 5, 1, 0], [0, 0, 0, 0], [0, 0, 0, 10]])
NAMES = ["a", "b, with comma", "c", "d"]


def test_the_figure_lists_the_weakest_first() -> None:
    figure = class_figure(MATRIX, NAMES)
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
    figure = class_figure(matrix, [f"a rather long name {i}" for i in range(100)])
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
        class_figure(np.zeros((2, 2), np.int64), ["a", "b"])
