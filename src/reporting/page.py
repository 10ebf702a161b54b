"""HTML pages that need no other file and no network: Jinja2 templates with style and script inside.

A page NAME consists of NAME.html, NAME.css and NAME.js beside this module. The template extends
`page.html`; `page.css` and `page.js` come before the page's own style and script.

The drawings are SVG made by these scripts, less than 20 kB a page, and not by Vega-Lite (Altair) or
Plotly. A page that needs no network would carry their scripts, about 1 MB or more of the 2 MB that
a page of a thousand candidates may have; Vega compiles code from text unless an interpreter is
added, and Plotly adds styles of its own, both of which the policy forbids; and one choice shared by
tables, drawings and cards would still be a script of ours.
"""

from __future__ import annotations

import base64
import hashlib
import io
import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from PIL import Image

from ..machine.text import visible_lines

__all__ = ["html_page", "picture_address"]

_HERE = Path(__file__).parent


def html_page(
    name: str, title: str, values: Mapping[str, Any], data: Any, *, pictures: bool = False
) -> str:
    """Return a page whose policy lets a browser load and run nothing but the page's own content.

    Args:
        name: of the template, without its ending.
        values: of the template's variables; markup and control characters are escaped.
        data: for the script; values that JSON can hold.
        pictures: whether the page holds pictures as `data:` addresses.
    """
    style, script = (
        "".join((_HERE / f"{one}.{ending}").read_text(encoding="utf-8") for one in ("page", name))
        for ending in ("css", "js")
    )
    policy = (
        f"default-src 'none'; style-src {_hash(style)}; script-src {_hash(script)}; "
        f"{'img-src data:; ' if pictures else ''}base-uri 'none'; form-action 'none'"
    )
    # Nothing in the data can end the element that holds it.
    embedded = json.dumps(data, allow_nan=False, separators=(",", ":"))
    for sign in "&<>":
        embedded = embedded.replace(sign, f"\\u{ord(sign):04x}")
    parts = {"policy": policy, "style": style, "script": script, "data": embedded}
    raw = {name: Markup(text) for name, text in parts.items()}
    page = _environment().get_template(f"{name}.html").render(title=title, **raw, **values)
    return visible_lines(page)  # markup is escaped, and so is what a terminal would obey


def picture_address(image: Image.Image) -> str:
    """Return a picture as the `data:` address of a PNG file."""
    stream = io.BytesIO()
    image.save(stream, "PNG")
    return f"data:image/png;base64,{base64.b64encode(stream.getvalue()).decode()}"


@cache
def _environment() -> Environment:
    return Environment(
        loader=FileSystemLoader(_HERE),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def _hash(text: str) -> str:
    digest = hashlib.sha256(text.encode()).digest()
    return f"'sha256-{base64.b64encode(digest).decode()}'"
