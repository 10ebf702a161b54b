"""Classifiers of single pixels as candidates, fitted by scikit-learn to a sample of them."""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from ...config.checks import Settings, input_of, own_fields
from ...config.features import CLASSIFIERS, PixelsSettings
from ...config.schema import RunSettings, stored_settings
from ...data.decoding.picture_format import PictureFormat
from ...data.loading.datamodule import PictureData
from ...data.splitting.folds import training_seed
from ...features.calibration import CalibratedModel
from ...features.classifier import FeatureClassifier
from ...features.pixels import PixelFeatures, draw_pixels, fit_pixels
from ...machine.imports import import_object
from ...metrics.probabilistic import SMALLEST_PROBABILITY
from ...metrics.summary import metric_key
from ...targets import kind_of
from ...training.pixels import answers_of
from ..build import model_metadata
from ..resolve import Resolved
from .candidate import Answers, FitContext, Fitted
from .trained_classifier import MODEL_FILE, TrainedClassifier, threads_of

__all__ = ["PixelCandidate", "TrainedPixels"]

_CALIBRATION_FOLDS = 5
_TIMED_PICTURES = 4


class TrainedPixels(TrainedClassifier):
    """A fitted classifier of pixels with their features, and the file it was saved to."""

    def predict(self, data: PictureData, part: str) -> Answers:
        data = data.formatted(PictureFormat.of(self.metadata))
        found, ids = [], []
        with threadpool_limits(threads_of(stored_settings(self.metadata["settings"]))):
            for batch in data.batches(part):
                probs = torch.from_numpy(self.classifier(batch.images.cpu().numpy()))
                logits = probs.clamp_min(SMALLEST_PROBABILITY).log()
                found.append(answers_of(logits, batch.targets.cpu()))
                ids.append(batch.sample_ids.cpu().numpy())
        rows = np.concatenate(ids)
        return np.concatenate(found), data.pictures.targets[rows], rows

    def features(
        self, data: PictureData, part: str, rows: NDArray[np.int64]
    ) -> NDArray[np.float32] | None:
        return None  # they are of pixels, not of pictures


class PixelCandidate:
    """A classifier of single pixels, ready to be fitted.

    A fit that was stopped begins again when it is resumed.
    """

    num_parameters = None

    def __init__(self, settings: RunSettings, model: PixelsSettings, data: PictureData) -> None:
        self.resolved = Resolved(settings)
        self._settings, self._model, self._data = settings, model, data
        self._features = PixelFeatures(
            model.sigma_min, model.sigma_max, model.intensity, model.edges, model.texture
        )

    def description(self) -> str:
        model = self._model
        kinds = [name for name in ("intensity", "edges", "texture") if getattr(model, name)]
        return f"{model.classifier} on the {' + '.join(kinds)} around {model.pixels:,} pixels"

    def fit(self, context: FitContext) -> Fitted:
        data, threads = self._data, threads_of(self._settings)
        pictures = data.pictures
        started = time.perf_counter()
        with threadpool_limits(threads):
            model = self._fitted(data.split.train.tolist(), threads)
        seconds = time.perf_counter() - started
        metadata = {
            **model_metadata(self._settings, data),
            "epochs": 0,
            "pixels": self._features.identity,
        }
        file = context.folder.checkpoints / MODEL_FILE
        classifier = FeatureClassifier((self._features,), model, metadata)
        classifier.save(file)
        trained = TrainedPixels(classifier, file)
        metrics = {}
        if len(data.split.val):
            answers, targets, _ = trained.predict(data, "val")
            found = kind_of(pictures.kind).evaluate(answers, targets, pictures.class_names)
            metrics = {metric_key("val", name): found[name] for name in ("miou", "pixel_accuracy")}
            metrics[metric_key("val", "loss")] = found["log_loss"]
        context.report(metrics)
        return Fitted(trained, file, seconds, metrics)

    def _fitted(self, ids: Sequence[int], threads: int) -> CalibratedModel:
        settings, pictures = self._model, self._data.pictures
        seed = training_seed(self._settings.seed, self._settings.cv.fold)
        with input_of("data"):
            sample = draw_pixels(
                *(self._features, pictures.read, pictures.read_mask, ids),
                num_classes=len(pictures.class_names),
                most=settings.pixels,
                seed=seed,
            )
        print(f"pixels: {len(sample.targets):,} of {sample.counts.sum():,} drawn")
        make = import_object(CLASSIFIERS[settings.classifier])
        own = own_fields(getattr(settings, settings.classifier), Settings)
        return fit_pixels(
            lambda count: make(**own, seed=seed, threads=threads, pictures=count),
            sample,
            folds=_CALIBRATION_FOLDS,
            seed=seed,
        )

    def describe_seconds(self) -> float:
        """Return about the seconds that computing the features of a fit takes."""
        data = self._data
        ids = data.split.train[:_TIMED_PICTURES].tolist()
        started = time.perf_counter()
        for one in ids:
            self._features(data.pictures.read(one)[None])
        each = (time.perf_counter() - started) / len(ids)
        return each * (len(data.split.train) + len(data.split.val))

    def training_batch(self) -> None:
        return None
