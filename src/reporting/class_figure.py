"""How each class fares, as a picture."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from src.metrics.classification import balanced_accuracy, macro_f1
from src.reporting.class_table import ClassRow, class_rows
from src.reporting.style import (
    ACCENT_SOFT,
    BACKDROP,
    GRID,
    INK,
    MUTED,
    axes_at,
    inches,
    new_figure,
    plain_labels,
)

__all__ = ["class_figure"]

_MOST_ROWS = 50
_ROW_INCHES = 0.25
_BAR_INCHES = 1.3
_SCORE_INCHES = _BAR_INCHES + 0.75  # with the number beside it
_FONT_SIZE = 8


def class_figure(matrix: NDArray[np.int64], class_names: Sequence[str]) -> Figure:
    """The classes that fare worst, by F1, at most fifty; each number has its bar.

    The recall's bar carries its 95 % Wilson interval; classes without a picture are left out.

    Args:
        matrix: (K, K) counts, targets in rows.
        class_names: K names.

    Raises:
        ValueError: the matrix counts no samples.
    """
    summary = f"mean recall {balanced_accuracy(matrix):.1%}, mean F1 {macro_f1(matrix):.1%}"
    present = [row for row in class_rows(matrix) if row.pictures]
    shown = sorted(present, key=lambda row: row.f1)[:_MOST_ROWS]
    title = "Classes, the weakest first"
    if len(shown) < len(present):
        title = f"The {len(shown)} weakest of {len(present)} classes"
    labels = plain_labels(class_names)
    names = [labels[row.index] for row in shown]
    others = [_taken_for(row, labels) for row in shown]
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


def _taken_for(row: ClassRow, labels: Sequence[str]) -> str:
    if row.confused_with is None:
        return ""
    return f"{labels[row.confused_with]} ({row.confused} of {row.pictures:,})"


def _write(
    axes: Axes, place: float, line: int, text: str, *, color: str = INK, right: bool = False
) -> None:
    side = "right" if right else "left"
    axes.text(place, line, text, fontsize=_FONT_SIZE, color=color, va="center", ha=side)


def _bar(axes: Axes, left: float, line: int, share: float) -> None:
    """A share of `_BAR_INCHES`, its number behind it; of NaN, that there is none."""
    axes.barh(line, _BAR_INCHES, height=0.6, left=left, color=BACKDROP, lw=0)
    known = not np.isnan(share)
    if known:
        axes.barh(line, share * _BAR_INCHES, height=0.6, left=left, color=ACCENT_SOFT, lw=0)
    _write(axes, left + _BAR_INCHES + 0.08, line, f"{share:.1%}" if known else "none")
