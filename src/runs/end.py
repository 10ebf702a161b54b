"""How a run ends, whatever ends it, and its last words in the folder and in tracking."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from src.config.plugins import plugin_words
from src.config.schema import RunSettings
from src.machine.failures import DiskRefuses, RunFailed
from src.machine.interruption import Interrupted, Stopped
from src.records.run import RunSummary, Suspect
from src.reporting.suspects import write_suspects
from src.runs.folder import RunFolder
from src.runs.seal import amending, seal
from src.tracking.addresses import without_password
from src.tracking.tracker import Tracker

__all__ = ["Outcome", "close_run", "outcome_of", "show_suspects", "ui_command"]


@dataclass
class Outcome:
    """How a run ended: as MLflow says it, why it did not finish, and as a sweep says it."""

    status: str = "FAILED"
    reason: str | None = None
    state: str = "failed"


@contextmanager
def outcome_of(folder: RunFolder, *, alone: bool) -> Iterator[Outcome]:
    """Holds what is known of the run's end once the block is left; no exception is kept back.

    Args:
        alone: whether a person is told how to go on; what the run is a part of tells them itself.
    """
    outcome = Outcome()
    try:
        yield outcome
        outcome.status, outcome.state = "FINISHED", "complete"
    except Interrupted as stop:
        outcome.status, outcome.reason, outcome.state = "KILLED", str(stop), "interrupted"
        if alone:
            _say_how_to_resume(folder)
        raise
    except Stopped as stop:
        outcome.status, outcome.reason, outcome.state = "KILLED", str(stop), "pruned"
        raise
    except RunFailed as failure:
        outcome.reason = str(failure)
        if alone and isinstance(failure, DiskRefuses):
            _say_how_to_resume(folder)
        raise
    except BaseException as error:
        outcome.reason = f"{type(error).__name__}: {error}"
        raise


def _say_how_to_resume(folder: RunFolder) -> None:
    command = shlex.join(["python", "-m", "src.train", *plugin_words(), f"resume={folder.path}"])
    with suppress(OSError, ValueError):  # the terminal went away
        print(f"go on with: {command}", file=sys.stderr, flush=True)


def close_run(
    folder: RunFolder, tracker: Tracker, summary: RunSummary, outcome: Outcome
) -> RunSummary:
    """Write the summary, seal a finished run's folder, and say the last word to tracking.

    The summary then has MLflow's id.

    Raises:
        OSError: a finished run's summary cannot be written, so that it is not finished.
    """
    try:
        summary.write(folder.summary)
    except OSError as error:
        tracker.finish("FAILED", outcome.reason or f"{folder.summary}: {error.strerror}")
        if outcome.status == "FINISHED":
            raise
        return summary  # why it ended is on its way to the person already
    if outcome.status == "FINISHED":
        seal(folder.path, run_id=folder.run_id, name=folder.name)
    if tracked_as := tracker.finish(outcome.status, outcome.reason):
        summary = replace(summary, run_id=tracked_as)
        with amending(folder.path, folder.summary.name):
            summary.write(folder.summary)
    return summary


def show_suspects(
    folder: RunFolder,
    tracker: Tracker,
    suspects: Sequence[Suspect],
    read: Callable[[int], NDArray[np.uint8]],
) -> None:
    """The table of the pictures that somebody should look at, and their sheet."""
    from src.reporting.style import save
    from src.reporting.suspects_sheet import suspects_sheet

    write_suspects(folder.suspects, suspects)
    tracker.artifact(folder.suspects)
    figure = folder.figures / "suspects.png"
    save(suspects_sheet(suspects, read), figure)
    tracker.artifact(figure, "figures")


def ui_command(settings: RunSettings) -> str:
    """What to type to see the run, or where to look."""
    if not settings.tracking.enabled:
        return "not tracked; the pictures are in figures/ of the run folder"
    places = {"output_dir": settings.output_dir, "tracking.uri": settings.tracking.uri}
    words = [f"{k}={v}" for k, v in places.items() if v not in (None, "outputs")]
    if not words:
        return "make ui"
    return without_password(shlex.join(["python", "-m", "src.tracking.ui", *words]))
