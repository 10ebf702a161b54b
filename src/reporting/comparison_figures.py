"""The pictures of a comparison, drawn into its folder."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, PercentFormatter

from src.reporting.comparison import Comparison
from src.reporting.contact_sheets import Cell, sheet
from src.reporting.figures import confusion_figure
from src.reporting.formatting import metric_text, tick_text
from src.reporting.palette import family_colors
from src.reporting.report_data import Disagreement, Exhibits, Leader, as_race
from src.reporting.style import (
    GRID,
    INK,
    MUTED,
    WARNING,
    axes_at,
    inches,
    new_figure,
    plain_labels,
    save,
    tidy,
)
from src.reporting.sweep_curves import curves_figure, importance_figure
from src.reporting.sweep_planes import pareto_figure, trade_offs

__all__ = [
    "disagreement_sheet",
    "draw_comparison_figures",
    "ranking_figure",
    "recall_figure",
    "reliability_figure",
]

_MOST_RANKED = 30
_MOST_CLASSES = 40
_LONGEST = 52
_LINE_INCHES = 0.27


def draw_comparison_figures(folder: Path, exhibits: Exhibits) -> Iterator[Path]:
    """Draw a comparison; what there is nothing to draw of, such as importances, has no picture.

    Args:
        folder: where to; one PNG a picture: `leaderboard`, `trade_offs`, `learning_curves`,
            `reliability`, `confusion_<place>`, `classes`, `disagreements`, `importance`.
        exhibits: what to draw.

    Yields:
        The path of each file once it is written.

    Raises:
        OSError: a file cannot be written.
    """

    def saved(figure: Figure, name: str) -> Path:
        path = folder / f"{name}.png"
        save(figure, path)
        return path

    race = as_race(exhibits)
    yield saved(ranking_figure(exhibits.comparison), "leaderboard")
    if trade_offs(race):
        yield saved(pareto_figure(race), "trade_offs")
    if exhibits.curves:
        yield saved(curves_figure(race), "learning_curves")
    yield saved(reliability_figure(exhibits.leaders), "reliability")
    for place, leader in enumerate(exhibits.leaders, 1):
        title = f"Confusion of {plain_labels([leader.name], _LONGEST)[0]}"
        figure = confusion_figure(leader.matrix, exhibits.class_names, title)
        yield saved(figure, f"confusion_{place}")
    yield saved(recall_figure(exhibits.leaders, exhibits.class_names), "classes")
    if any(one.picture is not None for one in exhibits.disagreements):
        figure = disagreement_sheet(exhibits.disagreements, exhibits.leaders)
        yield saved(figure, "disagreements")
    if exhibits.importances:
        of_study = replace(
            race,
            metrics=(exhibits.importance_of,),
            families=tuple(exhibits.importances),
            importances=exhibits.importances,
        )
        yield saved(importance_figure(of_study), "importance")


def ranking_figure(comparison: Comparison) -> Figure:
    """Accuracy and 95 % interval of the best candidates; those tied with the best are filled.

    Args:
        comparison: of any number of candidates; the first thirty are drawn.
    """
    shown = comparison.entrants[:_MOST_RANKED]
    names = [f"{one.standing.rank}. {one.standing.name}" for one in shown]
    labels = plain_labels(names, _LONGEST)
    families = list(dict.fromkeys(one.family for one in comparison.entrants))
    colors = family_colors(families)
    left, height = 0.4 + inches(labels, 8), _LINE_INCHES * len(shown)
    figure = new_figure(left + 5.3, height + 1.4, arranged=False)
    axes = axes_at(figure, left, 0.75, 5.0, height)
    for line, one in enumerate(shown):
        color, standing = colors[one.family], one.standing
        ends = [100 * standing.interval.low, 100 * standing.interval.high]
        axes.plot(ends, [line, line], color=color, lw=1.6, solid_capstyle="butt")
        fill = color if standing.tied else "white"
        axes.plot(100 * standing.accuracy, line, "o", color=color, mfc=fill, ms=6)
    of = f"the best {len(shown)} of " if len(shown) < len(comparison.entrants) else ""
    tidy(axes, title=f"Accuracy of {of}{len(comparison.entrants):,} candidates")
    axes.set_xlabel(
        f"percent of {comparison.where}, with 95 % intervals, the first one corrected for having "
        "been picked;\nfilled: cannot be told from the best",
        fontsize=7.5, color=MUTED,
    )  # fmt: skip
    axes.set_yticks(range(len(shown)), labels)
    axes.set_ylim(len(shown) - 0.4, -0.6)
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="x", color=GRID, lw=0.8)
    return figure


def reliability_figure(leaders: Sequence[Leader]) -> Figure:
    """How often each leader is right against how sure it was; a dot's area is its share.

    Args:
        leaders: at least one.
    """
    figure = new_figure(0.6 + 3.5 * len(leaders), 3.9)
    grid = figure.subplots(1, len(leaders), sharex=True, sharey=True, squeeze=False)[0]
    colors = family_colors(list(dict.fromkeys(one.family for one in leaders)))
    for axes, one in zip(grid, leaders, strict=True):
        filled = one.bins.counts > 0
        shares = one.bins.counts[filled] / one.bins.counts.sum()
        confidence, accuracy = one.bins.confidence[filled], one.bins.accuracy[filled]
        axes.plot([0, 1], [0, 1], color=MUTED, lw=1, ls=(0, (4, 3)))
        axes.plot(confidence, accuracy, color=colors[one.family], lw=1.2)
        axes.scatter(confidence, accuracy, s=12 + 260 * shares, color=colors[one.family])
        name = plain_labels([one.name], 30)[0]
        error = metric_text("calibration_error", one.bins.calibration_error)
        tidy(axes, title=f"{name}\ncalibration error {error}", x="confidence", y="accuracy")
        axes.set(xlim=(-0.03, 1.03), ylim=(-0.03, 1.03))
        axes.title.set_fontsize(9)
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_formatter(PercentFormatter(1.0))
        axes.grid(color=GRID, lw=0.8)
        axes.label_outer()
    return figure


def recall_figure(leaders: Sequence[Leader], class_names: Sequence[str]) -> Figure:
    """Share of each class that each leader finds, the winner's weakest class first.

    Args:
        leaders: at least one.
        class_names: K names; the forty weakest are drawn.
    """
    order = leaders[0].weakest_first[:_MOST_CLASSES]
    every = plain_labels(class_names)
    colors = family_colors([str(place) for place in range(len(leaders))])
    figure = new_figure(7.2, _LINE_INCHES * len(order) + 1.3 + 0.2 * len(leaders))
    axes = figure.subplots()
    for line, index in enumerate(order):
        found = [leader.recall[index] for leader in leaders]
        axes.plot([min(found), max(found)], [line, line], color=GRID, lw=3, zorder=1)
    for place, leader in enumerate(leaders):
        # Each smaller than the one before, so that equal ones show.
        axes.plot(
            leader.recall[order], range(len(order)), "o", color=colors[str(place)],
            ms=9 - 2.5 * place, label=plain_labels([leader.name], _LONGEST)[0],
        )  # fmt: skip
    title = "Share of each class that is found"
    tidy(axes, title=title + ("" if len(order) == len(class_names) else ", the weakest"))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda share, _: tick_text("accuracy", share)))
    axes.set_yticks(range(len(order)), [every[index] for index in order])
    axes.set_ylim(len(order) - 0.4, -0.6)
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="x", color=GRID, lw=0.8)
    figure.legend(loc="outside lower left", frameon=False, fontsize=8, labelcolor=INK)
    return figure


def disagreement_sheet(disagreements: Sequence[Disagreement], leaders: Sequence[Leader]) -> Figure:
    """The pictures of which the leaders say different things, with what each of them says."""
    cells = []
    for one in disagreements:
        if one.picture is None:
            continue
        target, *labels = plain_labels([one.target, *(a.label for a in one.answers)], 13)
        said = [
            (f"{place}: {label} {answer.probability:.0%}", INK if answer.right else WARNING)
            for place, (label, answer) in enumerate(zip(labels, one.answers), 1)
        ]
        cells.append(Cell(one.picture, ((f"is {target}", MUTED), *said)))
    families = plain_labels([leader.family for leader in leaders])
    alike = len(set(families)) < len(leaders)
    names = [f"rank {leader.rank}" for leader in leaders] if alike else families
    told = ", ".join(f"{place}: {name}" for place, name in enumerate(names, 1))
    return sheet(cells, f"Where they disagree ({told})", columns=6)
