"""The pictures of a sweep, drawn into its folder."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from matplotlib.figure import Figure

from src.records.trials import COMPLETE, PRUNED, SweepRecord
from src.reporting.style import save
from src.reporting.sweep_curves import curves_figure, importance_figure
from src.reporting.sweep_history import equal_terms_figure, history_figure
from src.reporting.sweep_planes import parallel_figure, pareto_figure, trade_offs

__all__ = ["draw_sweep_figures"]


def draw_sweep_figures(folder: Path, record: SweepRecord) -> Iterator[Path]:
    """Draw a sweep: what there is nothing to draw of, such as importances, has no picture.

    Args:
        folder: where to; one PNG a picture: `history`, `equal_terms`, `learning_curves`,
            `importance`, `pareto`, and `parallel_<family>`.
        record: with any number of trials.

    Yields:
        The path of each file once it is written.

    Raises:
        OSError: a file cannot be written.
    """

    def saved(figure: Figure, name: str) -> Path:
        path = folder / f"{name}.png"
        save(figure, path)
        return path

    yield saved(history_figure(record), "history")
    yield saved(equal_terms_figure(record), "equal_terms")
    if any(trial.curve for trial in record.trials):
        yield saved(curves_figure(record), "learning_curves")
    if any(record.importances.get(family) for family in record.families):
        yield saved(importance_figure(record), "importance")
    if trade_offs(record):
        yield saved(pareto_figure(record), "pareto")
    judged = [t for t in record.trials if t.value is not None and t.state in (COMPLETE, PRUNED)]
    for family in record.families:
        # A line through a single axis shows nothing.
        if any(trial.family == family and trial.values for trial in judged):
            name = re.sub(r"[^\w.-]", "_", family)
            yield saved(parallel_figure(record, family), f"parallel_{name}")
