"""The verdict on the runs that a person means."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from src.config.checks import ConfigError
from src.config.finished import ComparisonSettings
from src.data.splitting.splits import Split
from src.data.splitting.test_usage import anything_measured, past_test_measurements
from src.reporting.comparison import Comparison, Entrant
from src.runs.folder import RunFolder
from src.selection.comparison.find_runs import FoundRuns, find_runs
from src.selection.comparison.names import names_of
from src.selection.comparison.pairs import pair_of
from src.selection.comparison.read_runs import FinishedRun, read_runs
from src.statistics.candidates import candidates_of
from src.statistics.sentences import sentences_of
from src.statistics.verdict import Standing, judge

__all__ = ["compared"]


def compared(settings: ComparisonSettings, made: Sequence[str] = ()) -> Comparison:
    """Read the runs and judge them.

    Args:
        settings: which runs are meant.
        made: folders of runs that were made of these, to be judged with them.

    Raises:
        ConfigError: no such runs, or none that were measured on the same pictures.
        RunFailed: MLflow, which was asked for them, does not answer.
    """
    output_dir = Path(settings.output_dir).absolute()
    found = find_runs(settings, output_dir)
    folders = dict.fromkeys([*found.folders, *(RunFolder.open(Path(path)) for path in made)])
    runs, damaged = read_runs(folders, settings)
    if damaged and settings.runs is not None:
        raise ConfigError(f"runs: {damaged[0]}")
    if not runs:
        raise ConfigError(
            f"there is no finished run to compare in {output_dir} (with stored predictions of the "
            f"{settings.part} part)."
        )
    pictures, count = Counter(run.pictures for run in runs).most_common(1)[0]
    left_out = len(runs) - count
    if left_out and settings.runs is not None:
        raise ConfigError(
            "runs: they were measured on different pictures, so no difference between them would "
            "mean anything: name runs of one split."
        )
    runs = [run for run in runs if run.pictures == pictures]
    names = _names(runs)
    try:
        measured = [
            replace(one, name=names[one.configuration]) for run in runs for one in run.repeats
        ]
        verdict = judge(candidates_of(measured))
    except ValueError as error:
        raise ConfigError(f"compare: {error}") from error
    by_id = {run.folder.run_id: run for run in runs}
    entrants = [
        _entrant(standing, [by_id[one] for one in dict.fromkeys(standing.run_ids)])
        for standing in verdict.standings
    ]
    # Of combined cross-validations, which have no folds of their own, the members tell.
    folds = next((run.folds for run in runs if run.folds is not None), None)
    pair = pair_of(runs, [names[run.measured.configuration] for run in runs])
    return Comparison(
        verdict=verdict,
        entrants=tuple(entrants),
        pair=pair,
        sentences=(*sentences_of(verdict, folds), *([pair.sentence] if pair else [])),
        remarks=(
            *_left_out(left_out, found),
            *_held_out(runs),
            *_changed(runs),
            *found.damaged,
            *damaged,
        ),
        part=settings.part,
        data=runs[0].summary.data,
        runs=len(runs),
        test_measurements=_test_measurements(runs),
        cross_validated=folds is not None,
    )


def _names(runs: Sequence[FinishedRun]) -> dict[str, str]:
    models = {run.measured.configuration: run.summary.model for run in runs}
    return names_of(models, {run.measured.configuration: run.known for run in runs})


def _entrant(standing: Standing, runs: Sequence[FinishedRun]) -> Entrant:
    return Entrant(
        standing=standing,
        family=runs[0].summary.model,
        size=_size(runs[0].known.get("data.image_size")),
        start=runs[0].summary.start,
        weights=runs[0].summary.weights,
        parameters=runs[0].summary.num_parameters,
        training_seconds=_mean([run.summary.metrics for run in runs], "cost/training_seconds"),
        run_dirs=tuple(str(run.folder.path) for run in runs),
        command=runs[0].summary.command,
    )


def _size(stated: Any) -> tuple[int, int] | None:
    """(H, W) of what a run's settings state; None where they leave it open."""
    if isinstance(stated, int):
        return stated, stated
    return None if stated is None else (int(stated[0]), int(stated[1]))


def _mean(metrics: Sequence[Mapping[str, float]], key: str) -> float | None:
    values = [one[key] for one in metrics if key in one]
    return sum(values) / len(values) if values else None


def _left_out(on_other_pictures: int, found: FoundRuns) -> list[str]:
    said = []
    if on_other_pictures:
        some = "One run" if on_other_pictures == 1 else f"{on_other_pictures} runs"
        said.append(f"{some} on other pictures left out.")
    if found.elsewhere:
        some = "One run" if found.elsewhere == 1 else f"{found.elsewhere} runs"
        said.append(f"{some} left out that MLflow knows and this machine does not have.")
    return said


def _held_out(runs: Sequence[FinishedRun]) -> list[str]:
    """Why what was made of other runs may be judged by the pictures that it was chosen by."""
    models = dict.fromkeys(
        run.summary.model for run in runs if "runs" in run.settings.get("model", {})
    )
    return [
        f"The {model} answers every picture by a choice of members that was made without it."
        for model in models
    ]


def _changed(runs: Sequence[FinishedRun]) -> list[str]:
    return [
        f"{run.folder.name} is used, though {change}." for run in runs for change in run.changes
    ]


def _test_measurements(runs: Sequence[FinishedRun]) -> int:
    """How often the test part of their split has been measured, as far as is known."""
    places = {run.folder.output_dir for run in runs}
    noted = max((run.summary.test_measurements or 0 for run in runs), default=0)
    if not any(map(anything_measured, places)):  # a split of many pictures takes a while to read
        return noted
    try:
        fingerprint = Split.read(runs[0].folder.split).test_fingerprint
    except (OSError, ValueError):
        return noted
    return max(noted, sum(past_test_measurements(place, fingerprint) for place in places))
