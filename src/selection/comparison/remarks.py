"""Remarks of a comparison beside its verdict: runs left out, another winner of the study."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ...config.finished import ComparisonSettings
from ...config.overrides import output_overrides
from ...machine.package import command
from ...machine.text import counted
from ...metrics.summary import metric_name
from ...records.comparison import Recommendation
from ...statistics.looks import WORTH_SEEDS
from ...targets import kind_of
from .differing_pictures import renumbered
from .find_runs import FoundRuns
from .read_runs import FinishedRun

__all__ = ["remarks_on"]

# Measures of label sets by which labels that reach a threshold are right or wrong.
_OF_DECIDED_LABELS = ("macro_f1", "micro_f1", "hamming_loss", "accuracy")


def remarks_on(
    verdict: Recommendation,
    runs: Sequence[FinishedRun],
    found: FoundRuns,
    settings: ComparisonSettings,
    left_out: Sequence[FinishedRun],
) -> Iterator[str]:
    """Yield the remarks, a sentence each.

    Args:
        verdict: on the runs.
        runs: that were judged.
        found: where they come from.
        settings: how they were compared.
        left_out: runs that were measured on other pictures, otherwise divided into folds, or that
            number them otherwise.
    """
    yield from _left_out(left_out, runs, found)
    yield from _copies(runs)
    yield from _other_winner(verdict, found.winner, settings)
    yield from _further_seeds(verdict, found, settings)
    yield from _held_out(runs)
    yield from _thresholds(verdict.measure, runs, settings.part)
    yield from _changed(runs)


def _left_out(
    left_out: Sequence[FinishedRun], runs: Sequence[FinishedRun], found: FoundRuns
) -> list[str]:
    remarks = []
    if in_other_orders := sum(renumbered(one, runs[0]) for one in left_out):
        some = counted(in_other_orders, "run", begins=True)
        remarks.append(
            f"{some} left out that had the same pictures in another order, as after files were "
            "renamed or the lines of a table moved."
        )
    if on_other_pictures := len(left_out) - in_other_orders:
        pixels = any(kind_of(run.target).pixels for run in runs)
        differing = " or in another size" * pixels
        differing += " or in other folds" * any(run.folds is not None for run in runs)
        some = counted(on_other_pictures, "run", begins=True)
        remarks.append(f"{some} on other pictures{differing} left out.")
    if found.elsewhere:
        some = counted(found.elsewhere, "run", begins=True)
        remarks.append(f"{some} left out that MLflow knows and this machine does not have.")
    return remarks


def _copies(runs: Sequence[FinishedRun]) -> list[str]:
    """Return that of runs with equal settings and seed the last one counts, if there are some."""
    last = {(run.measured.configuration, run.summary.seed): run for run in runs}
    copies = [
        (run, last[run.measured.configuration, run.summary.seed])
        for run in runs
        if last[run.measured.configuration, run.summary.seed] is not run
    ]
    if not copies:
        return []
    run, instead = copies[-1]
    some = counted(len(copies), "run is", "runs are", begins=True)
    return [
        f"{some} left out for later ones with the same seed and settings, but for how they were "
        f"carried out: {run.folder.name} for {instead.folder.name}."
    ]


def _other_winner(
    verdict: Recommendation, run_ids: Sequence[str], settings: ComparisonSettings
) -> list[str]:
    """Return that the study ended with another winner, where it did."""
    theirs = [one for one in verdict.standings if set(one.run_ids) & set(run_ids)]
    if not theirs or theirs[0] is verdict.winner:
        return []
    tied = ", which is statistically tied with the first here" if theirs[0].tied else ""
    return [
        f"The winner of the study {settings.sweep}, by the mean of its own metric, was "
        f"{theirs[0].name}{tied}."
    ]


def _further_seeds(
    verdict: Recommendation, found: FoundRuns, settings: ComparisonSettings
) -> list[str]:
    """Return how a study gets further seeds of its tied finalists, where these may decide."""
    chance = verdict.decided_by_seeds
    if settings.sweep is None or not found.winner or chance is None or chance < WORTH_SEEDS:
        return []
    wanted = sum(len(one.run_ids) for one in verdict.tied) + found.extra_trainings
    overrides = [f"study={settings.sweep}", f"extra_trainings={wanted}"]
    line = command("sweep", *overrides, *output_overrides(settings.output_dir))
    return [f"To double the seeds of the {len(verdict.tied)} tied: {line}."]


def _held_out(runs: Sequence[FinishedRun]) -> list[str]:
    """Return why a combination may be judged on the pictures that it was chosen on."""
    models = dict.fromkeys(
        run.summary.model for run in runs if "runs" in run.settings.get("model", {})
    )
    return [
        f"The {model} predicts each picture with members that were chosen without it."
        for model in models
    ]


def _thresholds(measure: str, runs: Sequence[FinishedRun], part: str) -> list[str]:
    """Return that thresholds of labels were chosen on these pictures for another measure, if so.

    A measure that they are best for hardly changes where they move a little; others do.
    """
    if part != "val" or measure not in _OF_DECIDED_LABELS:
        return []
    chosen = {
        str(run.settings.get("data", {}).get("threshold", "macro_f1"))
        for run in runs
        if kind_of(run.target).sets
    }
    others = sorted(chosen - {"half", measure})
    if not others:
        return []
    names = " or ".join(metric_name(one, sets=True) for one in others)
    wanted = measure if measure in ("macro_f1", "micro_f1") else "half"
    return [
        f"The thresholds of the labels were chosen on these pictures for {names}, and no interval "
        f"by {metric_name(measure, sets=True)} knows that others would choose other ones, so that "
        "the 95 % confidence is not guaranteed (on mosaics 78 to 94 % of the intervals "
        f"hold): train with data.threshold={wanted}."
    ]


def _changed(runs: Sequence[FinishedRun]) -> list[str]:
    return [
        f"{run.folder.name} is used, though {change}." for run in runs for change in run.changes
    ]
