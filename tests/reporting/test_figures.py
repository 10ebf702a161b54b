from __future__ import annotations

import io
import math
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.text import Text
from numpy.typing import NDArray
from PIL import Image

from src.metrics.classification import confusion_matrix
from src.metrics.probabilistic import calibration_error, reliability_bins
from src.reporting.figures import (
    confusion_figure,
    learning_curves,
    reliability_diagram,
)
from src.reporting.style import new_figure, plain_labels, save

pytestmark = pytest.mark.filterwarnings("error")

HISTORY = {
    "train/loss": [(0, 2.0), (1, 1.0), (2, 0.5)],
    "val/loss": [(0, 2.1), (1, 0.9), (2, 1.2)],
    "train/accuracy": [(0, 0.3), (1, 0.7), (2, 0.9)],
    "val/accuracy": [(0, 0.3), (1, 0.6), (2, 0.65)],
    "train/lr": [(0, 0.1), (1, 0.1), (2, 0.1)],
}


def texts(figure: Figure) -> list[str]:
    """What is written in the figure, after a look whether any of it is cut off at the edges."""
    figure.canvas.draw()
    drawn, (width, height) = figure.get_tightbbox(), figure.get_size_inches()
    assert 0 <= drawn.x0 < drawn.x1 <= width
    assert 0 <= drawn.y0 < drawn.y1 <= height
    return [text.get_text() for text in figure.findobj(Text) if text.get_visible()]


def matrix_of(num_classes: int, count: int = 2000) -> NDArray[np.int64]:
    rng = np.random.default_rng(0)
    targets = rng.integers(0, num_classes, count)
    logits = rng.normal(size=(count, num_classes))
    logits[np.arange(count), targets] += 3
    exp = np.exp(logits)
    return confusion_matrix(exp / exp.sum(axis=1, keepdims=True), targets)


def test_curves_of_both_parts_with_the_best_epoch_named() -> None:
    figure = learning_curves(HISTORY)
    loss, accuracy = figure.axes
    assert loss.get_title("left") == "Loss: best 0.9 in epoch 1"
    assert accuracy.get_title("left") == "Accuracy: best 65.0% in epoch 2"
    assert {"training", "validation"} <= set(texts(figure))
    drawn = {line.get_label(): line.get_xydata().tolist() for line in loss.lines}
    assert drawn["training"] == [[0, 2.0], [1, 1.0], [2, 0.5]]
    assert drawn["validation"] == [[0, 2.1], [1, 0.9], [2, 1.2]]


def test_curves_of_what_is_there() -> None:
    (axes,) = learning_curves({"val/accuracy": [(0, 0.5)], "train/loss": []}).axes
    assert axes.get_title("left") == "Accuracy: best 50.0% in epoch 0"
    with pytest.raises(ValueError, match="neither a loss nor an accuracy"):
        learning_curves({"train/lr": [(0, 0.1)]})


def test_curves_leave_gaps_where_training_diverged() -> None:
    figure = learning_curves({"val/loss": [(0, 1.0), (1, math.inf), (2, math.nan)]})
    assert figure.axes[0].get_title("left") == "Loss: best 1 in epoch 0"
    lost = learning_curves({"val/loss": [(0, math.nan)]})
    assert lost.axes[0].get_title("left") == "Loss"
    texts(lost)


@pytest.mark.parametrize("num_classes", [2, 16, 17, 50, 51, 200])
def test_a_confusion_matrix_of_any_size_is_complete(num_classes: int) -> None:
    names = [f"a rather long class name {i}" for i in range(num_classes)]
    matrix = matrix_of(num_classes)
    written = texts(confusion_figure(matrix, names))
    counted, named = num_classes <= 16, num_classes <= 50
    labels = plain_labels(names)
    assert written.count(labels[0]) == (2 if named else 0)
    assert (str(matrix[1, 1]) in written) == (counted or matrix[1, 1] in range(0, 200, 25))
    assert ("Most confused" in written) == (not counted)


def test_the_most_confused_pairs_come_first() -> None:
    matrix = np.diag(np.full(20, 90))
    matrix[3, 4], matrix[7, 2], matrix[2, 7] = 10, 30, 20
    written = texts(confusion_figure(matrix, [f"c{i}" for i in range(20)]))
    pairs = [text for text in written if "→" in text]
    assert pairs == ["c7 → c2", "c2 → c7", "c3 → c4"]
    assert "30 times, 25% of the target's" in written


def test_without_mistakes_nothing_is_confused() -> None:
    assert "nothing" in texts(
        confusion_figure(np.diag(np.full(20, 9)), list("abcdefghijklmnopqrst"))
    )


def test_cells_are_coloured_by_their_share_of_the_row() -> None:
    matrix = np.array([[3, 1, 0], [0, 0, 0], [0, 5, 5]])
    shares = confusion_figure(matrix, ["a", "b", "c"]).axes[0].images[0].get_array()
    np.testing.assert_allclose(shares[[0, 2]], [[0.75, 0.25, 0], [0, 0.5, 0.5]])
    assert np.ma.getmaskarray(shares)[1].all()


def test_large_counts_fit_their_cells() -> None:
    assert "123k" in texts(confusion_figure(np.array([[123_456, 0], [0, 9999]]), ["a", "b"]))


def test_reliability_bars_reach_from_accuracy_to_confidence() -> None:
    probs = np.array([[0.9, 0.1], [0.9, 0.1], [0.6, 0.4], [0.6, 0.4]])
    targets = np.array([0, 1, 0, 0])
    figure = reliability_diagram(reliability_bins(probs, targets, num_bins=5))
    upper, lower = figure.axes
    bars = {c.get_label(): [(b.get_y(), b.get_height()) for b in c] for c in upper.containers}
    # In the bin of 60 % everything is right, in the bin of 90 % one half.
    np.testing.assert_allclose(bars["accuracy"], [(0, 0.6), (0, 0.5)])
    np.testing.assert_allclose(bars["accuracy above confidence"], [(0.6, 0.4), (0.5, 0)])
    np.testing.assert_allclose(bars["confidence above accuracy"], [(0.6, 0), (0.5, 0.4)])
    assert [bar.get_height() for bar in lower.patches] == [0.5, 0.5]
    assert f"Calibration error {calibration_error(probs, targets, 5):.1%}" in texts(figure)


def test_labels_are_short_and_free_of_formulas() -> None:
    assert plain_labels(["cat", "a\nb", "$x$"]) == ["cat", "a b", r"\$x\$"]
    assert plain_labels(["species of bird 12", "species of"], longest=12) == [
        "specie…rd 12",
        "species of",
    ]


def test_a_name_that_no_font_can_draw_becomes_its_number() -> None:
    assert plain_labels(["cat", "\U00013000", ""]) == ["cat", "class 1", "class 2"]


def test_labels_with_dollars_are_drawn_as_they_are() -> None:
    written = texts(confusion_figure(np.eye(2, dtype=np.int64), ["$\\frac", "$1$"]))
    assert r"\$1\$" in written  # as matplotlib escapes it; a formula would have raised


def test_a_saved_figure_is_a_sharp_png_of_the_same_bytes(tmp_path: Path) -> None:
    for name in ("a.png", "b.png"):
        save(learning_curves(HISTORY), tmp_path / "new" / name)
    content = (tmp_path / "new" / "a.png").read_bytes()
    assert content == (tmp_path / "new" / "b.png").read_bytes()
    image = Image.open(io.BytesIO(content))
    assert image.format == "PNG"
    assert image.size == (1497, 547)
    assert image.getpixel((0, 0)) == (255, 255, 255, 255)


def test_figures_are_drawn_on_several_threads_at_once(tmp_path: Path) -> None:
    def draw(index: int) -> bytes:
        save(learning_curves(HISTORY), tmp_path / f"{index}.png")
        return (tmp_path / f"{index}.png").read_bytes()

    with ThreadPoolExecutor(4) as pool:
        assert len(set(pool.map(draw, range(8)))) == 1


def test_pyplot_is_never_imported() -> None:
    code = (
        "import sys, src.reporting.figures, src.reporting.contact_sheets;"
        "sys.exit(not {'matplotlib.pyplot', 'torch', 'sklearn'}.isdisjoint(sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_figure_that_arranges_itself_and_one_that_does_not() -> None:
    assert new_figure(2, 1).get_layout_engine() is not None
    assert new_figure(2, 1, arranged=False).get_layout_engine() is None
