"""Two runs against each other, where there are no more than two."""

from __future__ import annotations

from collections.abc import Sequence

from src.reporting.comparison import Pair
from src.selection.candidates import Measured
from src.selection.mcnemar import mcnemar

__all__ = ["pair_of"]


def pair_of(runs: Sequence[Measured]) -> Pair | None:
    """McNemar's exact test of two trained networks, or None of any other number.

    Args:
        runs: measured on the same pictures.
    """
    if len(runs) != 2:
        return None
    first, second = runs
    names = [first.name, second.name]
    if names[0] == names[1]:
        names = [f"{run.name} (seed {run.seed}, {run.run_id[:6]})" for run in runs]
    return Pair(names[0], names[1], mcnemar(first.right, second.right))
