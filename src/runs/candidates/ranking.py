"""Which frozen networks suit some pictures, told from a few of them before all are described."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from src.config.features import EmbeddingSettings
from src.config.schema import RunSettings
from src.data.decoding.decode import PictureFormat
from src.data.decoding.decoded import picture
from src.data.decoding.picture_store import chosen_size
from src.data.loading.datamodule import PictureData
from src.data.randomness import permutation
from src.features.descriptors.picture import Floats
from src.features.transfer import cross_validated_accuracy, logme
from src.machine.hardware import machine
from src.machine.parallel import available_cores, in_order
from src.models.weights import loadable
from src.runs.build import frozen_network, native_side
from src.storage.cache import Record, load_record, store_record

__all__ = ["NetworkChoice", "RankedNetwork", "choose_networks"]

_SAMPLE = 500
# Networks are looked at one after another, and each takes seconds: the best known ones come first.
_MOST_NETWORKS = 12
_MOST_TOGETHER = 3
# Of the time that describing may take, for looking at the sample.
_SHARE = 0.25
_UNKNOWN_ACCURACY = 75.0


@dataclass(frozen=True)
class RankedNetwork:
    """A frozen network, judged by what its features of a sample are worth.

    Attributes:
        name: timm's.
        accuracy, error: cross-validated accuracy of a quick head and its standard error, in [0, 1].
        logme: see `src.features.transfer.logme`.
        images_per_second: that it describes.
    """

    name: str
    accuracy: float
    error: float
    logme: float
    images_per_second: float

    def __str__(self) -> str:
        return (
            f"{self.name} {100 * self.accuracy:.1f} % +- {100 * self.error:.1f} "
            f"(LogME {self.logme:.3f}, {self.images_per_second:.0f} pictures/s)"
        )


@dataclass(frozen=True)
class NetworkChoice:
    """Networks whose features are worth the time that they take.

    Attributes:
        networks: timm's names; the features of several stand one after another.
        notes: how they were chosen, for the person.
    """

    networks: tuple[str, ...]
    notes: tuple[str, ...]


def choose_networks(
    settings: RunSettings, data: PictureData, seconds: float | None
) -> NetworkChoice:
    """Rank the networks that this machine can load, and choose one or several of them.

    Each describes a sample of the training part; a quick head is cross-validated on that, also on
    the features of the best ones together. Chosen are as many together as describe all pictures in
    time and are not worse than the best by more than a standard error.

    Args:
        settings: of a run, its model one of `EmbeddingSettings`.
        data: the pictures.
        seconds: for ranking and describing; None for no limit.

    Raises:
        ConfigError: weights cannot be had.
    """
    model = settings.model
    assert isinstance(model, EmbeddingSettings)
    began = time.perf_counter()
    train = data.split.train
    chosen = train[permutation(len(train), data.seed, 0)[:_SAMPLE].numpy()]
    views = 2 if model.mirror or (model.mirror is None and settings.data.mirror_ok) else 1
    count = views * len(train) + len(data.split.val)
    ranking = _ranking(settings, data, chosen, None if seconds is None else _SHARE * seconds)
    left = None if seconds is None else seconds - (time.perf_counter() - began)
    groups = _affordable(ranking.networks, count, left)
    accuracies = [ranking.together.get(_joined(group), group[0].accuracy) for group in groups]
    # Several networks together are nearly always better than the best of them (clothing photos,
    # five folds: lite2 88.1 %, with lite1 89.3 %, with lite0 as well 89.5 %), by less than so few
    # pictures can tell.
    enough = max(accuracies) - max(one.error for one in groups[0])
    best = [group for group, found in zip(groups, accuracies, strict=True) if found >= enough][-1]
    accuracy = accuracies[groups.index(best)]
    took = sum(count / one.images_per_second for one in best)
    notes = (
        f"on {len(chosen)} pictures: {'; '.join(map(str, ranking.networks))}",
        f"takes {_joined(best)} ({100 * accuracy:.1f} %): {count:,} pictures to describe, "
        f"about {took:.0f} s",
    )
    return NetworkChoice(tuple(one.name for one in best), notes)


@dataclass(frozen=True)
class _Ranking:
    """Networks, the best first, and the accuracy of the features of the first few together."""

    networks: tuple[RankedNetwork, ...]
    together: dict[str, float]


def _ranking(
    settings: RunSettings, data: PictureData, chosen: NDArray[np.int64], seconds: float | None
) -> _Ranking:
    """What the sample says, now or when the same networks were asked about it earlier."""
    model = settings.model
    assert isinstance(model, EmbeddingSettings)
    names = _known(model.networks)
    known = {
        "networks": names,
        "weights": model.pretrained,
        "size": [model.input_size, settings.data.image_size, data.pictures.format.plain()],
        "pictures": hashlib.sha256(data.pictures.content_hashes[chosen].tobytes()).hexdigest(),
        "labels": data.pictures.targets[chosen].tolist(),
        "machine": machine(torch.device("cpu")),
    }
    kept = load_record("networks", known, settings.data.cache_dir)
    if kept is not None:
        networks = tuple(RankedNetwork(**plain) for plain in kept.found["networks"])
        return _Ranking(networks, kept.found["together"])
    began = time.perf_counter()
    sample = _Sample(settings, data, chosen)
    ranked: list[RankedNetwork] = []
    for name in names:
        if ranked and seconds is not None and time.perf_counter() - began > seconds:
            break
        ranked.append(sample.rank(name))
    ranked.sort(key=lambda one: (-one.accuracy, -one.images_per_second))
    groups = [ranked[:size] for size in range(2, min(_MOST_TOGETHER, len(ranked)) + 1)]
    together = {_joined(group): sample.accuracy([one.name for one in group]) for group in groups}
    if len(ranked) == len(names):
        found = {"networks": [asdict(one) for one in ranked], "together": together}
        store_record("networks", known, Record(found, disturbed=False), settings.data.cache_dir)
    return _Ranking(tuple(ranked), together)


def _joined(group: Sequence[RankedNetwork]) -> str:
    return " + ".join(one.name for one in group)


def _known(configured: Sequence[str]) -> list[str]:
    """Networks that can be loaded without a connection, the best known first."""
    found = [one for one in loadable() if one.library == "timm"]
    found.sort(key=lambda one: -(one.accuracy or _UNKNOWN_ACCURACY))
    names = [*configured, *(one.name for one in found)]
    return list(dict.fromkeys(names))[:_MOST_NETWORKS]


def _affordable(
    ranked: Sequence[RankedNetwork], count: int, seconds: float | None
) -> list[list[RankedNetwork]]:
    """The best network, the best two and so on, as far as they describe so many pictures in time;
    the fastest one where none does."""

    def takes(group: Sequence[RankedNetwork]) -> float:
        return sum(count / one.images_per_second for one in group)

    fitting = [one for one in ranked if seconds is None or takes([one]) <= seconds]
    if not fitting:
        return [[max(ranked, key=lambda one: one.images_per_second)]]
    groups = [fitting[: size + 1] for size in range(min(_MOST_TOGETHER, len(fitting)))]
    return [group for group in groups if seconds is None or takes(group) <= seconds]


class _Sample:
    """Some training pictures, described by one network after another."""

    def __init__(
        self, settings: RunSettings, data: PictureData, indices: NDArray[np.int64]
    ) -> None:
        self._settings = settings
        self._data = data
        self._indices = indices
        self._targets = data.pictures.targets[indices]
        self._contents = data.pictures.content_hashes[indices]
        self._features: dict[str, Floats] = {}

    def rank(self, name: str) -> RankedNetwork:
        wanted = self._format(name)
        extractor = frozen_network(self._settings, name, self._data, wanted)
        images = self._pictures(wanted)
        extractor(images[:1])  # what is done once is not part of the speed
        started = time.perf_counter()
        found = extractor(images)
        speed = len(images) / (time.perf_counter() - started)
        self._features[name] = found
        accuracy, error = self._judged(found)
        classes = len(self._data.pictures.class_names)
        return RankedNetwork(name, accuracy, error, logme(found, self._targets, classes), speed)

    def accuracy(self, names: Sequence[str]) -> float:
        return self._judged(np.concatenate([_scaled(self._features[n]) for n in names], axis=1))[0]

    def _judged(self, features: Floats) -> tuple[float, float]:
        seed = self._settings.seed
        return cross_validated_accuracy(features, self._targets, self._contents, seed)

    def _format(self, name: str) -> PictureFormat:
        model = self._settings.model
        assert isinstance(model, EmbeddingSettings)
        pictures = self._data.pictures
        side = native_side(replace(model, networks=[name]))
        size = chosen_size(pictures.original_sizes, self._settings.data.image_size, side)
        return replace(pictures.format, image_size=size)

    def _pictures(self, wanted: PictureFormat) -> NDArray[np.uint8]:
        source = self._data.pictures.source
        if source is None or wanted == self._data.pictures.format:
            return np.stack([self._data.pictures.read(int(i)) for i in self._indices])

        def read(index: int) -> NDArray[np.uint8]:
            assert source is not None
            return picture(source, index, wanted)

        return np.stack(list(in_order(read, self._indices.tolist(), available_cores())))


def _scaled(features: Floats) -> Floats:
    """Centred, and of a total variance of 1, as the blocks of several networks are joined."""
    centred = features - features.mean(axis=0, keepdims=True)
    scaled: Floats = centred / max(float(np.sqrt(centred.var(axis=0).sum())), 1e-12)
    return scaled
