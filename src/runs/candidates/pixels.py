"""Classifiers of single pixels as candidates, fitted by scikit-learn to a sample of them."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from threadpoolctl import threadpool_limits

from ...config.checks import input_of
from ...config.features import PixelsSettings
from ...config.schema import RunSettings
from ...data.decoding.picture_format import PictureFormat
from ...data.loading.picture_data import PictureData
from ...data.splitting.folds import training_seed
from ...features.calibration import ENOUGH_UNSEEN, CalibratedModel, Calibration, held_together
from ...features.classifier import FeatureClassifier
from ...features.pipeline import make_classifier
from ...features.pixels import PixelFeatures, PixelSample, fit_pixels, sample_pixels
from ...machine.arrays import AnyArray, Float32Array, Int64Array
from ...machine.failures import require_folder
from ...machine.status import doing
from ...metrics.probabilistic import SMALLEST_PROBABILITY
from ...records.pictures import Pixels
from ...targets.labels import IGNORED
from ...training.pixels import answers_of
from ..build import model_metadata
from ..resolve import Resolved, threads_of
from .candidate import Answers, FitContext, Fitted, part_batches
from .trained_classifier import MODEL_FILE, TrainedClassifier

__all__ = ["PixelCandidate", "TrainedPixels", "grown"]

_CALIBRATION_FOLDS = 5
# The time of a fit is estimated from fits to so many pixels, out of pictures of so many
# pixels together, and from answers about a corner of a few of them.
_TIMED_PIXELS, _TIMED_AREA = (2_000, 8_000), 2**22
_ANSWERED_PICTURES, _ANSWERED_SIDE = 4, 256
# More pictures make larger trees: on 942 magnetic tiles fits and answers took 1.5 times what 256 of
# them took.
_LARGER = 1.5


class TrainedPixels(TrainedClassifier):
    """A fitted classifier of pixels with their features, and the file it was saved to."""

    def predict(self, data: PictureData, part: str) -> Answers:
        data = data.formatted(PictureFormat.of(self.metadata))
        found, ids = [], []
        with threadpool_limits(threads_of(self._settings)):
            for batch in part_batches(data, part):
                images = batch.images.cpu().numpy()
                found.append(_answered(self.classifier, images, batch.targets.cpu()))
                ids.append(batch.sample_ids.cpu().numpy())
        rows = np.concatenate(ids)
        return np.concatenate(found), data.pictures.targets[rows], rows

    def features(self, data: PictureData, part: str, rows: Int64Array) -> Float32Array | None:
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
        started = time.perf_counter()
        with doing("fitting the forest"), threadpool_limits(threads):
            model = self._fitted(data.split.train.tolist(), threads)
        seconds = time.perf_counter() - started
        metadata = {
            **model_metadata(self._settings, data),
            "epochs": 0,
            "pixels": self._features.identity,
        }
        require_folder(context.folder.path)
        file = context.folder.checkpoints / MODEL_FILE
        classifier = FeatureClassifier((self._features,), model, metadata)
        classifier.save(file)
        return Fitted(TrainedPixels(classifier, file), file, seconds)

    def _fitted(self, ids: Sequence[int], threads: int) -> CalibratedModel:
        sample = self._drawn(ids, self._model.pixels)
        print(f"pixels: {len(sample.targets):,} of {sample.counts.sum():,} drawn")
        if (groups := self._data.groups) is not None:  # one is held out as a whole
            own = sample.pictures
            sample = sample._replace(pictures=held_together(sample.targets, groups[own], own))
        return fit_pixels(
            self._estimator(threads), sample, folds=_CALIBRATION_FOLDS, seed=self._seed
        )

    @property
    def _seed(self) -> int:
        return training_seed(self._settings.seed, self._settings.cv.fold)

    def _drawn(self, ids: Sequence[int], most: int) -> PixelSample:
        pictures = self._data.pictures
        with input_of("data"):
            return sample_pixels(
                self._features.of_block,
                pictures.read,
                pictures.read_mask,
                ids,
                num_classes=len(pictures.class_names),
                most=most,
                seed=self._seed,
            )

    def _estimator(self, threads: int) -> Callable[[int], Any]:
        """Return what makes the classifier, given the number of pixels it will be fitted to."""
        how = {"seed": self._seed, "threads": threads}
        return lambda count: make_classifier(self._model, pictures=count, **how)

    def fit_seconds(self) -> float:
        """Estimate the seconds of a fit, predictions for the validation part included.

        Features are timed on some pictures, the classifier on two samples of their pixels, from
        which the growth of the times with the number of pixels is estimated.

        Raises:
            ConfigError: the pictures have pixels of one class only.
        """
        split, pictures, threads = self._data.split, self._data.pictures, threads_of(self._settings)
        area = pictures.array_sizes.prod(axis=1)
        ids = self._timed_ids(area)
        shown = ids[:: max(1, len(ids) // _ANSWERED_PICTURES)][:_ANSWERED_PICTURES]
        fitting, answering, counts = [], [], []
        with threadpool_limits(threads):
            started = time.perf_counter()
            sample = self._drawn(ids, max(_TIMED_PIXELS))
            describing = (time.perf_counter() - started) / area[ids].sum()
            order = np.random.default_rng(self._seed).permutation(len(sample.targets))
            # Both samples begin with a pixel of each class: one class alone cannot be learnt.
            first = np.unique(sample.targets[order], return_index=True)[1]
            order = np.concatenate([order[first], np.delete(order, first)])
            for most in _TIMED_PIXELS:
                rows = order[:most]
                classes, labels = np.unique(sample.targets[rows], return_inverse=True)
                started = time.perf_counter()
                fitted = self._estimator(threads)(len(rows)).fit(sample.features[rows], labels)
                fitting.append(time.perf_counter() - started)
                counts.append(len(rows))
                plain = Calibration(1.0, np.zeros(len(classes)))
                model = CalibratedModel(fitted, plain, classes, len(sample.counts))
                answering.append(self._seconds_a_pixel(model, shown))
        # For all drawn pixels, and without folds unless enough are held out for the calibration.
        held_out = self._model.pixels / _CALIBRATION_FOLDS
        fits = min(_CALIBRATION_FOLDS, math.ceil(ENOUGH_UNSEEN / held_out))
        whole = 1 + fits * (1 - 1 / _CALIBRATION_FOLDS)
        larger = _LARGER if len(ids) < len(split.train) else 1.0
        fit = whole * grown(counts, fitting, self._model.pixels)
        answers = area[split.val].sum() * grown(counts, answering, self._model.pixels)
        return float(describing * area[split.train].sum() + larger * (fit + answers))

    def _timed_ids(self, area: Int64Array) -> list[int]:
        """Return pictures to time a fit with: half have the most classes, half are any.

        The trees of a classifier are smaller on similar pictures, so that some hundred are needed.
        """
        train = self._data.split.train
        held = np.argsort(-self._data.pictures.targets[train].sum(axis=1), kind="stable")
        any_of = np.random.default_rng(self._seed).permutation(len(train))
        both = np.stack([held, any_of], axis=1).ravel()
        order = train[both[np.sort(np.unique(both, return_index=True)[1])]]
        count = max(2, int((area[order].cumsum() <= _TIMED_AREA).sum()))
        return [int(index) for index in order[:count]]

    def _seconds_a_pixel(self, model: CalibratedModel, ids: Sequence[int]) -> float:
        """Return how long it takes to describe and answer a pixel."""
        names = self._data.pictures.class_names
        metadata = {"class_names": names, "pixels": self._features.identity}
        classifier = FeatureClassifier((self._features,), model, metadata)
        seconds, pixels = 0.0, 0
        for index in ids:
            image, mask = (
                read(index)[..., :_ANSWERED_SIDE, :_ANSWERED_SIDE]
                for read in (self._data.pictures.read, self._data.pictures.read_mask)
            )
            targets = torch.from_numpy(mask.astype(np.int64))
            targets[targets >= len(names)] = IGNORED
            started = time.perf_counter()
            _answered(classifier, image[None], targets[None])
            seconds += time.perf_counter() - started
            pixels += mask.size
        return seconds / pixels

    def training_batch(self) -> None:
        return None


def _answered(classifier: FeatureClassifier, images: Pixels, targets: torch.Tensor) -> AnyArray:
    """Return the answers about pictures (B, C, H, W) with targets (B, H, W)."""
    probs = torch.from_numpy(classifier(images))
    return answers_of(probs.clamp_min(SMALLEST_PROBABILITY).log(), targets)


def grown(counts: Sequence[int], times: Sequence[float], count: int) -> float:
    """Extrapolate a time to `count` items from those for a smaller and a larger number.

    It grows with a power of the number, that of the two measurements, between 0 and 1.2; of n log n
    that is 1.1 in this range.
    """
    (few, many), (short, long) = counts, times
    if few == many:
        return long * max(1.0, count / many)
    power = math.log(max(long, 1e-9) / max(short, 1e-9)) / math.log(many / few)
    return float(long * (count / many) ** min(max(power, 0.0), 1.2))
