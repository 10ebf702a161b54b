"""What a run measured to choose the settings that were left open, in its folder."""

from __future__ import annotations

import json
from pathlib import Path

from ..config.checks import to_plain
from ..storage.files import write_atomically
from .resolve import Resolved

__all__ = ["found_settings", "write_choices"]

# The keys of the settings that were measured.
_MEASURED_KEYS_FILE = "found.json"


def write_choices(resolved: Resolved, folder: Path) -> list[Path]:
    """Write what was measured to choose the settings that were left open; return the files."""
    written = []
    if resolved.found:
        written.append(folder / _MEASURED_KEYS_FILE)
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
        found: list[str] = json.loads((folder / _MEASURED_KEYS_FILE).read_text())
    except (OSError, ValueError):
        return None
    return found
