"""A comparison as one HTML page: verdict, leaderboard, trade-offs, curves, and the leaders."""

from __future__ import annotations

import base64
import io
import math
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ..metrics.classification import class_scores
from ..metrics.pareto import pareto_front
from ..records.comparison import Comparison, Entrant, Leader, ReportData
from .comparison_report import closing_remarks, comparison_table, pictures_compared
from .comparison_verdict import (
    MEASURE_NAMES,
    difference_text,
    interval_text,
    pictures_text,
    verdict_sentences,
)
from .formatting import Table, metric_text
from .page import html_page
from .scales import family_colors

__all__ = ["comparison_page"]

_MOST_RANKED = 25
_MOST_CLASSES_DRAWN = 40
_MOST_CLASSES_LISTED = 100
_COMMAND = "train it again"
_PICTURE_SIDE = 96  # smaller ones are enlarged by whole numbers, because browsers would blur them


def comparison_page(report: ReportData) -> str:
    """Return the page; the tables, the verdict and the pictures are there without the script too.

    Args:
        report: all that is shown.
    """
    comparison, entrants = report.comparison, report.comparison.entrants
    values = {
        "headline": _headline(comparison),
        "sentences": verdict_sentences(comparison),
        "closing": " ".join(closing_remarks(comparison)),
        "measure": MEASURE_NAMES[comparison.verdict.measure],
        "has_latencies": any(one.standing.cost is not None for one in entrants),
        "leaderboard": comparison_table(comparison),
        "sort_values": [_sort_values(one, comparison.verdict.is_share) for one in entrants],
        "ranks": [one.standing.rank for one in entrants],
        "has_curves": bool(report.curves),
        "leaders": report.leaders,
        "has_matrices": len(report.class_names) <= _MOST_CLASSES_DRAWN,
        "agreement": report.agreement,
        "no_pictures": report.no_pictures,
        "disagreements": report.disagreements,
        "addresses": [_address(one.picture) for one in report.disagreements],
        "classes": _classes_table(report),
        "groups": _groups_table(report),
        "importance_of": report.importance_of,
        "importances": {
            family: sorted(shares.items(), key=lambda one: (-one[1], one[0]))
            for family, shares in report.importances.items()
            if shares
        },
    }
    title = f"{comparison.data}: which candidate?"
    return html_page("comparison_page", title, values, _data(report), pictures=True)


def _headline(comparison: Comparison) -> str:
    runs = f"{comparison.runs:,} runs" if comparison.runs != 1 else "one run"
    several = len(comparison.entrants) != 1
    candidates = f"{len(comparison.entrants):,} candidates" if several else "one candidate"
    pictures = pictures_text(comparison.verdict)
    return f"{candidates} in {runs}, judged by {pictures} ({pictures_compared(comparison)})"


def _sort_values(one: Entrant, is_share: bool) -> tuple[Any, ...]:
    """Return what the cells of its row of the leaderboard sort by."""
    standing = one.standing
    worst = standing.interval.low if is_share else standing.interval.high
    return (
        *(standing.rank, standing.name, standing.figure, worst, int(not standing.tied)),
        *(standing.best, len(standing.run_ids), standing.cost, one.training_seconds),
        *(standing.log_loss, standing.calibration_error),
        *(None if one.size is None else one.size[0] * one.size[1], one.start),
        *(one.parameters, one.settings),
    )


def _address(picture: NDArray[np.uint8] | None) -> str | None:
    """Return the picture as a `data:` address; small ones are enlarged with sharp pixels."""
    if picture is None:
        return None
    pixels = picture.transpose(1, 2, 0) if picture.shape[0] == 3 else picture[0]
    image = Image.fromarray(np.ascontiguousarray(pixels))
    times = max(1, _PICTURE_SIDE // max(image.size))
    image = image.resize((image.width * times, image.height * times), Image.Resampling.NEAREST)
    stream = io.BytesIO()
    image.save(stream, "PNG")
    return f"data:image/png;base64,{base64.b64encode(stream.getvalue()).decode()}"


def _classes_table(report: ReportData) -> Table:
    """Return the recall of each class by each leader, the winner's weakest class first."""
    leaders, names = report.leaders, report.class_names
    counts, others = leaders[0].pictures, [""] * len(names)
    if len(leaders[0].matrix):
        scores = class_scores(leaders[0].matrix)
        counts = tuple(one.pictures for one in scores)
        others = ["" if s.confused_with is None else names[s.confused_with] for s in scores]
    rows = []
    for index in leaders[0].weakest_first[:_MOST_CLASSES_LISTED].tolist():
        recall = [_recall(leader, index) for leader in leaders]
        rows.append((names[index], f"{counts[index]:,}", *recall, others[index]))
    places = [f"{place}. {one.family}" for place, one in enumerate(leaders, 1)]
    return Table(
        "Recall of each class with its own 95 % interval, the winner's weakest first",
        ("class", "pictures", *places, "the winner confuses it with"),
        tuple(rows),
        frozenset(range(1, 2 + len(leaders))),
    )


def _recall(leader: Leader, index: int) -> str:
    """Return the recall of a class with its interval, as in "81.2 % (70.1 to 88.9)"."""
    share = f"{100 * leader.recall[index]:.1f} %"
    interval = leader.recall_intervals[index] if leader.recall_intervals else None
    return share if interval is None else f"{share} ({str(interval).removesuffix(' %')})"


def _groups_table(report: ReportData) -> Table | None:
    """Return the groups that the winner has least right; None where there are no groups."""
    rows = [
        (
            one.shown,
            f"{one.pictures:,}",
            f"{100 * one.accuracy:.1f} % ({str(one.interval).removesuffix(' %')})",
        )
        for one in report.leaders[0].groups
    ]
    if not rows:
        return None
    return Table(
        "Groups that the winner has least right",
        ("first picture", "pictures", "right (95 % interval, within the group)"),
        tuple(rows),
        frozenset({1, 2}),
    )


def _data(report: ReportData) -> dict[str, Any]:
    comparison, entrants = report.comparison, report.comparison.entrants
    families = list(dict.fromkeys(one.family for one in entrants))
    return {
        "ranked": _MOST_RANKED,
        "command": _COMMAND,
        "colors": family_colors(families),
        "front": _front(comparison),
        "percent": comparison.verdict.is_share,
        "candidates": [_candidate(one, comparison.verdict.measure) for one in entrants],
        "curves": _curves(report),
        "classes": list(report.class_names),
        "leaders": [_leader(one) for one in report.leaders],
    }


def _front(comparison: Comparison) -> list[int]:
    """Return ranks of the Pareto-optimal candidates in figure and latency, cheapest first."""
    entrants = comparison.entrants
    costs = [math.nan if one.standing.cost is None else one.standing.cost for one in entrants]
    points = [(cost, one.standing.figure) for cost, one in zip(costs, entrants)]
    direction = "maximize" if comparison.verdict.is_share else "minimize"
    chosen = [entrants[place] for place in pareto_front(points, ("minimize", direction))]
    return [one.standing.rank for one in sorted(chosen, key=lambda one: one.standing.cost or 0.0)]


def _candidate(one: Entrant, measure: str) -> dict[str, Any]:
    standing = one.standing
    figure, ends = metric_text(measure, standing.figure), interval_text(standing.interval, measure)
    about = {
        MEASURE_NAMES[measure]: f"{figure}, {ends}",
        "ahead of the best of the others": difference_text(standing.behind, measure),
        "probability to be the best": f"{100 * standing.best:.0f} %",
        "expected loss": f"{100 * standing.loss:.2f} points"
        if measure not in ("log_loss", "cost")
        else f"{standing.loss:.2g}",
        "latency": None if standing.cost is None else f"{standing.cost:.3g} ms a picture",
        "runs": " ".join(one.run_dirs),
        _COMMAND: one.command,
    }
    return {
        "rank": standing.rank,
        "name": standing.name,
        "family": one.family,
        "figure": standing.figure,
        "low": standing.interval.low,
        "high": standing.interval.high,
        "tied": standing.tied,
        "cost": standing.cost,
        "about": [pair for pair in about.items() if pair[1]],
    }


def _curves(report: ReportData) -> list[dict[str, Any]]:
    found: dict[str, list[list[tuple[int, float | None]]]] = {}
    for one in report.comparison.entrants:  # the best one of a family comes first
        if points := report.curves.get(one.standing.rank):
            whole = [(epoch, value if math.isfinite(value) else None) for epoch, value in points]
            found.setdefault(one.family, []).append(whole)
    return [{"family": family, "lines": lines} for family, lines in found.items()]


def _leader(one: Leader) -> dict[str, Any]:
    return {
        "name": one.name,
        "family": one.family,
        "error": metric_text("calibration_error", one.calibration_error),
        "confidence": one.confidence.tolist(),
        "right": one.accuracy.tolist(),
        "shares": one.shares.tolist(),
        "matrix": one.matrix.tolist() if len(one.matrix) <= _MOST_CLASSES_DRAWN else [],
    }
