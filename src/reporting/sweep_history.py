"""How a sweep went: each trial in its turn, and the best so far, in all and by family."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from src.records.trials import COMPLETE, FAILED, PRUNED, SweepRecord, TrialRecord
from src.reporting.formatting import duration, metric_text
from src.reporting.leaderboard import at_equal_time, at_equal_trials, ended_by_family, own_clock
from src.reporting.palette import family_colors
from src.reporting.style import INK, MUTED, WARNING, new_figure, tidy
from src.reporting.sweep_axes import (
    add_legend,
    entry,
    family_handles,
    scale_to_metric,
    whole_numbers,
)

__all__ = ["best_so_far", "equal_terms_figure", "history_figure"]

_UNITS = ((3600, "hours"), (60, "minutes"), (1, "seconds"))


def history_figure(record: SweepRecord) -> Figure:
    """The value of each trial by its number, coloured by family, and the best complete one so far.

    Pruned trials stand at their last value, hollow; failed ones as crosses on the worse edge,
    where also lies what is worse than the axis shows; the title counts it.

    Args:
        record: with any number of trials.
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
    failed = [trial for trial in record.trials if trial.state == FAILED]
    worst = low if record.higher_is_better else high
    axes.plot(
        *([t.number for t in failed], [worst] * len(failed)),
        "x", color=WARNING, ms=6, mew=1.6, clip_on=False, zorder=4,
    )  # fmt: skip
    numbers = [trial.number for trial in record.trials]
    complete = sorted((t for t in judged if t.state == COMPLETE), key=lambda t: t.number)
    if complete:
        best = best_so_far([t.value for t in complete], record.higher_is_better)
        places = [*(t.number for t in complete), max(numbers)]
        axes.step(places, [*best, best[-1]], where="post", color=INK, lw=1.4, zorder=2)
    title = f"{record.study}: nothing complete yet"
    if record.ranked():
        first = record.ranked()[0]
        title = f"Best {metric_text(metric, first.value)}: trial {first.number}, {first.family}"
    if outside:
        title += f" ({outside} worse than shown)"
    tidy(axes, title=title, x="trial", y=metric)
    whole_numbers(axes, min(numbers, default=0), max(numbers, default=0))
    handles = family_handles(record, {trial.family for trial in record.trials})
    if complete:
        handles.append(entry("best so far"))
    if any(trial.state == PRUNED for trial in judged):
        handles.append(entry("pruned", ls="", marker="v", mfc="none"))
    if failed:
        handles.append(entry("failed", ls="", marker="x", color=WARNING, mew=1.6))
    add_legend(figure, handles)
    return figure


def equal_terms_figure(record: SweepRecord) -> Figure:
    """Each family's best complete trial so far, over its own trials and over their training time.

    A line in each panel marks where the smallest family ends, which is where all can be compared.

    Args:
        record: with any number of trials.
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
    for axes, limit, standings, what in (
        (left, most, at_trials, f"{most} trial{'s' * (most != 1)} each"),
        (right, seconds / size, at_time, f"{duration(seconds)} each"),
    ):
        if limit:
            axes.axvline(limit, color=MUTED, lw=1.2, ls=(0, (4, 3)))
        first = standings[0] if standings else None
        title = "No trial is complete yet"
        if first is not None and first.best is not None and first.best.state == COMPLETE:
            title = f"After {what}: {first.family} leads"
        tidy(axes, title=title)
    left.set_xlabel("trials of the family", fontsize=9, color=INK)
    left.set_ylabel(f"best {metric} so far", fontsize=9, color=INK)
    right.set_xlabel(f"training time of the family in {unit}", fontsize=9, color=INK)
    whole_numbers(left, 1, max([1, *map(len, ended.values())]))
    right.set_xlim(left=0)
    add_legend(figure, family_handles(record, [name for name, trials in ended.items() if trials]))
    return figure


def best_so_far(values: Sequence[float | None], higher_is_better: bool) -> NDArray[np.float64]:
    """The best of the values up to each; NaN before the first that is not None."""
    known = np.array([np.nan if value is None else value for value in values], dtype=np.float64)
    best = np.fmax if higher_is_better else np.fmin
    return best.accumulate(known)


def _draw_families(
    axes: Axes,
    record: SweepRecord,
    place: Callable[[Sequence[TrialRecord]], NDArray[np.float64]],
) -> list[float]:
    """Draw each family's best so far, and return what was drawn."""
    colors = family_colors(record.families)
    drawn: list[float] = []
    for family, trials in ended_by_family(record).items():
        values = [trial.value if trial.state == COMPLETE else None for trial in trials]
        best = best_so_far(values, record.higher_is_better)
        known = ~np.isnan(best)
        axes.step(
            *(place(trials)[known], best[known]),
            where="post", color=colors.get(family, MUTED), lw=1.8, marker="o", ms=3,
        )  # fmt: skip
        drawn += best[known].tolist()
    return drawn
