"""A sample of the training pictures, on which frozen networks are timed and ranked."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import cycle, islice

import numpy as np

from ...config.features import EmbeddingSettings
from ...config.schema import RunSettings
from ...data.decoding.format_choice import chosen_size
from ...data.decoding.picture_format import PictureFormat
from ...data.decoding.picture_store import picture
from ...data.loading.picture_data import PictureData
from ...features.feature_table import beside_others
from ...features.transfer import CrossValidated, cross_validated, logme
from ...machine.arrays import Float32Array, Int64Array
from ...machine.parallel import available_cores, in_order
from ...machine.text import fixed
from ...records.pictures import Pixels
from ...targets import kind_of
from ..build import fold_codes, frozen_network, native_side

__all__ = ["RankedNetwork", "Sample", "embedding_settings"]

# Number of pictures in a measurement of speed, most rounds, and seconds of each. The fastest round
# counts, so that short load is ignored; lasting load slows all of them. Where a few pictures take
# longer than all rounds are meant to, as on a busy machine, there is no other round.
_PROBE, _ROUNDS, _ROUND_SECONDS = 8, 3, 0.5

Describe = Callable[[Pixels], Float32Array]


def embedding_settings(settings: RunSettings) -> EmbeddingSettings:
    """Return the settings of the model of a run, which is one of frozen networks."""
    assert isinstance(settings.model, EmbeddingSettings)
    return settings.model


@dataclass(frozen=True)
class RankedNetwork:
    """A frozen network of timm, ranked by a quick head on its features of a sample.

    Attributes:
        accuracy, error: cross-validated accuracy, of label sets the mean average precision, and
            its standard error, in [0, 1].
        logme: see `src.features.transfer.logme`.
        side: pixels of the longer side of the pictures that it took.
        measure: "accuracy" or "map", what `accuracy` is.
    """

    name: str
    accuracy: float
    error: float
    logme: float
    images_per_second: float
    side: int
    measure: str = "accuracy"

    def seconds(self, count: int) -> float:
        """Return the approximate seconds of describing so many pictures."""
        return count / self.images_per_second

    def __str__(self) -> str:
        return (
            f"{self.name} {'mAP ' * (self.measure == 'map')}{100 * self.accuracy:.1f} % "
            f"± {100 * self.error:.1f} "
            f"(LogME {fixed(self.logme, 3)}, {self.images_per_second:.0f} pictures/s)"
        )


class Sample:
    """A sample of the training pictures, with their features of one network after another."""

    def __init__(self, settings: RunSettings, data: PictureData, indices: Int64Array) -> None:
        self._settings = settings
        self._model = embedding_settings(settings)
        self._data = data
        self._indices = indices
        self.targets = data.pictures.targets[indices]
        self.of_sets = kind_of(data.pictures.kind).sets
        self.contents = fold_codes(data, indices, self.targets)
        self._features: dict[str, Float32Array] = {}

    def speed(self, name: str, size: int | None = None) -> float:
        """Return approximately how many pictures a second are decoded and described by the network.

        At `size` pixels a side, or for None at those that the settings or the network ask for.
        """
        wanted = self._format(name, size)
        extractor = self._extractor(name, size, wanted)
        extractor(self._pictures(wanted, self._indices[:1]))  # warm-up
        order = cycle(self._indices)

        def one_round() -> float:
            done, started = 0, time.perf_counter()
            while time.perf_counter() < started + _ROUND_SECONDS:
                extractor(self._pictures(wanted, np.fromiter(islice(order, _PROBE), np.int64)))
                done += _PROBE
            return done / (time.perf_counter() - started)

        ends, found = time.perf_counter() + _ROUNDS * _ROUND_SECONDS, [one_round()]
        while len(found) < _ROUNDS and time.perf_counter() < ends:
            found.append(one_round())
        return max(found)

    def rank(self, name: str) -> RankedNetwork:
        """Return a network's place by a quick head on its features, which are kept."""
        wanted = self._format(name)
        extractor = self._extractor(name, None, wanted)
        extractor(self._pictures(wanted, self._indices[:1]))
        started = time.perf_counter()
        found = extractor(self._pictures(wanted, self._indices))
        speed = len(self._indices) / (time.perf_counter() - started)
        self._features[name] = found
        judged = self._judged(found)
        classes = len(self._data.pictures.class_names)
        evidence = logme(found, self.targets, classes)
        side, measure = max(wanted.image_size), "map" if self.of_sets else "accuracy"
        return RankedNetwork(name, judged.figure, judged.error, evidence, speed, side, measure)

    def accuracy(self, names: Sequence[str]) -> float:
        """Return the accuracy by the joined features of networks that were ranked before."""
        joined = np.concatenate([_scaled(self._features[name]) for name in names], axis=1)
        return self._judged(joined).figure

    def _judged(self, features: Float32Array) -> CrossValidated:
        return cross_validated(features, self.targets, self.contents, self._settings.seed)

    def _extractor(self, name: str, size: int | None, wanted: PictureFormat) -> Describe:
        settings = self._settings
        if size is not None:
            settings = replace(settings, model=replace(self._model, input_size=size))
        return beside_others(frozen_network(settings, name, self._data, wanted))

    def _format(self, name: str, size: int | None = None) -> PictureFormat:
        pictures = self._data.pictures
        side = size or native_side(replace(self._model, networks=[name]))
        shape = chosen_size(pictures.original_sizes, self._settings.data.image_size, side)
        return replace(pictures.format, image_size=shape)

    def _pictures(self, wanted: PictureFormat, indices: Int64Array) -> Pixels:
        source = self._data.pictures.source
        if source is None or wanted == self._data.pictures.format:
            return np.stack([self._data.pictures.read(int(i)) for i in indices])

        def read(index: int) -> Pixels:
            assert source is not None
            return picture(source, index, wanted)

        return np.stack(list(in_order(read, indices.tolist(), available_cores())))


def _scaled(features: Float32Array) -> Float32Array:
    """Centre features and scale them to a total variance of 1, as joined networks are scaled."""
    centred = features - features.mean(axis=0, keepdims=True)
    scaled: Float32Array = centred / max(float(np.sqrt(centred.var(axis=0).sum())), 1e-12)
    return scaled
