from __future__ import annotations

import csv
import io
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.text import Text
from numpy.typing import NDArray

from src.machine.text import from_csv_cell
from src.metrics.classification import confusion_matrix
from src.metrics.multilabel import label_scores
from src.metrics.roc import auc_interval, class_aucs, side
from src.metrics.share_intervals import wilson_interval
from src.records.run import Predictions
from src.reporting.charts import panels
from src.reporting.class_figures import class_figure, class_table, confusion_figure
from src.reporting.comparison_figures import draw_comparison_figures
from src.reporting.label_set_figures import curves_figure
from src.reporting.roc_figure import roc_figure
from src.reporting.run_figures import draw_run_figures
from src.reporting.style import plain_labels
from tests.reporting.comparisons import report_data
from tests.reporting.figures import texts

pytestmark = pytest.mark.filterwarnings("error")


def matrix_of(num_classes: int, count: int = 2000) -> NDArray[np.int64]:
    rng = np.random.default_rng(0)
    targets = rng.integers(0, num_classes, count)
    logits = rng.normal(size=(count, num_classes))
    logits[np.arange(count), targets] += 3
    exp = np.exp(logits)
    return confusion_matrix(exp / exp.sum(axis=1, keepdims=True), targets)


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
    assert "30 times, 25 % of the target's" in written
    perfect = np.diag(np.full(20, 9))
    assert "nothing" in texts(confusion_figure(perfect, list("abcdefghijklmnopqrst")))


def test_cells_are_coloured_by_their_share_of_the_row() -> None:
    matrix = np.array([[3, 1, 0], [0, 0, 0], [0, 5, 5]])
    shares = confusion_figure(matrix, ["a", "b", "c"]).axes[0].images[0].get_array()
    np.testing.assert_allclose(shares[[0, 2]], [[0.75, 0.25, 0], [0, 0.5, 0.5]])
    assert np.ma.getmaskarray(shares)[1].all()


def test_large_counts_fit_their_cells_and_dollars_are_no_formulas() -> None:
    matrix = np.array([[123_456, 0], [0, 9999]])
    written = texts(confusion_figure(matrix, ["$\\frac", "$1$"]))
    assert "123k" in written
    assert r"\$1\$" in written  # as matplotlib escapes it; a formula would have raised


MATRIX = np.array([[9, 1, 0, 0], [4, 5, 1, 0], [0, 0, 0, 0], [0, 0, 0, 10]])
NAMES = ["a", "b, with comma", "c", "d"]
AUCS = np.array([[0.9, 0.8, 0.95], [0.75, 0.65, 0.825], [np.nan] * 3, [1.0, np.nan, np.nan]])


def test_the_figure_lists_the_weakest_first() -> None:
    figure = class_figure(MATRIX, NAMES)
    texts = [text.get_text() for text in figure.findobj(Text)]
    assert [t for t in texts if t in NAMES] == ["b, with comma", "a", "d"]
    assert {"a (4 of 10)", "50.0 %", "83.3 %", "62.5 %", "Classes, the weakest first"} <= set(texts)
    assert "mean recall 80.0 %, mean F1 60.2 %" in texts
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


def test_the_table_has_every_class_in_order() -> None:
    rows = list(csv.DictReader(io.StringIO(class_table(MATRIX, NAMES, AUCS))))
    assert [row["class"] for row in rows] == NAMES
    low, high = wilson_interval(5, 10)
    assert rows[1] == {
        "class": "b, with comma", "pictures": "10", "recall": "0.5000",
        "recall_low": f"{low:.4f}", "recall_high": f"{high:.4f}", "precision": "0.8333",
        "f1": "0.6250", "auc": "0.7500", "auc_low": "0.6500", "auc_high": "0.8250",
        "most_confused_with": "a", "confused": "4",
    }  # fmt: skip
    empty = ("recall", "auc", "auc_low", "auc_high", "most_confused_with")
    assert [rows[2][column] for column in empty] == [""] * len(empty)


def test_a_class_that_is_called_like_a_formula_is_computed_by_no_spreadsheet() -> None:
    names = ["=1+1", "@home", "-5", "plain"]
    rows = list(csv.reader(io.StringIO(class_table(MATRIX, names, AUCS))))[1:]
    assert [row[0] for row in rows] == ["'=1+1", "'@home", "-5", "plain"]
    assert [from_csv_cell(row[0]) for row in rows] == names


def test_counts_of_class_maps_are_of_pixels(
    tmp_path: Path, drawn_by: Callable[[str], list[Figure]]
) -> None:
    drawn = drawn_by("confusion_figure")
    data = report_data(2, leaders=1)
    for of in ("recall", "iou"):
        list(draw_comparison_figures(tmp_path, replace(data, of_classes=of)))
    labels = [figure.axes[1].get_ylabel() for figure in drawn]
    assert labels == ["share of the target's pictures", "share of the target's pixels"]


def test_each_label_that_pictures_have_gets_its_curve_and_its_place_on_it() -> None:
    rng = np.random.default_rng(0)
    targets = (rng.random((60, 30)) < 0.4).astype(np.uint8)
    targets[:, 7] = 0
    probs = np.clip(0.5 * targets + 0.5 * rng.random(targets.shape), 0, 1).astype(np.float32)
    names = tuple(f"label {k}" for k in range(30))
    said = Predictions(
        np.arange(60), None, targets, probs, names, kind="multi", thresholds=np.full(30, 0.4)
    )
    scores = label_scores(said.probs, said.targets, said.decided)
    figure = curves_figure(scores, said)
    assert figure is not None
    shown = [axes.get_title(loc="left") for axes in figure.axes if axes.axison]
    lowest = sorted((one for one in scores if one.index != 7), key=lambda s: s.average_precision)
    assert shown == [names[one.index] for one in lowest[:24]]
    first, one = figure.axes[0], lowest[0]
    curve, chance, place = (line.get_xydata() for line in first.lines)
    assert curve[-1] == pytest.approx((1, one.pictures / 60)) and chance[0, 1] == curve[-1, 1]
    assert place[0] == pytest.approx((one.recall, one.precision))
    assert np.abs(curve - place[0]).sum(axis=1).min() < 1e-9, "the dot lies on the curve"
    nobody = replace(said, targets=np.zeros_like(targets))
    assert curves_figure(label_scores(probs, nobody.targets, nobody.decided), nobody) is None


def _answered(classes: int, kind: str = "single") -> Predictions:
    rng = np.random.default_rng(0)
    targets: Any = np.append(np.arange(classes), rng.integers(0, classes, 300))
    logits = rng.normal(size=(len(targets), classes)) + np.eye(classes)[targets]
    probs = (np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)).astype(np.float32)
    if kind == "multi":
        targets = np.eye(classes, dtype=np.uint8)[targets]
    names = tuple(f"class {k}" for k in range(classes))
    return Predictions(np.arange(len(targets)), None, targets, probs, names, kind=kind)


@pytest.mark.parametrize(("classes", "kind"), [(2, "single"), (30, "single"), (3, "multi")])
def test_roc_curves_have_the_areas_that_stand_beside_them(classes: int, kind: str) -> None:
    said = _answered(classes, kind)
    aucs = class_aucs(said.probs, said.targets)
    figure = roc_figure(said, aucs)
    assert figure is not None
    panels = [axes for axes in figure.axes if axes.axison]
    weakest = [1] if classes == 2 else np.argsort(aucs)[:24].tolist()
    assert [axes.get_title(loc="left") for axes in panels] == [f"class {k}" for k in weakest]
    for axes, k in zip(panels, weakest, strict=True):
        curve, _, place = (np.asarray(line.get_xydata()) for line in axes.lines)
        assert np.trapezoid(curve[:, 1], curve[:, 0]) == pytest.approx(aucs[k])
        assert axes.texts[0].get_text().startswith(f"AUC {aucs[k]:.3f}")
        there = said.targets == k if kind == "single" else said.targets[:, k] > 0
        answered = said.decided == k if kind == "single" else said.decided[:, k] > 0
        assert place[0] == pytest.approx((answered[~there].mean(), answered[there].mean()))
    (both,) = panels[0].texts
    low, high = auc_interval(*side(said.probs, said.targets, weakest[0]))[1:]
    assert both.get_text().endswith(f"({low:.3f} to {high:.3f})")


@pytest.mark.parametrize("kind", ["single", "multi"])
def test_the_table_of_a_part_has_the_interval_of_each_auc(kind: str, tmp_path: Path) -> None:
    said = replace(_answered(3, kind), groups=np.arange(303) // 3)
    files = [
        *draw_run_figures(
            tmp_path, {}, {"val": said}, lambda _: np.zeros((1, 8, 8), np.uint8), batch=None
        )
    ]
    (table,) = [file for file in files if file.name == "val_classes.csv"]
    for k, row in enumerate(csv.DictReader(io.StringIO(table.read_text()))):
        found = auc_interval(*side(said.probs, said.targets, k), said.groups)
        alone = auc_interval(*side(said.probs, said.targets, k))
        assert found[1:] != alone[1:]
        cells = [row[column] for column in ("auc", "auc_low", "auc_high")]
        assert cells == [f"{one:.4f}" for one in found]


def test_where_all_pictures_are_of_one_class_there_is_no_roc_curve() -> None:
    said = _answered(3)
    alone = replace(said, targets=np.zeros_like(said.targets))
    assert roc_figure(alone, class_aucs(alone.probs, alone.targets)) is None


def test_the_lowest_panel_of_each_column_has_its_ticks() -> None:
    """Of five panels in rows of four, three are the lowest of their columns in the first row."""
    figure, axes = panels(5, 2, 2)
    figure.draw_without_rendering()
    shown = [any(tick.label1.get_visible() for tick in one.xaxis.get_major_ticks()) for one in axes]
    assert shown == [False, True, True, True, True]
