"""Coming back to a finished run: measuring it once more, with its own data and settings."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch

from src.build import build_data, load_task
from src.config.after import EvaluateSettings
from src.config.checks import ConfigError, from_plain
from src.config.schema import RunSettings
from src.data.ledger import count_test_measurement
from src.measuring import measure_part
from src.records import RunSummary
from src.run_folder import RunFolder
from src.tracking.tracker import Tracker

__all__ = ["measure_again"]

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
    task = load_task(checkpoint)
    run = from_plain(RunSettings, task.passport["settings"])
    data = build_data(run)
    if data.split.fingerprint != task.passport["split_fingerprint"]:
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
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    measured = measure_part(
        task.to(device),
        data,
        settings.split,
        device=device,
        precision=run.runtime.precision,
        tta=run.trainer.tta,
    )
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
        tracker.metrics(curves, step=task.passport["epochs"], final=True)
        single = {k: v for k, v in measured.metrics.items() if k not in _WITH_CURVES}
        tracker.metrics(single, step=0, final=True)
        tracker.artifact(predictions, "predictions")
        tracker.finish(summary.status, summary.reason)
    return measured.metrics, measurements
