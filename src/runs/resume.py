"""A run that goes on: whether it may, and whether anything is left to do; nothing is written here
before both are known."""

from __future__ import annotations

from dataclasses import replace
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

__all__ = ["check_pictures", "finished_summary", "is_asked_for_more", "reopen_record"]

_BEGIN_ANEW = "bring the earlier ones back, or begin a new run without resume."


def check_pictures(folder: RunFolder, data: PictureData) -> None:
    """Refuse to go on with a run whose pictures, classes or order are others than at its start.

    So is a finished one whose files were changed since it was sealed.

    Args:
        folder: of the run; one that has no split.csv yet had not begun.
        data: the pictures that its settings mean now, divided as the run divides them.

    Raises:
        ConfigError: they differ, split.csv cannot be read, or another process writes the run.
    """
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


def finished_summary(folder: RunFolder) -> RunSummary | None:
    """The summary of a run that is finished; None for any other."""
    try:
        summary = RunSummary.read(folder.summary)
    except (OSError, ValueError):
        return None
    return summary if summary.status == "FINISHED" else None


def is_asked_for_more(folder: RunFolder, settings: RunSettings) -> bool:
    """Whether `settings` differ from those that the run has kept, in more than where it is kept.

    Args:
        folder: of a run with a config.yaml.
        settings: those that it is to go on with.
    """
    kept = stored_settings(yaml.safe_load(folder.config.read_text(encoding="utf-8")))
    return _what_it_is(kept) != _what_it_is(settings)


def reopen_record(folder: RunFolder) -> None:
    """Break a run's seal, and say in a finished one's summary that it goes on.

    So a kill leaves no figures that are not those of its weights.

    Raises:
        OSError: the summary cannot be written.
    """
    break_seal(folder.path)
    summary = finished_summary(folder)
    if summary is not None:
        reason = "it went on after it had finished, and has not ended since"
        replace(summary, status="KILLED", reason=reason).write(folder.summary)


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
    """What the classes were called, as far as predictions have been written."""
    for part in ("val", "test"):
        try:
            return Predictions.read(
                folder.predictions / f"{part}.parquet", with_paths=False
            ).class_names
        except (OSError, ValueError):
            continue
    return None
