"""A comparison as one HTML page that needs nothing but itself."""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Iterable, Sequence
from html import escape
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from src.metrics.pareto import pareto_front
from src.reporting.class_table import class_rows
from src.reporting.comparison import Comparison, Entrant, comparison_table
from src.reporting.formatting import metric_text
from src.reporting.page import html_page, plain_table, sortable_table
from src.reporting.palette import family_colors
from src.reporting.report_data import Disagreement, Exhibits, Leader
from src.reporting.tables import Table
from src.statistics.intervals import Interval

__all__ = ["comparison_page"]

_MOST_RANKED = 25
_MOST_CLASSES_DRAWN = 40
_MOST_CLASSES_LISTED = 100
_COMMAND = "train it again"
_PICTURE_SIDE = 96  # smaller ones are enlarged by whole numbers, for browsers would blur them


def comparison_page(exhibits: Exhibits) -> str:
    """Leaderboard, trade-off, curves, reliability, confusion, disagreements, classes.

    The tables, the verdict and the pictures are there without the script too.

    Args:
        exhibits: all that is shown.
    """
    comparison = exhibits.comparison
    said = "".join(f"<li>{escape(sentence)}</li>" for sentence in comparison.sentences)
    closing = " ".join(map(escape, comparison.closing))
    title = f"{comparison.data}: which candidate?"
    sections = [
        f"<h1>{escape(title)}</h1><p>{escape(_headline(comparison))}</p>",
        f'<ul class="verdict">{said}</ul><p class="quiet">{closing}</p>',
        '<div class="tabs quiet" id="legend"></div>',
        _drawing(
            "ranking",
            "Accuracy with 95 % intervals",
            "Filled: cannot be told from the best. The first interval is corrected for having "
            "been picked.",
        ),
        _drawing(
            "plane",
            "Accuracy against latency",
            "The line is the Pareto front: nothing is both faster and better than what is on it.",
            there=any(one.standing.cost is not None for one in comparison.entrants),
        ),
        '<div id="card" hidden></div>',
        _leaderboard(comparison),
        _drawing(
            "curves",
            "Learning curves by family",
            "Validation accuracy after each epoch, the best candidate of the family thick.",
            there=bool(exhibits.curves),
        ),
        _leaders(exhibits.leaders),
        _drawing(
            "reliability",
            "Can their confidence be believed?",
            "Share that is right against how sure they were; on the dashed line both are equal. "
            "A dot's area is its share of the pictures.",
        ),
        _drawing(
            "confusion",
            "What they confuse",
            "Rows are what the pictures are, columns what they were taken for; shades are shares "
            "of a row.",
            there=len(exhibits.class_names) <= _MOST_CLASSES_DRAWN,
        ),
        _disagreements(exhibits),
        _classes(exhibits),
        *_importances(exhibits),
    ]
    return html_page("comparison_page", title, sections, _data(exhibits), pictures=True)


def _headline(comparison: Comparison) -> str:
    runs = f"{comparison.runs:,} runs" if comparison.runs != 1 else "one run"
    several = len(comparison.entrants) != 1
    candidates = f"{len(comparison.entrants):,} candidates" if several else "one candidate"
    pictures = f"{comparison.verdict.pictures:,} pictures"
    return f"{candidates} in {runs}, judged by {pictures} ({comparison.where})"


def _drawing(name: str, title: str, about: str, *, there: bool = True) -> str:
    if not there:
        return ""
    return f'<h2>{title}</h2><p class="quiet">{about}</p><div id="{name}"></div>'


def _leaderboard(comparison: Comparison) -> str:
    table = comparison_table(comparison)
    values = [
        (
            *(one.standing.rank, one.standing.accuracy, one.standing.interval.low),
            *(len(one.standing.run_ids), one.standing.log_loss, one.standing.calibration_error),
            *(None if one.size is None else one.size[0] * one.size[1], one.start),
            *(one.parameters, one.standing.cost, one.training_seconds),
            *(int(not one.standing.tied), one.standing.name),
        )
        for one in comparison.entrants
    ]
    ranks = [one.standing.rank for one in comparison.entrants]
    return sortable_table(table, values, ranks, pressed=0)


def _leaders(leaders: Sequence[Leader]) -> str:
    names = "".join(
        f"<li>{escape(one.name)} (rank {one.rank})</li>" for place, one in enumerate(leaders, 1)
    )
    about = "The winner and the best of other families; below they are looked at more closely."
    return f'<h2>The leaders</h2><p class="quiet">{about}</p><ol>{names}</ol>'


def _disagreements(exhibits: Exhibits) -> str:
    if exhibits.agreement is None:
        return ""
    parts = [
        "<h2>Where they disagree</h2>",
        f"<p>{escape(exhibits.agreement.sentence)}</p>",
    ]
    if exhibits.no_pictures is not None:
        parts.append(
            f'<p class="quiet">The pictures cannot be shown: {escape(exhibits.no_pictures)}.</p>'
        )
    if exhibits.disagreements:
        figures = "".join(map(_figure, exhibits.disagreements))
        parts.append(f'<div class="gallery">{figures}</div>')
    return "".join(parts)


def _figure(one: Disagreement) -> str:
    answers = "".join(
        f'<li class="{"right" if answer.right else "wrong"}">{escape(answer.label)} '
        f"{answer.probability:.0%}</li>"
        for answer in one.answers
    )
    shown = ""
    if one.picture is not None:
        shown = f'<img src="{_address(one.picture)}" alt="{escape(one.shown)}">'
    named = f'<span class="quiet">{escape(one.shown)}</span>'
    said = f"{named}<br>is <strong>{escape(one.target)}</strong>"
    return f"<figure>{shown}<figcaption>{said}<ol>{answers}</ol></figcaption></figure>"


def _address(picture: NDArray[np.uint8]) -> str:
    """The picture itself as an address; pixels of small ones stay sharp when it is enlarged."""
    channels = picture.shape[0]
    pixels = picture.transpose(1, 2, 0) if channels == 3 else picture[0]
    image = Image.fromarray(np.ascontiguousarray(pixels))
    times = max(1, _PICTURE_SIDE // max(image.size))
    image = image.resize((image.width * times, image.height * times), Image.Resampling.NEAREST)
    stream = io.BytesIO()
    image.save(stream, "PNG")
    return f"data:image/png;base64,{base64.b64encode(stream.getvalue()).decode()}"


def _classes(exhibits: Exhibits) -> str:
    """Share of each class that each leader finds, the winner's weakest first."""
    leaders, names = exhibits.leaders, exhibits.class_names
    rows = {row.index: row for row in class_rows(leaders[0].matrix)}
    lines = []
    for index in leaders[0].weakest_first[:_MOST_CLASSES_LISTED].tolist():
        row = rows[index]
        other = "" if row.confused_with is None else names[row.confused_with]
        found = [f"{100 * leader.recall[index]:.1f} %" for leader in leaders]
        lines.append((names[index], f"{row.pictures:,}", *found, other))
    places = [f"{place}. {one.family}" for place, one in enumerate(leaders, 1)]
    title = "Share of each class that is found, the winner's weakest first"
    table = Table(
        title,
        ("class", "pictures", *places, "the winner takes it for"),
        tuple(lines),
        frozenset(range(1, 2 + len(leaders))),
    )
    return plain_table(table, "classes")


def _importances(exhibits: Exhibits) -> Iterable[str]:
    """A list of bars for each family."""
    if exhibits.importances:
        yield (
            "<h2>Which settings made the difference</h2>"
            f'<p class="quiet">Share in how {escape(exhibits.importance_of)} varies over the '
            "trials of the family.</p>"
        )
    for family, shares in exhibits.importances.items():
        if not shares:
            continue
        order = sorted(shares, key=lambda key: (-shares[key], key))
        rows = "".join(
            f"<dt>{escape(key)}</dt><dd>{_bar(shares[key])} {shares[key]:.0%}</dd>" for key in order
        )
        yield f'<h3>{escape(family)}</h3><dl class="bars">{rows}</dl>'


def _bar(share: float) -> str:
    return (
        '<svg width="120" height="10" aria-hidden="true"><rect class="bar" '
        f'width="{120 * share:.1f}" height="10"></rect></svg>'
    )


def _data(exhibits: Exhibits) -> dict[str, Any]:
    entrants = exhibits.comparison.entrants
    families = list(dict.fromkeys(one.family for one in entrants))
    return {
        "ranked": _MOST_RANKED,
        "command": _COMMAND,
        "colors": family_colors(families),
        "front": _front(entrants),
        "candidates": [_candidate(one) for one in entrants],
        "curves": _curves(exhibits),
        "classes": list(exhibits.class_names),
        "leaders": [_leader(one) for one in exhibits.leaders],
    }


def _front(entrants: Sequence[Entrant]) -> list[int]:
    """Ranks of the candidates that nothing beats in both accuracy and latency."""
    costs = [math.nan if one.standing.cost is None else one.standing.cost for one in entrants]
    points = [(cost, one.standing.accuracy) for cost, one in zip(costs, entrants)]
    chosen = [entrants[place] for place in pareto_front(points, ("minimize", "maximize"))]
    return [one.standing.rank for one in sorted(chosen, key=lambda one: one.standing.cost or 0.0)]


def _candidate(one: Entrant) -> dict[str, Any]:
    standing = one.standing
    about = {
        "accuracy": f"{metric_text('accuracy', standing.accuracy)}, {standing.interval}",
        "ahead of the best of the others": _points(standing.behind),
        "latency": None if standing.cost is None else f"{standing.cost:.3g} ms a picture",
        "runs": " ".join(one.run_dirs),
        _COMMAND: one.command,
    }
    return {
        "rank": standing.rank,
        "name": standing.name,
        "family": one.family,
        "accuracy": standing.accuracy,
        "low": standing.interval.low,
        "high": standing.interval.high,
        "tied": standing.tied,
        "cost": standing.cost,
        "about": [pair for pair in about.items() if pair[1]],
    }


def _points(difference: Interval) -> str:
    return f"{100 * difference.low:+.1f} to {100 * difference.high:+.1f} points"


def _curves(exhibits: Exhibits) -> list[dict[str, Any]]:
    found: dict[str, list[list[tuple[int, float | None]]]] = {}
    for one in exhibits.comparison.entrants:  # the best one of a family comes first
        if points := exhibits.curves.get(one.standing.rank):
            whole = [(epoch, value if math.isfinite(value) else None) for epoch, value in points]
            found.setdefault(one.family, []).append(whole)
    return [{"family": family, "lines": lines} for family, lines in found.items()]


def _leader(one: Leader) -> dict[str, Any]:
    filled = one.bins.counts > 0
    return {
        "name": one.name,
        "family": one.family,
        "error": metric_text("calibration_error", one.bins.calibration_error),
        "confidence": one.bins.confidence[filled].tolist(),
        "right": one.bins.accuracy[filled].tolist(),
        "shares": (one.bins.counts[filled] / one.bins.counts.sum()).tolist(),
        "matrix": one.matrix.tolist() if len(one.matrix) <= _MOST_CLASSES_DRAWN else [],
    }
