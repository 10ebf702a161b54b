"""What the HTML pages share: one file that needs nothing but itself, and tables that sort."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path
from typing import Any

from src.reporting.tables import Table

__all__ = ["html_page", "plain_table", "sortable_table"]

_HERE = Path(__file__).parent


def html_page(
    name: str, title: str, sections: Iterable[str], data: Any, *, pictures: bool = False
) -> str:
    """A page with its styles and scripts, page.css and page.js and those of its own, inside.

    By its policy a browser loads nothing else and runs nothing else, whatever the texts hold.

    Args:
        name: of the files with its own style and script, without their endings.
        title: of the page, as text.
        sections: HTML, in order; empty ones are left out.
        data: for the script; plain values that JSON knows.
        pictures: whether the sections hold pictures, in their own addresses (data:).
    """
    style, script = (
        "".join((_HERE / f"{one}.{ending}").read_text(encoding="utf-8") for one in ("page", name))
        for ending in ("css", "js")
    )
    policy = (
        f"default-src 'none'; style-src {_hash(style)}; script-src {_hash(script)}; "
        f"{'img-src data:; ' if pictures else ''}base-uri 'none'; form-action 'none'"
    )
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{escape(title)}</title>
<style>{style}</style>
</head>
<body>
<main>
{chr(10).join(filter(None, sections))}
</main>
<div id="tip" hidden></div>
<script type="application/json" id="data">{_embedded(data)}</script>
<script>{script}</script>
</body>
</html>
"""


def plain_table(table: Table, name: str) -> str:
    """A table under its title; nothing where it has no rows.

    Args:
        table: of texts.
        name: id of the element.
    """
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


def sortable_table(
    table: Table, values: Iterable[Sequence[Any]], keys: Iterable[int], *, pressed: int
) -> str:
    """The table `leaderboard` under its title, which sorts by the column whose header is pressed.

    Args:
        table: of texts.
        values: by row, what each cell sorts by; None and NaN stay last.
        keys: by row, a number that the script knows it by (`data-trial`).
        pressed: the column whose cells can be pressed.
    """
    if not table.rows:
        return ""
    heads = [
        f'<th{" class=number" if i in table.numbers else ""} scope="col">'
        f'<button type="button">{escape(text)}</button></th>'
        for i, text in enumerate(table.headers)
    ]
    rows = []
    for key, row, own in zip(keys, table.rows, values, strict=True):
        cells = []
        for column, (text, value) in enumerate(zip(row, own, strict=True)):
            number = " class=number" if column in table.numbers else ""
            sort = "" if value is None or value != value else escape(str(value))
            shown = escape(text)
            if column == pressed:
                shown = f'<button type="button">{shown}</button>'
            cells.append(f'<td{number} data-value="{sort}">{shown}</td>')
        rows.append(f'<tr data-trial="{key}">{"".join(cells)}</tr>')
    return (
        f'<h2>{escape(table.title)}</h2><div class="scroll"><table id="leaderboard" '
        f'class="sortable"><thead><tr>{"".join(heads)}</tr></thead>'
        f"<tbody>{chr(10).join(rows)}</tbody></table></div>"
    )


def _cell(tag: str, text: str, column: int, table: Table) -> str:
    number = ' class="number"' if column in table.numbers else ""
    return f"<{tag}{number}>{escape(text)}</{tag}>"


def _hash(text: str) -> str:
    digest = hashlib.sha256(text.encode()).digest()
    return f"'sha256-{base64.b64encode(digest).decode()}'"


def _embedded(data: Any) -> str:
    """As JSON in which nothing can end the element that holds it."""
    text = json.dumps(data, allow_nan=False, separators=(",", ":"))
    return text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")
