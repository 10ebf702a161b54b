"""Where the trials of a sweep lie: in their search space, and between quality and cost."""

from __future__ import annotations

import math

import numpy as np
from matplotlib.collections import LineCollection
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullFormatter

from src.metrics.pareto import pareto_front
from src.records.trials import COMPLETE, PRUNED, SweepRecord, TrialRecord
from src.reporting.formatting import metric_text, tick_text
from src.reporting.palette import family_colors
from src.reporting.style import ACCENT, INK, MUTED, WARNING, new_figure, plain_labels, tidy
from src.reporting.sweep_axes import add_legend, entry, family_handles, scale_to_metric
from src.reporting.value_axes import value_axes

__all__ = ["parallel_figure", "pareto_figure", "trade_offs"]

_COSTS = ("cost/parameters", "cost/latency_ms", "cost/flops")
_LOG_FROM = 10
_QUALITY = LinearSegmentedColormap.from_list("quality", ["#c9d6f2", ACCENT, "#172b6b"])


def parallel_figure(record: SweepRecord, family: str) -> Figure:
    """Parallel coordinates: each trial of a family a line through its settings to its value.

    The better, the darker; pruned trials are grey, and the best one is red.

    Raises:
        ValueError: none of the family's trials has a value.
    """
    trials = [
        t
        for t in record.trials
        if t.family == family and t.state in (COMPLETE, PRUNED) and t.value is not None
    ]
    axes_of = value_axes(trials, record.metrics[0], higher_is_better=record.higher_is_better)
    if not axes_of:
        raise ValueError(f"No trial of {family} has a value.")
    figure = new_figure(max(5.0, 1.55 * len(axes_of) + 0.8), 4.4)
    axes = figure.subplots()
    lines = {t.number: [(x, a.places[t.number]) for x, a in enumerate(axes_of)] for t in trials}
    faint = 0.8 if len(trials) <= 100 else 0.35
    pruned = [lines[t.number] for t in trials if t.state == PRUNED]
    axes.add_collection(LineCollection(pruned, colors=MUTED, linewidths=0.7, alpha=0.5 * faint))
    complete = [t for t in trials if t.state == COMPLETE]
    heights = np.array([axes_of[-1].places[t.number] for t in complete])
    quality = (heights - heights.min(initial=1)) / max(np.ptp(heights) if complete else 0, 1e-9)
    order = np.argsort(heights, kind="stable")  # the best on top
    axes.add_collection(
        LineCollection(
            [lines[complete[i].number] for i in order],
            colors=_QUALITY(quality[order]), linewidths=1.1, alpha=faint,
        )
    )  # fmt: skip
    ranked = [t for t in record.ranked() if t.family == family]
    title = f"{plain_labels([family])[0]}: {len(trials)} trials, none complete"
    if ranked:
        axes.plot(*zip(*lines[ranked[0].number]), color=WARNING, lw=2.2, marker="o", ms=4)
        value = metric_text(record.metrics[0], ranked[0].value)
        title = f"{plain_labels([family])[0]}: trial {ranked[0].number} is best, {value}"
    tidy(axes, title=title)
    axes.spines[:].set_visible(False)
    axes.set_yticks([])
    labels = plain_labels([axis.label for axis in axes_of], longest=22)
    axes.set_xticks(range(len(axes_of)), labels, rotation=20, ha="right")
    axes.tick_params(axis="x", length=0)
    axes.set(xlim=(-0.25, len(axes_of) - 0.45), ylim=(-0.04, 1.04))
    for x, axis in enumerate(axes_of):
        axes.axvline(x, 0.035, 0.965, color=INK, lw=0.8, zorder=0)
        for (place, _), text in zip(axis.ticks, plain_labels([t for _, t in axis.ticks], 14)):
            box = {"facecolor": "white", "alpha": 0.75, "lw": 0, "pad": 0.6}
            axes.text(x + 0.04, place, text, fontsize=7, color=INK, va="center", bbox=box)
    handles = [entry("best", color=WARNING, lw=2.2)] if ranked else []
    if complete:
        handles.append(entry("complete, the better the darker", color=ACCENT))
    if pruned:
        handles.append(entry("pruned", color=MUTED, lw=0.7))
    add_legend(figure, handles, columns=3)
    return figure


def trade_offs(record: SweepRecord) -> list[str]:
    """What can be drawn against the first metric: the others, and costs that two trials know."""
    costs = [c for c in _COSTS if sum(c in t.figures for t in record.ranked()) > 1]
    return list(dict.fromkeys([*record.metrics[1:], *costs])) if record.ranked() else []


def pareto_figure(record: SweepRecord) -> Figure:
    """The first metric against each other metric and each cost, with the front of the pair.

    Args:
        record: with complete trials that have a second metric or a cost, see `trade_offs`.

    Raises:
        ValueError: there is nothing to draw against.
    """
    against = trade_offs(record)
    if not against:
        raise ValueError("No two complete trials have a second metric or a cost.")
    metric, colors = record.metrics[0], family_colors(record.families)
    figure = new_figure(0.8 + 4.4 * len(against), 4.4)
    for axes, other in zip(figure.subplots(1, len(against), squeeze=False)[0], against):
        shown = [(t, x) for t in record.ranked() if (x := _figure_of(record, t, other)) is not None]
        points = [(x, t.value or 0.0) for t, x in shown]
        directions = dict(zip(record.metrics, record.directions))
        ways = [directions.get(other, "minimize"), record.directions[0]]
        front = sorted(points[i] for i in pareto_front(points, ways))
        if front:
            # No trial lies between two of the front, so what is had there is the worse value.
            cheap_first = ways[0] == "minimize"
            axes.step(
                *zip(*front), where="post" if cheap_first else "pre", color=INK, lw=1.2, zorder=2
            )
        axes.scatter(
            *(zip(*points) if points else ((), ())),
            s=[46 if point in front else 20 for point in points],
            c=[colors.get(t.family, MUTED) for t, _ in shown],
            edgecolors=["black" if point in front else "none" for point in points],
            linewidths=0.9, zorder=3,
        )  # fmt: skip
        scale_to_metric(
            axes, metric, [y for _, y in points], higher_is_better=record.higher_is_better
        )
        known = [x for x, _ in points if x > 0]
        if known and len(known) == len(points) and max(known) / min(known) >= _LOG_FROM:
            axes.set_xscale("log")
            axes.xaxis.set_minor_formatter(NullFormatter())
        axes.xaxis.set_major_formatter(FuncFormatter(lambda v, _, key=other: tick_text(key, v)))
        number = len(front)
        tidy(axes, title=f"{number} on the front", x=other, y=metric)
    present = {trial.family for trial in record.ranked()}
    handles = [
        *family_handles(record, present),
        entry("front", marker="o", mfc="none"),
    ]
    add_legend(figure, handles)
    return figure


def _figure_of(record: SweepRecord, trial: TrialRecord, key: str) -> float | None:
    """A metric or cost of a complete trial, if it is a finite number."""
    objectives = trial.objectives or ()
    value = trial.figures.get(key)
    if key in record.metrics[: len(objectives)]:
        value = objectives[record.metrics.index(key)]
    return value if value is not None and math.isfinite(value) else None
