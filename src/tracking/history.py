"""How a run's figures went, from its own record."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from src.tracking.spool import read_events, spool_path

__all__ = ["read_history"]


def read_history(run_dir: Path, keys: Iterable[str]) -> dict[str, tuple[tuple[int, float], ...]]:
    """(step, value) pairs of some metrics, in order of the steps; of one step the last value.

    Args:
        run_dir: folder of the run; one without a record has no history.
        keys: of the metrics; one that was never measured has no points.
    """
    points: dict[str, dict[int, float]] = {key: {} for key in keys}
    offset = 0
    while events := read_events(spool_path(run_dir), offset):
        for event, _ in events:
            if event.get("event") == "metrics":
                for key in points.keys() & event["values"].keys():
                    points[key][event["step"]] = float(event["values"][key])
        offset = events[-1][1]
    return {key: tuple(sorted(found.items())) for key, found in points.items()}
