"""The choice of frozen networks, ranked on a sample before all pictures are described."""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace

import numpy as np
import torch
from numpy.typing import NDArray

from src.config.features import EmbeddingSettings
from src.config.schema import RunSettings
from src.data.decoding.decode import PictureFormat
from src.data.decoding.picture_store import chosen_size, picture
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
# Each network takes seconds to rank: those with the best published accuracy come first.
_MOST_NETWORKS = 12
_MOST_TOGETHER = 3
# Of the time that ranking and describing may take: for ranking, and for describing by several
# networks, of which each adds less than the one before it.
_SHARE, _TOGETHER_SHARE = 0.25, 0.6
# Of the same time, for finding a network that can be afforded at all.
_FINDING_SHARE = 0.5
# Pictures enough to measure whether a network is too slow.
_PROBE = 16
# Smaller pictures for the fastest network, where none can be afforded at its own size.
_STEP, _SMALLEST = 32, 96
_UNKNOWN_ACCURACY = 75.0


@dataclass(frozen=True)
class RankedNetwork:
    """A frozen network, ranked by a classifier on its features of a sample.

    Attributes:
        name: timm's.
        accuracy, error: cross-validated accuracy of a quick head and its standard error, in [0, 1].
        logme: see `src.features.transfer.logme`.
        images_per_second: speed at which it computes features.
    """

    name: str
    accuracy: float
    error: float
    logme: float
    images_per_second: float

    def seconds(self, count: int) -> float:
        """Return about how long describing so many pictures takes."""
        return count / self.images_per_second

    def __str__(self) -> str:
        return (
            f"{self.name} {100 * self.accuracy:.1f} % +- {100 * self.error:.1f} "
            f"(LogME {self.logme:.3f}, {self.images_per_second:.0f} pictures/s)"
        )


@dataclass(frozen=True)
class NetworkChoice:
    """The chosen networks.

    Attributes:
        networks: timm's names; the features of several stand one after another.
        notes: lines on how they were chosen.
        input_size: pixels of a side that they take pictures at; None for their native size.
        seconds: that describing all pictures takes, where it takes more than there is; else 0.
    """

    networks: tuple[str, ...]
    notes: tuple[str, ...]
    input_size: int | None = None
    seconds: float = 0.0


def choose_networks(
    settings: RunSettings, data: PictureData, seconds: float | None
) -> NetworkChoice:
    """Rank the networks that this machine can load, and choose one or several of them.

    Each that describes all pictures in time computes features of a sample of the training part; a
    fast head is cross-validated on them, and on the joined features of the best networks. The
    choice is the largest group that describes all pictures in time and is not worse than the best
    by more than a standard error. Where no network is fast enough at its own size, the fastest one
    gets smaller pictures.

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
    ranking = _ranking(settings, data, chosen, count, seconds)
    left = None if seconds is None else seconds - (time.perf_counter() - began)
    fitting = [one for one in ranking.networks if left is None or one.seconds(count) <= left]
    if not fitting:
        return _fastest(settings, ranking, count, left or 0.0)
    groups = _affordable(fitting, count, None if left is None else _TOGETHER_SHARE * left)
    accuracies = [ranking.together.get(_joined(group), group[0].accuracy) for group in groups]
    # Several networks together are nearly always better than the best of them (clothing photos,
    # five folds: lite2 88.1 %, with lite1 89.3 %, with lite0 as well 89.5 %), by less than so few
    # pictures can tell.
    enough = max(accuracies) - max(one.error for one in groups[0])
    best = [group for group, found in zip(groups, accuracies, strict=True) if found >= enough][-1]
    accuracy = accuracies[groups.index(best)]
    notes = (
        f"on {len(chosen)} pictures: {'; '.join(map(str, ranking.networks))}",
        *ranking.slow_note(count),
        f"takes {_joined(best)} ({100 * accuracy:.1f} %): {count:,} pictures to describe, "
        f"about {sum(one.seconds(count) for one in best):.0f} s",
    )
    return NetworkChoice(tuple(one.name for one in best), notes)


@dataclass(frozen=True)
class _Ranking:
    """Networks, the best first, and the accuracy of the features of the first few together.

    Attributes:
        slow: pictures a second of the networks that were not ranked, for they are too slow.
    """

    networks: tuple[RankedNetwork, ...]
    together: dict[str, float]
    slow: dict[str, float] = field(default_factory=dict)

    def slow_note(self, count: int) -> tuple[str, ...]:
        """Return a note on the networks that cannot be afforded, if there are any."""
        if not self.slow:
            return ()
        named = (f"{name} (about {count / speed:.0f} s)" for name, speed in self.slow.items())
        return (f"too slow for the time there is: {', '.join(named)}",)


def _ranking(
    settings: RunSettings,
    data: PictureData,
    chosen: NDArray[np.int64],
    count: int,
    seconds: float | None,
) -> _Ranking:
    """Rank on the sample, or load the ranking of the same networks on the same sample.

    Args:
        settings, data: see `choose_networks`.
        chosen: indices of the sample.
        count: of the pictures to describe.
        seconds: for ranking and describing; None for no limit.
    """
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
    slow: dict[str, float] = {}
    waiting = list(names)
    while waiting:
        # Once one is too slow, the least accurate ones come first, which are the fastest mostly,
        # until one can be afforded.
        name = waiting.pop(-1 if slow and not ranked else 0)
        if seconds is not None:
            spent = time.perf_counter() - began
            if (ranked or slow) and spent > (_SHARE if ranked else _FINDING_SHARE) * seconds:
                break
            speed = sample.speed(name)
            if (count + len(chosen)) / speed > seconds - spent:  # the sample is described as well
                slow[name] = speed
                continue
        ranked.append(sample.rank(name))
    ranked.sort(key=lambda one: (-one.accuracy, -one.images_per_second))
    groups = [ranked[:size] for size in range(2, min(_MOST_TOGETHER, len(ranked)) + 1)]
    together = {_joined(group): sample.accuracy([one.name for one in group]) for group in groups}
    if len(ranked) == len(names):
        found = {"networks": [asdict(one) for one in ranked], "together": together}
        store_record("networks", known, Record(found, disturbed=False), settings.data.cache_dir)
    return _Ranking(tuple(ranked), together, slow)


def _fastest(settings: RunSettings, ranking: _Ranking, count: int, seconds: float) -> NetworkChoice:
    """Return the fastest network, at a size at which it describes so many pictures in time."""
    speeds = {one.name: one.images_per_second for one in ranking.networks} | ranking.slow
    name, speed = max(speeds.items(), key=lambda item: item[1])
    size = None
    model = settings.model
    assert isinstance(model, EmbeddingSettings)
    native = native_side(replace(model, networks=[name]))
    if native and model.input_size is None and settings.data.image_size is None:
        # What a picture costs grows with its pixels. To measure it at another size as well would
        # take time that describing needs.
        side = native * math.sqrt(min(1.0, max(0.0, seconds) * speed / count))
        if side < native:
            size = max(_SMALLEST, int(side) // _STEP * _STEP)
            speed *= (native / size) ** 2
    took = count / speed
    at = "" if size is None else f" at {size} pixels (model.input_size={size})"
    notes = (
        *ranking.slow_note(count),
        f"takes {name}{at}, for lack of time: {count:,} pictures to describe, about {took:.0f} s",
    )
    return NetworkChoice((name,), notes, size, 0.0 if took <= seconds else took)


def _joined(group: Sequence[RankedNetwork]) -> str:
    return " + ".join(one.name for one in group)


def _known(configured: Sequence[str]) -> list[str]:
    """Return networks that load without a connection, the highest published accuracy first."""
    found = [one for one in loadable() if one.library == "timm"]
    found.sort(key=lambda one: -(one.accuracy or _UNKNOWN_ACCURACY))
    names = [*configured, *(one.name for one in found)]
    return list(dict.fromkeys(names))[:_MOST_NETWORKS]


def _affordable(
    fitting: Sequence[RankedNetwork], count: int, seconds: float | None
) -> list[list[RankedNetwork]]:
    """Return the best network, and the best two and so on as far as they fit into the time."""
    groups = [fitting[: size + 1] for size in range(min(_MOST_TOGETHER, len(fitting)))]
    return [
        list(group)
        for group in groups
        if len(group) == 1 or seconds is None or sum(n.seconds(count) for n in group) <= seconds
    ]


class _Sample:
    """A sample of the training pictures, with their features of one network after another."""

    def __init__(
        self, settings: RunSettings, data: PictureData, indices: NDArray[np.int64]
    ) -> None:
        self._settings = settings
        self._data = data
        self._indices = indices
        self._targets = data.pictures.targets[indices]
        self._contents = data.pictures.content_hashes[indices]
        self._features: dict[str, Floats] = {}

    def speed(self, name: str) -> float:
        """Return about how many pictures a second the network describes, from a few of them."""
        wanted = self._format(name)
        extractor = frozen_network(self._settings, name, self._data, wanted)
        images = self._pictures(wanted, self._indices[:_PROBE])
        extractor(images[:1])
        started = time.perf_counter()
        extractor(images)
        return len(images) / (time.perf_counter() - started)

    def rank(self, name: str) -> RankedNetwork:
        wanted = self._format(name)
        extractor = frozen_network(self._settings, name, self._data, wanted)
        images = self._pictures(wanted, self._indices)
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

    def _pictures(self, wanted: PictureFormat, indices: NDArray[np.int64]) -> NDArray[np.uint8]:
        source = self._data.pictures.source
        if source is None or wanted == self._data.pictures.format:
            return np.stack([self._data.pictures.read(int(i)) for i in indices])

        def read(index: int) -> NDArray[np.uint8]:
            assert source is not None
            return picture(source, index, wanted)

        return np.stack(list(in_order(read, indices.tolist(), available_cores())))


def _scaled(features: Floats) -> Floats:
    """Centre features and scale them to a total variance of 1, as joined networks are scaled."""
    centred = features - features.mean(axis=0, keepdims=True)
    scaled: Floats = centred / max(float(np.sqrt(centred.var(axis=0).sum())), 1e-12)
    return scaled
