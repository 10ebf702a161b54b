from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.text import Text

from src.reporting.map_sheet import likeliest, map_sheet, right_and_wrong, rivals_sheet


@given(st.integers(0, 2**32 - 1), st.integers(1, 40))
def test_examples_are_right_ones_of_different_classes_then_the_surest_mistakes(
    seed: int, count: int
) -> None:
    rng = np.random.default_rng(seed)
    probs, targets = rng.dirichlet(np.ones(4), count), rng.integers(0, 4, count)
    chosen = right_and_wrong(probs, targets, right=3, wrong=4)
    right = probs.argmax(axis=1) == targets
    of_right, of_wrong = chosen[right[chosen]], chosen[~right[chosen]]
    np.testing.assert_array_equal(chosen, np.concatenate([of_right, of_wrong]))
    assert len(of_right) == min(3, len(set(targets[right])))
    assert len(set(targets[of_right])) == len(of_right)
    surest = sorted(probs.max(axis=1)[~right], reverse=True)[:4]
    assert probs.max(axis=1)[of_wrong].tolist() == surest


def test_a_mistake_shows_both_classes_and_a_right_picture_its_own() -> None:
    images = np.full((2, 3, 8, 8), 100, np.uint8)
    maps = np.stack([np.full((2, 8, 8), 0.25), np.stack([np.full((8, 8), v) for v in (0.5, 1)])])
    probs = np.array([[0.9, 0.1], [0.8, 0.2]])
    figure = map_sheet(images, maps, probs, np.array([0, 1]), ["cat", "dog"], "Maps")
    texts = [text.get_text() for text in figure.findobj(Text) if text.get_text()]
    assert texts[:6] == ["cat 90%", "cat here", "cat 80%", "is dog", "cat here", "dog here"]
    heats = [image for image in figure.axes[0].images if image.get_alpha() is not None]
    assert [float(heat.get_array().mean()) for heat in heats] == [0.25, 0.5, 1.0]
    assert all((heat.norm.vmin, heat.norm.vmax) == (0, 1) for heat in heats)
    # The mistake begins a row of its own.
    tops = [image.get_extent()[3] for image in figure.axes[0].images]
    assert tops[0] < tops[3] == tops[5] or len(set(tops)) == 2


def test_a_picture_of_unknown_class_shows_its_two_likeliest() -> None:
    probs = np.array([[0.1, 0.6, 0.3], [0.4, 0.2, 0.4]])
    assert likeliest(probs).tolist() == [[1, 2], [0, 2]]
    images = [np.zeros((3, 4, 9), np.uint8), np.zeros((1, 8, 8), np.uint8)]
    heats = np.arange(1, 5).reshape(2, 2, 1, 1) / 4 * np.ones((2, 2, 5, 5))
    figure = rivals_sheet(images, heats, probs, ["cat", "dog", "eel"], "Maps")
    texts = [text.get_text() for text in figure.findobj(Text) if text.get_text()]
    assert texts[:5] == ["dog 60%", "or eel 30%", "dog here", "eel here", "cat 40%"]
    drawn = figure.axes[0].images
    shown = [(i.get_extent(), float(i.get_array().mean())) for i in drawn if i.get_alpha()]
    assert [mean for _, mean in shown] == [0.25, 0.5, 0.75, 1.0]
    left, right, bottom, top = shown[0][0]
    assert (right - left) / (bottom - top) == pytest.approx(9 / 4)  # laid over all of its picture
