"""How one plan differs from another, for a person."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

__all__ = ["difference"]

_MOST = 5


def difference(known: Any, given: Any) -> str:
    """The first keys at which two nests of plain values differ, with both values; empty if none."""
    found = list(_differences(known, given, ""))
    more = f" and {len(found) - _MOST} more" if len(found) > _MOST else ""
    return "; ".join(found[:_MOST]) + more


def _differences(known: Any, given: Any, where: str) -> Iterator[str]:
    if isinstance(known, dict) and isinstance(given, dict):
        for key in sorted(known.keys() | given.keys()):
            below = f"{where} {key}".strip()
            yield from _differences(known.get(key), given.get(key), below)
    elif known != given:
        yield f"{where} was {json.dumps(known)} and is {json.dumps(given)}"
