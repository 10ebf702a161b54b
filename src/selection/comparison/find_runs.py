"""Find finished runs: named ones, those of a study or an experiment, or all there are."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ...config.checks import ConfigError, input_of
from ...config.finished import ComparisonSettings
from ...config.overrides import output_overrides
from ...data.sources.costs import CostTable
from ...machine.failures import RunFailed
from ...machine.package import command
from ...machine.text import nearest
from ...metrics.registry import RANKING
from ...records.data_scaling import DATA_SCALING, fraction_runs
from ...records.trials import COMPLETE
from ...runs.folder import RunFolder, finished_summary, refuse_unfinished
from ...runs.seal import SEAL
from ...runs.sweep_record import read_sweep_record, recorded_studies, sweep_file
from ...storage.digests import DamagedLine
from ...tracking.addresses import absolute_uri, sqlite_path, without_password
from ...tracking.mlflow_database import run_folders

__all__ = ["FoundRuns", "existing_folders", "find_runs", "measure_of", "study_measure"]

# Metrics of a study, with the measure that ranks its finalists in the same order.
_OF_STUDY = {f"val/{name}": name for name in RANKING} | {"val/loss": "log_loss"}
_MOST_NAMED = 5  # sweeps in a message, at most


@dataclass(frozen=True)
class FoundRuns:
    """The runs that were found.

    Attributes:
        folders: of the runs.
        screened: of the trials of a study that these were chosen from, by a single training each.
        winner: ids of the runs of the study's own winner; () where there is none.
        look: of `judge`, at the finalists of a study.
        left_out: ids of the runs of finalists that were left out at an earlier look.
        extra_trainings: that finalists got between looks.
        elsewhere: how many of the runs that MLflow knows have no folder on this machine.
        damaged: a sentence for each folder whose run.json cannot be read.
    """

    folders: tuple[RunFolder, ...]
    screened: tuple[RunFolder, ...] = ()
    winner: tuple[str, ...] = ()
    look: int = 1
    left_out: tuple[str, ...] = ()
    extra_trainings: int = 0
    elsewhere: int = 0
    damaged: tuple[str, ...] = ()


def find_runs(settings: ComparisonSettings, output_dir: Path) -> FoundRuns:
    """Return the runs that are named, of a study, or found by MLflow; all there are by default.

    Raises:
        ConfigError: there is no such run, study or experiment, or MLflow rejects the filter.
        RunFailed: MLflow does not answer.
    """
    with input_of("runs"):
        if settings.runs is not None:
            named = [RunFolder.find_all(run, output_dir) for run in settings.runs]
            for runs in named:  # of a candidate's trainings some may have been stopped
                if not any(map(finished_summary, runs)):
                    refuse_unfinished(runs[0])
            # As `_all_runs` has them, by time: which is named first must not name a candidate, or
            # decide which of two equal trainings counts.
            each = {run for runs in named for run in runs}
            return FoundRuns(tuple(sorted(each, key=lambda run: (run.name, run.path))))
        if settings.sweep is not None:
            return _of_sweep(output_dir, settings.sweep, settings)
        if settings.experiment is not None or settings.filter is not None:
            return _without_fractions(_in_mlflow(settings, output_dir))
        return _without_fractions(_all_runs(output_dir))


def _all_runs(output_dir: Path) -> FoundRuns:
    folders, damaged = [], []
    runs = output_dir / "runs"
    # A sealed run that has lost its run.json is missed as well.
    files = [*runs.glob("*/run.json"), *runs.glob(f"*/{SEAL}")]
    for place in sorted({file.parent for file in files}):
        try:
            folders.append(RunFolder.open(place))
        except ValueError as error:
            damaged.append(f"{place} is left out: {error}.")
    return FoundRuns(tuple(folders), damaged=tuple(damaged))


def _without_fractions(found: FoundRuns) -> FoundRuns:
    """Return them without trainings of `scaling`: runs that are there, on fewer of their pictures.

    As candidates they would be tied with those runs for lack of pictures, and widen the intervals.
    """
    records = {run.path / DATA_SCALING for run in found.folders}
    fractions = {
        file.parent.with_name(name) for file in records for name in fraction_runs(file).values()
    }
    return replace(found, folders=tuple(run for run in found.folders if run.path not in fractions))


def measure_of(metric: str | None) -> str | None:
    """Return the measure that ranks finalists of a study by this metric; None for the default."""
    return _OF_STUDY.get(metric or "")


def study_measure(output_dir: Path, study: str) -> tuple[str | None, CostTable | None]:
    """Return the measure of a study's first metric, and its table of costs.

    None for what it does not have, and both where it has no record.
    """
    file = sweep_file(output_dir, study)
    try:
        plain = read_sweep_record(file)
        costs = plain.get("costs")
        table = None if costs is None else CostTable.parse(costs, file)
        return measure_of(str(plain["metrics"][0])), table
    except (OSError, DamagedLine, LookupError):
        return None, None


def _of_sweep(output_dir: Path, study: str, settings: ComparisonSettings) -> FoundRuns:
    """Return the folders of a study's finalists that still exist, and of the trials behind them.

    The field is the finalists, by their trainings with seeds that did not choose them: the best of
    many trials is ahead partly by chance, and would be so in each later comparison that includes
    its trial. Where there are no finalists, the field is the trials.
    """
    plain = _study_record(output_dir, study)
    trials = existing_folders(
        [trial["run_dir"] for trial in plain["trials"] if trial.get("state") in (None, COMPLETE)],
        output_dir,
    )
    finalists = {
        one.get("trial"): existing_folders(one["run_dirs"].values(), output_dir)
        for one in plain["finalists"]
    }
    field = [folder for folders in finalists.values() for folder in folders]
    if not field:
        return FoundRuns(tuple(trials))
    winner = finalists.get(plain.get("winner"), [])
    # Finalists are left out by the study's own metric on the validation part.
    by_looks = settings.part == "val" and settings.metric is None
    return FoundRuns(
        tuple(dict.fromkeys(field)),
        screened=tuple(trials),
        winner=tuple(folder.run_id for folder in winner),
        look=int(plain.get("looks", 1)),
        left_out=tuple(
            folder.run_id
            for one in plain["finalists"]
            if by_looks and one.get("left_out")
            for folder in finalists[one.get("trial")]
        ),
        extra_trainings=int(plain.get("extra_trainings", 0)),
    )


def _study_record(output_dir: Path, study: str) -> dict[str, Any]:
    file = sweep_file(output_dir, study)
    try:
        return read_sweep_record(file)
    except DamagedLine as error:
        raise ConfigError(f"sweep is {study!r}: {error}.") from error
    except OSError as error:
        if file.parent.is_dir():
            line = command("sweep", f"study={study}", *output_overrides(output_dir))
            raise ConfigError(
                f"sweep is {study!r}, which has not come to its end: wait for it, or go on with "
                f"it, {line}."
            ) from error
        known = recorded_studies(output_dir)
        others = f"; there are {', '.join(known[:_MOST_NAMED])}" if known else ""
        raise ConfigError(
            f"sweep is {study!r}: there is no finished sweep of this name in "
            f"{file.parents[1]}{nearest(study, known) or others}."
        ) from error


def existing_folders(named: Iterable[str | None], output_dir: Path) -> list[RunFolder]:
    """Return the run folders at these paths that still exist, in output_dir if it was moved."""
    found = (RunFolder.at(Path(path), output_dir) for path in named if path)
    return [run for run in found if run is not None]


def _in_mlflow(settings: ComparisonSettings, output_dir: Path) -> FoundRuns:
    uri = absolute_uri(settings.tracking.uri, output_dir)
    database = sqlite_path(uri)
    if database is not None and not database.is_file():  # which asking for it would make
        raise ConfigError(
            f"there is no tracking database {database}: name another output_dir or tracking.uri."
        )
    noted: list[Path] = []
    if database is not None:
        noted = run_folders(database, settings.experiment, settings.filter or "")
    folders, elsewhere = [], 0
    for run_dir in noted or _searched(uri, settings):
        # Sweeps and comparisons are runs in MLflow too, with folders that are no run's.
        if run_dir.parent.name != "runs":
            continue
        if found := RunFolder.at(run_dir, output_dir):
            folders.append(found)
        else:
            elsewhere += 1
    if not folders and elsewhere:
        raise ConfigError(f"none of the {elsewhere} runs that MLflow finds is on this machine.")
    return FoundRuns(tuple(folders), elsewhere=elsewhere)


def _searched(uri: str, settings: ComparisonSettings) -> list[Path]:
    """Return the folders of the runs that MLflow finds, the oldest first."""
    from ...tracking.mlflow_store import NoSuchExperiment, Rejected, ServerAway, Store

    try:
        known = Store(uri).search(settings.experiment, settings.filter or "")
    except NoSuchExperiment as error:
        raise ConfigError(f"experiment is {settings.experiment!r}: {error}.") from error
    except Rejected as error:
        raise ConfigError(f"filter is {settings.filter!r}: {str(error).rstrip('.')}.") from error
    except ServerAway as error:
        raise RunFailed(
            f"MLflow at {without_password(uri)} does not answer ({error}): start it, or name the "
            "runs by folder (runs=[...]) or study (sweep=...)."
        ) from error
    return known[::-1]
