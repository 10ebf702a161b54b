"""What a comparison leaves in its folder."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path

from src.config.after import CompareSettings
from src.files import write_atomically
from src.reporting.comparison import Comparison, comparison_csv, comparison_plain

__all__ = ["comparison_name", "write_comparison"]


def write_comparison(comparison: Comparison, settings: CompareSettings) -> list[Path]:
    """`leaderboard.json` and `leaderboard.csv`, in a folder for what was compared.

    Raises:
        OSError: it cannot be written.
    """
    folder = Path(settings.output_dir).absolute() / "compare" / comparison_name(settings)
    contents = {
        "leaderboard.json": json.dumps(comparison_plain(comparison), indent=1) + "\n",
        "leaderboard.csv": comparison_csv(comparison),
    }
    for file, content in contents.items():
        write_atomically(folder / file, content)
    return [folder / file for file in contents]


def comparison_name(settings: CompareSettings) -> str:
    """The same for the same question, so that asking again replaces the answer."""
    asked = [settings.sweep, settings.experiment, settings.data]
    if settings.runs is not None or settings.filter is not None:
        chosen = "\n".join(settings.runs or [settings.filter or ""])
        asked.append(f"runs-{hashlib.sha256(chosen.encode()).hexdigest()[:6]}")
    if settings.part != "val":
        asked.append(settings.part)
    name = "-".join(re.sub(r"[^\w.]+", "_", one) for one in asked if one)
    return name or "all"
