"""A sweep as one HTML page that needs nothing but itself."""

from __future__ import annotations

from html import escape
from typing import Any

from src.records.trials import COMPLETE, FAILED, PRUNED, SweepRecord, TrialRecord
from src.reporting.formatting import duration, metric_text, settings_text
from src.reporting.leaderboard import leaderboard, values_of
from src.reporting.page import html_page, plain_table, sortable_table
from src.reporting.palette import family_colors
from src.reporting.sweep_report import (
    COMMAND,
    families_table,
    finalists_table,
    headline,
    leaderboard_table,
    verdict,
)
from src.reporting.value_axes import metric_axis, value_axes

__all__ = ["sweep_page"]


def sweep_page(record: SweepRecord) -> str:
    """History, search space and leaderboard of a study, to hover, brush and sort.

    The tables are there without the script too.

    Args:
        record: with any number of trials.
    """
    finalists, families = finalists_table(record), families_table(record)
    sections = [
        f"<h1>{escape(record.study)}</h1><p>{escape(headline(record).partition(': ')[2])}</p>",
        _winner(record),
        f"<h2>History by {escape(record.metrics[0])}</h2>",
        '<div class="tabs quiet" id="legend"></div><div id="history"></div>',
        '<div id="card" hidden></div>',
        '<h2>Settings</h2><p class="quiet">Drag along an axis to keep the trials that cross it '
        'there. <span id="kept"></span></p><div class="tabs"><span class="tabs" id="tabs"></span>'
        '<button type="button" id="clear" hidden>clear</button></div>'
        '<div class="scroll" id="space"></div>',
        plain_table(families, "families"),
        plain_table(finalists, "finalists"),
        _leaderboard(record),
    ]
    return html_page("sweep_page", record.study, sections, _data(record))


def _data(record: SweepRecord) -> dict[str, Any]:
    metric, higher = record.metrics[0], record.higher_is_better
    judged = [t for t in record.trials if t.value is not None and t.state != FAILED]
    axis = metric_axis(metric, judged, higher_is_better=higher)
    spaces = []
    for family in record.families:
        own = [t for t in judged if t.family == family and t.state in (COMPLETE, PRUNED)]
        axes = value_axes(own, metric, higher_is_better=higher)
        if len(axes) > 1:
            plain = [{"label": a.label, "ticks": a.ticks, "places": a.places} for a in axes]
            spaces.append({"family": family, "axes": plain, "trials": [t.number for t in own]})
    return {
        "higher": higher,
        "command": COMMAND,
        "colors": family_colors(record.families),
        "ticks": axis.ticks,
        "spaces": spaces,
        "trials": [
            {
                "number": trial.number,
                "family": trial.family,
                "state": trial.state,
                "value": None if trial.value is None else metric_text(metric, trial.value),
                "place": axis.places.get(trial.number),
                "settings": settings_text(trial.values),
                "about": _about(record, trial),
            }
            for trial in sorted(record.trials, key=lambda t: t.number)
        ],
    }


def _about(record: SweepRecord, trial: TrialRecord) -> list[tuple[str, str]]:
    metric = record.metrics[0]
    rows = {
        "state": trial.state + (", the family's default" if trial.is_default else ""),
        "reason": trial.reason,
        f"at its best {record.steps[:-1]}": None
        if trial.best is None
        else metric_text(metric, trial.best),
        record.steps: str(trial.epochs),
        "time": None if trial.seconds is None else duration(trial.seconds),
        "settings": settings_text(trial.values),
        **{key: metric_text(key, value) for key, value in sorted(trial.figures.items())},
        COMMAND: record.commands.get(trial.number),
    }
    return [(name, text) for name, text in rows.items() if text]


def _winner(record: SweepRecord) -> str:
    rows = []
    for name, text in verdict(record).items():
        tag = "code" if name == COMMAND else "span"  # which a click selects whole
        rows.append(f"<dt>{escape(name)}</dt><dd><{tag}>{escape(text)}</{tag}></dd>")
    return f"<dl>{''.join(rows)}</dl>" if rows else ""


def _leaderboard(record: SweepRecord) -> str:
    """The table with the plain value of each cell, to sort by."""
    table, trials = leaderboard_table(record), leaderboard(record)
    values = [
        [
            *(row[0], trial.number, trial.family, *values_of(record, trial), row[-4]),
            *(trial.epochs, trial.seconds, row[-1]),
        ]
        for trial, row in zip(trials, table.rows, strict=True)
    ]
    return sortable_table(table, values, [trial.number for trial in trials], pressed=1)
