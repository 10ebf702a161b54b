"""Figures and the CSV table of single classes: confusion matrix, recall, precision, F1 and AUC."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap, PowerNorm
from matplotlib.figure import Figure

from ..machine.arrays import Float64Array, Int64Array
from ..machine.text import csv_text, percent
from ..metrics.classification import balanced_accuracy, class_scores, macro_f1
from .style import (
    ACCENT,
    ACCENT_SOFT,
    BACKDROP,
    GRID,
    INK,
    MUTED,
    axes_at,
    in_percent,
    inches,
    new_figure,
    plain_labels,
    tidy,
)

__all__ = [
    "AUC_COLUMNS",
    "class_bars",
    "class_figure",
    "class_table",
    "confusion_figure",
    "score_cell",
]

_MOST_CLASSES_WITH_COUNTS = 16  # cells of a confusion matrix that still hold a number
_MOST_CLASSES_WITH_NAMES = 50  # rows of a confusion matrix that still hold a name
_MOST_PAIRS = 20
_SHARES = LinearSegmentedColormap.from_list("shares", ["white", "#93b4f5", ACCENT, "#172b6b"])

_MOST_ROWS = 50
_ROW_INCHES = 0.25
_BAR_INCHES = 1.3
_SCORE_INCHES = _BAR_INCHES + 0.75  # with the number beside it
_FONT_SIZE = 8


def confusion_figure(
    matrix: Int64Array,
    class_names: Sequence[str],
    title: str = "Confusion matrix",
    of: str = "pictures",
) -> Figure:
    """Draw the confusion matrix, each row coloured by the shares of its target.

    Up to 16 classes every cell shows its count. With more, colours show the pattern and a list
    beside it names the pairs most often confused; past 50 classes the rows are numbered.

    Args:
        matrix: (K, K) counts, targets in rows, as `metrics.classification.confusion_matrix`.
        class_names: K names.
        title: what it is of.
        of: what is counted.
    """
    num_classes = len(class_names)
    counted = num_classes <= _MOST_CLASSES_WITH_COUNTS
    labels = plain_labels(class_names) if num_classes <= _MOST_CLASSES_WITH_NAMES else []
    font_size = 8 if num_classes <= 30 else 6.5
    label_size = inches(labels, font_size)
    size = max(3.2, 0.5 * num_classes) if counted else 7.0
    upright = label_size > 0.8 * size / num_classes
    left, right = 0.6 + label_size, 1.0 if counted else 4.2
    bottom, top = 0.6 + (label_size if upright else 0.15), 0.5
    figure = new_figure(left + size + right, bottom + size + top, arranged=False)
    axes = axes_at(figure, left, bottom, size, size)
    scale = axes_at(figure, left + size + 0.15, bottom + 0.1 * size, 0.18, 0.8 * size)
    shares = _draw_shares(axes, scale, matrix, title, of)
    if not counted:
        margin = axes_at(figure, left + size + 1.1, bottom, 3.0, size)
        _list_confusions(margin, matrix, class_names)
    if labels:
        axes.set_xticks(range(num_classes), labels, rotation=90 * upright, fontsize=font_size)
        axes.set_yticks(range(num_classes), labels, fontsize=font_size)
    if counted:
        for (row, column), count in np.ndenumerate(matrix):
            if count:
                color = "white" if shares[row, column] > 0.35 else INK
                short = f"{count}" if count < 10_000 else f"{count / 1000:.0f}k"
                axes.text(column, row, short, ha="center", va="center", fontsize=8, color=color)
    return figure


def _draw_shares(axes: Axes, scale: Axes, matrix: Int64Array, title: str, of: str) -> Float64Array:
    """Draw each row's shares as colours and the scale beside them; return the shares."""
    totals = matrix.sum(axis=1, keepdims=True)
    # NaN, for a class without a target, is left transparent.
    shares = np.where(totals > 0, matrix / np.maximum(totals, 1), np.nan)
    axes.set_facecolor(BACKDROP)
    # The square root lifts shares of a few percent, which matter most, above the white.
    image = axes.imshow(shares, cmap=_SHARES, norm=PowerNorm(0.5, 0, 1), interpolation="nearest")
    tidy(axes, title=title, x="predicted", y="target")
    axes.spines[:].set_visible(False)
    bar = axes.figure.colorbar(image, cax=scale, ticks=[0, 0.05, 0.2, 0.5, 1])
    in_percent(scale.yaxis)
    scale.tick_params(labelsize=8, length=0, labelcolor=INK)
    bar.set_label(f"share of the target's {of}", fontsize=8, color=INK)
    bar.outline.set_visible(False)
    return shares


def _list_confusions(axes: Axes, matrix: Int64Array, class_names: Sequence[str]) -> None:
    """Write the most frequent confusions, most frequent first."""
    numbered = len(class_names) > _MOST_CLASSES_WITH_NAMES
    labels = plain_labels(class_names, longest=15 if numbered else 19)
    totals = matrix.sum(axis=1)
    wrong = matrix.copy()
    np.fill_diagonal(wrong, 0)
    order = np.argsort(-wrong, axis=None, kind="stable")[:_MOST_PAIRS]
    axes.set_axis_off()
    axes.set_title("Most confused", loc="left", fontsize=11, fontweight="bold", color=INK, pad=10)
    place: dict[str, Any] = {"transform": axes.transAxes, "va": "top"}
    for line, (row, column) in enumerate(zip(*np.unravel_index(order, wrong.shape), strict=True)):
        if wrong[row, column] == 0:
            break
        pair = [f"{labels[i]} ({i})" if numbered else labels[i] for i in (row, column)]
        top = 1 - line / _MOST_PAIRS
        count, share = wrong[row, column], wrong[row, column] / totals[row]
        axes.text(0, top, f"{pair[0]} → {pair[1]}", fontsize=8, color=INK, **place)
        often = f"{count} times, {percent(share, 0)} of the target's"
        axes.text(0, top - 0.021, often, fontsize=7, color=MUTED, **place)
    if not wrong.any():
        axes.text(0, 1, "nothing", fontsize=8, color=INK, **place)


def class_figure(matrix: Int64Array, class_names: Sequence[str]) -> Figure:
    """Draw the classes with the lowest F1, at most fifty, with a bar for each number.

    The recall's bar carries its 95 % Wilson interval; classes without a picture are left out.
    Arguments as of `confusion_figure`.

    Raises:
        ValueError: the matrix counts no samples.
    """
    summary = (
        f"mean recall {percent(balanced_accuracy(matrix))}, mean F1 {percent(macro_f1(matrix))}"
    )
    present = [row for row in class_scores(matrix) if row.pictures]
    shown = sorted(present, key=lambda row: row.f1)[:_MOST_ROWS]
    title = "Classes, the weakest first"
    if len(shown) < len(present):
        title = f"The {len(shown)} weakest of {len(present)} classes"
    labels = plain_labels(class_names)
    names = [labels[row.index] for row in shown]
    others = [
        ""
        if row.confused_with is None
        else f"{labels[row.confused_with]} ({row.confused} of {row.pictures:,})"
        for row in shown
    ]
    # Where each column begins; of "pictures", where it ends.
    recall = max(0.6, inches(names, _FONT_SIZE)) + 1.0
    places = {"class": 0.0, "pictures": recall - 0.2, "recall": recall}
    places |= {"precision": recall + _SCORE_INCHES, "F1": recall + 2 * _SCORE_INCHES}
    places["most often taken for"] = recall + 3 * _SCORE_INCHES
    width = places["most often taken for"] + max(1.4, inches(others, _FONT_SIZE))
    height = _ROW_INCHES * (len(shown) + 1)

    figure = new_figure(width + 0.4, height + 0.8, arranged=False)
    above = axes_at(figure, 0.2, height + 0.25, width, 0.4)
    above.set_axis_off()
    above.text(0, 0.5, title, fontsize=11, fontweight="bold", color=INK, va="center")
    above.text(1, 0.5, summary, fontsize=9, color=MUTED, va="center", ha="right")
    axes = axes_at(figure, 0.2, 0.15, width, height)
    axes.set_axis_off()
    axes.set(xlim=(0, width), ylim=(len(shown) - 0.5, -1.5))
    axes.axhline(-0.5, color=GRID, lw=1)
    for name, place in places.items():
        heading = "recall, 95 % interval" if name == "recall" else name
        _write(axes, place, -1, heading, color=MUTED, right=name == "pictures")
    for line, (row, name, other) in enumerate(zip(shown, names, others, strict=True)):
        _write(axes, places["class"], line, name)
        _write(axes, places["pictures"], line, f"{row.pictures:,}", right=True)
        for key, share in (("recall", row.recall), ("precision", row.precision), ("F1", row.f1)):
            _bar(axes, places[key], line, share)
        ends = places["recall"] + _BAR_INCHES * np.array([row.recall_low, row.recall_high])
        axes.hlines(line, *ends, color=INK, lw=1.2)
        _write(axes, places["most often taken for"], line, other)
    return figure


def _write(
    axes: Axes, place: float, line: int, text: str, *, color: str = INK, right: bool = False
) -> None:
    side = "right" if right else "left"
    axes.text(place, line, text, fontsize=_FONT_SIZE, color=color, va="center", ha=side)


def _bar(axes: Axes, left: float, line: int, share: float) -> None:
    """Draw a bar of a share of `_BAR_INCHES`, its number behind it; of NaN, that there is none."""
    axes.barh(line, _BAR_INCHES, height=0.6, left=left, color=BACKDROP, lw=0)
    if not np.isnan(share):
        axes.barh(line, share * _BAR_INCHES, height=0.6, left=left, color=ACCENT_SOFT, lw=0)
    _write(axes, left + _BAR_INCHES + 0.08, line, percent(share))


def class_bars(
    names: Sequence[str], shares: Sequence[float], title: str, label: str = ""
) -> tuple[Figure, Axes, Int64Array]:
    """Draw a bar for the share of each class, the first on top; return also where the bars are.

    Args:
        names: of the classes, as figures can show them.
        shares: in [0, 1].
        title: of the figure.
        label: what the bars are, for a legend.
    """
    figure = new_figure(6.4, 1.4 + 0.3 * max(1, len(names)))
    axes = figure.subplots()
    places = np.arange(len(names))[::-1]
    axes.barh(places, shares, color=ACCENT, height=0.7, label=label)
    axes.set_yticks(places, names, fontsize=8)
    axes.set_xlim(0, 1)
    in_percent(axes.xaxis)
    tidy(axes, title=title, grid="x")
    return figure, axes, places


AUC_COLUMNS = ("auc", "auc_low", "auc_high")


def score_cell(value: float) -> str:
    """Return a score as a cell of a CSV table, which is empty where it is not defined."""
    return "" if np.isnan(value) else f"{value:.4f}"


def class_table(matrix: Int64Array, class_names: Sequence[str], aucs: Float64Array) -> str:
    """Return all classes as CSV, in their order; undefined scores are left empty.

    Args:
        matrix, class_names: as of `confusion_figure`.
        aucs: (K, 3) AUC of each class and the ends of its interval, NaN where there is none.
    """
    scores = ("recall", "recall_low", "recall_high", "precision", "f1")
    rows = []
    for row, auc in zip(class_scores(matrix), aucs, strict=True):
        known = [score_cell(getattr(row, score)) for score in scores]
        other = "" if row.confused_with is None else class_names[row.confused_with]
        known += [*map(score_cell, auc), other]
        rows.append([class_names[row.index], row.pictures, *known, row.confused])
    ends = ("most_confused_with", "confused")
    return csv_text(["class", "pictures", *scores, *AUC_COLUMNS, *ends], rows)
