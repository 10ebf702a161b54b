"""A comparison as one HTML page: the verdict, the candidates, and the details folded below."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

import numpy as np
from PIL import Image

from ..machine.arrays import UInt8Array
from ..machine.text import counted, percent
from ..metrics.pareto import pareto_front
from ..metrics.summary import metric_name
from ..records.comparison import Comparison, Entrant, Recommendation
from ..records.report_data import Leader, ReportData
from .comparison_report import (
    best_and_chosen,
    classes_table,
    closing_remarks,
    comparison_table,
    groups_table,
    pictures_compared,
    subgroups_table,
    weak_classes,
)
from .comparison_verdict import (
    CERTAIN,
    caution_sentences,
    constant_sentence,
    difference_text,
    interval_text,
    measure_name,
    measure_title,
    pictures_text,
    verdict_sentences,
)
from .formatting import (
    chance_text,
    count,
    duration,
    gap_text,
    is_percent,
    mean_text,
    metric_text,
    picture_name,
    tick_text,
)
from .page import html_page, picture_address
from .scales import family_colors, round_numbers

__all__ = ["comparison_page"]

_MOST_RANKED = 25
_MARGIN = 8.0  # percent of a board's width, at either end, for half of a tick's text
_MOST_CLASSES_DRAWN = 40
_COMMAND = "train it again"
_PICTURE_SIDE = 96  # smaller ones are enlarged by whole numbers, because browsers would blur them


def comparison_page(report: ReportData, next_step: str | None = None) -> str:
    """Return the page; the tables, the verdict and the pictures are there without the script too.

    Args:
        report: all that is shown.
        next_step: the command that takes the choice; None where no choice is made.
    """
    comparison, entrants = report.comparison, report.comparison.entrants
    colors = family_colors(list(dict.fromkeys(one.family for one in entrants)))
    board, ticks = _board(comparison, colors)
    table = comparison_table(comparison)
    values = {
        "kicker": _kicker(comparison),
        "headline": _headline(comparison),
        "lead": _lead(comparison),
        "facts_shown": _facts(report, next_step),
        "sentences": verdict_sentences(comparison),
        "closing": " ".join(closing_remarks(comparison)),
        "measure": measure_name(comparison.verdict),
        "board": board,
        "ticks": ticks,
        "shown": _shown(comparison),
        "has_latencies": len(entrants) > 1
        and any(one.standing.cost is not None for one in entrants),
        "leaderboard": table,
        "sort_values": [_sort_values(one, comparison.verdict) for one in entrants],
        "ranks": [one.standing.rank for one in entrants],
        "colors": [colors[one.family] for one in entrants],
        "has_curves": bool(report.curves),
        "leaders": report.leaders,
        "has_reliability": len(report.leaders[0].confidence) > 0,
        "curve": metric_name(report.curve, sets=comparison.verdict.sets),
        "of_classes": "IoU" if report.of_classes == "iou" else report.of_classes,
        "counted": "pixels" if report.of_classes == "iou" else "pictures",
        "has_matrices": 0 < len(report.leaders[0].matrix) <= _MOST_CLASSES_DRAWN,
        "agreement": report.agreement,
        "no_pictures": report.no_pictures,
        "disagreements": report.disagreements,
        "addresses": [_address(one.picture) for one in report.disagreements],
        "names": [picture_name(one.shown) for one in report.disagreements],
        "classes": classes_table(report),
        "groups": groups_table(report),
        "subgroups": subgroups_table(report),
        "importance_of": metric_name(report.importance_of, sets=comparison.verdict.sets),
        "importances": {
            family: sorted(shares.items(), key=lambda one: (-one[1], one[0]))
            for family, shares in report.importances.items()
            if shares
        },
        "percent": percent,
    }
    title = f"{comparison.data}: which candidate?"
    return html_page("comparison_page", title, values, _data(report, colors), pictures=True)


def _kicker(comparison: Comparison) -> str:
    runs = f"{comparison.runs:,} runs" if comparison.runs != 1 else "one run"
    several = len(comparison.entrants) != 1
    candidates = f"{len(comparison.entrants):,} candidates" if several else "one candidate"
    pictures = f"{pictures_compared(comparison)}: {pictures_text(comparison.verdict)}"
    return f"{candidates} in {runs}, evaluated on {pictures}"


def _headline(comparison: Comparison) -> str:
    verdict = comparison.verdict
    if len(verdict.standings) == 1:
        return f"{verdict.winner.name} is the only candidate"
    if not verdict.beats_baseline and verdict.choice is verdict.winner:
        return "No candidate is significantly better than a constant answer"
    return f"Use {verdict.choice.name}"


def _lead(comparison: Comparison) -> str:
    """Return the figure of the choice with its interval, beside what one answer for all has."""
    verdict = comparison.verdict
    choice, measure = verdict.choice, verdict.measure
    figure, ends = metric_text(measure, choice.figure), interval_text(choice.interval, measure)
    lead = f"{measure_title(verdict)} {figure} (95 % interval {ends})."
    return f"{lead} {constant_sentence(verdict)}".rstrip()


def _facts(report: ReportData, next_step: str | None) -> list[tuple[str, str, str]]:
    """Return (term, text, kind) of what follows the headline."""
    comparison = report.comparison
    verdict = comparison.verdict
    rows = [
        ("What it is", _kind(comparison.choice, pixels=comparison.pixels), "whole"),
        ("Why", _reason(verdict), ""),
    ]
    if len(verdict.standings) > 1:
        rows.append(("How sure", _doubt(verdict), ""))
    rows.append(("What it costs", _price(comparison.choice), ""))
    rows.append(("Weak classes", weak_classes(report), "whole"))
    rows.append(("Caution", " ".join(caution_sentences(verdict)), "whole"))
    if next_step is not None:
        rows.append(("Next step", next_step, "command"))
    return [row for row in rows if row[1]]


def _kind(one: Entrant, *, pixels: bool) -> str:
    """Return what a candidate is, for who does not know its family; "" where that is not known."""
    # Without where they are from and their licence, which the table has.
    weights = "" if one.weights is None else re.sub(r" \([^()]*, [^()]*\)", "", one.weights)
    tuned = f"{weights}, fine-tuned: a published network trained further."
    if pixels:  # the weights are of its encoder alone
        tuned = f"A network of the family {one.family} over {weights}, a published encoder, tuned."
    return {
        "frozen": f"A classifier on frozen features: {weights}.",
        "fine-tuned": tuned,
        "from scratch": f"A network of the family {one.family}, trained from scratch.",
        "hand-crafted": f"A classifier{' of single pixels' * pixels} on hand-crafted features.",
        "ensemble": "Several trained models together.",
    }.get(one.start or "", "")


def _reason(verdict: Recommendation) -> str:
    choice, winner = verdict.choice, verdict.winner
    if len(verdict.standings) == 1:
        return "There is nothing to compare it with."
    if choice.name != winner.name:
        figure = metric_text(verdict.measure, winner.figure)
        behind = gap_text(verdict.measure, abs(winner.figure - choice.figure))
        return (
            f"It is at least 1.5 times as fast as the first, {winner.name} ({figure}), and "
            f"practically equivalent: {behind} behind."
        )
    if len(verdict.tied) == 1:
        return CERTAIN
    first = f"It comes first of {len(verdict.standings):,} candidates"
    if verdict.cheapest is None:
        return f"{first}."
    return f"{first}, and none that is practically equivalent is 1.5 times as fast."


def _doubt(verdict: Recommendation) -> str:
    text = f"Probability of being the best: {chance_text(verdict.choice.best)}"
    if verdict.band > 0:
        text += (
            f"; of being within {gap_text(verdict.measure, verdict.band)} of the best: "
            f"{chance_text(verdict.choice.equal)}"
        )
    others = len(verdict.tied) - 1
    tied = "no candidate" if not others else counted(others, "other candidate")
    return f"{text}; statistically tied with {tied}."


def _price(one: Entrant) -> str:
    """Return latency, size and training time, as far as they are known."""
    cost, seconds = one.standing.cost, one.training_seconds
    parts = [
        "" if cost is None else _latency(one),
        "" if one.size is None else f"{'x'.join(map(str, one.size))} pixels",
        "" if one.parameters is None else f"{count(one.parameters)} parameters",
        "" if seconds is None else f"trained in {duration(seconds)}",
    ]
    text, runs = ", ".join(filter(None, parts)), len(one.standing.run_ids)
    return f"{text} (means of {runs} runs)" if text and runs > 1 else text


def _latency(one: Entrant) -> str:
    beside = " (measured under load)" if one.disturbed else ""
    return f"{one.standing.cost:.3g} ms a picture{beside}"


def _shown(comparison: Comparison) -> str:
    """Return which of many candidates the board shows."""
    best = f"The best {_MOST_RANKED} of {len(comparison.entrants):,} candidates"
    rank = comparison.choice.standing.rank
    return f"{best}, and the choice, which is ranked {rank}." if rank > _MOST_RANKED else f"{best}."


def _board(
    comparison: Comparison, colors: Mapping[str, str]
) -> tuple[list[dict[str, Any]], list[tuple[float, str]]]:
    """Return the rows of the first candidates and the choice, and (place, text) of their ticks.

    Places are percentages of the width that intervals are drawn in.
    """
    verdict, shown = comparison.verdict, best_and_chosen(comparison, _MOST_RANKED)
    measure = verdict.measure
    low = min(one.standing.interval.low for one in shown)
    high = max(one.standing.interval.high for one in shown)

    def place(value: float) -> float:
        return round(_MARGIN + (100 - 2 * _MARGIN) * (value - low) / (high - low or 1.0), 2)

    rows = []
    for one in shown:
        standing = one.standing
        costs = {
            **({"best": chance_text(standing.best)} if len(verdict.standings) > 1 else {}),
            "ms a picture": "" if standing.cost is None else f"{standing.cost:.3g}",
            "trained": "" if one.training_seconds is None else duration(one.training_seconds),
        }
        rows.append(
            {
                "rank": standing.rank,
                "name": standing.name,
                "settings": one.settings,
                "color": colors[one.family],
                "chosen": len(verdict.standings) > 1 and standing.name == verdict.choice.name,
                "tied": standing.tied,
                "low": place(standing.interval.low),
                "high": place(standing.interval.high),
                "at": place(standing.figure),
                "figure": mean_text(measure, standing.figure, standing.spread),
                "interval": interval_text(standing.interval, measure),
                "costs": costs,
            }
        )
    ticks = [(place(value), tick_text(measure, value)) for value in round_numbers(low, high)]
    return rows, ticks


def _sort_values(one: Entrant, verdict: Recommendation) -> tuple[Any, ...]:
    """Return what the cells of its row of the leaderboard sort by."""
    standing = one.standing
    worst = standing.interval.low if verdict.higher_is_better else standing.interval.high
    among = (int(not standing.tied), standing.best) if len(verdict.standings) > 1 else ()
    error = standing.calibration_error
    return (
        *(standing.rank, standing.name, standing.figure, worst, *among),
        *(len(standing.run_ids), standing.cost, one.training_seconds),
        *(() if verdict.measure == "log_loss" else (standing.log_loss,)),
        None if math.isnan(error) else error,
        *(None if one.size is None else one.size[0] * one.size[1], one.start),
        *(one.parameters, one.settings),
    )


def _address(picture: UInt8Array | None) -> str | None:
    """Return the picture as a `data:` address; small ones are enlarged with sharp pixels."""
    if picture is None:
        return None
    pixels = picture.transpose(1, 2, 0) if picture.shape[0] == 3 else picture[0]
    image = Image.fromarray(np.ascontiguousarray(pixels))
    times = max(1, _PICTURE_SIDE // max(image.size))
    size = (image.width * times, image.height * times)
    return picture_address(image.resize(size, Image.Resampling.NEAREST))


def _data(report: ReportData, colors: Mapping[str, str]) -> dict[str, Any]:
    comparison, entrants = report.comparison, report.comparison.entrants
    return {
        "command": _COMMAND,
        "colors": colors,
        "front": _front(comparison),
        "percent": is_percent(comparison.verdict.measure),
        "curve_percent": is_percent(report.curve),
        "higher": comparison.verdict.higher_is_better,
        "candidates": [_candidate(one, comparison.verdict) for one in entrants],
        "curves": _curves(report),
        "classes": list(report.class_names),
        "leaders": [_leader(one) for one in report.leaders],
    }


def _front(comparison: Comparison) -> list[int]:
    """Return ranks of the Pareto-optimal candidates in figure and latency, cheapest first."""
    entrants = comparison.entrants
    costs = [math.nan if one.standing.cost is None else one.standing.cost for one in entrants]
    points = [(cost, one.standing.figure) for cost, one in zip(costs, entrants)]
    direction = "maximize" if comparison.verdict.higher_is_better else "minimize"
    chosen = [entrants[place] for place in pareto_front(points, ("minimize", direction))]
    return [one.standing.rank for one in sorted(chosen, key=lambda one: one.standing.cost or 0.0)]


def _candidate(one: Entrant, verdict: Recommendation) -> dict[str, Any]:
    standing, measure = one.standing, verdict.measure
    figure, ends = metric_text(measure, standing.figure), interval_text(standing.interval, measure)
    among = {
        "minus the best of the others": difference_text(standing.behind, measure),
        "probability of being the best": chance_text(standing.best),
        "expected loss (regret)": gap_text(measure, standing.loss, 2),
    }
    about = {
        measure_name(verdict): f"{figure}, {ends}",
        **(among if len(verdict.standings) > 1 else {}),
        "latency": None if standing.cost is None else _latency(one),
        "runs": " ".join(one.run_dirs),
        _COMMAND: one.command,
    }
    return {
        "rank": standing.rank,
        "name": standing.name,
        "family": one.family,
        "figure": standing.figure,
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
        "error": percent(one.calibration_error),
        "confidence": one.confidence.tolist(),
        "right": one.accuracy.tolist(),
        "shares": one.shares.tolist(),
        "matrix": one.matrix.tolist() if len(one.matrix) <= _MOST_CLASSES_DRAWN else [],
    }
