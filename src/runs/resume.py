"""Resumed runs: whether one may be resumed, and whether anything is left to do.

Nothing is written before all of this is known.
"""

from __future__ import annotations

import shutil
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np

from ..config.checks import ConfigError
from ..config.schema import RunSettings, stored_settings
from ..data.loading.picture_data import PictureData
from ..data.splitting.splits import Split
from ..machine.package import command
from ..records.champions import withdraw_champion
from ..records.run import Predictions, RunSummary
from ..storage.locks import ProcessLock, holder_of
from ..tracking.spool import is_being_written, writer_lock
from ..training.checkpoints import read_checkpoint
from .fold_records import FoldBook
from .folder import LABELS, PAGE, RunFolder, finished_summary
from .seal import amending, break_seal, changed_since

__all__ = ["ended_before", "finished_before", "refuse_ended", "reopen_record"]

# All that is made of a run's weights, by the run and by later commands; what the run itself writes
# anew at its end is not worth a line.
_WRITTEN_ANEW = ("predictions", "model", "figures", LABELS, PAGE)
_OF_WEIGHTS = (*_WRITTEN_ANEW, "exports", "refit.json", "model_card.md")
_BEGIN_ANEW = "bring the earlier ones back, or begin a new run without resume."


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
    if finished is None:
        return None
    kept = stored_settings(folder.plain_settings())
    place, tracking = settings.output_dir, settings.tracking
    same = replace(kept, resume=settings.resume, output_dir=place, tracking=tracking) == settings
    return finished if same else None


def ended_before(settings: RunSettings) -> RunSummary | None:
    """Return the summary with which the run to resume has finished; None for any other."""
    if settings.resume is None:
        return None
    return finished_summary(RunFolder.open(Path(settings.resume)))


def refuse_ended(folder: RunFolder, before: RunSummary | None) -> None:
    """Refuse a run that another command has brought to an end since it was judged.

    Args:
        folder: of the run, which no other process writes by now.
        before: what `ended_before` returned then.

    Raises:
        ConfigError: with the remedy.
    """
    now = finished_summary(folder)
    if now is not None and (before is None or now.duration_seconds != before.duration_seconds):
        raise ConfigError(
            f"resume: another command has just gone on with {folder.name}, which has finished: "
            "repeat this one if there is more to do."
        )


def reopen_record(folder: RunFolder) -> list[str]:
    """Break a run's seal, and take from a finished one that goes on what its weights gave.

    A kill then leaves no metrics, answers or files of other weights than the run's. Deleted files
    that the run does not write again are printed.

    Returns:
        The metrics of the test part that were of these weights: they may not be measured again.
    """
    summary = finished_summary(folder)
    if summary is not None and summary.sealed:
        summary = replace(summary, sealed=False)
        # Before the seal is gone, which a finished run would seem to have lost.
        with amending(folder.path, folder.summary.name):
            summary.write(folder.summary)
    break_seal(folder.path)
    if summary is None:  # new, or killed before it had measured all that it writes at its end
        return []
    removed = [name for name in _OF_WEIGHTS if _removed(folder.path / name)]
    if named := [name for name in removed if name not in _WRITTEN_ANEW]:
        print(f"{folder.name} goes on: removed, for its weights change: {', '.join(named)}")
    for data in withdraw_champion(folder.output_dir, folder.run_id):
        print(
            f"champion of {data}: none any more, as {folder.name} goes on: once it has ended, "
            f"{command('select', f'run={folder.name}')} makes it the champion again"
        )
    reason = "it went on after it had finished, and has not ended since"
    replace(summary, status="KILLED", reason=reason).write(folder.summary)
    return [key for key in summary.metrics if key.startswith("test/")]


def _removed(path: Path) -> bool:
    """Remove a file or a folder; return whether it was there."""
    if path.is_dir():
        shutil.rmtree(path)
    else:
        try:
            path.unlink()
        except FileNotFoundError:
            return False
    return True


def _check_pictures(folder: RunFolder, data: PictureData) -> None:
    """Raise a ConfigError unless the run began with these pictures and has not been changed."""
    if is_being_written(folder.path):
        holder = holder_of(ProcessLock(writer_lock(folder.path)))
        raise ConfigError(
            f"resume: {folder.path} is being written by {holder}: wait for it, or end it."
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
    rows = ("parts", "targets")
    same_rows = all(np.array_equal(getattr(before, row), getattr(now, row)) for row in rows)
    if not (same_rows and before.numbers_as(now)):
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


def _counted(before: Split, now: Split) -> str:
    if len(before.parts) != len(now.parts):
        return f"{len(before.parts):,} then, {len(now.parts):,} now"
    classes = [len(np.unique(split.targets)) for split in (before, now)]
    if classes[0] != classes[1]:
        return f"{classes[0]} classes then, {classes[1]} now"
    return "other contents, labels, masks or parts"


def _class_names(folder: RunFolder) -> tuple[str, ...] | None:
    """Return the names of the classes; None where neither answers nor weights have been written.

    Those of a cross-validation are the ones of a fold.
    """
    for part in ("val", "test"):
        with suppress(OSError, ValueError):
            return Predictions.read(
                folder.predictions / f"{part}.parquet", with_paths=False
            ).class_names
    # What is wrong with these is said where they are needed.
    with suppress(ValueError, KeyError, TypeError):
        return tuple(read_checkpoint(folder.checkpoints / "last.ckpt")["bakeoff"]["class_names"])
    with suppress(ValueError):
        book = FoldBook.read(folder)
        folds = [] if book is None else [book.run(number) for number in book.runs]
        found = (_class_names(fold) for fold in folds if fold is not None)
        return next((names for names in found if names is not None), None)
    return None
