"""The life cycle of a run: open its record, do its work, and write its summary.

`ActiveRun` holds what all runs have in common, however they end; `src.runs.experiment` has that of
one candidate, `src.runs.cross_validation` that of many folds.
"""

from __future__ import annotations

import errno
import math
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace

import numpy as np
from filelock import Timeout
from numpy.typing import NDArray

from ..config.checks import ConfigError
from ..config.plugins import plugin_overrides
from ..config.schema import RunSettings
from ..data.decoding.picture_store import PictureLost
from ..data.loading.picture_data import PictureData
from ..machine.failures import (
    DiskRefuses,
    NotLoaded,
    ProcessLost,
    RunFailed,
    explained,
    require_folder,
)
from ..machine.interruption import Interruption, Stopped, interruption_behind
from ..machine.package import command
from ..machine.status import doing
from ..machine.yaml_text import yaml_text
from ..records.pictures import ClassMaps, Suspect, write_suspects
from ..records.run import Predictions, RunSummary
from ..reporting.run_note import run_note
from ..statistics.label_errors import review_labels
from ..storage.files import write_atomically
from ..storage.locks import ProcessLock
from ..targets import kind_of
from ..tracking.addresses import without_password
from ..tracking.mlflow_pages import METRIC_TAG
from ..tracking.provenance import Provenance
from ..tracking.spool import writer_lock
from ..tracking.tracker import NOTE, Tracker
from .candidates.candidate import OnEpoch
from .folder import RunFolder
from .printed_summary import print_summary
from .resolve import Resolved, found_settings
from .resume import refuse_ended, reopen_record
from .seal import amending, seal

__all__ = ["ActiveRun", "ParentLink", "RunRequest"]

# Settings that say where a run is kept, not what it is: no parameters of it in MLflow.
_NO_PARAMS = ("output_dir", "resume", "tracking")
# For a lock that is only looked at, or held while the record of a measurement is written.
_LOCK_SECONDS = 5.0
# What ends a run that goes on as it is, once the cause is gone.
_GOES_ON = (DiskRefuses, NotLoaded, PictureLost, ProcessLost, BrokenPipeError)


@dataclass(frozen=True)
class ParentLink:
    """The link of a run to a larger one, such as a sweep, whose mirror process sends it as well.

    Attributes:
        parent_run_id: our own id of the larger run.
        name, tags: of the run in MLflow.
        announce: called with the run's folder once its record is begun.
        announce_fold: the same with each fold's folder, where the run is a cross-validation.
        figures: returns the last metrics, by key, when the run ends.
        family, trial: of the sweep, for the summary; None where the run is no candidate.
    """

    parent_run_id: str
    name: str
    tags: Mapping[str, str]
    announce: Callable[[RunFolder], None]
    announce_fold: Callable[[RunFolder], None] = lambda folder: None
    figures: Callable[[], Mapping[str, float]] = dict
    family: str | None = None
    trial: int | None = None


@dataclass(frozen=True, kw_only=True)
class RunRequest:
    """Who asks for a run, and hears of it; see `src.runs.experiment.run_experiment`.

    Attributes:
        command: the command line that repeats the run.
    """

    command: str
    on_epoch: OnEpoch | None = None
    parent: ParentLink | None = None
    is_step: bool = False


@dataclass
class _Outcome:
    """The status of a run for MLflow, the reason where it did not finish, its state in a sweep."""

    status: str = "FAILED"
    reason: str | None = None
    state: str = "failed"


@dataclass(eq=False)
class ActiveRun(ABC):
    """A run from the first line of its record to its summary.

    Attributes:
        folder: of the run; made where it is missing.
        batch_size: images a step, for advice where memory runs out; None where there is none.
        ended: with what summary a run to resume had finished when it was judged; None where it
            had not, or is new.
        metrics: measured so far, by key.
    """

    resolved: Resolved
    folder: RunFolder
    data: PictureData
    request: RunRequest
    batch_size: int | None = field(default=None, kw_only=True)
    ended: RunSummary | None = field(default=None, kw_only=True)
    metrics: dict[str, float] = field(default_factory=dict, init=False)
    _about: str = field(default="", init=False)
    _outdated: list[str] = field(default_factory=list, init=False)  # metrics of earlier weights
    _tracker: Tracker | None = field(default=None, init=False)  # once it is started
    _started: float = field(default_factory=time.perf_counter, init=False)

    @property
    def settings(self) -> RunSettings:
        return self.resolved.settings

    @property
    def parent(self) -> ParentLink | None:
        return self.request.parent

    @property
    def is_fold_of_whole(self) -> bool:
        """Whether a cross-validation trains the run, whose lines stand for those of its folds."""
        return self.parent is not None and self.settings.cv.fold is not None

    @abstractmethod
    def headline(self) -> str:
        """Return the lines that are printed before the work begins."""

    @abstractmethod
    def work(self, tracker: Tracker, interruption: Interruption) -> None:
        """Do the work of the run; an exception ends the run, and the summary is still written."""

    @abstractmethod
    def completed(self, summary: RunSummary) -> RunSummary:
        """Return a summary with the fields of all runs and the results of this one."""

    def format_text(self) -> str:
        """Return the size of the pictures and the number of classes, for the headline."""
        pictures = self.data.pictures
        height, width = pictures.image_size
        seen = "in windows of" if pictures.format.windowed else "of"
        size = f"{height}x{width}x{pictures.channels}"
        return f"{seen} {size}, {len(pictures.class_names)} classes"

    def prepare_folder(self) -> None:
        """Write settings and parts; called once no other process writes the folder.

        Raises:
            ConfigError: the run was gone on with since it was judged.
        """
        refuse_ended(self.folder, self.ended)
        self._outdated = reopen_record(self.folder)
        write_atomically(self.folder.config, yaml_text(self.settings.effective()))
        self.data.split.write(self.folder.split)
        write_suspects(self.folder.suspects, self.data.suspects)

    def carry_out(self) -> RunSummary:
        """Do the work and write the summary, however the work ends.

        Raises:
            Interrupted: Ctrl-C or SIGTERM; the run can be resumed.
            OSError: the folder cannot be written.
            Exception: what `work` raised.
        """
        with Interruption() as interruption:
            try:
                with self._outcome() as outcome, explained(self.folder.path, self.batch_size):
                    tracker = self._begin_record()
                    if not self.is_fold_of_whole:
                        print(self.headline())
                    self.work(tracker, interruption)
                    require_folder(self.folder.path)
            finally:
                interruption.defer(True)  # the records are written to the end
                with explained(self.folder.path):
                    summary = self._close(self._tracker, outcome)
                interruption.defer(False)
            interruption.check()
        # Else the larger run, or the command, prints what came of all that it trained.
        if self.parent is None and not self.request.is_step:
            print_summary(summary, self.settings)
        return summary

    def keep_predictions(self, name: str, predictions: Predictions, tracker: Tracker) -> None:
        """Write predictions/<name>.parquet and have it mirrored."""
        require_folder(self.folder.path)
        path = self.folder.predictions / f"{name}.parquet"
        predictions.write(path)
        tracker.artifact(path, "predictions")

    @doing("drawing figures")
    def draw(
        self,
        tracker: Tracker,
        parts: Mapping[str, Predictions],
        doubtful: Sequence[Suspect],
        *,
        history: Mapping[str, list[list[float]]] | None = None,
        training_batch: tuple[NDArray[np.generic], NDArray[np.generic]] | None = None,
        maps: ClassMaps | None = None,
    ) -> None:
        """Draw the run's figures, and list and show the pictures that deserve a look.

        Those are `doubtful`, whose labels the model contradicts, and the suspects of the data; the
        other arguments are those of `src.reporting.run_figures.draw_run_figures`.
        """
        # matplotlib takes a second to import, and the trials of a sweep draw nothing.
        from ..reporting.contact_sheets import suspects_sheet
        from ..reporting.label_page import review_sentences
        from ..reporting.run_figures import draw_run_figures
        from ..reporting.style import save
        from .label_review import write_label_review

        folder, pictures = self.folder, self.data.pictures
        read_mask = pictures.read_mask if kind_of(pictures.kind).pixels else None
        for figure in draw_run_figures(
            folder.figures,
            dict(history or {}),
            dict(parts),
            pictures.read,
            batch=training_batch,
            class_maps=maps,
            read_mask=read_mask,
        ):
            tracker.artifact(figure, "figures")
        suspects = [*self.data.suspects, *doubtful]
        write_suspects(folder.suspects, suspects)
        tracker.artifact(folder.suspects)
        sheet = folder.figures / "suspects.png"
        caution = review_sentences(review_labels(parts, doubtful))[1:] if doubtful else []
        save(suspects_sheet(suspects, pictures.read, " ".join(caution)), sheet)
        tracker.artifact(sheet, "figures")
        for file in write_label_review(folder.path, self.data, parts, doubtful):
            tracker.artifact(file)

    def _begin_record(self) -> Tracker:
        """Start the tracker, and write settings, parts and provenance into the folder."""
        settings, folder, data, parent = self.settings, self.folder, self.data, self.parent
        provenance = replace(Provenance.read(), command=self.request.command)
        self._about = self.headline().partition("\n")[0]
        tracker = self._tracker = Tracker.start(
            folder.path,
            settings.tracking,
            output_dir=folder.output_dir,
            run_id=folder.run_id,
            run_name=folder.name if parent is None else parent.name,
            tags={
                **provenance.tags(),
                "bakeoff.family": settings.model.name,
                "bakeoff.data": settings.data.name,
                METRIC_TAG: kind_of(settings.data.target).primary,
                NOTE: run_note(self._about, without_password(self.request.command)),
                **({} if parent is None else parent.tags),
            },
            parent_run_id=None if parent is None else parent.parent_run_id,
            prepare=self.prepare_folder,
        )
        tracker.params({k: v for k, v in settings.effective().items() if k not in _NO_PARAMS})
        if parent is not None:
            parent.announce(folder)
        if self._outdated:  # MLflow would go on showing them
            tracker.metrics(dict.fromkeys(self._outdated, math.nan), step=0, final=True)
        tracker.dataset(
            name=settings.data.name,
            digest=data.split.fingerprint[:8],  # the whole one is in the profile
            source=settings.data.root or settings.data.name,
            profile={part: len(getattr(data.split, part)) for part in ("train", "val", "test")}
            | {
                "classes": len(data.pictures.class_names),
                "pictures": data.pictures.fingerprint,
                "split": data.split.fingerprint,
            },
        )
        for file in (folder.config, folder.split, folder.suspects):
            tracker.artifact(file)
        for file in self.resolved.write(folder.path / "choices"):
            tracker.artifact(file, "choices")
        for file in provenance.write(folder.path / "provenance"):
            tracker.artifact(file, "provenance")
        return tracker

    @contextmanager
    def _outcome(self) -> Iterator[_Outcome]:
        """Yield an outcome that is set to how the block ended; exceptions pass through."""
        outcome = _Outcome()
        try:
            yield outcome
            outcome.status, outcome.state = "FINISHED", "complete"
        except BaseException as error:
            stop = error if isinstance(error, Stopped) else interruption_behind(error)
            if stop is not None:
                pruned = isinstance(stop, Stopped)
                outcome.status, outcome.reason = "KILLED", str(stop)
                outcome.state = "pruned" if pruned else "interrupted"
                if not pruned:
                    self._print_how_to_resume()
                raise
            if self._tracker is None and isinstance(error, ConfigError):
                outcome.state = "refused"
            known = isinstance(error, RunFailed)
            outcome.reason = str(error) if known else f"{type(error).__name__}: {error}"
            if isinstance(error, _GOES_ON):
                self._print_how_to_resume()
            raise

    def _print_how_to_resume(self) -> None:
        # The larger run says how all of it goes on; without settings nothing does.
        if self.parent is not None or not self.folder.config.is_file():
            return
        overrides = [*plugin_overrides(), f"resume={self.folder.path}"]
        line = f"resume with: {command('train', *overrides)}"
        if self.request.is_step:  # trained to its end, it would be neither chosen nor compared
            line = "repeat the command to go on"
        with suppress(OSError, ValueError):  # the terminal went away
            print(line, file=sys.stderr, flush=True)

    def _summary(self, outcome: _Outcome) -> RunSummary:
        """Return what every summary has; `completed` adds to it."""
        folder, settings, parent = self.folder, self.settings, self.parent
        return RunSummary(
            run_id=folder.run_id,
            status=outcome.status,
            name=folder.name,
            model=settings.model.name,
            data=settings.data.name,
            seed=settings.seed,
            split_fingerprint=None,
            metrics=self.metrics,
            num_parameters=None,
            duration_seconds=time.perf_counter() - self._started,
            reason=outcome.reason,
            run_dir=str(folder.path),
            command=self.request.command,
            fold=settings.cv.fold,
            family=None if parent is None else parent.family,
            trial=None if parent is None else parent.trial,
            found=found_settings(folder.path / "choices"),
        )

    def _close(self, tracker: Tracker | None, outcome: _Outcome) -> RunSummary:
        """Write the summary, and end the record of a run that has one."""
        folder = self.folder
        if tracker is not None and self.parent is not None:
            tracker.metrics(self.parent.figures(), step=0, final=True)
            tracker.tags({"bakeoff.state": outcome.state})
        summary = self.completed(self._summary(outcome))
        if outcome.state == "refused":  # another process writes this run, and its summary
            return summary
        try:
            if not folder.path.is_dir():
                raise FileNotFoundError(errno.ENOENT, "its folder was moved or removed")
            summary.write(folder.summary)
        except OSError as error:
            if tracker is not None:
                tracker.finish("FAILED", outcome.reason or f"{folder.summary}: {error.strerror}")
            if outcome.status == "FINISHED":  # it is not, without its summary
                raise
            return summary  # the exception that ended the run is on its way already
        if tracker is None:  # so is the one that kept the record from being begun
            return summary
        return self._end_record(tracker, summary, outcome)

    def _end_record(self, tracker: Tracker, summary: RunSummary, outcome: _Outcome) -> RunSummary:
        """Seal a finished run, end its record, and return the summary with what came of both."""
        folder = self.folder
        if outcome.status == "FINISHED":
            seal(folder.path, run_id=folder.run_id, name=folder.name)
            # Noted only now: a kill in between leaves no run that seems to have lost its seal.
            summary = replace(summary, sealed=True)
        line = without_password(self.request.command)
        tracker.tags({NOTE: run_note(self._about, line, summary)})
        # MLflow has no status for a trial that was stopped by comparison, and shows KILLED as it
        # shows FAILED; the tag bakeoff.state says which it was.
        status = "FINISHED" if outcome.state == "pruned" else outcome.status
        if tracked_as := tracker.finish(status, outcome.reason):
            summary = replace(summary, run_id=tracked_as)
        if tracked_as or summary.sealed:
            if outcome.status == "FINISHED":
                require_folder(folder.path)  # it may have taken MLflow a while to answer
            elif not folder.path.is_dir():
                return summary
            _add_to_summary(folder, summary)
        return summary


def _add_to_summary(folder: RunFolder, ended: RunSummary) -> None:
    """Note in the summary of a run what is known only after its end: its seal, and MLflow's id.

    MLflow may have taken a minute, in which another command measured the run, or went on with it:
    what that wrote stays, and a run that has had another end since is left alone.
    """
    lock = ProcessLock(writer_lock(folder.path))
    try:
        lock.acquire(timeout=_LOCK_SECONDS)
    except Timeout:  # it goes on
        return
    try:
        with amending(folder.path, updated=[folder.summary.name]):
            now = RunSummary.read(folder.summary)
            if _end_of(now) == _end_of(ended):
                replace(now, run_id=ended.run_id, sealed=ended.sealed).write(folder.summary)
    finally:
        lock.release()


def _end_of(summary: RunSummary) -> tuple[str, float]:
    """Return what two ends of a run do not share."""
    return summary.status, summary.duration_seconds
