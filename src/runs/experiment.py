"""One run from settings to summary: data, training, evaluation, records.

Knows no Hydra and no Optuna.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

import yaml

from src.config.checks import ConfigError
from src.config.schema import RunSettings
from src.config.stored import stored_settings
from src.data.loading.datamodule import PictureData
from src.data.splitting.test_usage import count_test_measurement
from src.machine.disk import refusal_of_folder
from src.machine.failures import explained
from src.machine.interruption import Interruption
from src.metrics.summary import metric_key
from src.records.run import RunSummary
from src.reporting.suspects import doubtful_labels
from src.reporting.terminal import format_summary
from src.runs import build
from src.runs.candidates.candidate import Candidate, Fitted, OnEpoch
from src.runs.candidates.choose import candidate_of
from src.runs.candidates.network import NetworkCandidate
from src.runs.candidates.origin import Origin, origin_of
from src.runs.end import Outcome, close_run, outcome_of, show_suspects, ui_command
from src.runs.folder import RunFolder
from src.runs.folds.cross_validation import cross_validate
from src.runs.measure import Measured, measure_part
from src.runs.resolve import Resolved
from src.runs.resume import check_pictures, finished_summary, is_asked_for_more
from src.runs.start import Membership, open_folder, record_start
from src.storage.files import remove_leftovers
from src.tracking.provenance import command_line
from src.tracking.tracker import Tracker
from src.training.progress import quiet_lightning

__all__ = ["OnEpoch", "run_experiment"]

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
    """Fit, evaluate and record one candidate, or each fold of its cross-validation.

    Bad input is refused before the run's folder exists. From then on the folder tells the whole
    story, whatever happens: its summary says FINISHED, FAILED with the reason, or KILLED.

    Args:
        settings: one run; with `resume` set to a run's folder, that run goes on.
        on_epoch: called with (epoch from 0, metrics) after each epoch, and once by what knows no
            epochs; of a cross-validation with (fold from 0, metrics) after each fold. What it
            raises ends the run.
        command: the command line that repeats the run; None for that of this process.
        data: the pictures that the settings mean, where they are open already; of a single fold
            divided for it.
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
        _join(RunFolder.open(Path(os.environ[_FOLDER_VARIABLE])))
        return None
    unwritable = refusal_of_folder(Path(settings.output_dir).absolute())
    if unwritable and settings.resume is None:
        raise ConfigError(f"output_dir is {settings.output_dir!r}: {unwritable}.")
    if data is None:
        data = build.build_data(settings)
        for remark in (*data.summary, *data.remarks):
            print(f"data: {remark}")
    settings = _formatted(settings, data)
    going_on = None if settings.resume is None else RunFolder.open(Path(settings.resume))
    finished = None
    if going_on is not None:
        check_pictures(going_on, data)
        finished = finished_summary(going_on)
        if finished is not None and not is_asked_for_more(going_on, settings):
            return _shown(finished, settings, part_of)
    if settings.cv.is_whole:
        return cross_validate(
            settings, data, run_experiment, on_epoch, command=command, part_of=part_of
        )
    candidate = candidate_of(settings, data)
    if going_on is not None and isinstance(candidate, NetworkCandidate):
        complete = candidate.check_resumed(going_on)
        if finished is not None and complete:
            return _shown(finished, settings, part_of)
    for note in candidate.resolved.notes:
        print(note)
    run = _Run(candidate, open_folder(settings), data, command, part_of)
    os.environ[_FOLDER_VARIABLE] = str(run.folder.path)
    with Interruption() as interruption:
        return run.carry_out(interruption, on_epoch)


def _shown(summary: RunSummary, settings: RunSettings, part_of: Membership | None) -> RunSummary:
    """The summary of a run that has nothing left to do; nothing is measured or written."""
    if part_of is None:
        print(
            f"{summary.name} is finished, and there is nothing left to do: its record is as it was"
        )
        print(format_summary(summary, ui_command(settings)))
    return summary


def _formatted(settings: RunSettings, data: PictureData) -> RunSettings:
    """The settings with the size and the channels that the pictures were given."""
    pictures = data.pictures
    values = pictures.format.value_range
    stated = replace(
        settings.data,
        image_size=list(pictures.image_size),
        channels=pictures.channels,
        value_range=None if values is None else list(values),
    )
    return replace(settings, data=stated)


def _join(folder: RunFolder) -> None:
    """Train on a further device in the run of the first one, with the settings that it chose."""
    settings = stored_settings(yaml.safe_load(folder.config.read_text(encoding="utf-8")))
    candidate = NetworkCandidate(Resolved(settings), build.build_data(settings))
    with Interruption() as interruption:
        candidate.join(folder, interruption)


@dataclass
class _Run:
    """The state of one run between its steps."""

    candidate: Candidate
    folder: RunFolder
    data: PictureData
    command: str
    part_of: Membership | None = None
    started: float = field(default_factory=time.perf_counter)
    metrics: dict[str, float] = field(default_factory=dict)
    fitted: Fitted | None = None
    test_measurements: int | None = None

    @property
    def settings(self) -> RunSettings:
        return self.candidate.resolved.settings

    @cached_property
    def origin(self) -> Origin:
        return origin_of(self.settings)

    def carry_out(self, interruption: Interruption, on_epoch: OnEpoch | None) -> RunSummary:
        """Fit and measure, and write the summary however it ends."""
        folder, settings = self.folder, self.settings
        tracker = record_start(
            self.candidate.resolved, folder, self.data, self.command, self.part_of
        )
        print(self._headline())
        remove_leftovers(folder.checkpoints)
        try:
            with (
                outcome_of(folder, alone=self.part_of is None) as outcome,
                explained(folder.path, self.data.batch_size),
            ):
                self.fitted = self.candidate.fit(folder, tracker, interruption, on_epoch)
                self.metrics |= self.fitted.metrics
                self._measure(tracker, self.fitted)
        finally:
            interruption.defer(True)  # the records are written to the end
            with explained(folder.path):
                summary = self._close(tracker, outcome)
            interruption.defer(False)
        interruption.check()
        if self.part_of is None:  # else whoever has all the parts speaks for them
            print(format_summary(summary, ui_command(settings)))
        return summary

    def _close(self, tracker: Tracker, outcome: Outcome) -> RunSummary:
        if self.part_of is not None:
            tracker.metrics(self.part_of.figures(), step=0, final=True)
            tracker.tags({"bakeoff.state": outcome.state})
        summary = self._summary(self.folder.run_id, outcome)
        return close_run(self.folder, tracker, summary, outcome)

    def _measure(self, tracker: Tracker, fitted: Fitted) -> None:
        """Predict the parts, measure quality and cost, draw the pictures, hand them to tracking."""
        if self.settings.tracking.log_model:  # first, so that it is sent while the rest is measured
            self._log_model(tracker, fitted)
        parts = {}
        if len(self.data.split.val):
            parts["val"] = self._measure_part("val", tracker, fitted)
        # Folds choose between candidates: what they choose by is never the test part.
        tested = self.settings.evaluate_test and self.settings.cv.fold is None
        if tested and len(self.data.split.test):
            self.test_measurements = count_test_measurement(
                self.folder.output_dir, self.data.split.test_fingerprint, self.folder.run_id
            )
            parts["test"] = self._measure_part("test", tracker, fitted)
        cost = fitted.trained.cost(self.data, fitted.checkpoint)
        cost["training_seconds"] = fitted.seconds
        self.metrics |= {metric_key("cost", name): value for name, value in cost.items()}
        if self.settings.tracking.figures:
            self._draw(tracker, fitted, parts)
        if self.settings.tracking.log_model:
            tracker.artifact(fitted.checkpoint, "checkpoints")
        self._report(tracker, fitted.history)

    def _draw(self, tracker: Tracker, fitted: Fitted, parts: dict[str, Measured]) -> None:
        # matplotlib takes a second to import, which no training should wait for.
        from src.reporting.run_figures import draw_run_figures

        figures = draw_run_figures(
            self.folder.figures,
            fitted.history,
            {part: measured.predictions for part, measured in parts.items()},
            self.data.pictures.read,
            self.candidate.training_batch(),
            fitted.trained.class_maps(),
        )
        for figure in figures:
            tracker.artifact(figure, "figures")
        # Those found before training, and the labels that the model contradicts.
        said = {part: measured.predictions for part, measured in parts.items()}
        suspects = [*self.data.suspects, *doubtful_labels(said)]
        show_suspects(self.folder, tracker, suspects, self.data.pictures.read)

    def _report(self, tracker: Tracker, history: dict[str, list[list[float]]]) -> None:
        """The last figures, and the last act: a run killed before it measures its speed anew."""
        epochs = max((int(points[-1][0]) for points in history.values()), default=0)
        # MLflow draws what has one value as a bar if its step is 0, else as a curve of one dot.
        curves = {key: value for key, value in self.metrics.items() if key in history}
        tracker.metrics(curves, step=epochs, final=True)
        single = {key: value for key, value in self.metrics.items() if key not in history}
        tracker.metrics(single, step=0, final=True)

    def _log_model(self, tracker: Tracker, fitted: Fitted) -> None:
        bundle = self.folder.path / "model"
        split = self.data.split
        example = self.data.pictures.read(int((split.val if len(split.val) else split.train)[0]))
        tracker.model(bundle, fitted.trained.write_bundle(bundle, example))

    def _measure_part(self, part: str, tracker: Tracker, fitted: Fitted) -> Measured:
        measured = measure_part(self.data, part, fitted.trained.predict(self.data, part))
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
            f"{self.candidate.words()}\n"
            f"run: {self.folder.path}"
        )

    def _summary(self, run_id: str, outcome: Outcome) -> RunSummary:
        settings, fitted = self.settings, self.fitted
        trained = self.candidate if fitted is None else fitted.trained
        division = None if fitted is None else fitted.split_fingerprint
        return RunSummary(
            run_id=run_id,
            status=outcome.status,
            name=self.folder.name,
            model=settings.model.name,
            data=settings.data.name,
            seed=settings.seed,
            split_fingerprint=division or self.data.split.fingerprint,
            metrics=self.metrics,
            num_parameters=trained.num_parameters,
            duration_seconds=time.perf_counter() - self.started,
            checkpoint=None if fitted is None else str(fitted.checkpoint),
            reason=outcome.reason,
            test_measurements=self.test_measurements,
            run_dir=str(self.folder.path),
            command=self.command,
            fold=settings.cv.fold,
            start=self.origin.start,
            weights=self.origin.weights,
        )
