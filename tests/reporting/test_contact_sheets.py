from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from string import ascii_letters

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.colors import to_hex
from matplotlib.text import Text
from numpy.typing import NDArray
from PIL import Image

from src.records.pictures import Guess, GuessSample, Suspect
from src.records.run import Predictions
from src.reporting.contact_sheets import (
    MapRow,
    batch_sheet,
    class_map_sheet,
    confident_mistakes,
    label_sheet,
    likeliest,
    map_sheet,
    mistakes_sheet,
    right_and_wrong,
    rivals_sheet,
    suspects_sheet,
)
from src.reporting.style import WARNING, save
from tests.records.test_pictures import sample_of
from tests.reporting.figures import texts


def answered(
    probs: NDArray[np.floating], targets: Sequence[int], preds: Sequence[int] | None = None
) -> Predictions:
    count, classes = probs.shape
    return Predictions(
        np.arange(count),
        tuple(f"/pictures/{letter}.png" for letter in ascii_letters[:count]),
        np.array(targets, np.int64),
        probs,
        ("cat", "dog", "low", "mid")[:classes],
        preds=None if preds is None else np.array(preds),
    )


@given(st.integers(0, 2**32 - 1), st.integers(1, 40))
def test_mistakes_are_all_wrong_and_sorted_by_confidence(seed: int, limit: int) -> None:
    rng = np.random.default_rng(seed)
    probs, targets = rng.dirichlet(np.ones(4), 30), rng.integers(0, 4, 30)
    picked = confident_mistakes(answered(probs, targets.tolist()), limit)
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
    found = answered(np.array([[0.1, 0.9], [0.8, 0.2]]), [0, 1])
    written = texts(mistakes_sheet(images, found, np.arange(2)))
    assert written[:6] == ["dog 90 %", "is cat", "a.png", "cat 80 %", "is dog", "b.png"]
    assert written[6] == "Most confident mistakes" and written[7].startswith("Red: ")
    nothing = mistakes_sheet(images[:0], found, np.empty(0, np.int64))
    assert texts(nothing) == ["There are no mistakes"]


def test_an_answer_that_is_not_the_most_probable_class_is_shown_with_its_own_probability() -> None:
    found = answered(
        np.array([[0.5, 0.2, 0.3], [0.4, 0.3, 0.3], [0.5, 0.4, 0.1]]), [1, 0, 2], [1] * 3
    )
    assert confident_mistakes(found).tolist() == [2, 1]
    assert right_and_wrong(found).tolist() == [0, 2, 1]
    written = texts(mistakes_sheet(np.zeros((2, 3, 8, 8), np.uint8), found, np.array([2, 1])))
    assert written[:2] == ["dog 40 %", "is low"] and written[3:5] == ["dog 30 %", "is cat"]


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 40, 64), (2, 64, 40), (4, 5, 90), (3, 90, 5)])
def test_pictures_keep_their_content_and_proportions(shape: tuple[int, int, int]) -> None:
    images = np.random.default_rng(0).integers(0, 256, (10, *shape), dtype=np.uint8)
    figure = batch_sheet(images, np.zeros(10, np.int64), ["cat"])
    figure.canvas.draw()
    (axes,) = figure.axes
    assert len(axes.images) == 10
    boxes = [image.get_window_extent() for image in axes.images]
    for image, box, drawn in zip(images, boxes, axes.images, strict=True):
        assert box.height / box.width == pytest.approx(shape[1] / shape[2], rel=0.02)
        expected = image[:3].transpose(1, 2, 0) if shape[0] >= 3 else image[0]
        np.testing.assert_array_equal(drawn.get_array(), expected)
        assert figure.bbox.x0 <= box.x0 < box.x1 <= figure.bbox.x1
        assert figure.bbox.y0 <= box.y0 < box.y1 <= figure.bbox.y1
    assert not any(a.overlaps(b) for i, a in enumerate(boxes) for b in boxes[:i]), (
        "two pictures overlap"
    )


def test_captions_stay_within_their_cells_however_wide_their_letters_are() -> None:
    names = ["Hemden", "W" * 30]  # the width of letters depends on the version of matplotlib
    probs = np.eye(2)[[0, 1] * 5]
    found = replace(answered(probs, [1, 0] * 5), class_names=tuple(names))
    figure = mistakes_sheet(np.zeros((10, 3, 8, 8), np.uint8), found, np.arange(10))
    figure.canvas.draw()
    written = [text for text in figure.findobj(Text) if "100 %" in text.get_text()]
    boxes = [text.get_window_extent() for text in written]
    cell = figure.bbox.width / 6
    assert len(boxes) == 10 and max(box.width for box in boxes) < cell
    sizes = [text.get_fontsize() for text in written]
    assert set(sizes[::2]) == {7.5}  # of those that fit anyway
    assert min(sizes) > 4.5


def test_captions_stay_apart_at_the_resolution_of_the_file(tmp_path: Path) -> None:
    """A hinted font is up to some percent wider there than at that of a screen."""
    sample = GuessSample(names := ["Hemden für Männer", "Верхняя одежда", "W" * 12])
    for number in range(20):
        sample.add(Guess(0.7, f"{number}.png", names[number % 3]))
    figure = label_sheet(sample, lambda path: np.zeros((3, 8, 8), np.uint8))
    save(figure, tmp_path / "sheet.png")
    with Image.open(tmp_path / "sheet.png") as picture:
        figure.set_dpi(picture.width / figure.get_figwidth())
    figure.canvas.draw()
    widths = [text.get_window_extent().width for text in figure.findobj(Text)]
    of_labels = [w for w, t in zip(widths, figure.findobj(Text)) if "70 %" in t.get_text()]
    assert len(of_labels) == 20 and max(of_labels) < 0.97 * figure.bbox.width / 10


@pytest.mark.filterwarnings("error")
def test_captions_are_measured_in_the_font_that_draws_them(odd_letter: str, tmp_path: Path) -> None:
    """A font that lacks a letter draws it much narrower, and says so."""
    found = replace(answered(np.eye(2)[[0] * 6], [1] * 6), class_names=(odd_letter * 12, "b"))
    figure = mistakes_sheet(np.zeros((6, 3, 8, 8), np.uint8), found, np.arange(6))
    save(figure, tmp_path / "sheet.png")
    figure.canvas.draw()
    written = [text for text in figure.findobj(Text) if odd_letter in text.get_text()]
    assert written and {text.get_fontfamily()[-1] for text in written} == {"Of One Letter"}
    assert max(text.get_window_extent().width for text in written) < figure.bbox.width / 6


def test_a_batch_shows_its_first_64_with_their_names() -> None:
    images, targets = np.zeros((70, 1, 4, 4), np.uint8), np.arange(70) % 2
    figure = batch_sheet(images, targets, ["cat", "dog"])
    assert texts(figure)[:-1] == ["cat", "dog"] * 32
    assert len(figure.axes[0].images) == 64


def small(path: str) -> NDArray[np.uint8]:
    return np.zeros((3, 4, 6 if "0" in path else 2), np.uint8)


def test_a_sheet_shows_each_picture_once_with_its_label() -> None:
    figure = label_sheet(sample_of([0.9, 0.3, 0.6]), small)
    written = figure.findobj(Text)
    shown = [t.get_text() for t in written if t.get_text()]
    assert shown[:7] == [
        *("cat 30 %", "1.jpg", "cat 60 %", "2.jpg", "cat 90 %", "0.jpg"),
        "All 3 pictures, the least certain first",
    ]
    assert " ".join(shown[7:]).endswith("Red: more likely wrong than right.")
    red = [t for t in written if to_hex(t.get_color()) == WARNING and t.get_text()]
    assert len(red) == 1
    assert [image.get_array().shape for image in figure.axes[0].images] == [
        (4, 2, 3), (4, 2, 3), (4, 6, 3)
    ]  # fmt: skip


def test_of_many_pictures_a_sheet_says_what_it_shows() -> None:
    figure = label_sheet(sample_of([i / 2000 for i in range(2000)]), small)
    assert "The 30 least certain of 2,000 pictures, then 30 drawn from the others" in texts(figure)
    assert len(figure.axes[0].images) == 60


@given(st.integers(0, 2**32 - 1), st.integers(1, 40))
def test_examples_are_right_ones_of_different_classes_then_the_surest_mistakes(
    seed: int, count: int
) -> None:
    rng = np.random.default_rng(seed)
    probs, targets = rng.dirichlet(np.ones(4), count), rng.integers(0, 4, count)
    chosen = right_and_wrong(answered(probs, targets.tolist()), right=3, wrong=4)
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
    found = answered(np.array([[0.9, 0.1], [0.8, 0.2]]), [0, 1])
    figure = map_sheet(images, maps, found, np.arange(2), "Maps")
    assert texts(figure)[:8] == [
        *("cat 90 %", "a.png", "cat here"),
        *("cat 80 %", "is dog", "b.png", "cat here", "dog here"),
    ]
    heats = [image for image in figure.axes[0].images if image.get_alpha() is not None]
    assert [float(heat.get_array().mean()) for heat in heats] == [0.25, 0.5, 1.0]
    assert all((heat.norm.vmin, heat.norm.vmax) == (0, 1) for heat in heats)
    # The mistake begins a row of its own.
    tops = [image.get_extent()[3] for image in figure.axes[0].images]
    assert tops[0] < tops[3] == tops[5] or len(set(tops)) == 2


def test_classes_of_pixels_stand_beside_their_mask_and_the_pixels_that_are_wrong() -> None:
    image, mask, answer = np.full((1, 4, 4), 100, np.uint8), *np.zeros((2, 4, 4), np.uint8)
    mask[:2], answer[0] = 1, 1
    mask[3, 3], answer[3, 3] = 255, 1  # left out
    figure = class_map_sheet([MapRow(image, mask, answer, 0.25, "a.png")], ["ground", "crack"])
    assert texts(figure)[:4] == ["a.png", "mask", "answer", "25.0 % wrong"]
    plain, painted, said, _, wrong = (one.get_array() for one in figure.axes[0].images)
    np.testing.assert_array_equal(wrong, np.eye(4)[1][:, None] * np.ones(4))
    grey, white, red = [100, 100, 100], [177, 177, 177], painted[0, 0].tolist()
    assert plain[0, 0].tolist() in (100, grey) and red[0] > 100 > red[1]
    assert [painted[place].tolist() for place in ((1, 2), (2, 2), (3, 3))] == [red, grey, white]
    assert [said[place].tolist() for place in ((0, 2), (1, 2), (3, 3))] == [red, grey, red]


def test_a_picture_of_unknown_class_shows_its_two_likeliest() -> None:
    probs = np.array([[0.1, 0.6, 0.3], [0.4, 0.2, 0.4]])
    assert likeliest(probs).tolist() == [[1, 2], [0, 2]]
    images = [np.zeros((3, 4, 9), np.uint8), np.zeros((1, 8, 8), np.uint8)]
    heats = np.arange(1, 5).reshape(2, 2, 1, 1) / 4 * np.ones((2, 2, 5, 5))
    figure = rivals_sheet(
        images,
        heats,
        probs,
        class_names=["cat", "dog", "eel"],
        names=["a.png", "b.png"],
        title="Maps",
    )
    assert texts(figure)[:5] == ["dog 60 %", "or eel 30 %", "a.png", "dog here", "eel here"]
    drawn = figure.axes[0].images
    shown = [(i.get_extent(), float(i.get_array().mean())) for i in drawn if i.get_alpha()]
    assert [mean for _, mean in shown] == [0.25, 0.5, 0.75, 1.0]
    left, right, bottom, top = shown[0][0]
    assert (right - left) / (bottom - top) == pytest.approx(9 / 4)  # laid over all of its picture


def test_the_sheet_shows_the_worst_of_every_kind(tmp_path: Path) -> None:
    suspects = [Suspect("val", i, None, "cat", "label", 0.9 - i / 100, "dog") for i in range(60)]
    suspects += [Suspect("train", 70 + i, None, "dog", "dark", 0.5) for i in range(3)]
    suspects += [Suspect("test", 80, "b/new.png", "dog", "burst", 0.8, "", "a/old.png")]
    read: list[int] = []

    def picture(index: int) -> np.ndarray:
        read.append(index)
        return np.full((3, 8, 8), index, np.uint8)

    figure = suspects_sheet(suspects, picture)
    save(figure, tmp_path / "suspects.png")
    assert sorted(read) == [*range(32), 70, 71, 72, 80]
    said = texts(figure)
    assert "Suspects (36 of 64)" in said
    assert "label 0.90" in said and "rather dog" in said and "is cat" in said
    assert said.count("dark 0.50") == 3
    assert "burst 0.80" in said and "like a/old.png" in said
    empty = suspects_sheet([], picture)
    save(empty, tmp_path / "suspects.png")
    assert texts(empty) == ["There are no suspects"]
