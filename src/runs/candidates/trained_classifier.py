"""A fitted classifier on features, as what comes after training uses it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from threadpoolctl import threadpool_limits
from torch import Tensor, nn

from ...config.finished import ORIGINAL
from ...config.schema import RunSettings, stored_settings
from ...data.decoding.picture_format import PictureFormat
from ...data.loading.picture_data import PictureData
from ...explain.grad_cam import LOOKED_AT, find_map_layer, grad_cam
from ...features.classifier import FeatureClassifier, numbers_in
from ...features.embedding import NetworkFeatures
from ...machine.arrays import AnyArray, Float32Array, Int64Array
from ...machine.cpu_load import is_idle
from ...machine.hardware import machine
from ...machine.parallel import available_cores
from ...records.pictures import ClassMaps, Pixels
from ...serving.bundle_writing import write_classifier_bundle
from ...serving.export_formats import ExportSource
from ...serving.exported import Logits
from ...serving.predictor import Predictor
from ...storage.cache import CachedMeasurement, load_measurement, store_measurement
from ...training import cost
from ..build import feature_table
from ..resolve import threads_of
from .candidate import Answers, typical_picture

if TYPE_CHECKING:
    from ...features.classifier_network import ClassifierNetwork

__all__ = ["MODEL_FILE", "TrainedClassifier"]

MODEL_FILE = "model.skops"
_AT_ONCE = 128
_BYTES_PER_MB = 1e6
_BATCH_SECONDS = 0.5
# Seconds for each of the two timings of a classifier, which are short beside a network's.
_HEAD_SECONDS = 0.1
# Metadata of a network that do not affect its speed.
_NO_TIME = ("classes", "mean", "std")


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

    @property
    def _settings(self) -> RunSettings:
        return stored_settings(self.metadata["settings"])

    @property
    def _networks(self) -> list[NetworkFeatures]:
        return [one for one in self.classifier.extractors if isinstance(one, NetworkFeatures)]

    def predict(self, data: PictureData, part: str) -> Answers:
        ids = getattr(data.split, part)
        with threadpool_limits(threads_of(self._settings)):
            probs = self.classifier.model.probabilities(self._features(data, part))
        return probs, data.pictures.targets[ids], ids

    def _features(self, data: PictureData, part: str) -> Float32Array:
        """Return the features (n, F) of a part."""
        data = data.formatted(PictureFormat.of(self.metadata))
        return feature_table(self._settings, data, self.classifier.extractors).part(part)

    def features(self, data: PictureData, part: str, rows: Int64Array) -> Float32Array | None:
        found: Float32Array = self._features(data, part)[rows]
        return found

    def predictor(self, batch_size: int) -> Predictor:
        return Predictor(
            self.classifier,
            self.metadata,
            describe=None if self.classifier.of_pixels else self.classifier.describe,
            batch_size=batch_size,
        )

    def cost(self, data: PictureData, checkpoint: Path) -> dict[str, float]:
        """Measure the costs; those of frozen networks are measured once on a machine."""
        data = data.formatted(PictureFormat.of(self.metadata))
        # Read before the measurements, whose batches are no part of the memory that the fit needed.
        peak_bytes = cost.peak_memory_bytes(torch.device("cpu"))
        settings, extractors, networks = self._settings, self.classifier.extractors, self._networks
        with threadpool_limits(threads_of(settings)):
            if len(networks) == len(extractors):
                speed = _speed_of(networks, data, settings)
                rows = np.random.default_rng(0).standard_normal((_AT_ONCE, speed.features))
                rows = rows.astype(np.float32)
                head = _measured(self.classifier.model.probabilities, rows, _HEAD_SECONDS)
                speed = speed.followed_by(head)
            else:
                speed = _measured(self.classifier, _some_pictures(data))
        return {
            "parameters": self.num_parameters,
            **cost.timing_figures(cost.Timing(speed.alone, speed.others)),
            "throughput": 1 / speed.each,
            **({"passes": 1} if data.pictures.format.windowed else {}),
            "peak_memory_mb": peak_bytes / _BYTES_PER_MB,
            "checkpoint_mb": checkpoint.stat().st_size / _BYTES_PER_MB,
        }

    def write_bundle(self, folder: Path, example: Pixels) -> str:
        return write_classifier_bundle(folder, self.file, self.metadata, example)

    def export_source(self) -> ExportSource:
        # scikit-learn takes seconds
        from ...features.classifier_network import ClassifierNetwork, classifier_logits

        network, networks = ClassifierNetwork(self.classifier), self._networks
        metadata = {**self.metadata, "link": network.link}

        def logits(precisions: Iterable[str]) -> Logits:
            pairs = zip(networks, precisions, strict=True)
            extractors = tuple(one.on_cpu(precision) for one, precision in pairs)
            return partial(classifier_logits, replace(self.classifier, extractors=extractors))

        own = [one.precision for one in networks]
        originals = {ORIGINAL: logits(["float32"] * len(own))}
        if half := [one for one in own if one != "float32"]:
            originals[f"{ORIGINAL} {half[0]}"] = logits(own)
        return ExportSource(network, metadata, originals)

    def class_maps(self) -> ClassMaps | None:
        networks = self._networks
        if self.classifier.of_pixels or len(networks) != len(self.classifier.extractors):
            return None
        from ...features.classifier_network import ClassifierNetwork

        try:
            network = _Scores(ClassifierNetwork(self.classifier))
        except ValueError:  # the classifier has no gradient
            return None
        channels, size = networks[0].metadata["channels"], networks[0].metadata["image_size"]
        layer = find_map_layer(network, torch.full((1, channels, *size), 128.0))
        if layer is None:
            return None

        def of(images: Pixels, classes: Int64Array) -> Float32Array:
            pixels = torch.from_numpy(images).float()
            maps: Float32Array = grad_cam(network, layer, pixels, torch.from_numpy(classes)).numpy()
            return maps

        return ClassMaps(of, LOOKED_AT)


class _Scores(nn.Module):
    """Pictures (B, C, H, W) to scores (B, K): of one class of several, beside the mean of all.

    The logarithm of a probability of almost 1 has no gradient, and their differences have one.
    """

    def __init__(self, network: ClassifierNetwork) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Tensor:
        logits = self.network.at_once(images)
        if self.network.link == "softmax":
            logits = logits - logits.mean(dim=1, keepdim=True)
        return logits


@dataclass(frozen=True)
class _Speed:
    """The speed of a computation on pictures, or on their features.

    Attributes:
        alone: seconds of one alone.
        others: cores that other programs used meanwhile, as of `cost.Timing`.
        each: seconds of one in a batch.
        features: numbers that are computed of one.
    """

    alone: float
    others: float
    each: float
    features: int

    def followed_by(self, head: _Speed) -> _Speed:
        """Return the speed of both, one after the other.

        The load during the shorter measurement, of a few milliseconds, cannot be measured.
        """
        others = max((self, head), key=lambda one: one.alone).others
        return _Speed(self.alone + head.alone, others, self.each + head.each, head.features)


def _measured(
    compute: Callable[[AnyArray], AnyArray],
    inputs: AnyArray,
    budget: float | None = None,
) -> _Speed:
    """Measure what the first of some inputs takes, and a batch of them; `budget` as of `timed`."""

    def seconds(some: AnyArray) -> float:
        started = time.perf_counter()
        compute(some)
        return time.perf_counter() - started

    alone = cost.timed(partial(seconds, inputs[:1]), budget)
    # A batch that takes seconds would not be measured more precisely.
    count = max(1, min(len(inputs), int(_BATCH_SECONDS / alone.seconds)))
    together = cost.median_seconds(partial(seconds, inputs[:count]), budget)
    return _Speed(alone.seconds, alone.others, together / count, compute(inputs[:1]).shape[1])


def _some_pictures(data: PictureData) -> Pixels:
    ids = np.concatenate([data.split.val, data.split.train])[:_AT_ONCE]
    if data.pictures.format.windowed:  # each has a size of its own, and is answered whole
        ids = np.array([typical_picture(data)])
    found: Pixels = np.stack([data.pictures.read(int(i)) for i in ids])
    return found


def _speed_of(networks: list[NetworkFeatures], data: PictureData, settings: RunSettings) -> _Speed:
    """Return how fast networks describe pictures, as measured now or by an earlier trial.

    A speed that was measured under load is measured again once the machine is idle.
    """
    known = {
        # Neither their weights nor the statistics of their pictures take part in it.
        "networks": [{k: v for k, v in e.metadata.items() if k not in _NO_TIME} for e in networks],
        "machine": machine(networks[0].device),
        "threads": [threads_of(settings), available_cores()],
        "pictures": min(_AT_ONCE, len(data.split.val) + len(data.split.train)),
    }
    kept = load_measurement("speed", known, settings.data.cache_dir)
    if kept is not None and not (kept.disturbed and is_idle()):
        return _Speed(**kept.found)

    def describe(some: Pixels) -> Float32Array:
        return np.concatenate([network(some) for network in networks], axis=1)

    found = _measured(describe, _some_pictures(data))
    measurement = CachedMeasurement(asdict(found), disturbed=found.others > 0)
    store_measurement("speed", known, measurement, settings.data.cache_dir)
    return found
