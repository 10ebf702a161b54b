"""Figures of a sweep: history, families on equal terms, learning curves, importance, trade-offs."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ..machine.arrays import Float64Array
from ..machine.text import counted
from ..records.standings import (
    at_equal_time,
    at_equal_trials,
    best_of_families,
    ended_by_family,
    own_clock,
)
from ..records.trials import COMPLETE, FAILED, PRUNED, SweepRecord, TrialRecord
from .charts import (
    FamilyCurves,
    TradeOff,
    add_legend,
    curves_figure,
    entry,
    family_handles,
    panels,
    pareto_figure,
    scale_to_metric,
    whole_numbers,
)
from .formatting import duration, metric_text
from .scales import family_colors
from .style import (
    INK,
    MUTED,
    WARNING,
    in_percent,
    list_rows,
    new_figure,
    plain_labels,
    save_as,
    tidy,
)
from .sweep_tables import ranked_by

__all__ = [
    "best_so_far",
    "curves_of",
    "draw_sweep_figures",
    "equal_terms_figure",
    "history_figure",
    "importance_figure",
    "trade_offs_of",
]

_COSTS = ("cost/parameters", "cost/latency_ms", "cost/flops")
_MOST_KEYS = 8
_UNITS = ((3600, "hours"), (60, "minutes"), (1, "seconds"))


def draw_sweep_figures(folder: Path, record: SweepRecord) -> Iterator[Path]:
    """Draw a sweep into a folder; figures without data, such as importances, are left out.

    The settings of trials are drawn on the page alone, where axes can be brushed.

    Yields:
        The path of each file, such as `history.png`, once it is written.

    Raises:
        OSError: a file cannot be written.
    """
    metric, higher, step = record.metrics[0], record.higher_is_better, record.steps[:-1]
    colors = family_colors(record.families)
    yield save_as(folder, history_figure(record), "history")
    yield save_as(folder, equal_terms_figure(record), "equal_terms")
    if curves := curves_of(record):
        figure = curves_figure(
            curves, metric, colors, higher_is_better=higher, step=step, sets=record.sets
        )
        yield save_as(folder, figure, "learning_curves")
    if any(record.importances.get(family) for family in record.families):
        yield save_as(folder, importance_figure(record), "importance")
    if trade_offs := trade_offs_of(record):
        figure = pareto_figure(
            trade_offs, metric, colors, higher_is_better=higher, sets=record.sets
        )
        yield save_as(folder, figure, "pareto")


def curves_of(record: SweepRecord) -> list[FamilyCurves]:
    """Return the curves of each family that has one."""
    best = {standing.family: standing.best for standing in best_of_families(record)}
    found = []
    for family in record.families:
        own = [trial for trial in record.trials if trial.family == family and trial.curve]
        first = best.get(family)
        shown = ((), None) if first is None else (first.curve, first.value)
        complete = [trial.curve for trial in own if trial.state == COMPLETE]
        incomplete = [trial.curve for trial in own if trial.state != COMPLETE]
        if own:
            found.append(FamilyCurves(family, complete, incomplete, *shown))
    return found


def trade_offs_of(record: SweepRecord) -> list[TradeOff]:
    """Return the first metric against the others, and against costs known of two trials or more."""
    ranked = record.ranked()
    costs = [key for key in _COSTS if sum(key in trial.figures for trial in ranked) > 1]
    directions = dict(zip(record.metrics, record.directions))
    return [
        TradeOff(
            key,
            "maximize" if directions.get(key) == "maximize" else "minimize",
            [
                (value, trial.value or 0.0, trial.family)
                for trial in ranked
                if (value := _value_of(record, trial, key)) is not None
            ],
        )
        for key in dict.fromkeys([*record.metrics[1:], *costs])
        if ranked
    ]


def history_figure(record: SweepRecord) -> Figure:
    """Draw the value of each trial by its number, coloured by family, and the best so far.

    Pruned trials are hollow, at their last value; failed ones are crosses at the worse edge, where
    outliers are drawn too, which the title counts.
    """
    metric = record.metrics[0]
    figure = new_figure(8.6, 4.4)
    axes = figure.subplots()
    judged = [t for t in record.trials if t.value is not None and t.state != FAILED]
    values = [t.value for t in judged if t.value is not None]
    outside = scale_to_metric(axes, metric, values, higher_is_better=record.higher_is_better)
    low, high = axes.get_ylim()
    colors = family_colors(record.families)
    for complete_ones in (False, True):
        shown = [i for i, t in enumerate(judged) if (t.state == COMPLETE) == complete_ones]
        shades = [colors.get(judged[i].family, MUTED) for i in shown]
        axes.scatter(
            [judged[i].number for i in shown],
            [min(max(values[i], low), high) for i in shown],
            s=26,
            marker="o" if complete_ones else "v",
            facecolors=shades if complete_ones else "none",
            edgecolors="none" if complete_ones else shades,
            linewidths=1.1,
            clip_on=False,
            zorder=3,
        )
    failed = [trial.number for trial in record.trials if trial.state == FAILED]
    worst = [low if record.higher_is_better else high] * len(failed)
    axes.plot(failed, worst, "x", color=WARNING, ms=6, mew=1.6, clip_on=False, zorder=4)
    numbers = [trial.number for trial in record.trials]
    complete = sorted((t for t in judged if t.state == COMPLETE), key=lambda t: t.number)
    if complete:
        best = best_so_far([t.value for t in complete], record.higher_is_better)
        places = [*(t.number for t in complete), max(numbers)]
        axes.step(places, [*best, best[-1]], where="post", color=INK, lw=1.4, zorder=2)
    title = f"{record.study}: nothing complete yet"
    if record.ranked():
        first = record.ranked()[0]
        title = f"Best {metric_text(metric, first.value)}: {first.name}"
    if outside:
        title += f" ({outside} worse than shown)"
    tidy(axes, title=title, x="trial", y=ranked_by(record), grid="both")
    whole_numbers(axes, min(numbers, default=0), max(numbers, default=0))
    handles = family_handles(colors, {trial.family for trial in record.trials})
    if complete:
        handles.append(entry("best so far"))
    unended = sorted({trial.ending for trial in judged if trial.state == PRUNED})
    if unended:
        handles.append(entry(" or ".join(unended), ls="", marker="v", mfc="none"))
    if failed:
        handles.append(entry("failed", ls="", marker="x", color=WARNING, mew=1.6))
    add_legend(figure, handles)
    return figure


def equal_terms_figure(record: SweepRecord) -> Figure:
    """Draw the best complete trial of each family so far, over its trials and its training time.

    A line in each panel marks where the smallest family ends, up to where all are comparable.
    """
    figure = new_figure(10.4, 4.2)
    left, right = figure.subplots(1, 2, sharey=True)
    ended = ended_by_family(record)
    metric = record.metrics[0]
    longest = max((own_clock(trials)[-1] for trials in ended.values() if trials), default=0.0)
    size, unit = next(entry for entry in _UNITS if longest >= 3 * entry[0] or entry[0] == 1)
    drawn = [
        *_draw_families(left, record, lambda trials: np.arange(1.0, len(trials) + 1)),
        *_draw_families(right, record, lambda trials: np.array(own_clock(trials)) / size),
    ]
    scale_to_metric(right, metric, drawn, higher_is_better=record.higher_is_better)
    scale_to_metric(left, metric, drawn, higher_is_better=record.higher_is_better)
    most, at_trials = at_equal_trials(record)
    seconds, at_time = at_equal_time(record)
    of_time = f"training time of the family in {unit}"
    for axes, limit, standings, what, x, y in (
        (
            *(left, most, at_trials, f"{counted(most, 'trial')} each"),
            *("trials of the family", f"best {ranked_by(record)} so far"),
        ),
        (right, seconds / size, at_time, f"{duration(seconds)} each", of_time, ""),
    ):
        if limit:
            axes.axvline(limit, color=MUTED, lw=1.2, ls=(0, (4, 3)))
        first = standings[0] if standings else None
        title = "No trial is complete yet"
        if first is not None and first.best is not None and first.best.state == COMPLETE:
            title = f"After {what}: {first.family} leads"
        tidy(axes, title=title, x=x, y=y, grid="both")
    whole_numbers(left, 1, max([1, *map(len, ended.values())]))
    right.set_xlim(left=0)
    colors = family_colors(record.families)
    add_legend(figure, family_handles(colors, [name for name, trials in ended.items() if trials]))
    return figure


def best_so_far(values: Sequence[float | None], higher_is_better: bool) -> Float64Array:
    """Return the best of the values up to each; NaN before the first that is not None."""
    known = np.array([np.nan if value is None else value for value in values], dtype=np.float64)
    best = np.fmax if higher_is_better else np.fmin
    return best.accumulate(known)


def _draw_families(
    axes: Axes,
    record: SweepRecord,
    place: Callable[[Sequence[TrialRecord]], Float64Array],
) -> list[float]:
    """Draw the best of each family so far, and return the values drawn."""
    colors = family_colors(record.families)
    drawn: list[float] = []
    for family, trials in ended_by_family(record).items():
        values = [trial.value if trial.state == COMPLETE else None for trial in trials]
        best = best_so_far(values, record.higher_is_better)
        known = ~np.isnan(best)
        axes.step(
            place(trials)[known], best[known], where="post",
            color=colors.get(family, MUTED), lw=1.8, marker="o", ms=3,
        )  # fmt: skip
        drawn += best[known].tolist()
    return drawn


def importance_figure(record: SweepRecord) -> Figure:
    """Draw the share of the first metric's variance that each key explains, a panel a family.

    At least one family has importances; the eight largest are shown.
    """
    families = [name for name in record.families if record.importances.get(name)]
    most = min(_MOST_KEYS, max(len(record.importances[name]) for name in families))
    figure, grid = panels(len(families), 4.4, 0.9 + 0.26 * most, 3, share_values=False)
    for axes, family, label in zip(grid, families, plain_labels(families)):
        shares = record.importances[family]
        keys = sorted(shares, key=lambda key: (-shares[key], key))[:_MOST_KEYS]
        values = [shares[key] for key in keys]
        axes.barh(
            range(len(keys)), values, height=0.62, color=family_colors(record.families)[family]
        )
        tidy(axes, title=label, grid="x")
        list_rows(axes, plain_labels(keys, longest=26), most)
        axes.set_xlim(0, 1)
        in_percent(axes.xaxis)
    figure.supxlabel(f"share in how {ranked_by(record)} varies", fontsize=9, color=INK)
    return figure


def _value_of(record: SweepRecord, trial: TrialRecord, key: str) -> float | None:
    """Return a metric or cost of a complete trial, if it is finite."""
    objectives = trial.objectives or ()
    value = trial.figures.get(key)
    if key in record.metrics[: len(objectives)]:
        value = objectives[record.metrics.index(key)]
    return value if value is not None and math.isfinite(value) else None
