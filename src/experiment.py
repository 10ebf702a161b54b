"""One run from settings to summary: data, training, evaluation, records.

Knows no Hydra and no Optuna.
"""

from __future__ import annotations

import os
import shlex
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
import yaml
from numpy.typing import NDArray

from src import build
from src.config.checks import ConfigError, from_plain
from src.config.schema import RunSettings, seconds_of
from src.data.datamodule import PictureData
from src.data.ledger import count_test_measurement
from src.files import remove_leftovers
from src.measuring import Measured, class_mapper, measure_cost, measure_part
from src.records import RunSummary
from src.reporting.suspects import doubtful_labels, write_suspects
from src.reporting.terminal import format_summary
from src.resolve import Resolved, resolve
from src.run_folder import RunFolder
from src.run_start import Membership, record_start
from src.serving.bundle import write_bundle
from src.tracking.addresses import without_password
from src.tracking.logger import SpoolLogger
from src.tracking.provenance import command_line
from src.tracking.tracker import Tracker
from src.training.checkpoints import read_checkpoint
from src.training.epochs import EpochKeeper
from src.training.failures import DiskFull, RunFailed, explained
from src.training.interruption import Interrupted, Interruption, Stopped
from src.training.progress import Progress
from src.training.quiet import quiet_lightning
from src.training.task import ClassificationTask

__all__ = ["OnEpoch", "run_experiment"]

OnEpoch = Callable[[int, dict[str, float]], None]
# How the processes that Lightning starts for the other devices find the run of the first one.
_FOLDER_VARIABLE = "BAKEOFF_RUN_FOLDER"


def run_experiment(
    settings: RunSettings,
    on_epoch: OnEpoch | None = None,
    *,
    command: str | None = None,
    data: PictureData | None = None,
    part_of: Membership | None = None,
) -> RunSummary | None:
    """Train, evaluate and record one candidate.

    Bad input is refused before the run's folder exists. From then on the folder tells the whole
    story, whatever happens: its summary says FINISHED, FAILED with the reason, or KILLED.

    Args:
        settings: one run; with `resume` set to a run's folder, that run goes on.
        on_epoch: called with (epoch from 0, metrics) after each epoch; what it raises ends the run.
        command: the command line that repeats the run; None for that of this process.
        data: the pictures that the settings mean, where they are open already.
        part_of: what the run belongs to, or None.

    Returns:
        The summary; None in the further processes of a run on several devices.

    Raises:
        ConfigError: the input is wrong.
        Interrupted: Ctrl-C or SIGTERM; the run can be resumed.
        Stopped: `on_epoch` asked for it.
        Exception: the run failed; its summary is written.
    """
    quiet_lightning()
    command = command_line() if command is None else command
    if _FOLDER_VARIABLE in os.environ and int(os.environ.get("LOCAL_RANK", "0")) > 0:
        _join(RunFolder.open(Path(os.environ[_FOLDER_VARIABLE])), command)
        return None
    if data is None:
        data = build.build_data(settings)
        for remark in data.remarks:
            print(f"data: {remark}")
    resolved = resolve(settings, data)
    settings = resolved.settings
    for note in resolved.notes:
        print(note)
    _use_threads(settings)
    task = build.build_task(settings, data)
    run = _Run(settings, _folder(settings), data, task, command, resolved, part_of)
    os.environ[_FOLDER_VARIABLE] = str(run.folder.path)
    with Interruption() as interruption:
        return run.carry_out(interruption, on_epoch)


def _join(folder: RunFolder, command: str) -> None:
    """Train on a further device in the run of the first one, with the settings that it chose."""
    settings = from_plain(RunSettings, yaml.safe_load(folder.config.read_text(encoding="utf-8")))
    _use_threads(settings)
    data = build.build_data(settings)
    task = build.build_task(settings, data)
    run = _Run(settings, folder, data, task, command, Resolved(settings))
    with Interruption() as interruption:
        run.fit(interruption, logger=None, on_epoch=None)


def _use_threads(settings: RunSettings) -> None:
    if isinstance(settings.runtime.threads, int):
        torch.set_num_threads(settings.runtime.threads)


def _folder(settings: RunSettings) -> RunFolder:
    if settings.resume is not None:
        return RunFolder.open(Path(settings.resume))
    try:
        return RunFolder.create(Path(settings.output_dir), settings.model.name, settings.data.name)
    except OSError as error:
        raise ConfigError(f"output_dir is {settings.output_dir!r}: {error.strerror}.") from error


@dataclass
class _Run:
    """The state of one run between its steps."""

    settings: RunSettings
    folder: RunFolder
    data: PictureData
    task: ClassificationTask
    command: str
    resolved: Resolved
    part_of: Membership | None = None
    state: str = "failed"
    started: float = field(default_factory=time.perf_counter)
    metrics: dict[str, float] = field(default_factory=dict)
    checkpoint: Path | None = None
    test_measurements: int | None = None

    def carry_out(self, interruption: Interruption, on_epoch: OnEpoch | None) -> RunSummary:
        """Fit and measure, and write the summary however it ends."""
        folder, settings = self.folder, self.settings
        tracker = record_start(self.resolved, folder, self.data, self.command, self.part_of)
        print(self._headline())
        remove_leftovers(folder.checkpoints)
        status, reason = "FAILED", None
        try:
            with explained(folder.path, self.data.batch_size):
                history = self.fit(interruption, SpoolLogger(tracker), on_epoch)
                self._measure(tracker, history)
            status, self.state = "FINISHED", "complete"
        except Interrupted as stop:
            status, reason, self.state = "KILLED", str(stop), "interrupted"
            self._say_how_to_resume()
            raise
        except Stopped as stop:
            status, reason, self.state = "KILLED", str(stop), "pruned"
            raise
        except RunFailed as failure:
            reason = str(failure)
            if isinstance(failure, DiskFull):
                self._say_how_to_resume()
            raise
        except BaseException as error:
            reason = f"{type(error).__name__}: {error}"
            raise
        finally:
            interruption.defer(True)  # the records are written to the end
            with explained(folder.path):
                summary = self._close(tracker, status, reason)
            interruption.defer(False)
        interruption.check()
        print(format_summary(summary, _ui_command(settings)))
        return summary

    def _close(self, tracker: Tracker, status: str, reason: str | None) -> RunSummary:
        if self.part_of is not None:
            tracker.metrics(self.part_of.figures(), step=0, final=True)
            tracker.tags({"bakeoff.state": self.state})
        summary = self._summary(self.folder.run_id, status, reason)
        try:
            summary.write(self.folder.summary)
        except OSError as error:  # a run without its summary is not finished
            tracker.finish("FAILED", reason or f"{self.folder.summary}: {error.strerror}")
            if status == "FINISHED":
                raise
            return summary  # why it ended is on its way to the person already
        if tracked_as := tracker.finish(status, reason):
            summary = replace(summary, run_id=tracked_as)
            summary.write(self.folder.summary)
        return summary

    def _say_how_to_resume(self) -> None:
        command = shlex.join(["python", "-m", "src.train", f"resume={self.folder.path}"])
        print(f"go on with: {command}", file=sys.stderr, flush=True)

    def fit(
        self, interruption: Interruption, logger: SpoolLogger | None, on_epoch: OnEpoch | None
    ) -> dict[str, list[list[float]]]:
        """Train to the end (or go on from the last checkpoint); returns the history by metric."""
        settings = self.settings.trainer
        first = logger is not None
        keeper = EpochKeeper(
            self.folder.checkpoints,
            interruption=interruption,
            monitor=settings.monitor,
            patience=settings.early_stopping,
            max_seconds=None if settings.max_time is None else seconds_of(settings.max_time),
            on_epoch=on_epoch,
            progress=self._progress() if first else None,
        )
        trainer = build.build_trainer(self.settings, keeper, logger, self.folder.path)
        # A run that was killed before its first checkpoint begins again.
        resumed = keeper.last if self.settings.resume and keeper.last.is_file() else None
        self.data.live_on(trainer.strategy.root_device)
        network = self.task.network
        if self.settings.runtime.compile:
            network.compile()
        trainer.fit(self.task, datamodule=self.data, ckpt_path=resumed, weights_only=True)
        self.device = trainer.strategy.root_device
        self.training_seconds = keeper.seconds
        self.checkpoint = keeper.last
        if settings.final_weights == "best" and keeper.best.is_file():
            self.checkpoint = keeper.best
            self.task.load_state_dict(read_checkpoint(keeper.best)["state_dict"])
        self.metrics = {key: values[-1][1] for key, values in keeper.history.items()}
        return keeper.history

    def _progress(self) -> Progress:
        batches = len(self.data.batches("train", training=True))  # type: ignore[arg-type]
        settings = self.settings.trainer
        return Progress(int(settings.max_epochs), batches, moving=settings.progress)

    def _measure(self, tracker: Tracker, history: dict[str, list[list[float]]]) -> None:
        """Predict the parts, measure quality and cost, draw the pictures, hand them to tracking."""
        self.task.to(self.device)
        if self.settings.tracking.log_model:  # first, so that it is sent while the rest is measured
            self._log_model(tracker)
        parts = {"val": self._measure_part("val", tracker)}
        if self.settings.evaluate_test and len(self.data.split.test):
            self.test_measurements = count_test_measurement(
                self.folder.output_dir, self.data.split.fingerprint, self.folder.run_id
            )
            parts["test"] = self._measure_part("test", tracker)
        assert self.checkpoint is not None
        cost = measure_cost(
            self.task,
            self.data,
            self.checkpoint,
            device=self.device,
            precision=self.settings.runtime.precision,
        )
        cost["cost/training_seconds"] = self.training_seconds
        self.metrics |= cost
        if self.settings.tracking.figures:
            self._draw(tracker, history, parts)
        if self.settings.tracking.log_model:
            tracker.artifact(self.checkpoint, "checkpoints")
        self._report(tracker, history)

    def _draw(
        self, tracker: Tracker, history: dict[str, list[list[float]]], parts: dict[str, Measured]
    ) -> None:
        # matplotlib takes a second to import, which no training should wait for.
        from src.reporting.run_figures import draw_run_figures

        figures = draw_run_figures(
            self.folder.figures,
            history,
            {part: measured.predictions for part, measured in parts.items()},
            self.data.pictures.read,
            self._training_batch(),
            class_mapper(self.task, device=self.device, precision=self.settings.runtime.precision),
        )
        for figure in figures:
            tracker.artifact(figure, "figures")
        self._show_suspects(tracker, parts)

    def _report(self, tracker: Tracker, history: dict[str, list[list[float]]]) -> None:
        """The last figures, and the last act: a run killed before it measures its speed anew."""
        epochs = max((int(points[-1][0]) for points in history.values()), default=0)
        # MLflow draws what has one value as a bar if its step is 0, else as a curve of one dot.
        curves = {key: value for key, value in self.metrics.items() if key in history}
        tracker.metrics(curves, step=epochs, final=True)
        single = {key: value for key, value in self.metrics.items() if key not in history}
        tracker.metrics(single, step=0, final=True)

    def _show_suspects(self, tracker: Tracker, parts: dict[str, Measured]) -> None:
        """Those found before training, and the labels that the network contradicts."""
        from src.reporting.canvas import save
        from src.reporting.suspects_sheet import suspects_sheet

        said = {part: measured.predictions for part, measured in parts.items()}
        suspects = [*self.data.suspects, *doubtful_labels(said)]
        write_suspects(self.folder.suspects, suspects)
        tracker.artifact(self.folder.suspects)
        figure = self.folder.figures / "suspects.png"
        save(suspects_sheet(suspects, self.data.pictures.read), figure)
        tracker.artifact(figure, "figures")

    def _log_model(self, tracker: Tracker) -> None:
        bundle = self.folder.path / "model"
        example = self.data.pictures.read(int(self.data.split.val[0]))
        digest = write_bundle(bundle, self.task.evaluated, self.task.passport, example)
        tracker.model(bundle, digest)

    def _training_batch(self) -> tuple[NDArray[np.generic], NDArray[np.generic]]:
        """The first batch as training saw it."""
        batch = next(iter(self.data.batches("train", training=True)))
        images, targets = self.task.augmented(batch)
        return images.numpy(), targets.numpy()

    def _measure_part(self, part: str, tracker: Tracker) -> Measured:
        measured = measure_part(
            self.task,
            self.data,
            part,
            device=self.device,
            precision=self.settings.runtime.precision,
            tta=self.settings.trainer.tta,
        )
        path = self.folder.predictions / f"{part}.parquet"
        measured.predictions.write(path)
        tracker.artifact(path, "predictions")
        self.metrics |= measured.metrics
        return measured

    def _headline(self) -> str:
        split, pictures = self.data.split, self.data.pictures
        height, width = pictures.image_size
        return (
            f"{self.settings.model.name} on {self.settings.data.name}: "
            f"{len(split.train):,} train, {len(split.val):,} val, {len(split.test):,} test "
            f"pictures of {height}x{width}x{pictures.channels}, "
            f"{len(pictures.class_names)} classes, "
            f"{sum(p.numel() for p in self.task.network.parameters()):,} parameters\n"
            f"run: {self.folder.path}"
        )

    def _summary(self, run_id: str, status: str, reason: str | None) -> RunSummary:
        settings = self.settings
        return RunSummary(
            run_id=run_id,
            status=status,
            name=self.folder.name,
            model=settings.model.name,
            data=settings.data.name,
            seed=settings.seed,
            split_fingerprint=self.data.split.fingerprint,
            metrics=self.metrics,
            num_parameters=sum(p.numel() for p in self.task.network.parameters()),
            duration_seconds=time.perf_counter() - self.started,
            checkpoint=None if self.checkpoint is None else str(self.checkpoint),
            reason=reason,
            test_measurements=self.test_measurements,
            run_dir=str(self.folder.path),
            command=self.command,
        )


def _ui_command(settings: RunSettings) -> str:
    if not settings.tracking.enabled:
        return "not tracked; the pictures are in figures/ of the run folder"
    places = {"output_dir": settings.output_dir, "tracking.uri": settings.tracking.uri}
    words = [f"{k}={v}" for k, v in places.items() if v not in (None, "outputs")]
    if not words:
        return "make ui"
    return without_password(shlex.join(["python", "-m", "src.tracking.ui", *words]))
