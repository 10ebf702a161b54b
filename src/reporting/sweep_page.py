"""A sweep as one HTML page that needs nothing but itself."""

from __future__ import annotations

import base64
import hashlib
import json
from html import escape
from pathlib import Path
from typing import Any

from src.reporting.amounts import duration, metric_text, settings_text
from src.reporting.leaderboard import leaderboard, values_of
from src.reporting.palette import family_colors
from src.reporting.sweep_report import (
    COMMAND,
    families_table,
    finalists_table,
    headline,
    leaderboard_table,
    verdict,
)
from src.reporting.tables import Table
from src.reporting.value_axes import metric_axis, value_axes
from src.trials import COMPLETE, FAILED, PRUNED, SweepRecord, TrialRecord

__all__ = ["sweep_page"]

_HERE = Path(__file__).parent


def sweep_page(record: SweepRecord) -> str:
    """History, search space and leaderboard of a study, to hover, brush and sort.

    Styles and script are in the page, and by its policy a browser loads nothing else and runs
    nothing else, whatever the record's texts hold. The tables are there without the script too.

    Args:
        record: with any number of trials.
    """
    style = (_HERE / "sweep_page.css").read_text(encoding="utf-8")
    script = (_HERE / "sweep_page.js").read_text(encoding="utf-8")
    policy = (
        f"default-src 'none'; style-src {_hash(style)}; script-src {_hash(script)}; "
        "base-uri 'none'; form-action 'none'"
    )
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
        _plain_table(families, "families"),
        _plain_table(finalists, "finalists"),
        _leaderboard(record),
    ]
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{escape(record.study)}</title>
<style>{style}</style>
</head>
<body>
<main>
{chr(10).join(filter(None, sections))}
</main>
<div id="tip" hidden></div>
<script type="application/json" id="sweep">{_embedded(_data(record))}</script>
<script>{script}</script>
</body>
</html>
"""


def _hash(text: str) -> str:
    digest = hashlib.sha256(text.encode()).digest()
    return f"'sha256-{base64.b64encode(digest).decode()}'"


def _embedded(data: Any) -> str:
    """As JSON in which nothing can end the element that holds it."""
    text = json.dumps(data, allow_nan=False, separators=(",", ":"))
    return text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")


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
        "at its best epoch": None if trial.best is None else metric_text(metric, trial.best),
        "epochs": str(trial.epochs),
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


def _plain_table(table: Table, name: str) -> str:
    if not table.rows:
        return ""
    head = "".join(_cell("th", text, i, table) for i, text in enumerate(table.headers))
    rows = [
        f"<tr>{''.join(_cell('td', text, i, table) for i, text in enumerate(row))}</tr>"
        for row in table.rows
    ]
    return (
        f'<h2>{escape(table.title)}</h2><div class="scroll" id="{name}"><table><thead><tr>{head}'
        f"</tr></thead><tbody>{chr(10).join(rows)}</tbody></table></div>"
    )


def _cell(tag: str, text: str, column: int, table: Table) -> str:
    number = ' class="number"' if column in table.numbers else ""
    return f"<{tag}{number}>{escape(text)}</{tag}>"


def _leaderboard(record: SweepRecord) -> str:
    """The table with the plain value of each cell, to sort by."""
    table = leaderboard_table(record)
    if not table.rows:
        return ""
    heads = [
        f'<th{" class=number" if i in table.numbers else ""} scope="col">'
        f'<button type="button">{escape(text)}</button></th>'
        for i, text in enumerate(table.headers)
    ]
    rows = []
    for trial, row in zip(leaderboard(record), table.rows, strict=True):
        raw: list[Any] = [row[0], trial.number, trial.family, *values_of(record, trial), row[-4]]
        raw += [trial.epochs, trial.seconds, row[-1]]
        cells = []
        for column, (text, value) in enumerate(zip(row, raw, strict=True)):
            number = " class=number" if column in table.numbers else ""
            sort = "" if value is None or value != value else escape(str(value))
            shown = f'<button type="button">{text}</button>' if column == 1 else escape(text)
            cells.append(f'<td{number} data-value="{sort}">{shown}</td>')
        rows.append(f'<tr data-trial="{trial.number}">{"".join(cells)}</tr>')
    return (
        f'<h2>{escape(table.title)}</h2><div class="scroll"><table id="leaderboard"><thead><tr>'
        f"{''.join(heads)}</tr></thead><tbody>{chr(10).join(rows)}</tbody></table></div>"
    )
