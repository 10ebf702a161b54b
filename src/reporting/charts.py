"""Figures that runs, sweeps and comparisons share, from plain values, and their axes."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullFormatter, PercentFormatter

from ..machine.text import percent
from ..metrics.pareto import pareto_front
from ..metrics.probabilistic import ReliabilityBins
from ..metrics.summary import metric_name
from .formatting import metric_text, tick_text
from .scales import range_worth_showing
from .style import (
    ACCENT,
    ACCENT_SOFT,
    INK,
    MUTED,
    WARNING_SOFT,
    in_percent,
    new_figure,
    plain_labels,
    tidy,
)

__all__ = [
    "FamilyCurves",
    "TradeOff",
    "add_legend",
    "curves_figure",
    "entry",
    "family_handles",
    "panels",
    "pareto_figure",
    "reliability_diagram",
    "scale_to_metric",
    "whole_numbers",
]

_LOG_FROM = 10  # a cost axis is logarithmic whose highest value is so many times the lowest

Curve = Sequence[tuple[int, float]]


@dataclass(frozen=True)
class FamilyCurves:
    """Learning curves of a family, as (epoch, value); NaN and infinite values leave gaps.

    Attributes:
        complete, incomplete: curves of candidates by whether they were trained to the end.
        best: the curve of the best one, drawn thick; empty for none.
        value: of the best one, None where there is none.
    """

    family: str
    complete: Sequence[Curve]
    incomplete: Sequence[Curve]
    best: Curve
    value: float | None


@dataclass(frozen=True)
class TradeOff:
    """The quality of candidates against another metric or a cost: (its value, quality, family)."""

    key: str
    direction: Literal["minimize", "maximize"]
    points: Sequence[tuple[float, float, str]]


def curves_figure(
    families: Sequence[FamilyCurves],
    metric: str,
    colors: Mapping[str, str],
    *,
    higher_is_better: bool = True,
    step: str = "epoch",
    sets: bool = False,
) -> Figure:
    """Draw learning curves, a panel a family: the best thick, incomplete ones dotted.

    Args:
        families: at least one, each with at least one curve.
        metric: key of the values.
        step: what curves count.
        sets: whether pictures have sets of labels.
    """
    figure, grid = panels(len(families), *((6.4, 4.2) if len(families) == 1 else (3.4, 2.9)))
    curves = [line for one in families for line in (*one.complete, *one.incomplete)]
    values = [value for line in curves for _, value in line if math.isfinite(value)]
    names = plain_labels([one.family for one in families])
    for axes, one, name in zip(grid, families, names, strict=True):
        color = colors[one.family]
        for lines, style in ((one.incomplete, (0, (1, 1.2))), (one.complete, "-")):
            axes.add_collection(
                LineCollection(
                    [[(e, v if math.isfinite(v) else math.nan) for e, v in line] for line in lines],
                    colors=color, linewidths=0.9, linestyles=[style], alpha=0.45,
                )
            )  # fmt: skip
            # A point without a neighbour makes no line.
            finite = [[point for point in line if math.isfinite(point[1])] for line in lines]
            alone = [points[0] for points in finite if len(points) == 1]
            axes.plot(*(zip(*alone) if alone else ((), ())), ".", color=color, ms=3)
        if one.best:
            axes.plot(*zip(*one.best), color=color, lw=2.6, marker="o", ms=3)
        shown = "no value" if one.value is None else metric_text(metric, one.value)
        scale_to_metric(axes, metric, values, higher_is_better=higher_is_better)
        tidy(axes, title=f"{name}: {shown}", x=step, y=metric_name(metric, sets=sets), grid="both")
        axes.label_outer()
        whole_numbers(axes, 1, max(line[-1][0] for line in curves))
    handles = [
        entry("best of the family", lw=2.6),
        entry("complete", lw=0.9),
        entry("pruned or failed", ls=(0, (1, 1.2)), lw=0.9),
    ]
    add_legend(figure, handles, columns=3)
    return figure


def pareto_figure(
    trade_offs: Sequence[TradeOff],
    metric: str,
    colors: Mapping[str, str],
    *,
    higher_is_better: bool = True,
    sets: bool = False,
) -> Figure:
    """Draw quality against each other metric or cost, a panel each, with its Pareto front.

    There is at least one, with finite values; `metric` is the key of the quality, and `sets`
    whether pictures have sets of labels.
    """
    figure = new_figure(0.8 + 4.4 * len(trade_offs), 4.4)
    quality = "maximize" if higher_is_better else "minimize"
    for axes, one in zip(figure.subplots(1, len(trade_offs), squeeze=False)[0], trade_offs):
        points = [(x, y) for x, y, _ in one.points]
        front = sorted(points[i] for i in pareto_front(points, [one.direction, quality]))
        if front:
            # No candidate lies between two of the front, so the worse value is reached there.
            where: Literal["post", "pre"] = "post" if one.direction == "minimize" else "pre"
            axes.step(*zip(*front), where=where, color=INK, lw=1.2, zorder=2)
        axes.scatter(
            *(zip(*points) if points else ((), ())),
            s=[46 if point in front else 20 for point in points],
            c=[colors[family] for *_, family in one.points],
            edgecolors=["black" if point in front else "none" for point in points],
            linewidths=0.9, zorder=3,
        )  # fmt: skip
        scale_to_metric(axes, metric, [y for _, y in points], higher_is_better=higher_is_better)
        known = [x for x, _ in points if x > 0]
        if known and len(known) == len(points) and max(known) / min(known) >= _LOG_FROM:
            axes.set_xscale("log")
            axes.xaxis.set_minor_formatter(NullFormatter())
        axes.xaxis.set_major_formatter(FuncFormatter(lambda v, _, key=one.key: tick_text(key, v)))
        x, y = (metric_name(key, sets=sets) for key in (one.key, metric))
        tidy(axes, title=f"{len(front)} on the front", x=x, y=y, grid="both")
    present = {family for one in trade_offs for *_, family in one.points}
    front_entry = entry("front", marker="o", mfc="none")
    add_legend(figure, [*family_handles(colors, present), front_entry])
    return figure


def reliability_diagram(
    bins: ReliabilityBins, x: str = "confidence in the predicted class", y: str = "accuracy"
) -> Figure:
    """Draw accuracy against confidence, above the share of pictures of each confidence.

    Args:
        bins: from `metrics.probabilistic.reliability_bins`.
        x, y: names of the two.
    """
    figure = new_figure(5.4, 5.8)
    upper, lower = figure.subplots(2, 1, height_ratios=[3, 1], sharex=True)
    filled = bins.counts > 0
    centres, width = (bins.edges[:-1] + bins.edges[1:])[filled] / 2, np.diff(bins.edges)[filled]
    accuracy, confidence = bins.accuracy[filled], bins.confidence[filled]
    common, gap = np.minimum(accuracy, confidence), accuracy - confidence
    upper.plot([0, 1], [0, 1], color=MUTED, lw=1.2, ls=(0, (4, 3)), label="perfect calibration")
    for bottom, height, color, label in (
        (0, common, ACCENT, y),
        (common, gap.clip(min=0), ACCENT_SOFT, "more than predicted"),
        (common, -gap.clip(max=0), WARNING_SOFT, "less than predicted"),
    ):
        upper.bar(centres, height, width * 0.92, bottom=bottom, color=color, lw=0, label=label)
    tidy(upper, title=f"Calibration error {percent(bins.calibration_error)}", y=y, grid="y")
    upper.set_ylim(0, 1)
    in_percent(upper.yaxis)
    lower.bar(centres, bins.counts[filled] / bins.counts.sum(), width * 0.92, color=MUTED)
    tidy(lower, x=x, y="share of pictures", grid="y")
    lower.set_xlim(0, 1)
    in_percent(lower.xaxis)
    lower.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0, symbol=" %"))
    figure.legend(loc="outside lower center", ncols=2, frameon=False, fontsize=8, labelcolor=INK)
    return figure


def panels(
    count: int, width: float, height: float, most: int = 4, *, share_values: bool = True
) -> tuple[Figure, list[Axes]]:
    """Return a figure of `count` axes of this size in inches, at most so many a row, sharing x."""
    columns = min(count, most)
    rows = math.ceil(count / columns)
    figure = new_figure(width * columns, height * rows)
    grid = figure.subplots(rows, columns, sharex=True, sharey=share_values, squeeze=False)
    axes = list(grid.flat)
    for spare in axes[count:]:
        spare.set_axis_off()
    for lowest in axes[:count][-columns:]:  # also those above a spare one, whose ticks are not seen
        lowest.tick_params(labelbottom=True)
    return figure, axes[:count]


def scale_to_metric(
    axes: Axes, metric: str, values: Sequence[float], *, higher_is_better: bool
) -> int:
    """Scale the y axis to the finite values worth showing, with ticks in the metric's unit.

    Without values the axis has no ticks. Returns how many of them lie outside of it.
    """
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: tick_text(metric, value)))
    if not values:
        axes.set_yticks([])
        return 0
    low, high = range_worth_showing(values, higher_is_better=higher_is_better)
    margin = 0.06 * (high - low) or 0.05 * abs(high) or 0.05
    axes.set_ylim(low - margin, high + margin)
    return sum(value < low or value > high for value in values)


def whole_numbers(axes: Axes, low: float, high: float) -> None:
    """Set the x axis to run between whole numbers, with half a unit of margin."""
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    axes.set_xlim(low - 0.5, high + 0.5)


def family_handles(colors: Mapping[str, str], families: Iterable[str]) -> list[Line2D]:
    """Return a dot of its colour for each of these families, as entries of a legend."""
    shown = set(families)
    return [
        Line2D([], [], ls="", marker="o", ms=6, mew=0, color=color, label=label)
        for (name, color), label in zip(colors.items(), plain_labels(list(colors)))
        if name in shown
    ]


def entry(label: str, **style: Any) -> Line2D:
    """Return an entry of a legend; a line unless `ls` is empty."""
    look: dict[str, Any] = {"color": INK, "ms": 6} | style
    return Line2D([], [], label=label, **look)


def add_legend(figure: Figure, handles: Sequence[Line2D], columns: int = 1) -> None:
    """Add a legend beside the axes, or beneath them in several columns."""
    place = "outside right upper" if columns == 1 else "outside lower center"
    look: dict[str, Any] = {"loc": place, "ncols": columns, "frameon": False, "fontsize": 8}
    figure.legend(handles=list(handles), labelcolor=INK, **look)
