"""Resumed runs: whether one may go on, and whether anything is left to do.

Nothing is written before both are known.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from src.config.checks import ConfigError, to_plain
from src.config.schema import RunSettings
from src.config.stored import stored_settings
from src.data.loading.datamodule import PictureData
from src.data.splitting.splits import Split
from src.records.run import Predictions, RunSummary
from src.runs.folder import RunFolder
from src.runs.seal import break_seal, changed_since
from src.tracking.spool import is_being_written

__all__ = ["finished_before", "finished_summary", "reopen_record", "with_format"]

_BEGIN_ANEW = "bring the earlier ones back, or begin a new run without resume."


def with_format(settings: RunSettings, data: PictureData) -> RunSettings:
    """Return the settings with the size, channels and value range that the pictures were given."""
    pictures = data.pictures
    values = pictures.format.value_range
    stated = replace(
        settings.data,
        image_size=list(pictures.image_size),
        channels=pictures.channels,
        value_range=None if values is None else list(values),
    )
    return replace(settings, data=stated)


def finished_before(settings: RunSettings, data: PictureData) -> RunSummary | None:
    """Return the summary of a run to resume that is finished and is asked for nothing more.

    None for a new run, and for one that goes on.

    Raises:
        ConfigError: the run to resume had other pictures, classes or order, its files were changed
            since it was sealed, split.csv cannot be read, or another process writes it.
    """
    if settings.resume is None:
        return None
    folder = RunFolder.open(Path(settings.resume))
    _check_pictures(folder, data)
    finished = finished_summary(folder)
    return None if finished is None or _asks_for_more(folder, settings) else finished


def finished_summary(folder: RunFolder) -> RunSummary | None:
    """Return the summary of a finished run; None for any other."""
    try:
        summary = RunSummary.read(folder.summary)
    except (OSError, ValueError):
        return None
    return summary if summary.status == "FINISHED" else None


def reopen_record(folder: RunFolder) -> None:
    """Break a run's seal, and write into a finished one's summary that it goes on.

    A kill then leaves no metrics of other weights than the run's.

    Raises:
        OSError: the summary cannot be written.
    """
    break_seal(folder.path)
    summary = finished_summary(folder)
    if summary is not None:
        reason = "it went on after it had finished, and has not ended since"
        replace(summary, status="KILLED", reason=reason).write(folder.summary)


def _check_pictures(folder: RunFolder, data: PictureData) -> None:
    """Raise a ConfigError unless the run began with these pictures and has not been changed."""
    if is_being_written(folder.path):
        raise ConfigError(
            f"resume: {folder.path} is being written by another process: wait for it, or end it."
        )
    changed = changed_since(folder.path)
    if changed is not None:
        raise ConfigError(f"resume: {changed}: put the original back, or begin a new run.")
    try:
        before = Split.read(folder.split)
    except FileNotFoundError:
        return
    except (OSError, ValueError) as error:
        raise ConfigError(f"resume: {str(error).rstrip('.')}.") from error
    now = data.split
    if before.fingerprint != now.fingerprint:
        raise ConfigError(
            f"resume: the pictures of {folder.name} are others than those that it began with "
            f"({_counted(before, now)}): {_BEGIN_ANEW}"
        )
    if not _same_rows(before, now):
        raise ConfigError(
            f"resume: the pictures of {folder.name} are in another order than when it began: "
            f"{_BEGIN_ANEW}"
        )
    classes = _class_names(folder)
    if classes is not None and classes != tuple(data.pictures.class_names):
        raise ConfigError(
            f"resume: the classes of {folder.name} were called {', '.join(classes)} when it began, "
            f"and are called {', '.join(data.pictures.class_names)} now: {_BEGIN_ANEW}"
        )


def _asks_for_more(folder: RunFolder, settings: RunSettings) -> bool:
    """Return whether the settings differ from the run's own in more than where it is kept."""
    kept = stored_settings(yaml.safe_load(folder.config.read_text(encoding="utf-8")))
    return _what_it_is(kept) != _what_it_is(settings)


def _what_it_is(settings: RunSettings) -> dict[str, Any]:
    plain = to_plain(settings)
    elsewhere = ("resume", "output_dir", "tracking")
    return {key: value for key, value in plain.items() if key not in elsewhere}


def _counted(before: Split, now: Split) -> str:
    counts = len(before.parts), len(now.parts)
    if counts[0] != counts[1]:
        return f"{counts[0]:,} then, {counts[1]:,} now"
    classes = [len(np.unique(split.targets)) for split in (before, now)]
    if classes[0] != classes[1]:
        return f"{classes[0]} classes then, {classes[1]} now"
    return "other contents, labels or parts"


def _same_rows(before: Split, now: Split) -> bool:
    return (
        np.array_equal(before.parts, now.parts)
        and np.array_equal(before.targets, now.targets)
        and np.array_equal(before.content_hashes, now.content_hashes)
    )


def _class_names(folder: RunFolder) -> tuple[str, ...] | None:
    """Return the names of the classes; None where no predictions have been written."""
    for part in ("val", "test"):
        try:
            return Predictions.read(
                folder.predictions / f"{part}.parquet", with_paths=False
            ).class_names
        except (OSError, ValueError):
            continue
    return None
