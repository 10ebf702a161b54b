"""What the figures of a sweep share: axes of its metric, legends of families, grids of panels."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, MaxNLocator

from src.records.trials import SweepRecord
from src.reporting.formatting import tick_text
from src.reporting.palette import family_colors
from src.reporting.style import GRID, INK, new_figure, plain_labels
from src.reporting.value_axes import range_worth_showing

__all__ = [
    "add_legend",
    "entry",
    "family_handles",
    "panels",
    "scale_to_metric",
    "whole_numbers",
]

_PANELS_A_ROW = 4


def panels(count: int, width: float, height: float) -> tuple[Figure, list[Axes]]:
    """A figure of `count` axes of this size in inches, at most four a row, with a shared y axis."""
    columns = min(count, _PANELS_A_ROW)
    rows = math.ceil(count / columns)
    figure = new_figure(width * columns, height * rows)
    grid = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
    axes = list(grid.flat)
    for spare in axes[count:]:
        spare.set_axis_off()
    return figure, axes[:count]


def scale_to_metric(
    axes: Axes, metric: str, values: Sequence[float], *, higher_is_better: bool
) -> int:
    """Scale the y axis to the values worth showing, and write its ticks as the metric's amounts.

    Args:
        values: finite ones that are drawn; with none, the axis has no ticks.

    Returns:
        how many of them are worse than the axis shows.
    """
    axes.grid(color=GRID, lw=0.8)
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: tick_text(metric, value)))
    if not values:
        axes.set_yticks([])
        return 0
    low, high = range_worth_showing(values, higher_is_better=higher_is_better)
    margin = 0.06 * (high - low) or 0.05 * abs(high) or 0.05
    axes.set_ylim(low - margin, high + margin)
    return sum(value < low or value > high for value in values)


def whole_numbers(axes: Axes, low: float, high: float) -> None:
    """Let the x axis run from one whole number to another, with half a unit around."""
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    axes.set_xlim(low - 0.5, high + 0.5)


def family_handles(record: SweepRecord, families: Iterable[str]) -> list[Line2D]:
    """A dot of its colour for each of these families, as entries of a legend."""
    colors = family_colors(record.families)
    labels = dict(zip(record.families, plain_labels(record.families)))
    return [
        Line2D([], [], ls="", marker="o", ms=6, mew=0, color=colors[name], label=labels[name])
        for name in record.families
        if name in set(families)
    ]


def entry(label: str, **style: Any) -> Line2D:
    """An entry of a legend for something drawn in any colour; a line unless `ls` is empty."""
    look: dict[str, Any] = {"color": INK, "ms": 6} | style
    return Line2D([], [], label=label, **look)


def add_legend(figure: Figure, handles: Sequence[Line2D], columns: int = 1) -> None:
    """The legend beside the axes, or beneath them in several columns."""
    place = "outside right upper" if columns == 1 else "outside lower center"
    look: dict[str, Any] = {"loc": place, "ncols": columns, "frameon": False, "fontsize": 8}
    figure.legend(handles=list(handles), labelcolor=INK, **look)
