"""The tables of a comparison, its candidates as CSV and JSON, and all of it as text."""

from __future__ import annotations

import math
from dataclasses import asdict
from typing import Any

from ..machine.text import csv_text, percent
from ..metrics.classification import class_scores
from ..records.comparison import Comparison, Entrant, Interval, Recommendation
from ..records.report_data import Leader, ReportData
from .comparison_verdict import (
    interval_text,
    measure_name,
    pictures_text,
    verdict_sentences,
)
from .formatting import (
    Table,
    below_each_other,
    chance_text,
    count,
    duration,
    mean_text,
    times_measured,
)

__all__ = [
    "best_and_chosen",
    "classes_table",
    "closing_remarks",
    "comparison_csv",
    "comparison_plain",
    "comparison_table",
    "format_comparison",
    "groups_table",
    "pictures_compared",
    "subgroups_table",
    "weak_classes",
]

_MOST_SHOWN = 15
_AMONG_OTHERS = ("tied", "best")  # which say nothing of an only candidate
_ON_THE_PAGE = ("log-loss", "calib.", "size", "start", "params")
_NUMBERS = ("rank", "best", "runs", "ms", "trained", "log-loss", "calib.", "params")
_FIGURES_OF_CLASSES = {"recall": "Recall", "iou": "IoU"}
_MOST_CLASSES_LISTED = 100
# Of a class, the recall or IoU below which its pictures are more often wrong than right.
_WEAK, _MOST_WEAK_NAMED = 0.5, 5


def pictures_compared(comparison: Comparison) -> str:
    """Return which pictures the candidates were measured on, as a noun phrase."""
    if comparison.folds is not None:
        return f"{comparison.data}, cross-validated"
    return f"the {comparison.part} part of {comparison.data}"


def best_and_chosen(comparison: Comparison, most: int | None) -> tuple[Entrant, ...]:
    """Return the best candidates, `most` of them, and the choice where it comes after these."""
    best, choice = comparison.entrants[:most], comparison.choice
    return best if choice.standing.rank <= len(best) else (*best, choice)


def closing_remarks(comparison: Comparison) -> tuple[str, ...]:
    """Return what was left out, and how often the test part of the split has been measured."""
    sentences = [*comparison.remarks]
    if any(one.disturbed for one in comparison.entrants):
        sentences.append(
            "Latencies marked * were measured under load (other programs running) and are too high."
        )
    if not comparison.test_measurements:
        return (*sentences, "The test part of this split has not been measured.")
    times = times_measured(comparison.test_measurements).removesuffix(" on this split")
    return (*sentences, f"The test part of this split has been measured {times}.")


def format_comparison(comparison: Comparison, width: int = 100, *, wrapped: bool = False) -> str:
    """Return the text for a terminal: the best candidates, the verdict, and what was left out.

    Args:
        width: cells of a line of the table, and of each line where sentences are `wrapped`.
    """
    table = comparison_table(comparison, _MOST_SHOWN, brief=True)
    parts = [table.text(width)]
    if more := len(comparison.entrants) - len(table.rows):
        parts[0] += f"\n  and {more} more, in leaderboard.csv"
    most = width if wrapped else None
    parts += [below_each_other(verdict_sentences(comparison), most)]
    parts += [below_each_other(closing_remarks(comparison), most)]
    return "\n\n".join(parts) + "\n"


def comparison_table(
    comparison: Comparison, most: int | None = None, *, brief: bool = False
) -> Table:
    """Return the candidates in order, or the first and the choice; spreads are standard deviations.

    A `brief` table leaves out what a terminal has no room for.
    """
    cells = [_cells(one, comparison.verdict) for one in best_and_chosen(comparison, most)]
    hidden = {*(_ON_THE_PAGE * brief), *(_AMONG_OTHERS * (len(comparison.entrants) == 1))}
    hidden.discard(measure_name(comparison.verdict))
    if not any(row["settings"] for row in cells):  # the defaults of each family
        hidden.add("settings")
    headers = tuple(name for name in cells[0] if name not in hidden)
    return Table(
        title=f"Candidates on {pictures_compared(comparison)}, {pictures_text(comparison.verdict)}",
        headers=headers,
        rows=tuple(tuple(row[name] for name in headers) for row in cells),
        numbers=frozenset(i for i, name in enumerate(headers) if name in _NUMBERS),
        least=24,
    )


def classes_table(report: ReportData) -> Table:
    """Return the recall (or IoU) of each class by each leader, the winner's weakest class first."""
    leaders, names = report.leaders, report.class_names
    counts, confused = leaders[0].pictures, len(leaders[0].matrix) > 0
    others = [""] * len(names)
    if confused:
        scores = class_scores(leaders[0].matrix)
        counts = counts or tuple(one.pictures // leaders[0].trainings for one in scores)
        others = ["" if s.confused_with is None else names[s.confused_with] for s in scores]
    rows = []
    for index in leaders[0].weakest_first[:_MOST_CLASSES_LISTED].tolist():
        recall = [_with_interval(leader.recall[index], _own(leader, index)) for leader in leaders]
        other = (others[index],) if confused else ()
        rows.append((names[index], f"{counts[index]:,}", *recall, *other))
    places = [one.name for one in leaders]
    judged = len(leaders[0].weakest_first)
    few = judged > _MOST_CLASSES_LISTED
    some = f"{_MOST_CLASSES_LISTED} of {judged:,} classes" if few else "each class"
    return Table(
        f"{_FIGURES_OF_CLASSES[report.of_classes]} of {some} with its own 95 % interval, "
        "the winner's weakest first",
        ("class", "pictures", *places, *(("winner confuses it with",) if confused else ())),
        tuple(rows),
        frozenset(range(1, 2 + len(leaders))),
    )


def weak_classes(report: ReportData) -> str:
    """Return the classes of which the choice has less than half, weakest first; "" for none.

    A figure of all pictures hides them where they are rare.
    """
    chosen = report.comparison.verdict.choice.name
    leader = next((one for one in report.leaders if one.name == chosen), None)
    if leader is None:
        return ""
    order = leader.weakest_first
    weak = order[leader.recall[order] < _WEAK].tolist()
    if not weak:
        return ""
    named = [
        f"{report.class_names[index]} {percent(leader.recall[index])}"
        for index in weak[:_MOST_WEAK_NAMED]
    ]
    more = f", and {len(weak) - len(named):,} more" if len(weak) > len(named) else ""
    figure = _FIGURES_OF_CLASSES[report.of_classes]
    return f"{figure} below {percent(_WEAK, 0)}: {', '.join(named)}{more}."


def _own(leader: Leader, index: int) -> Interval | None:
    return leader.recall_intervals[index] if leader.recall_intervals else None


def groups_table(report: ReportData) -> Table | None:
    """Return the groups that the winner has least right; None where there are no groups."""
    rows = [
        (one.shown, f"{one.pictures:,}", _with_interval(one.accuracy, one.interval))
        for one in report.leaders[0].groups
    ]
    if not rows:
        return None
    return Table(
        "Groups with the lowest accuracy of the winner",
        ("first picture", "pictures", "accuracy (95 % interval, within the group)"),
        tuple(rows),
        frozenset({1, 2}),
    )


def subgroups_table(report: ReportData) -> Table | None:
    """Return how right the leaders are where a column has each of its values; None without one."""
    leaders = report.leaders
    if not leaders[0].subgroups:
        return None
    scores = [{one.shown: one for one in leader.subgroups} for leader in leaders]
    return Table(
        f"Accuracy by {report.subgroup}, each with its own 95 % interval, the winner's lowest "
        "first",
        (str(report.subgroup), "pictures", *(one.name for one in leaders)),
        tuple(
            (
                one.shown,
                f"{one.pictures:,}",
                *(
                    _with_interval(own[one.shown].accuracy, own[one.shown].interval)
                    for own in scores
                ),
            )
            for one in leaders[0].subgroups
        ),
        frozenset(range(1, 2 + len(leaders))),
    )


def _with_interval(share: float, interval: Interval | None) -> str:
    """Return a share with its interval, as in "81.2 % (70.1 to 88.9)"."""
    text = percent(share)
    return text if interval is None else f"{text} ({str(interval).removesuffix(' %')})"


def comparison_csv(comparison: Comparison) -> str:
    """Return all candidates as CSV, the best first; unknown values are left empty."""
    rows = []
    for one in comparison.entrants:
        known = _candidate(one, comparison)
        del known["latency_disturbed"]
        rows.append(known | {"run_ids": " ".join(one.standing.run_ids), "command": one.command})
    return csv_text(rows[0], [known.values() for known in rows])


def comparison_plain(comparison: Comparison) -> dict[str, Any]:
    """Return all of it as values that JSON can hold; unknown ones are null."""
    verdict = comparison.verdict
    return {
        "data": comparison.data,
        "part": comparison.part,
        "cross_validated": comparison.folds is not None,
        "metric": verdict.measure,
        "pictures": verdict.pictures,
        "groups": verdict.groups,
        "runs": comparison.runs,
        "test_measurements": comparison.test_measurements,
        "winner": verdict.winner.name,
        "corrected": verdict.corrected,
        "unsteady": list(verdict.unsteady),
        "baseline": verdict.baseline,
        "lone": verdict.lone,
        "tied": [one.name for one in verdict.tied],
        "cheapest": None if verdict.cheapest is None else verdict.cheapest.name,
        "choice": verdict.choice.name,
        "difference": None if verdict.difference is None else asdict(verdict.difference),
        "of_configurations": verdict.of_configurations,
        "seed_share": verdict.seed_share,
        "decided_by_seeds": verdict.decided_by_seeds,
        "look": verdict.look,
        "power": None if verdict.power is None else asdict(verdict.power),
        "band": verdict.band,
        "collapses": None if verdict.collapses is None else asdict(verdict.collapses),
        "screened": verdict.screened,
        "pair": None if comparison.pair is None else asdict(comparison.pair),
        "sentences": list(verdict_sentences(comparison)),
        "remarks": list(comparison.remarks),
        "candidates": [
            _candidate(one, comparison)
            | {
                "command": one.command,
                "behind": asdict(one.standing.behind),
                "run_ids": list(one.standing.run_ids),
                "run_dirs": list(one.run_dirs),
            }
            for one in comparison.entrants
        ],
    }


def _candidate(one: Entrant, comparison: Comparison) -> dict[str, Any]:
    standing = one.standing
    known = {
        "rank": standing.rank,
        "candidate": standing.name,
        "family": one.family,
        "accuracy": None if comparison.pixels else standing.accuracy,
        "figure": standing.figure,
        "spread": standing.spread,
        "low": standing.interval.low,
        "high": standing.interval.high,
        "runs": len(standing.run_ids),
        "log_loss": standing.log_loss,
        "calibration_error": standing.calibration_error,
        "settings": one.settings,
        "size": None if one.size is None else "x".join(map(str, one.size)),
        "start": one.start,
        "weights": one.weights,
        "parameters": one.parameters,
        "latency_ms": standing.cost,
        "latency_disturbed": one.disturbed,
        "training_seconds": one.training_seconds,
        "tied": standing.tied,
        "best": standing.best,
        "equal": standing.equal,
        "loss": standing.loss,
        "collapsed": standing.collapsed,
    }
    # JSON knows no NaN.
    return {k: None if isinstance(v, float) and math.isnan(v) else v for k, v in known.items()}


def _cells(one: Entrant, verdict: Recommendation) -> dict[str, str]:
    """Return the cells of its row by header."""
    measure = verdict.measure
    standing, error = one.standing, one.standing.calibration_error
    return {
        "rank": str(standing.rank),
        "candidate": standing.name,
        measure_name(verdict): mean_text(measure, standing.figure, standing.spread),
        "95 % interval": interval_text(standing.interval, measure),
        "tied": "yes" if standing.tied else "",
        "best": chance_text(standing.best),
        "runs": str(len(standing.run_ids)),
        "ms": "" if standing.cost is None else f"{standing.cost:.3g}{'*' * one.disturbed}",
        "trained": "" if one.training_seconds is None else duration(one.training_seconds),
        **({} if measure == "log_loss" else {"log-loss": f"{standing.log_loss:.3f}"}),
        "calib.": "" if math.isnan(error) else percent(error),
        "size": "" if one.size is None else "x".join(map(str, one.size)),
        "start": one.start or "",
        "params": "" if one.parameters is None else count(one.parameters),
        "settings": one.settings,
    }
