"""What a run writes down before it trains: its settings, its data, and where they came from."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import yaml

from src.config.checks import ConfigError, to_plain
from src.config.schema import RunSettings
from src.data.loading.datamodule import PictureData
from src.machine.disk import refusal
from src.records.suspects import write_suspects
from src.runs.folder import RunFolder
from src.runs.resolve import Resolved
from src.runs.resume import reopen_record
from src.storage.files import write_atomically
from src.tracking.mirror_process import MirrorProcess
from src.tracking.provenance import Provenance
from src.tracking.tracker import Tracker

__all__ = ["Membership", "open_folder", "record_start"]

# Of the settings: where a run is kept, not what it is.
_NO_PARAMS = ("output_dir", "resume", "tracking")


@dataclass(frozen=True)
class Membership:
    """A run as part of something larger, such as a sweep, whose mirror process sends it as well.

    Attributes:
        parent_run_id: our own id of the run that stands for the whole.
        name: what to call the run in MLflow.
        tags: of the run.
        announce: called with the run's folder once the run is on record there.
        announce_fold: the same with each fold's folder, where the run is a cross-validation.
        figures: asked for the last metrics, by key, when the run ends.
    """

    parent_run_id: str
    name: str
    tags: Mapping[str, str]
    announce: Callable[[RunFolder], None]
    announce_fold: Callable[[RunFolder], None] = lambda folder: None
    figures: Callable[[], Mapping[str, float]] = dict


def open_folder(settings: RunSettings) -> RunFolder:
    """The folder of a new run, or that of the run that goes on.

    Raises:
        ConfigError: it cannot be made.
    """
    if settings.resume is not None:
        return RunFolder.open(Path(settings.resume))
    try:
        return RunFolder.create(Path(settings.output_dir), settings.model.name, settings.data.name)
    except OSError as error:
        reason = refusal(error, settings.output_dir) or error.strerror
        raise ConfigError(f"output_dir is {settings.output_dir!r}: {reason}.") from error


def record_start(
    resolved: Resolved,
    folder: RunFolder,
    data: PictureData,
    command: str,
    part_of: Membership | None = None,
    mirror: MirrorProcess | None = None,
) -> Tracker:
    """Write it into the run's folder, and start the tracker that mirrors it.

    Args:
        resolved: the run's settings, and how those left open were chosen.
        folder: of the run; made where it is missing.
        data: the pictures and their parts.
        command: the command line that repeats the run.
        part_of: what the run belongs to, or None.
        mirror: the process that is to send it; None for one of the run's own.

    Raises:
        OSError: the folder cannot be written.
    """
    settings = resolved.settings
    plain = to_plain(settings)
    folder.path.mkdir(parents=True, exist_ok=True)
    reopen_record(folder)
    write_atomically(folder.config, yaml.safe_dump(plain, sort_keys=False, allow_unicode=True))
    data.split.write(folder.split)
    write_suspects(folder.suspects, data.suspects)
    provenance = replace(Provenance.read(), command=command)
    tracker = Tracker.start(
        folder.path,
        output_dir=folder.output_dir,
        uri=settings.tracking.uri,
        experiment=settings.tracking.experiment,
        enabled=settings.tracking.enabled,
        system_metrics_seconds=settings.tracking.system_metrics_seconds,
        run_id=folder.run_id,
        run_name=folder.name if part_of is None else part_of.name,
        params={k: v for k, v in settings.effective().items() if k not in _NO_PARAMS},
        tags=provenance.tags()
        | {"bakeoff.family": settings.model.name, "bakeoff.data": settings.data.name}
        | dict({} if part_of is None else part_of.tags),
        parent_run_id=None if part_of is None else part_of.parent_run_id,
        mirror=mirror,
        mirrored_elsewhere=part_of is not None,
    )
    if part_of is not None:
        part_of.announce(folder)
    tracker.dataset(
        name=settings.data.name,
        digest=data.split.fingerprint[:8],  # the whole one is in the profile
        source=settings.data.root or settings.data.name,
        profile={
            "train": len(data.split.train),
            "val": len(data.split.val),
            "test": len(data.split.test),
            "classes": len(data.pictures.class_names),
            "pictures": data.pictures.fingerprint,
            "split": data.split.fingerprint,
        },
    )
    for file in (folder.config, folder.split, folder.suspects):
        tracker.artifact(file)
    for file in _write_choices(resolved, folder.path / "choices"):
        tracker.artifact(file, "choices")
    for file in provenance.write(folder.path / "provenance"):
        tracker.artifact(file, "provenance")
    return tracker


def _write_choices(resolved: Resolved, folder: Path) -> list[Path]:
    """What was measured to choose the settings that were left open."""
    written = []
    if resolved.timings:
        written.append(folder / "runtime.json")
        write_atomically(written[-1], json.dumps(resolved.runtime_record(), indent=1) + "\n")
    if resolved.rates is not None:
        from src.reporting.run_figures import range_figure
        from src.reporting.style import save

        found = resolved.rates
        written.append(folder / "learning_rate.png")
        save(range_figure(found.rates, found.losses, found.suggestion, found.given), written[-1])
    return written
