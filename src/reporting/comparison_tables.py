"""Tables of a comparison's page: how right the best are on each class, group and subgroup."""

from __future__ import annotations

from ..machine.text import percent
from ..metrics.classification import class_scores
from ..records.comparison import Interval
from ..records.report_data import Leader, ReportData
from .formatting import Table

__all__ = ["classes_table", "groups_table", "subgroups_table"]

_OF_CLASSES = {"recall": "Recall", "iou": "IoU"}
_MOST_CLASSES_LISTED = 100


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
        f"{_OF_CLASSES[report.of_classes]} of {some} with its own 95 % interval, the winner's "
        "weakest first",
        ("class", "pictures", *places, *(("winner confuses it with",) if confused else ())),
        tuple(rows),
        frozenset(range(1, 2 + len(leaders))),
    )


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
