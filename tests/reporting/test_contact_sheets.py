from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.figure import Figure
from matplotlib.text import Text

from src.reporting.contact_sheets import batch_sheet, confident_mistakes, mistakes_sheet


def texts(figure: Figure) -> list[str]:
    """The captions in order, then the title."""
    figure.canvas.draw()
    return [text.get_text() for text in figure.findobj(Text) if text.get_text()]


@given(st.integers(0, 2**32 - 1), st.integers(1, 40))
def test_mistakes_are_all_wrong_and_sorted_by_confidence(seed: int, limit: int) -> None:
    rng = np.random.default_rng(seed)
    probs, targets = rng.dirichlet(np.ones(4), 30), rng.integers(0, 4, 30)
    picked = confident_mistakes(probs, targets, limit)
    wrong = np.flatnonzero(probs.argmax(axis=1) != targets)
    confidence = probs.max(axis=1)
    assert len(picked) == min(limit, len(wrong))
    assert set(picked) <= set(wrong)
    assert (np.diff(confidence[picked]) <= 0).all()
    rest = np.setdiff1d(wrong, picked)
    if len(rest):
        assert confidence[rest].max() <= confidence[picked].min()


def test_captions_say_what_was_predicted_and_what_it_is() -> None:
    images = np.zeros((2, 3, 8, 8), np.uint8)
    probs = np.array([[0.1, 0.9], [0.8, 0.2]])
    written = texts(mistakes_sheet(images, probs, np.array([0, 1]), ["cat", "dog"]))
    assert written == ["dog 90%", "is cat", "cat 80%", "is dog", "Most confident mistakes"]


def test_a_sheet_without_mistakes() -> None:
    nothing = np.empty((0, 2))
    figure = mistakes_sheet(
        np.empty((0, 1, 8, 8), np.uint8), nothing, np.empty(0, np.int64), ["cat", "dog"]
    )
    assert texts(figure) == ["There are no mistakes"]


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 40, 64), (2, 64, 40), (4, 5, 90), (3, 90, 5)])
def test_pictures_keep_their_content_and_proportions(shape: tuple[int, int, int]) -> None:
    images = np.random.default_rng(0).integers(0, 256, (10, *shape), dtype=np.uint8)
    figure = batch_sheet(images)
    figure.canvas.draw()
    (axes,) = figure.axes
    assert len(axes.images) == 10
    boxes = [image.get_window_extent() for image in axes.images]
    for image, box, drawn in zip(images, boxes, axes.images, strict=True):
        assert box.height / box.width == pytest.approx(shape[1] / shape[2], rel=0.02)
        expected = image.transpose(1, 2, 0) if shape[0] == 3 else image.mean(axis=0)
        np.testing.assert_array_equal(drawn.get_array(), expected)
        assert figure.bbox.x0 <= box.x0 < box.x1 <= figure.bbox.x1
        assert figure.bbox.y0 <= box.y0 < box.y1 <= figure.bbox.y1
    assert not any(a.overlaps(b) for i, a in enumerate(boxes) for b in boxes[:i]), (
        "two pictures overlap"
    )


def test_a_batch_shows_its_first_64_with_their_names() -> None:
    images, targets = np.zeros((70, 1, 4, 4), np.uint8), np.arange(70) % 2
    figure = batch_sheet(images, targets, ["cat", "dog"], title="A batch")
    assert texts(figure) == [*["cat", "dog"] * 32, "A batch"]
    assert len(figure.axes[0].images) == 64
