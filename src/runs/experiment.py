"""One run, from settings to summary: a single candidate, or each fold of a cross-validation.

Knows no Hydra and no Optuna.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field, replace
from pathlib import Path

from ..config.checks import ConfigError
from ..config.models import NetworkSettings
from ..config.schema import RunSettings, stored_settings
from ..data.loading.picture_data import PictureData
from ..machine.arrays import Float64Array
from ..machine.disk import refusal_of_folder
from ..machine.failures import explained
from ..machine.interruption import Interruption
from ..machine.memory import memory_kept
from ..metrics.summary import metric_key
from ..models.arithmetic import own_threads
from ..records.run import Predictions, RunSummary
from ..statistics.label_errors import doubtful_labels
from ..storage.files import remove_leftovers
from ..tracking.provenance import command_line
from ..tracking.tracker import Tracker
from .build import (
    build_data,
    check_devices,
    check_metrics,
    costs_of,
    remark_on_size,
    stated_batch_size,
)
from .candidates.candidate import (
    Answers,
    FitContext,
    Fitted,
    OnEpoch,
    Trainable,
    measure_part,
    send_final,
    settle_thresholds,
)
from .candidates.choose import candidate_of, origin_of
from .cross_validation import cross_validate
from .folder import RunFolder, finished_summary, open_folder
from .lifecycle import ActiveRun, ParentLink, RunRequest
from .printed_summary import show_finished
from .resolve import Resolved
from .resume import ended_before, finished_before
from .settings import of_pictures, seen_from_here, with_format
from .test_part import counted_measurement

__all__ = ["OnEpoch", "run_experiment"]

# Lightning starts a process for each further device; it finds the run of the first one by this.
_FOLDER_VARIABLE = "BAKEOFF_RUN_FOLDER"


def run_experiment(
    settings: RunSettings,
    on_epoch: OnEpoch | None = None,
    *,
    command: str | None = None,
    data: PictureData | None = None,
    parent: ParentLink | None = None,
    is_step: bool = False,
) -> RunSummary | None:
    """Fit, evaluate and record one candidate, or each fold of its cross-validation.

    Bad input is refused before the run's folder exists. From then on the folder has the whole
    record, whatever happens: its summary says FINISHED, FAILED with the reason, or KILLED.

    Args:
        settings: one run; with `resume` set to a run's folder, that run goes on.
        on_epoch: called with (epoch from 0, metrics) after each epoch, and once by candidates
            without epochs; of a cross-validation with (fold from 0, metrics) after each fold. An
            exception that it raises ends the run.
        command: the command line that repeats the run; None for that of this process.
        data: the pictures, where they are open already; of a single fold divided for it.
        parent: the larger run, such as a sweep, that the run belongs to, or None.
        is_step: another command does more with the run than train it, and goes on with both when it
            is repeated, and prints the result.

    Returns:
        The summary; None in the further processes of a run on several devices.

    Raises:
        ConfigError: the input is wrong.
        Interrupted: Ctrl-C or SIGTERM; the run can be resumed.
        Exception: the run failed, or was `Stopped` by `on_epoch`; its summary is written.
    """
    command = command_line() if command is None else command
    if _FOLDER_VARIABLE in os.environ and int(os.environ.get("LOCAL_RANK", "0")) > 0:
        _join_first_device()
        return None
    unwritable = refusal_of_folder(Path(settings.output_dir).absolute())
    if unwritable and settings.resume is None:
        raise ConfigError(f"output_dir is {settings.output_dir!r}: {unwritable}.")
    if isinstance(settings.model, NetworkSettings) and (remark := check_devices(settings)):
        print(f"devices: {remark}")
    if data is None:
        seen = of_pictures(settings)
        earlier = None if settings.resume is None else RunFolder.open(Path(settings.resume)).split
        data = build_data(seen, earlier)
        for remark in (*data.summary, *data.remarks):
            print(f"data: {remark}")
        if (remark := remark_on_size(settings, data)) is not None:
            print(f"model: {remark}")
    check_metrics(data)
    if data.costs is None:  # of a sweep they are known
        data.costs = costs_of(settings, data)
    request = RunRequest(command=command, on_epoch=on_epoch, parent=parent, is_step=is_step)
    with own_threads(), memory_kept():  # `runtime.threads` is this run's alone
        return _run(settings, data, request)


def _run(settings: RunSettings, data: PictureData, request: RunRequest) -> RunSummary:
    """Fit, measure and record one candidate, which may be that of a single fold, or all folds."""
    settings, ended = with_format(settings, data), ended_before(settings)
    finished = finished_before(settings, data)
    if finished is not None:
        return show_finished(finished, settings, request.parent)
    if settings.cv.is_whole:
        return cross_validate(settings, data, request, ended, run_fold=_run)
    # On a GPU plans are timed on whole batches, which may be too large for it.
    with explained(Path(settings.output_dir), stated_batch_size(settings)):
        candidate = candidate_of(settings, data)
    if settings.resume is not None and isinstance(settings.model, NetworkSettings):
        from .candidates.network import NetworkCandidate

        assert isinstance(candidate, NetworkCandidate)
        resumed = RunFolder.open(Path(settings.resume))
        complete, finished = candidate.check_resumed(resumed), finished_summary(resumed)
        if finished is not None and complete:
            return show_finished(finished, settings, request.parent)
    for note in candidate.resolved.notes:
        print(note)
    folder, resolved = open_folder(settings), candidate.resolved
    size = stated_batch_size(resolved.settings)
    run = _SingleRun(resolved, folder, data, request, candidate, batch_size=size, ended=ended)
    os.environ[_FOLDER_VARIABLE] = str(run.folder.path)
    return run.carry_out()


def _join_first_device() -> None:
    """Train on a further device in the run of the first one, with the settings chosen there."""
    from .candidates.network import NetworkCandidate

    folder = RunFolder.open(Path(os.environ[_FOLDER_VARIABLE]))
    settings = stored_settings(folder.plain_settings())
    data = build_data(seen_from_here(settings, folder), folder.split)
    data.costs = costs_of(settings, data)
    candidate = NetworkCandidate(Resolved(settings), data)
    with Interruption() as interruption:
        candidate.fit(FitContext(folder, None, interruption))


@dataclass(eq=False)
class _SingleRun(ActiveRun):
    candidate: Trainable
    _fitted: Fitted | None = field(default=None, init=False)
    _test_measurements: int | None = field(default=None, init=False)
    _thresholds: Float64Array | None = field(default=None, init=False)

    def headline(self) -> str:
        split = self.data.split
        return (
            f"{self.settings.model.name} on {self.settings.data.name}: "
            f"{len(split.train):,} train, {len(split.val):,} val, {len(split.test):,} test "
            f"pictures {self.format_text()}, {self.candidate.description()}\n"
            f"run: {self.folder.path}"
        )

    def work(self, tracker: Tracker, interruption: Interruption) -> None:
        """Fit, predict the parts, measure quality and cost, and draw the figures."""
        remove_leftovers(self.folder.checkpoints)
        context = FitContext(self.folder, tracker, interruption, self.request.on_epoch)
        fitted = self.candidate.fit(context)
        interruption.check()
        self._fitted = fitted
        self.metrics |= fitted.metrics
        settings, split = self.settings, self.data.split
        answers, held_out = None, None
        best_for = settings.data.best_for
        if settings.data.chosen_for is not None and len(split.val):
            answers = fitted.trained.predict(self.data, "val")
            held_out = measure_part(self.data, "val", answers)
        self._thresholds = settle_thresholds(
            self.folder,
            best_for,
            None if held_out is None else held_out.predictions,
            self.data.costs,
        )
        if self._thresholds is not None:
            fitted.trained.metadata["thresholds"] = self._thresholds.tolist()
        elif best_for is not None:  # of label sets: else the setting is refused
            print(
                f"thresholds: no pictures are held out to choose those for {best_for} by, so that "
                "a label is predicted from a probability of one half on"
            )
        if settings.tracking.log_model:  # first, so that it is sent while the rest is measured
            bundle, ids = self.folder.path / "model", split.val if len(split.val) else split.train
            example = self.data.pictures.read(int(ids[0]))
            tracker.model(bundle, fitted.trained.write_bundle(bundle, example))
        parts = {}
        if len(split.val):
            parts["val"] = self._measure(tracker, fitted, "val", answers)
        if not fitted.history:
            self._report_fit()
        # Folds choose between candidates: what they choose by is never the test part.
        if settings.evaluate_test and settings.cv.fold is None and len(split.test):
            parts["test"] = self._measure(tracker, fitted, "test")
        cost = fitted.trained.cost(self.data, fitted.checkpoint) | fitted.cost()
        self.metrics |= {metric_key("cost", name): value for name, value in cost.items()}
        if settings.tracking.figures:
            self.draw(
                tracker,
                parts,
                doubtful_labels(parts),
                history=fitted.history,
                training_batch=self.candidate.training_batch(),
                maps=fitted.trained.class_maps(),
            )
        if settings.tracking.log_model:
            tracker.artifact(fitted.checkpoint, "checkpoints")
        # Last of all: a run that was killed before measures its speed anew.
        epochs = max((int(points[-1][0]) for points in fitted.history.values()), default=0)
        send_final(tracker, self.metrics, fitted.history, epochs)

    def _report_fit(self) -> None:
        """Report the validation metrics of a fit in one go, as those of its only epoch."""
        loss = metric_key("val", "loss")
        found = {key: value for key, value in self.metrics.items() if key.startswith("val/")}
        if loss not in found and (log_loss := metric_key("val", "log_loss")) in found:
            self.metrics[loss] = found[loss] = found[log_loss]
        if self.request.on_epoch is not None:
            self.request.on_epoch(0, found)

    def completed(self, summary: RunSummary) -> RunSummary:
        fitted, origin = self._fitted, origin_of(self.settings)
        trained = self.candidate if fitted is None else fitted.trained
        division = None if fitted is None else fitted.split_fingerprint
        return replace(
            summary,
            split_fingerprint=division or self.data.split.division,
            num_parameters=trained.num_parameters,
            checkpoint=None if fitted is None else str(fitted.checkpoint),
            test_measurements=self._test_measurements,
            start=origin.start,
            weights=origin.weights,
        )

    def _measure(
        self, tracker: Tracker, fitted: Fitted, part: str, answers: Answers | None = None
    ) -> Predictions:
        """Measure a part; `answers` are what the model predicts of it, where that is known."""
        if answers is None:
            answers = fitted.trained.predict(self.data, part)
        if part == "test":
            fingerprint = self.data.split.test_fingerprint
            self._test_measurements = counted_measurement(self.folder, fingerprint, answers)
        chosen_for = self.settings.data.chosen_for
        measured = measure_part(self.data, part, answers, self._thresholds, chosen_for)
        self.keep_predictions(part, measured.predictions, tracker)
        self.metrics |= measured.metrics
        return measured.predictions
