"""Compare the finalists of a sweep by the stored predictions of their runs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ..config.checks import ConfigError
from ..config.finished import ComparisonSettings
from ..config.sweep import SweepSettings
from ..config.tracking import TrackingSwitch
from ..data.sources.costs import CostTable
from ..records.comparison import Verdict
from ..records.trials import Finalist

__all__ = ["verdict_on"]


def verdict_on(
    settings: SweepSettings,
    finalists: Sequence[Finalist],
    look: int = 1,
    costs: CostTable | None = None,
) -> tuple[Verdict, dict[str, tuple[int, int]]]:
    """Compare finalists by the first metric of a sweep.

    Args:
        settings: of the sweep.
        finalists: to compare.
        look: number of the look, from 1.
        costs: of mistakes, if candidates are judged by them.

    Returns:
        the verdict; trial and seed of each run, by run id, in the order of the finalists.

    Raises:
        ConfigError: their runs cannot be compared.
    """
    # Imported here, since the import takes a moment that a sweep without finalists can save.
    from ..selection.comparison.find_runs import FoundRuns, folders_of, measure_of
    from ..selection.comparison.judge import compared_runs

    output_dir = Path(settings.output_dir).absolute()
    folders = {
        (one.trial, seed): run
        for one in finalists
        for seed, path in one.run_dirs.items()
        for run in folders_of([path], output_dir)
    }
    known = {run.run_id: training for training, run in folders.items()}
    out = {one.trial for one in finalists if one.left_out}
    found = FoundRuns(
        tuple(folders.values()),
        look=look,
        left_out=tuple(run_id for run_id, (trial, _) in known.items() if trial in out),
    )
    how = ComparisonSettings(output_dir=str(output_dir), tracking=TrackingSwitch(enabled=False))
    measure = measure_of(settings.metrics[0])
    verdict = compared_runs(found, how, measure, costs).verdict
    judged = {known[run_id][0] for one in verdict.standings for run_id in one.run_ids}
    if missing := {one.trial for one in finalists if one.mean is not None} - judged:
        raise ConfigError(
            f"finalists: those of trials {', '.join(map(str, sorted(missing)))} were measured on "
            "other pictures than the rest, or in another size, and cannot be compared with them."
        )
    return verdict, known
