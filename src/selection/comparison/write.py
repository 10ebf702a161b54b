"""What a comparison leaves in its folder."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from pathlib import Path

from src.config.finished import ComparisonSettings
from src.reporting.comparison import Comparison, comparison_csv, comparison_plain
from src.reporting.comparison_page import comparison_page
from src.selection.comparison.report import gather
from src.storage.files import write_atomically

__all__ = ["comparison_folder", "write_comparison"]


def write_comparison(comparison: Comparison, settings: ComparisonSettings) -> Iterator[Path]:
    """`leaderboard.json`, `leaderboard.csv`, `report.html` and `figures/` in its folder.

    Yields:
        the path of each file once it is written.

    Raises:
        OSError: it cannot be written.
        ValueError: the predictions of a leader are gone since they were compared.
    """
    folder = comparison_folder(settings)
    exhibits = gather(comparison, settings)
    contents = {
        "leaderboard.json": json.dumps(comparison_plain(comparison), indent=1) + "\n",
        "leaderboard.csv": comparison_csv(comparison),
        "report.html": comparison_page(exhibits),
    }
    for file, content in contents.items():
        write_atomically(folder / file, content)
        yield folder / file
    # matplotlib takes most of a second to import, which neither the verdict nor the page needs.
    from src.reporting.comparison_figures import draw_comparison_figures

    figures, drawn = folder / "figures", set()
    for figure in draw_comparison_figures(figures, exhibits):
        drawn.add(figure)
        yield figure
    for old in set(figures.glob("*.png")) - drawn:  # of an earlier answer, which had others
        old.unlink()


def comparison_folder(settings: ComparisonSettings) -> Path:
    """The same for the same question, so that asking again replaces the answer."""
    asked = [settings.sweep, settings.experiment, settings.data]
    if settings.runs is not None or settings.filter is not None:
        chosen = "\n".join(settings.runs or [settings.filter or ""])
        asked.append(f"runs-{hashlib.sha256(chosen.encode()).hexdigest()[:6]}")
    if settings.part != "val":
        asked.append(settings.part)
    name = "-".join(re.sub(r"[^\w.-]+", "_", one) for one in asked if one)
    return Path(settings.output_dir).absolute() / "compare" / (name or "all")
