"""Figures of a comparison: ranking, trade-offs, learning curves, reliability, classes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from ..records.comparison import Comparison
from ..records.report_data import Leader, ReportData
from .charts import FamilyCurves, TradeOff, curves_figure, pareto_figure
from .class_figures import confusion_figure
from .comparison_report import best_and_chosen, pictures_compared
from .comparison_verdict import measure_title
from .formatting import is_percent, metric_text, tick_text
from .scales import distinct_colors, family_colors
from .style import (
    GRID,
    INK,
    MUTED,
    axes_at,
    in_percent,
    inches,
    list_rows,
    new_figure,
    plain_labels,
    save_as,
    tidy,
)

__all__ = [
    "comparison_figures",
    "curves_of",
    "draw_comparison_figures",
    "ranking_figure",
    "recall_figure",
    "reliability_figure",
    "trade_offs_of",
]

# By the plain name of the figure of each class.
_CLASS_TITLES = {"recall": "Share of each class that is found", "iou": "IoU of each class"}
_MOST_RANKED = 30
_MOST_CLASSES = 40
_LONGEST_LABEL = 52
_LINE_INCHES = 0.27


def comparison_figures(data: ReportData) -> dict[str, Callable[[], Figure]]:
    """Return what draws each figure, by its name; those without data are left out.

    The names are "leaderboard", "trade_offs", "learning_curves", "reliability",
    "confusion_<place>" and "classes".
    """
    comparison, leaders = data.comparison, data.leaders
    verdict = comparison.verdict
    higher, of_classes = verdict.higher_is_better, data.of_classes
    colors = family_colors(list(dict.fromkeys(one.family for one in comparison.entrants)))
    found: dict[str, Callable[[], Figure]] = {"leaderboard": partial(ranking_figure, comparison)}
    if points := trade_offs_of(comparison):
        key = f"{comparison.part}/{verdict.measure}"
        found["trade_offs"] = partial(
            pareto_figure, points, key, colors, higher_is_better=higher, sets=verdict.sets
        )
    if curves := curves_of(data):
        key = f"val/{data.curve}"
        draw_curves = partial(curves_figure, curves, key, colors, sets=verdict.sets)
        found["learning_curves"] = draw_curves
    if len(leaders[0].confidence):
        found["reliability"] = partial(reliability_figure, leaders)
    counted = "pixels" if of_classes == "iou" else "pictures"
    for place, leader in enumerate(leaders, 1):
        if not len(leader.matrix):  # several labels are not taken for each other
            continue
        title = f"Confusion of {plain_labels([leader.name], _LONGEST_LABEL)[0]}"
        draw = partial(confusion_figure, leader.matrix, data.class_names, title, counted)
        found[f"confusion_{place}"] = draw
    found["classes"] = partial(recall_figure, leaders, data.class_names, _CLASS_TITLES[of_classes])
    return found


def draw_comparison_figures(
    folder: Path, data: ReportData, first: int = 0, step: int = 1
) -> Iterator[Path]:
    """Draw a comparison.

    Args:
        folder: of the files, `<name>.png` each.
        data: what to draw.
        first, step: every step-th figure alone, from this one on, as for one of several processes.

    Yields:
        The path of each file once it is written, in the order of `comparison_figures`.

    Raises:
        OSError: a file cannot be written.
    """
    for name, figure in [*comparison_figures(data).items()][first::step]:
        yield save_as(folder, figure(), name)


def trade_offs_of(comparison: Comparison) -> list[TradeOff]:
    """Return the figure against each cost that is known of two candidates or more."""
    costs: dict[str, list[float | None]] = {
        "cost/parameters": [one.parameters for one in comparison.entrants],
        "cost/latency_ms": [one.standing.cost for one in comparison.entrants],
    }
    found = []
    for key, known in costs.items():
        points = [
            (float(cost), one.standing.figure, one.family)
            for one, cost in zip(comparison.entrants, known)
            if cost is not None
        ]
        if len(points) > 1:
            found.append(TradeOff(key, "minimize", points))
    return found


def curves_of(data: ReportData) -> list[FamilyCurves]:
    """Return the curves of each family that has one, the best first, with where that one ends."""
    found: dict[str, FamilyCurves] = {}
    for one in data.comparison.entrants:
        curve = data.curves.get(one.standing.rank)
        if curve and one.family in found:
            known = found[one.family]
            found[one.family] = replace(known, complete=[*known.complete, curve])
        elif curve:
            # What candidates rank by may be another measure, or of another part.
            end = curve[-1][1]
            found[one.family] = FamilyCurves(one.family, [curve], [], best=curve, value=end)
    return list(found.values())


def ranking_figure(comparison: Comparison) -> Figure:
    """Draw figure and 95 % interval of the best candidates; those tied with the best filled.

    Args:
        comparison: of any number of candidates; the first thirty are drawn, and the choice.
    """
    shown = best_and_chosen(comparison, _MOST_RANKED)
    names = [f"{one.standing.rank}. {one.standing.name}" for one in shown]
    labels = plain_labels(names, _LONGEST_LABEL)
    families = list(dict.fromkeys(one.family for one in comparison.entrants))
    colors = family_colors(families)
    verdict = comparison.verdict
    in_percent = is_percent(verdict.measure)
    scale = 100 if in_percent else 1
    left, height = 0.4 + inches(labels, 8), _LINE_INCHES * len(shown)
    figure = new_figure(left + 5.3, height + 1.4, arranged=False)
    axes = axes_at(figure, left, 0.75, 5.0, height)
    for line, one in enumerate(shown):
        color, standing = colors[one.family], one.standing
        ends = [scale * standing.interval.low, scale * standing.interval.high]
        axes.plot(ends, [line, line], color=color, lw=1.6, solid_capstyle="butt")
        fill = color if standing.tied else "white"
        axes.plot(scale * standing.figure, line, "o", color=color, mfc=fill, ms=6)
    several = len(comparison.entrants) > 1
    among = ";\nfilled: statistically tied with the best" if several else ""
    more = len(comparison.entrants) > _MOST_RANKED
    of = f"the best {_MOST_RANKED} of " if more else ""
    tidy(
        axes,
        title=f"{measure_title(verdict)} of {of}{len(comparison.entrants):,} candidates",
        x=f"{'percent, ' if in_percent else ''}{pictures_compared(comparison)}, with "
        f"{'simultaneous ' * several}95 % intervals{among}",
        grid="x",
    )
    axes.xaxis.label.set(fontsize=7.5, color=MUTED)
    list_rows(axes, labels, len(shown))
    return figure


def reliability_figure(leaders: Sequence[Leader]) -> Figure:
    """Draw accuracy against confidence of each leader; a dot's area is its share.

    Args:
        leaders: at least one.
    """
    figure = new_figure(0.6 + 3.5 * len(leaders), 3.9)
    grid = figure.subplots(1, len(leaders), sharex=True, sharey=True, squeeze=False)[0]
    colors = family_colors(list(dict.fromkeys(one.family for one in leaders)))
    for axes, one in zip(grid, leaders, strict=True):
        axes.plot([0, 1], [0, 1], color=MUTED, lw=1, ls=(0, (4, 3)))
        axes.plot(one.confidence, one.accuracy, color=colors[one.family], lw=1.2)
        axes.scatter(
            one.confidence, one.accuracy, s=12 + 260 * one.shares, color=colors[one.family]
        )
        name = plain_labels([one.name], 30)[0]
        error = metric_text("calibration_error", one.calibration_error)
        title = f"{name}\ncalibration error {error}"
        tidy(axes, title=title, x="confidence", y="accuracy", grid="both")
        axes.set(xlim=(-0.03, 1.03), ylim=(-0.03, 1.03))
        axes.title.set_fontsize(9)
        in_percent(axes.xaxis, axes.yaxis)
        axes.label_outer()
    return figure


def recall_figure(leaders: Sequence[Leader], class_names: Sequence[str], title: str) -> Figure:
    """Draw the recall (or IoU) of each class by each leader, the winner's weakest class first.

    Args:
        leaders: at least one.
        class_names: K names; the forty weakest are drawn.
        title: what is drawn.
    """
    order = leaders[0].weakest_first[:_MOST_CLASSES]
    every = plain_labels(class_names)
    colors = distinct_colors(len(leaders))
    figure = new_figure(7.2, _LINE_INCHES * len(order) + 1.3 + 0.2 * len(leaders))
    axes = figure.subplots()
    for line, index in enumerate(order):
        found = [leader.recall[index] for leader in leaders]
        axes.plot([min(found), max(found)], [line, line], color=GRID, lw=3, zorder=1)
    for place, leader in enumerate(leaders):
        # Each smaller than the one before, so that equal ones show.
        axes.plot(
            leader.recall[order], range(len(order)), "o", color=colors[place],
            ms=9 - 2.5 * place, label=plain_labels([leader.name], _LONGEST_LABEL)[0],
        )  # fmt: skip
    title += "" if len(order) == len(class_names) else ", the weakest"
    tidy(axes, title=title, grid="x")
    axes.xaxis.set_major_formatter(FuncFormatter(lambda share, _: tick_text("accuracy", share)))
    list_rows(axes, [every[index] for index in order], len(order))
    figure.legend(loc="outside lower left", frameon=False, fontsize=8, labelcolor=INK)
    return figure
