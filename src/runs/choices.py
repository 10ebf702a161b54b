"""The settings that a run chose by measuring, and what is kept of them in the run's folder."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from ..config.checks import to_plain
from ..config.schema import RunSettings
from ..storage.files import write_atomically
from ..training.stepper import RangeTest
from ..training.training_plan import PlanTiming

__all__ = ["Resolved", "found_settings", "write_choices"]

_FOUND = "found.json"


@dataclass(frozen=True)
class Resolved:
    """A run's settings without any `auto`, and how their values were chosen.

    Attributes:
        notes: a line for each choice.
        timings: of the plans that were compared; empty where the runtime was given.
        rates: of the range test, where there was one.
        found: keys of the settings whose values were measured, but for the runtime.
    """

    settings: RunSettings
    notes: tuple[str, ...] = ()
    timings: tuple[PlanTiming, ...] = ()
    rates: RangeTest | None = None
    found: tuple[str, ...] = ()


def write_choices(resolved: Resolved, folder: Path) -> list[Path]:
    """Write what was measured to choose the settings that were left open; return the files."""
    written = []
    if resolved.found:
        written.append(folder / _FOUND)
        write_atomically(written[-1], json.dumps(resolved.found) + "\n")
    if resolved.timings:
        written.append(folder / "runtime.json")
        chosen, timings = to_plain(resolved.settings.runtime), resolved.timings
        record = {"chosen": chosen, "timings": [timing.plain() for timing in timings]}
        write_atomically(written[-1], json.dumps(record, indent=1) + "\n")
    if resolved.rates is not None:
        from ..reporting.run_figures import range_figure
        from ..reporting.style import save

        found = resolved.rates
        written.append(folder / "learning_rate.png")
        save(range_figure(found.rates, found.losses, found.suggestion, found.given), written[-1])
    return written


def found_settings(folder: Path) -> list[str] | None:
    """Return the keys of measured settings, as written when the run began; None without any."""
    try:
        found: list[str] = json.loads((folder / _FOUND).read_text())
    except (OSError, ValueError):
        return None
    return found
