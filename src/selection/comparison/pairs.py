"""Two runs against each other, where there are no more than two."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import replace

from src.config.checks import ConfigError
from src.reporting.comparison import Pair
from src.selection.comparison.read_runs import FinishedRun
from src.statistics.fold_tests import corrected_resampled_t
from src.statistics.mcnemar import mcnemar

__all__ = ["pair_of"]

_ACCURACY = "val/accuracy"


def pair_of(runs: Sequence[FinishedRun], names: Sequence[str]) -> Pair | None:
    """Two trained networks by McNemar's exact test, two cross-validations over their folds.

    Args:
        runs: measured on the same pictures.
        names: of their candidates.

    Raises:
        ConfigError: of a cross-validation the folds' own figures are gone.

    Returns:
        None of more or fewer than two, of cross-validations whose folds are not the same, and of
        one and a combination of some, which has no folds of its own.
    """
    if len(runs) != 2:
        return None
    first, second = runs
    if names[0] == names[1]:
        ends = [f"seed {run.summary.seed}, {run.folder.run_id[:6]}" for run in runs]
        names = [f"{name} ({end})" for name, end in zip(names, ends)]
    pair = Pair(names[0], names[1], None, None)
    if (first.folds is None) != (second.folds is None):
        return None
    if first.folds is None:
        return replace(pair, test=mcnemar(first.measured.right, second.measured.right))
    ours, theirs = (_accuracies(run) for run in runs)
    if first.folds != second.folds or len(ours) != len(theirs):
        return None
    differences = [one - other for one, other in zip(ours, theirs)]
    return replace(pair, over_folds=corrected_resampled_t(differences, 1 / first.folds))


def _accuracies(run: FinishedRun) -> list[float]:
    """Of each fold of all repeats, in order.

    Raises:
        ConfigError: the table of the folds is gone.
    """
    table = run.folder.path / "folds.csv"
    try:
        with table.open(encoding="utf-8", newline="") as file:
            return [float(row[_ACCURACY]) for row in csv.DictReader(file)]
    except (OSError, KeyError, ValueError) as error:
        raise ConfigError(f"{table} does not hold the accuracies of the folds: {error}.") from error
