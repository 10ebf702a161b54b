"""A sweep as one HTML page: history, search space and leaderboard, to hover, brush and sort."""

from __future__ import annotations

from typing import Any

from src.records.standings import leaderboard, values_of
from src.records.trials import COMPLETE, FAILED, PRUNED, SweepRecord, TrialRecord
from src.reporting.formatting import duration, metric_text, settings_text
from src.reporting.page import html_page
from src.reporting.scales import family_colors, metric_axis, value_axes
from src.reporting.sweep_report import (
    COMMAND,
    families_table,
    finalists_table,
    headline,
    leaderboard_table,
    verdict,
)

__all__ = ["sweep_page"]


def sweep_page(record: SweepRecord) -> str:
    """Return the page of a study; its tables are there without the script too."""
    table, trials = leaderboard_table(record), leaderboard(record)
    values = {
        "headline": headline(record).partition(": ")[2],
        "verdict": verdict(record),
        "command": COMMAND,
        "metric": record.metrics[0],
        "families": families_table(record),
        "finalists": finalists_table(record),
        "leaderboard": table,
        "sort_values": [
            [
                *(row[0], trial.number, trial.family, *values_of(record, trial), row[-4]),
                *(trial.epochs, trial.seconds, row[-1]),
            ]
            for trial, row in zip(trials, table.rows, strict=True)
        ],
        "numbers": [trial.number for trial in trials],
    }
    return html_page("sweep_page", record.study, values, _data(record))


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
