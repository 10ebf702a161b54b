"""Which run folders a person means."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from src.config.checks import ConfigError
from src.config.finished import ComparisonSettings
from src.machine.failures import RunFailed
from src.runs.folder import RunFolder
from src.storage.digests import DamagedLine, line_content
from src.tracking.addresses import absolute_uri, sqlite_path, without_password
from src.tracking.database import run_folders

__all__ = ["FoundRuns", "find_runs", "sweep_file"]


@dataclass(frozen=True)
class FoundRuns:
    """What was found.

    Attributes:
        folders: of the runs.
        elsewhere: how many of the runs that MLflow knows have no folder on this machine.
        damaged: a sentence for each folder whose run.json cannot be read.
    """

    folders: tuple[RunFolder, ...]
    elsewhere: int = 0
    damaged: tuple[str, ...] = ()


def find_runs(settings: ComparisonSettings, output_dir: Path) -> FoundRuns:
    """The runs that are named, or of a study, or that MLflow finds; without any word all there are.

    Raises:
        ConfigError: there is no such run, study or experiment, or MLflow does not understand.
        RunFailed: MLflow does not answer.
    """
    try:
        if settings.runs is not None:
            named = dict.fromkeys(RunFolder.find(run, output_dir) for run in settings.runs)
            return FoundRuns(tuple(named))
        if settings.sweep is not None:
            return FoundRuns(tuple(map(RunFolder.open, _of_sweep(output_dir, settings.sweep))))
        if settings.experiment is not None or settings.filter is not None:
            return _in_mlflow(settings, output_dir)
        return _all_runs(output_dir)
    except ConfigError:
        raise
    except ValueError as error:
        raise ConfigError(f"runs: {error}.") from error


def _all_runs(output_dir: Path) -> FoundRuns:
    folders, damaged = [], []
    for place in sorted((output_dir / "runs").glob("*/run.json")):
        try:
            folders.append(RunFolder.open(place.parent))
        except ValueError as error:
            damaged.append(f"{place.parent} is left out: {error}.")
    return FoundRuns(tuple(folders), damaged=tuple(damaged))


def sweep_file(output_dir: Path, study: str) -> Path:
    """Where a study keeps what came of it."""
    return output_dir / "sweeps" / study / "sweep.json"


def _of_sweep(output_dir: Path, study: str) -> Iterator[Path]:
    """The runs of a study's trials and finalists that are still there."""
    record = sweep_file(output_dir, study)
    try:
        plain = line_content(record.read_bytes())
    except DamagedLine as error:
        raise ConfigError(
            f"sweep is {study!r}: {record} is damaged ({error}): the sweep's own command writes it "
            "anew."
        ) from error
    except OSError as error:
        raise ConfigError(f"sweep is {study!r}: there is no {record} to read.") from error
    named = [trial["run_dir"] for trial in plain["trials"]]
    named += [path for finalist in plain["finalists"] for path in finalist["run_dirs"].values()]
    for path in filter(None, named):
        if found := _folder_of(Path(path), output_dir):
            yield found


def _in_mlflow(settings: ComparisonSettings, output_dir: Path) -> FoundRuns:
    uri = absolute_uri(settings.tracking.uri, output_dir)
    database = sqlite_path(uri)
    if database is not None and not database.is_file():  # which asking for it would make
        raise ConfigError(
            f"there is no tracking database {database}: name another output_dir or tracking.uri."
        )
    noted: list[Path] = []
    if database is not None and settings.experiment is not None and settings.filter is None:
        noted = run_folders(database, settings.experiment)
    folders, elsewhere = [], 0
    for run_dir in noted or _searched(uri, settings):
        # Sweeps and comparisons are runs in MLflow too, with folders that are no run's.
        if run_dir.parent.name != "runs":
            continue
        if found := _folder_of(run_dir, output_dir):
            folders.append(RunFolder.open(found))
        else:
            elsewhere += 1
    if not folders and elsewhere:
        raise ConfigError(f"none of the {elsewhere} runs that MLflow finds is on this machine.")
    return FoundRuns(tuple(folders), elsewhere)


def _searched(uri: str, settings: ComparisonSettings) -> list[Path]:
    """The folders of the runs that MLflow finds, the oldest first."""
    from src.tracking.mlflow_store import NoSuchExperiment, Rejected, ServerAway, Store

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
    return [run.run_dir for run in reversed(known) if run.run_dir is not None]


def _folder_of(noted: Path, output_dir: Path) -> Path | None:
    """Where the run of a noted folder is now: there, or moved with its output folder."""
    for path in (noted, output_dir / "runs" / noted.name):
        if (path / "run.json").is_file():
            return path
    return None
