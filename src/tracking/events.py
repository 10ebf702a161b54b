"""Reading of spools, each while another process may be writing it; see `spool`."""

from __future__ import annotations

import logging
import os
from collections import deque
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

from ..machine.package import command
from ..storage.digests import DamagedLine, line_content

__all__ = [
    "last_event",
    "last_start",
    "read_events",
    "read_history",
    "spool_path",
    "tracked_runs",
]

# Folders below output_dir that hold no run folder, but perhaps very many files.
_NO_RUNS = {
    *("mlartifacts", "checkpoints", "predictions", "figures", "model", "exports"),
    *("cache", "tracking"),
}
# Folders whose folders have names that users gave.
_FOLDERS_OF_NAMED = {"sweeps", "compare"}
_GROUPS = {"runs", *_FOLDERS_OF_NAMED}
_SLICE_BYTES = 1 << 20
_log = logging.getLogger(__name__)


def spool_path(run_dir: Path) -> Path:
    """Return the path of a run folder's spool."""
    return run_dir / "tracking" / "spool.jsonl"


def tracked_runs(output_dir: Path) -> Iterator[Path]:
    """Yield every run folder with a spool under `output_dir`, in alphabetical order."""
    top = os.fspath(output_dir)
    for folder, below, _ in os.walk(top, followlinks=True):
        left_out = set() if os.path.basename(folder) in _FOLDERS_OF_NAMED else _NO_RUNS
        below[:] = sorted(
            name
            for name in below
            if name not in left_out
            and name[0] != "."
            # The folder of all runs may lie on another disk; other links may lead anywhere.
            and (
                (folder == top and name in _GROUPS)
                or not os.path.islink(os.path.join(folder, name))
            )
        )
        if spool_path(Path(folder)).is_file():
            yield Path(folder)


def last_start(run_dir: Path) -> dict[str, Any]:
    """Return the event of a run's last start or resumption; empty where there is none."""
    starts = [event for event in _events(run_dir) if event.get("event") == "start"]
    return starts[-1] if starts else {}


def last_event(run_dir: Path) -> dict[str, Any]:
    """Return the last event of a run's spool; empty where that is damaged, or there is none."""
    found = deque(_events(run_dir), maxlen=1)
    return found[0] if found else {}


def read_events(path: Path, offset: int = 0) -> list[tuple[dict[str, Any], int]]:
    """Return up to some 1 MB of events from byte `offset` on, each with the offset after it.

    A last line without its end is left out, and a damaged line (after a power cut, say) is `{}`, so
    that the offsets go on. Without a file there are no events.
    """
    try:
        with path.open("rb") as file:
            file.seek(offset)
            lines = file.readlines(_SLICE_BYTES)
    except FileNotFoundError:
        return []
    events = []
    for line in lines:
        if not line.endswith(b"\n"):
            break
        try:
            event = line_content(line, strict=True)
        except DamagedLine as error:
            _warn_of_line(path, offset, str(error))
            event = {}
        offset += len(line)
        events.append((event, offset))
    return events


def read_history(run_dir: Path, keys: Iterable[str]) -> dict[str, tuple[tuple[int, float], ...]]:
    """Return (step, value) pairs of some metrics, ordered by step; the last value of each step.

    Without a spool, or of a key that was never logged, there are none.
    """
    points: dict[str, dict[int, float]] = {key: {} for key in keys}
    for event in _events(run_dir):
        if event.get("event") == "metrics":
            for key in points.keys() & event["values"].keys():
                points[key][event["step"]] = float(event["values"][key])
    return {key: tuple(sorted(found.items())) for key, found in points.items()}


def _events(run_dir: Path) -> Iterator[dict[str, Any]]:
    """Yield all events of a run's spool, in order."""
    offset = 0
    while events := read_events(spool_path(run_dir), offset):
        yield from (event for event, _ in events)
        offset = events[-1][1]


@cache  # once a line
def _warn_of_line(path: Path, offset: int, reason: str) -> None:
    folder = path.parent.parent
    match folder.parent.name:
        case "sweeps":
            place = f"study={folder}"
        case "compare":
            place = f"output_dir={folder.parents[1]}"
        case _:
            place = f"run={folder}"
    _log.warning(
        "a line of %s at byte %d is damaged (%s) and is left out: %s puts it aside",
        path,
        offset,
        reason,
        command("verify", place, "repair=true"),
    )
