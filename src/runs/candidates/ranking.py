"""The choice of frozen networks, ranked on a sample before all pictures are described."""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from ...config.features import EmbeddingSettings
from ...config.schema import RunSettings
from ...data.decoding.format_choice import chosen_size
from ...data.decoding.picture_format import PictureFormat
from ...data.decoding.picture_store import picture
from ...data.loading.datamodule import PictureData
from ...data.randomness import permutation
from ...features.descriptors.picture import Floats
from ...features.table import beside_others
from ...features.transfer import cross_validated_accuracy, logme
from ...machine.hardware import machine
from ...machine.parallel import available_cores, in_order
from ...models.weights import loadable
from ...records.pictures import Pixels
from ...records.trials import NetworkRecord
from ...storage.cache import Record, load_record, store_record
from ..build import frozen_network, native_side

if TYPE_CHECKING:
    from collections.abc import Callable

    Describe = Callable[[Pixels], Floats]

__all__ = ["NetworkChoice", "RankedNetwork", "choose_networks"]

# To be raised when a record would hold other values.
_VERSION = 2
_SAMPLE = 500
# Each network takes seconds to rank: those with the best published accuracy come first.
_MOST_NETWORKS = 12
_MOST_TOGETHER = 3
# Of the time that ranking and describing may take: for ranking, and for describing by several
# networks, of which each adds less than the one before it.
_SHARE, _TOGETHER_SHARE = 0.25, 0.67
# Of the time that is left, what describing may take as it was measured: other work comes and goes.
_SURE = 0.9
# Pictures that a speed is measured on, and the seconds that it takes at least: a moment's load on
# the machine must not decide.
_PROBE, _PROBE_SECONDS = 16, 1.5
# Smaller pictures for the fastest network, where none can be afforded at its own size.
_STEP, _SMALLEST = 32, 96
_UNKNOWN_ACCURACY, _UNKNOWN_SIDE, _UNKNOWN_PARAMETERS = 75.0, 224, 25_000_000
# Parameters times pixels tell a network's speed within such a factor (EfficientNet-Lite0 to 2:
# within 1.2).
_COST_ERROR = 2.0


@dataclass(frozen=True)
class RankedNetwork:
    """A frozen network of timm, ranked by a quick head on its features of a sample.

    Attributes:
        accuracy, error: cross-validated accuracy and its standard error, in [0, 1].
        logme: see `src.features.transfer.logme`.
        side: pixels of the longer side of the pictures that it took.
    """

    name: str
    accuracy: float
    error: float
    logme: float
    images_per_second: float
    side: int

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
        input_size: pixels of a side that they take pictures at; None for their native size.
        seconds: that describing all pictures takes, where it takes more than there is; else 0.
        considered: what was known of each network, the best first.
    """

    networks: tuple[str, ...]
    notes: tuple[str, ...]
    input_size: int | None = None
    seconds: float = 0.0
    considered: tuple[NetworkRecord, ...] = ()


def choose_networks(
    settings: RunSettings, data: PictureData, seconds: float | None, anew: bool = False
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
        anew: measure all again, for the machine is slower than it was.

    Raises:
        ConfigError: weights cannot be had.
    """
    model = _model(settings)
    deadline = None if seconds is None else time.perf_counter() + seconds
    train = data.split.train
    chosen = train[permutation(len(train), data.seed, 0)[:_SAMPLE].numpy()]
    views = 2 if model.mirror or (model.mirror is None and settings.data.mirror_ok) else 1
    count = views * len(train) + len(data.split.val)
    sample = _Sample(settings, data, chosen)
    ranking = _ranking(settings, data, sample, count, deadline, anew)
    left = None if deadline is None else _SURE * (deadline - time.perf_counter())
    fitting = [one for one in ranking.networks if left is None or one.seconds(count) <= left]
    if not fitting:
        assert deadline is not None
        return _fastest(settings, sample, ranking, count, deadline)
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
    names = tuple(one.name for one in best)
    return NetworkChoice(names, notes, considered=ranking.records(_joined(best)))


def _model(settings: RunSettings) -> EmbeddingSettings:
    assert isinstance(settings.model, EmbeddingSettings)
    return settings.model


@dataclass(frozen=True)
class _Ranking:
    """Networks, the best first, and the accuracy of the features of the first few together.

    Attributes:
        slow: pictures a second of the networks that were not ranked, for they are too slow, or for
            there is no other to compare them with.
    """

    networks: tuple[RankedNetwork, ...]
    together: dict[str, float]
    slow: dict[str, float] = field(default_factory=dict)

    def slow_note(self, count: int) -> tuple[str, ...]:
        """Return a note on the networks that cannot be afforded, if there are any."""
        named = [f"{name} (about {count / speed:.0f} s)" for name, speed in self.slow.items()]
        return (f"not ranked, for lack of time: {', '.join(named)}",) if named else ()

    def records(self, taken: str | None) -> tuple[NetworkRecord, ...]:
        """Return what is known of all, of which the one of this name is taken."""
        together = [
            NetworkRecord(name, name == taken, accuracy=accuracy)
            for name, accuracy in self.together.items()
        ]
        ranked = [NetworkRecord(taken=one.name == taken, **asdict(one)) for one in self.networks]
        slow = [
            NetworkRecord(name, name == taken, images_per_second=speed)
            for name, speed in self.slow.items()
        ]
        return (*together, *ranked, *slow)


def _ranking(
    settings: RunSettings,
    data: PictureData,
    sample: _Sample,
    count: int,
    deadline: float | None,
    anew: bool,
) -> _Ranking:
    """Rank on the sample, or load the ranking of the same networks on it, unless it is made `anew`.

    `count` pictures are described afterwards, until the deadline on `time.perf_counter`.
    """
    model = _model(settings)
    costs = _known(model.networks)
    known = {
        "version": _VERSION,
        "networks": list(costs),
        "weights": model.pretrained,
        "size": [model.input_size, settings.data.image_size, data.pictures.format.plain()],
        "pictures": hashlib.sha256(sample.contents.tobytes()).hexdigest(),
        "labels": sample.targets.tolist(),
        "machine": machine(torch.device("cpu")),
    }
    seconds = None if deadline is None else deadline - time.perf_counter()
    kept = None if anew else load_record("networks", known, settings.data.cache_dir)
    if kept is not None and kept.is_enough_for(seconds):
        networks = tuple(RankedNetwork(**plain) for plain in kept.found["networks"])
        return _Ranking(networks, kept.found["together"], kept.found["slow"])
    names = list(costs)
    slow: dict[str, float] = {}
    if deadline is not None:
        names, slow = _within(costs, sample, count, deadline)
    left = None if deadline is None else deadline - time.perf_counter()
    began = time.perf_counter()
    ranked: list[RankedNetwork] = []
    for name in names:
        if left is not None and ranked and time.perf_counter() - began > _SHARE * left:
            break
        ranked.append(sample.rank(name))
    ranked.sort(key=lambda one: (-one.accuracy, -one.images_per_second))
    groups = [ranked[:size] for size in range(2, min(_MOST_TOGETHER, len(ranked)) + 1)]
    together = {_joined(group): sample.accuracy([one.name for one in group]) for group in groups}
    found = {"networks": [asdict(one) for one in ranked], "together": together, "slow": slow}
    record = Record(found, False, None if len(ranked) == len(costs) else seconds)
    store_record("networks", known, record, settings.data.cache_dir)
    return _Ranking(tuple(ranked), together, slow)


def _within(
    costs: Mapping[str, float], sample: _Sample, count: int, deadline: float
) -> tuple[list[str], dict[str, float]]:
    """Return the networks to rank, which describe all pictures in time, and the others' speeds.

    The cheapest network is measured first. What its cost says of the others decides which of them
    are worth a measurement. Where fewer than two fit, none is ranked.
    """
    cheapest = min(costs, key=lambda name: costs[name])
    speed = sample.speed(cheapest)
    speeds = {name: speed * costs[cheapest] / cost for name, cost in costs.items()}
    pictures = count + len(sample.targets)  # the sample is described as well

    def left() -> float:
        return _SURE * (deadline - time.perf_counter())

    fitting = []
    measuring_ends = time.perf_counter() + _SHARE * left()
    for name in costs:
        if pictures / (_COST_ERROR * speeds[name]) > left():
            continue
        if name != cheapest and time.perf_counter() < measuring_ends:
            speeds[name] = sample.speed(name)
        if pictures / speeds[name] <= left():
            fitting.append(name)
    fitting = fitting if len(fitting) > 1 else []
    return fitting, {name: speeds[name] for name in costs if name not in fitting}


def _fastest(
    settings: RunSettings, sample: _Sample, ranking: _Ranking, count: int, deadline: float
) -> NetworkChoice:
    """Return the fastest network, at a size at which it describes so many pictures in time."""
    speeds = {one.name: one.images_per_second for one in ranking.networks} | ranking.slow
    name, speed = max(speeds.items(), key=lambda item: item[1])
    size, model = None, _model(settings)
    native = native_side(replace(model, networks=[name]))
    if native and model.input_size is None and settings.data.image_size is None:
        side = native
        while (left := _SURE * (deadline - time.perf_counter())) < count / speed:
            if side <= _SMALLEST or left <= 0:
                break
            # What a picture costs grows with its pixels, though less: it is decoded as well.
            wanted = int(side * math.sqrt(left * speed / count)) // _STEP * _STEP
            size = side = max(_SMALLEST, min(wanted, side - _STEP // 2))
            speed = sample.speed(name, size)
    took = count / speed
    at = "" if size is None else f" at {size} pixels (model.input_size={size})"
    notes = (
        *ranking.slow_note(count),
        f"takes {name}{at}, for lack of time: {count:,} pictures to describe, about {took:.0f} s",
    )
    late = took > deadline - time.perf_counter()
    considered = ranking.records(name if size is None else None)
    if size is not None:
        considered = (NetworkRecord(name, True, size, images_per_second=speed), *considered)
    return NetworkChoice((name,), notes, size, took if late else 0.0, considered)


def _joined(group: Sequence[RankedNetwork]) -> str:
    return " + ".join(one.name for one in group)


def _known(configured: Sequence[str]) -> dict[str, float]:
    """Return networks that load without a connection, the highest published accuracy first.

    With the cost of a picture, about in proportion: parameters times pixels.
    """
    found = sorted(loadable(), key=lambda one: -(one.accuracy or _UNKNOWN_ACCURACY))
    costs = {
        one.name: float(one.parameters * (one.input_size or _UNKNOWN_SIDE) ** 2)
        for one in found
        if one.library == "timm"
    }
    unknown = float(_UNKNOWN_PARAMETERS * _UNKNOWN_SIDE**2)
    names = list(dict.fromkeys([*configured, *costs]))[:_MOST_NETWORKS]
    return {name: costs.get(name, unknown) for name in names}


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
        self.targets = data.pictures.targets[indices]
        self.contents = data.pictures.content_hashes[indices]
        self._features: dict[str, Floats] = {}

    def speed(self, name: str, size: int | None = None) -> float:
        """Return about how many pictures a second are decoded and described by the network.

        At `size` pixels a side, or for None at those that the settings or the network ask for.
        """
        wanted = self._format(name, size)
        extractor = self._extractor(name, size, wanted)
        extractor(self._pictures(wanted, self._indices[:1]))  # what is done once
        done, started = 0, time.perf_counter()
        while done < len(self._indices) and time.perf_counter() < started + _PROBE_SECONDS:
            extractor(self._pictures(wanted, self._indices[done : done + _PROBE]))
            done += _PROBE
        return min(done, len(self._indices)) / (time.perf_counter() - started)

    def rank(self, name: str) -> RankedNetwork:
        wanted = self._format(name)
        extractor = self._extractor(name, None, wanted)
        extractor(self._pictures(wanted, self._indices[:1]))
        started = time.perf_counter()
        found = extractor(self._pictures(wanted, self._indices))
        speed = len(self._indices) / (time.perf_counter() - started)
        self._features[name] = found
        accuracy, error = self._judged(found)
        classes = len(self._data.pictures.class_names)
        evidence = logme(found, self.targets, classes)
        return RankedNetwork(name, accuracy, error, evidence, speed, max(wanted.image_size))

    def accuracy(self, names: Sequence[str]) -> float:
        return self._judged(np.concatenate([_scaled(self._features[n]) for n in names], axis=1))[0]

    def _judged(self, features: Floats) -> tuple[float, float]:
        seed = self._settings.seed
        return cross_validated_accuracy(features, self.targets, self.contents, seed)

    def _extractor(self, name: str, size: int | None, wanted: PictureFormat) -> Describe:
        settings = self._settings
        if size is not None:
            settings = replace(settings, model=replace(_model(settings), input_size=size))
        return beside_others(frozen_network(settings, name, self._data, wanted))

    def _format(self, name: str, size: int | None = None) -> PictureFormat:
        pictures = self._data.pictures
        side = size or native_side(replace(_model(self._settings), networks=[name]))
        shape = chosen_size(pictures.original_sizes, self._settings.data.image_size, side)
        return replace(pictures.format, image_size=shape)

    def _pictures(self, wanted: PictureFormat, indices: NDArray[np.int64]) -> Pixels:
        source = self._data.pictures.source
        if source is None or wanted == self._data.pictures.format:
            return np.stack([self._data.pictures.read(int(i)) for i in indices])

        def read(index: int) -> Pixels:
            assert source is not None
            return picture(source, index, wanted)

        return np.stack(list(in_order(read, indices.tolist(), available_cores())))


def _scaled(features: Floats) -> Floats:
    """Centre features and scale them to a total variance of 1, as joined networks are scaled."""
    centred = features - features.mean(axis=0, keepdims=True)
    scaled: Floats = centred / max(float(np.sqrt(centred.var(axis=0).sum())), 1e-12)
    return scaled
