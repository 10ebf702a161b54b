"""Measurements of speed, kept on disk so that a later start need not repeat them."""

from __future__ import annotations

import contextlib
import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from src.storage.cache import cache_folder
from src.storage.digests import checked_line, line_content
from src.storage.files import write_atomically

__all__ = ["Kept", "load", "store"]


@dataclass(frozen=True)
class Kept:
    """A measurement of an earlier start.

    Attributes:
        found: what was measured, as plain values.
        disturbed: whether other programs held the cores meanwhile.
    """

    found: dict[str, Any]
    disturbed: bool


def load(kind: str, known: dict[str, Any], cache_dir: str | None = None) -> Kept | None:
    """Return the measurement for these circumstances; None where there is no readable one.

    Args:
        kind: of measurement, part of the file's name.
        known: all that the measurement depends on, as plain values for JSON.
        cache_dir: see `cache_folder`.
    """
    try:
        plain = line_content(_path(kind, known, cache_dir).read_bytes())
        return Kept(dict(plain["found"]), bool(plain["disturbed"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def store(kind: str, known: dict[str, Any], kept: Kept, cache_dir: str | None = None) -> None:
    """Write a measurement; where the disk refuses, the next start measures again."""
    record = {"for": known, "disturbed": kept.disturbed, "found": kept.found}
    with contextlib.suppress(OSError):
        write_atomically(_path(kind, known, cache_dir), checked_line(record))


def _path(kind: str, known: dict[str, Any], cache_dir: str | None) -> Path:
    digest = hashlib.sha256(json.dumps(known, sort_keys=True).encode()).hexdigest()
    return cache_folder(cache_dir).absolute() / "plans" / f"{kind}-{digest[:24]}.json"
