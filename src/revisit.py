"""Coming back to a finished run: measuring it once more, or labelling further pictures."""

from __future__ import annotations

import csv
import sys
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import TextIO

from src.build import build_data
from src.candidates.choose import load_trained
from src.config.after import EvaluateSettings, PredictSettings
from src.config.checks import ConfigError, from_plain
from src.config.schema import RunSettings
from src.data.ledger import count_test_measurement
from src.measuring import measure_part
from src.records import RunSummary
from src.reporting.guesses import Guess, GuessSample
from src.run_folder import RunFolder
from src.serving.predictor import Labelled
from src.tracking.tracker import Tracker

__all__ = ["label_files", "measure_again"]

_WITH_CURVES = ("train/accuracy", "train/loss", "val/accuracy", "val/loss")


def measure_again(
    folder: RunFolder, checkpoint: Path, settings: EvaluateSettings
) -> tuple[dict[str, float], int | None]:
    """Measure one part; keep metrics and predictions in the run's folder and in MLflow.

    Returns:
        the metrics by `{split}/{metric}`, and for the test part how often it has been measured.

    Raises:
        ConfigError: the pictures are not those that the run was trained and split on.
    """
    trained = load_trained(checkpoint)
    run = from_plain(RunSettings, trained.passport["settings"])
    data = build_data(run)
    if data.split.fingerprint != trained.passport["split_fingerprint"]:
        raise ConfigError(
            f"the pictures of {run.data.name} have changed since {folder.name} was trained, so "
            "its parts are no longer the same: train again."
        )
    if not len(getattr(data.split, settings.split)):
        raise ConfigError(f"split is {settings.split}, but this data has no such part.")
    measurements = None
    if settings.split == "test":
        fingerprint = data.split.fingerprint
        measurements = count_test_measurement(folder.output_dir, fingerprint, folder.run_id)
    measured = measure_part(data, settings.split, trained.predict(data, settings.split))
    predictions = folder.predictions / f"{settings.split}.parquet"
    measured.predictions.write(predictions)
    if folder.summary.is_file():
        summary = RunSummary.read(folder.summary)
        replace(
            summary,
            metrics=summary.metrics | measured.metrics,
            test_measurements=measurements or summary.test_measurements,
        ).write(folder.summary)
        tracker = Tracker.start(
            folder.path,
            output_dir=folder.output_dir,
            uri=settings.tracking.uri or run.tracking.uri,
            experiment=run.tracking.experiment,
            enabled=run.tracking.enabled,
            run_id=folder.run_id,
            run_name=folder.name,
        )
        # As the run itself does: at its last epoch what has a curve, at 0 what has one value.
        curves = {k: v for k, v in measured.metrics.items() if k in _WITH_CURVES}
        tracker.metrics(curves, step=trained.passport["epochs"], final=True)
        single = {k: v for k, v in measured.metrics.items() if k not in _WITH_CURVES}
        tracker.metrics(single, step=0, final=True)
        tracker.artifact(predictions, "predictions")
        tracker.finish(summary.status, summary.reason)
    return measured.metrics, measurements


def label_files(
    checkpoint: Path, files: Iterable[Path], settings: PredictSettings, stream: TextIO
) -> GuessSample:
    """Write a CSV row for every readable picture, in order; name the others on standard error.

    Memory does not grow with the number of pictures.

    Returns:
        those that are worth a look.
    """
    predictor = load_trained(checkpoint).predictor(settings.batch_size)
    sample = GuessSample(predictor.class_names)
    top_k = min(settings.top_k, len(predictor.class_names))
    rows = csv.writer(stream)
    further = [f"{word}_{k}" for k in range(2, top_k + 1) for word in ("label", "probability")]
    rows.writerow(["path", "label", "probability", *further])
    for item in predictor.label(files, top_k):
        if isinstance(item, Labelled):
            pairs = zip(item.labels, item.probabilities, strict=True)
            rows.writerow([item.path, *(x for name, p in pairs for x in (name, f"{p:.6f}"))])
            sample.add(Guess(item.probabilities[0], item.path, item.labels[0]))
        else:
            print(f"skipped {item}", file=sys.stderr)
    return sample
