"""How the trials of a sweep learned, and which settings made the difference, family by family."""

from __future__ import annotations

import math

from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from src.records.trials import COMPLETE, SweepRecord
from src.reporting.formatting import metric_text
from src.reporting.leaderboard import best_of_families
from src.reporting.palette import family_colors
from src.reporting.style import GRID, INK, new_figure, plain_labels, tidy
from src.reporting.sweep_axes import (
    add_legend,
    entry,
    panels,
    scale_to_metric,
    whole_numbers,
)

__all__ = ["curves_figure", "importance_figure"]

_MOST_KEYS = 8


def curves_figure(record: SweepRecord) -> Figure:
    """The first metric over epochs, a panel a family: its best trial thick, pruned ones dotted.

    NaN and infinite values leave gaps.

    Args:
        record: with a curve in at least one trial.

    Raises:
        ValueError: there is none.
    """
    families = [f for f in record.families if any(t.curve for t in record.trials if t.family == f)]
    if not families:
        raise ValueError("No trial has a curve.")
    figure, grid = panels(len(families), *((6.4, 4.2) if len(families) == 1 else (3.4, 2.9)))
    metric, colors = record.metrics[0], family_colors(record.families)
    best = {standing.family: standing.best for standing in best_of_families(record)}
    labels = dict(zip(record.families, plain_labels(record.families)))
    epochs = max(trial.epochs for trial in record.trials)
    values = [v for trial in record.trials for _, v in trial.curve if math.isfinite(v)]
    for axes, family in zip(grid, families, strict=True):
        first = best.get(family)
        own = [t for t in record.trials if t.family == family and t.curve]
        for whole, style in ((False, (0, (1, 1.2))), (True, "-")):
            lines = [t.curve for t in own if (t.state == COMPLETE) == whole]
            axes.add_collection(
                LineCollection(
                    [[(e, v if math.isfinite(v) else math.nan) for e, v in line] for line in lines],
                    colors=colors[family], linewidths=0.9, linestyles=[style], alpha=0.45,
                )
            )  # fmt: skip
            # A point without a neighbour makes no line.
            finite = [[point for point in line if math.isfinite(point[1])] for line in lines]
            alone = [points[0] for points in finite if len(points) == 1]
            axes.plot(*(zip(*alone) if alone else ((), ())), ".", color=colors[family], ms=3)
        title = f"{labels[family]}: no value"
        if first is not None:
            axes.plot(*zip(*first.curve), color=colors[family], lw=2.6, marker="o", ms=3)
            title = f"{labels[family]}: {metric_text(metric, first.value)}"
        scale_to_metric(axes, metric, values, higher_is_better=record.higher_is_better)
        tidy(axes, title=title, x=record.steps[:-1], y=metric)
        axes.label_outer()
        whole_numbers(axes, 1, epochs)
    handles = [
        entry("best of the family", lw=2.6),
        entry("complete", lw=0.9),
        entry("pruned or failed", ls=(0, (1, 1.2)), lw=0.9),
    ]
    add_legend(figure, handles, columns=3)
    return figure


def importance_figure(record: SweepRecord) -> Figure:
    """How much of the first metric's variation each searched key explains, a panel a family.

    Args:
        record: with `importances` of at least one family; the eight largest are shown.

    Raises:
        ValueError: there are none.
    """
    families = [name for name in record.families if record.importances.get(name)]
    if not families:
        raise ValueError("No family has importances.")
    columns = min(3, len(families))
    rows = math.ceil(len(families) / columns)
    most = min(_MOST_KEYS, max(len(record.importances[name]) for name in families))
    figure = new_figure(4.4 * columns, (0.9 + 0.26 * most) * rows)
    grid = list(figure.subplots(rows, columns, sharex=True, squeeze=False).flat)
    for axes, family, label in zip(grid, families, plain_labels(families)):
        shares = record.importances[family]
        keys = sorted(shares, key=lambda key: (-shares[key], key))[:_MOST_KEYS]
        values = [shares[key] for key in keys]
        axes.barh(
            range(len(keys)), values, height=0.62, color=family_colors(record.families)[family]
        )
        tidy(axes, title=label)
        axes.set_yticks(range(len(keys)), plain_labels(keys, longest=26))
        axes.set_ylim(most - 0.4, -0.6)
        axes.set_xlim(0, 1)
        axes.xaxis.set_major_formatter(PercentFormatter(1.0))
        axes.grid(axis="x", color=GRID, lw=0.8)
        axes.tick_params(axis="y", length=0)
    for spare in grid[len(families) :]:
        spare.set_axis_off()
    figure.supxlabel(f"share in how {record.metrics[0]} varies", fontsize=9, color=INK)
    return figure
