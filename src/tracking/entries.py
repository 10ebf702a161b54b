"""Events of a spool as entries of MLflow: metrics, parameters and tags, in batches."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from ..machine.text import encodable
from .mlflow_pages import with_curves
from .system_metrics import PREFIX

__all__ = ["LONGEST", "Entry", "batches", "cut", "entries_of", "is_system"]

# MLflow's limits of a batch, with some room in the bytes for the request around it.
_MOST_ENTRIES = 1000
_MOST_OF_KIND = {"metric": 1000, "param": 100, "tag": 100}
_MOST_BYTES = 900_000
LONGEST = {"param": 6000, "tag": 8000}

# kind ("metric", "param", "tag"), key, value, step, timestamp_ms (the last two for metrics alone)
Entry = tuple[str, str, Any, int, int]


def batches(entries: Iterable[Entry]) -> Iterator[list[Entry]]:
    """Yield the entries in batches within MLflow's limits, in order."""
    batch: list[Entry] = []
    counts = dict.fromkeys(_MOST_OF_KIND, 0)
    size = 0
    for entry in entries:
        kind = entry[0]
        weight = len(json.dumps(entry)) + 50
        if (
            len(batch) == _MOST_ENTRIES
            or counts[kind] == _MOST_OF_KIND[kind]
            or (batch and size + weight > _MOST_BYTES)
        ):
            yield batch
            batch, counts, size = [], dict.fromkeys(_MOST_OF_KIND, 0), 0
        batch.append(entry)
        counts[kind] += 1
        size += weight
    if batch:
        yield batch


def is_system(event: Mapping[str, Any]) -> bool:
    """Return whether an event has system metrics and no others."""
    keys = event.get("values", ())
    return event.get("event") == "metrics" and all(key.startswith(PREFIX) for key in keys)


def entries_of(event: Mapping[str, Any]) -> Iterator[Entry]:
    """Yield the entries of an event of metrics, parameters or tags, within MLflow's limits."""
    kind = event["event"].removesuffix("s")
    step, timestamp_ms = event.get("step", 0), event.get("timestamp_ms", 0)
    values = event["values"]
    for key, value in (with_curves(values) if kind == "metric" else values).items():
        known = float(value) if kind == "metric" else cut(value, LONGEST[kind])
        yield kind, key, known, step, timestamp_ms


def cut(text: str, longest: int) -> str:
    """Return a text of at most `longest` characters, that UTF-8 can encode."""
    text = encodable(text)  # a path may have bytes that are no UTF-8
    return text if len(text) <= longest else f"{text[: longest - 1]}…"
