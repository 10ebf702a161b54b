"""A fitted classifier on features, as what comes after training uses it."""

from __future__ import annotations

import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from ...config.checks import ConfigError
from ...config.schema import RunSettings, stored_settings
from ...data.decoding.picture_format import PictureFormat
from ...data.loading.datamodule import PictureData
from ...features.classifier import FeatureClassifier, numbers_in
from ...records.pictures import Pixels
from ...serving.bundle_writing import write_classifier_bundle
from ...serving.predictor import Predictor
from ...training import cost
from ..build import feature_table
from .candidate import Answers

__all__ = ["MODEL_FILE", "TrainedClassifier", "load_classifier", "threads_of"]

MODEL_FILE = "model.skops"
_AT_ONCE = 128
_BYTES_PER_MB = 1e6
_BATCH_SECONDS = 0.5


@dataclass
class TrainedClassifier:
    """A fitted classifier with the extractors of its features, and the file it was saved to."""

    classifier: FeatureClassifier
    file: Path

    @property
    def metadata(self) -> dict[str, Any]:
        return self.classifier.metadata

    @property
    def num_parameters(self) -> int:
        return numbers_in(self.file)

    def predict(self, data: PictureData, part: str) -> Answers:
        settings = stored_settings(self.metadata["settings"])
        data = data.formatted(PictureFormat.of(self.metadata))
        table = feature_table(settings, data, self.classifier.extractors)
        ids = getattr(data.split, part)
        with threadpool_limits(threads_of(settings)):
            probs = self.classifier.model.probabilities(table.part(part))
        return probs, data.pictures.targets[ids], ids

    def features(
        self, data: PictureData, part: str, rows: NDArray[np.int64]
    ) -> NDArray[np.float32] | None:
        settings = stored_settings(self.metadata["settings"])
        data = data.formatted(PictureFormat.of(self.metadata))
        table = feature_table(settings, data, self.classifier.extractors)
        found: NDArray[np.float32] = table.part(part)[rows]
        return found

    def predictor(self, batch_size: int) -> Predictor:
        return Predictor(
            self.classifier,
            self.metadata,
            describe=None if self.classifier.of_pixels else self.classifier.describe,
            batch_size=batch_size,
        )

    def cost(self, data: PictureData, checkpoint: Path) -> dict[str, float]:
        data = data.formatted(PictureFormat.of(self.metadata))
        ids = np.concatenate([data.split.val, data.split.train])[:_AT_ONCE]
        height, width = data.pictures.image_size  # of pictures that are taken in windows, one
        pictures = np.stack([data.pictures.read(int(i))[:, :height, :width] for i in ids])
        # Before the measurements, whose own batches are no part of what the fit needed.
        peak_bytes = cost.peak_memory_bytes(torch.device("cpu"))
        settings = stored_settings(self.metadata["settings"])

        def seconds(images: Pixels) -> float:
            started = time.perf_counter()
            self.classifier(images)
            return time.perf_counter() - started

        with threadpool_limits(threads_of(settings)):
            alone = cost.timed(partial(seconds, pictures[:1]))
            # A batch that takes seconds would measure no better, and take longer.
            count = max(1, min(len(pictures), int(_BATCH_SECONDS / alone.seconds)))
            together = cost.median_seconds(partial(seconds, pictures[:count]))
        return {
            "parameters": self.num_parameters,
            **cost.timing_figures(alone),
            "throughput": count / together,
            "peak_memory_mb": peak_bytes / _BYTES_PER_MB,
            "checkpoint_mb": checkpoint.stat().st_size / _BYTES_PER_MB,
        }

    def write_bundle(self, folder: Path, example: Pixels) -> str:
        return write_classifier_bundle(folder, self.file, self.metadata, example)

    def class_maps(self) -> None:
        return None


def load_classifier(file: Path) -> TrainedClassifier:
    """Load the classifier of a run's file.

    Raises:
        ConfigError: the file is damaged, or holds anything but a model of a run.
    """
    try:
        return TrainedClassifier(FeatureClassifier.load(file), file)
    except ValueError as error:
        raise ConfigError(f"run: {error}.") from error


def threads_of(settings: RunSettings) -> int:
    """Return `runtime.threads`, or torch's number, which respects OMP_NUM_THREADS."""
    threads = settings.runtime.threads
    return threads if isinstance(threads, int) else torch.get_num_threads()
