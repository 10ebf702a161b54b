"""The measuring of a finished run once more."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from ...config.checks import ConfigError, input_of
from ...config.finished import EvaluateSettings
from ...config.schema import RunSettings, stored_settings
from ...data.loading.picture_data import PictureData
from ...data.sources.costs import CostTable
from ...data.splitting.splits import Split
from ...machine.arrays import AnyArray
from ...machine.memory import memory_kept
from ...records.run import RunSummary
from ...tracking.tracker import Tracker
from ..build import build_data
from ..candidates.candidate import Measured, Trained, measure_part, send_final
from ..candidates.choose import load_trained
from ..folder import RunFolder, refuse_unfinished
from ..seal import amending
from ..settings import refuse_lost_pictures, seen_from_here
from ..test_part import counted_measurement
from .refusals import refuse_part

__all__ = ["Revisited", "measure", "measure_again", "reopen", "revisit"]

_WITH_CURVES = ("train/accuracy", "train/loss", "val/accuracy", "val/loss", "val/miou")


@dataclass(frozen=True)
class Revisited:
    """A finished run with its settings, pictures and trained model."""

    folder: RunFolder
    settings: RunSettings
    data: PictureData
    trained: Trained


def measure_again(
    folder: RunFolder,
    checkpoint: Path,
    settings: EvaluateSettings,
    costs: CostTable | None = None,
    parent_run_id: str | None = None,
) -> tuple[dict[str, float], int | None]:
    """Measure one part; keep metrics and predictions in the run's folder and in MLflow.

    Args:
        folder, checkpoint: of the run.
        settings: which part.
        costs: that it is measured by as well; None for none.
        parent_run_id: of the larger run, such as a sweep, whose mirror sends what is added; None
            where a mirror of its own does.

    Returns:
        The metrics by `{split}/{metric}`, and for the test part how often it has been measured.

    Raises:
        ConfigError: the pictures are not those that the run was trained and split on.
    """
    again = revisit(folder, checkpoint)
    if costs is not None:
        again.data.costs = costs.of(tuple(again.data.pictures.class_names))
    measured, measurements = measure(again, settings.split)
    summary = RunSummary.read(folder.summary)
    tracker = reopen(folder, again.settings, summary, settings.tracking.uri, parent_run_id)
    send_final(tracker, measured.metrics, _WITH_CURVES, again.trained.metadata["epochs"])
    tracker.artifact(folder.predictions / f"{settings.split}.parquet", "predictions")
    tracker.finish(summary.status, summary.reason)
    return measured.metrics, measurements


def revisit(folder: RunFolder, checkpoint: Path) -> Revisited:
    """Load a run's model and open its pictures.

    Raises:
        ConfigError: the run has not finished, or the pictures are not those that it was trained and
            split on, in the same order.
    """
    with input_of("run"):
        refuse_unfinished(folder)
    trained = load_trained(checkpoint)
    settings = seen_from_here(stored_settings(trained.metadata["settings"]), folder)
    refuse_lost_pictures(folder, settings.data)
    data = build_data(settings, folder.split)
    if data.split.fingerprint != trained.metadata["split_fingerprint"]:
        raise ConfigError(
            f"the pictures of {settings.data.name} have changed since {folder.name} was trained, "
            "so its parts are no longer the same: train again."
        )
    # Its stored answers go by these numbers.
    if folder.split.is_file() and not Split.read(folder.split).numbers_as(data.split):
        raise ConfigError(
            f"the pictures of {settings.data.name} are in another order than when {folder.name} "
            "was trained, as where files were renamed: undo that, or train again."
        )
    return Revisited(folder, settings, data, trained)


@memory_kept()
def measure(again: Revisited, part: str) -> tuple[Measured, int | None]:
    """Measure one part; keep metrics and predictions in the run's folder.

    Returns:
        The measurement, and for the test part how often it has been measured: repeating the run's
        own measurement does not raise the count.
    """
    folder, data = again.folder, again.data
    refuse_part(folder, again.settings, data.split, part)
    answers = again.trained.predict(data, part)
    if not _finite(answers[0]):
        raise ConfigError(
            f"run: {folder.name} answers with what is no number (NaN or infinity): its weights are "
            "damaged, or it does not suit this machine's arithmetic."
        )
    measurements = None
    if part == "test":
        measurements = counted_measurement(folder, data.split.test_fingerprint, answers)
    known = again.trained.metadata.get("thresholds")
    thresholds = None if known is None else np.array(known)
    measured = measure_part(data, part, answers, thresholds, again.settings.data.chosen_for)
    with amending(folder.path, f"predictions/{part}.parquet", updated=[folder.summary.name]):
        with input_of("run"):  # it may go on since the measurement began
            refuse_unfinished(folder)
        measured.predictions.write(folder.predictions / f"{part}.parquet")
        summary = RunSummary.read(folder.summary)
        replace(
            summary,
            metrics=summary.metrics | measured.metrics,
            test_measurements=measurements or summary.test_measurements,
        ).write(folder.summary)
    return measured, measurements


def _finite(probs: AnyArray) -> bool:
    numbers = probs if probs.dtype.names is None else probs["log_loss"]
    return bool(np.isfinite(numbers).all())


def reopen(
    folder: RunFolder,
    settings: RunSettings,
    summary: RunSummary,
    uri: str | None,
    parent_run_id: str | None = None,
) -> Tracker:
    """Reopen the record of a finished run; the caller finishes it with the status of its summary.

    It is mirrored at `uri`, or where that is None at the address in the run's settings; with a
    parent, by the parent's mirror.
    """
    tracking = replace(settings.tracking, system_metrics_seconds=None)
    if uri is not None:
        tracking = replace(tracking, uri=uri, enabled=True)
    return Tracker.start(
        folder.path,
        tracking,
        output_dir=folder.output_dir,
        run_id=folder.run_id,
        run_name=folder.name,
        parent_run_id=parent_run_id,
        amends=summary.status,
        nice=False,
    )
