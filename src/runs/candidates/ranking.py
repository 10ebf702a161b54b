"""The ranking of frozen networks by quick heads on a sample of the training pictures."""

from __future__ import annotations

import hashlib
import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cache
from typing import Any

from ...config.schema import RunSettings
from ...data.loading.picture_data import PictureData
from ...data.randomness import permutation
from ...machine.arrays import Int64Array
from ...machine.hardware import device_of, machine
from ...machine.status import with_progress
from ...machine.text import duration
from ...models.weights import loadable
from ...records.ties import Place, place
from ...records.trials import NetworkRecord
from ...storage.cache import CachedMeasurement, load_measurement, store_measurement
from .affordable import SURE
from .sample import RankedNetwork, Sample, embedding_settings

__all__ = [
    "MOST_TOGETHER",
    "LoadableNetwork",
    "Ranking",
    "joined_name",
    "networks_of",
    "rank_networks",
    "ranking_identity",
    "sampled_pictures",
]

_log = logging.getLogger(__name__)

# To be raised when a measurement would hold other values.
_VERSION = 2
_SAMPLE = 500
# Number of ranked networks, which takes seconds each; the best by published accuracy.
_MOST_NETWORKS = 12
# Number of the best of them whose features are tried together.
MOST_TOGETHER = 3
# Fraction of the time for ranking.
_SHARE = 0.25
_UNKNOWN_ACCURACY, _UNKNOWN_SIDE, _UNKNOWN_PARAMETERS = 75.0, 224, 25_000_000
# Parameters times pixels predict a network's speed within this factor (EfficientNet-Lite0 to 2:
# within 1.2).
_COST_ERROR = 2.0


@dataclass(frozen=True)
class Ranking:
    """Networks, the best first, and the accuracy of the features of the first few together.

    Attributes:
        slow: pictures a second of the networks that were not ranked, for they are too slow, or for
            there is no other to compare them with.
    """

    networks: tuple[RankedNetwork, ...]
    together: dict[str, float]
    slow: dict[str, float] = field(default_factory=dict)

    def slow_seconds(self, count: int) -> str:
        """Return the networks that were not ranked, with the seconds that `count` pictures take."""
        return ", ".join(
            f"{name} (about {count / speed:.0f} s)" for name, speed in self.slow.items()
        )

    def records(self, taken: str | None) -> tuple[NetworkRecord, ...]:
        """Return records of all networks, of which the one with this name is taken."""
        together = [
            NetworkRecord(name, name == taken, accuracy=accuracy, measure=self.networks[0].measure)
            for name, accuracy in self.together.items()
        ]
        ranked = [NetworkRecord(taken=one.name == taken, **asdict(one)) for one in self.networks]
        slow = [
            NetworkRecord(name, name == taken, images_per_second=speed)
            for name, speed in self.slow.items()
        ]
        found = (*together, *ranked, *slow)
        if taken is None or any(one.taken for one in found):
            return found
        return NetworkRecord(taken, True), *found  # a group that was not ranked together


@dataclass(frozen=True)
class LoadableNetwork:
    """A network that loads without a connection.

    Attributes:
        cost: of a picture, about in proportion to the time that it takes: parameters times pixels.
        accuracy: published, in percent.
    """

    cost: float
    accuracy: float = _UNKNOWN_ACCURACY


def rank_networks(
    settings: RunSettings,
    data: PictureData,
    sample: Sample,
    count: int,
    *,
    deadline: float | None,
    anew: bool,
) -> Ranking:
    """Rank on the sample, or load the ranking of the same networks on it, unless it is made `anew`.

    `count` pictures are described afterwards, until the deadline on `time.perf_counter`.
    """
    seconds = None if deadline is None else deadline - time.perf_counter()
    networks, known = networks_of(settings), ranking_identity(settings, data)
    kept = None if anew else load_measurement("networks", known, settings.data.cache_dir)
    if kept is not None and kept.is_enough_for(seconds):
        earlier = tuple(RankedNetwork(**plain) for plain in kept.found["networks"])
        return Ranking(earlier, kept.found["together"], kept.found["slow"])
    names = list(networks)
    slow: dict[str, float] = {}
    if deadline is not None:
        names, slow = _within(networks, sample, count, deadline)
    left = None if deadline is None else deadline - time.perf_counter()
    if names:
        sampled = len(sample.targets)
        _log.info("ranking %d pretrained networks on %d pictures", len(names), sampled)
    began = time.perf_counter()
    ranked: list[RankedNetwork] = []
    for name in with_progress(names, len(names), "pretrained networks ranked"):
        if left is not None and ranked and time.perf_counter() - began > _SHARE * left:
            break
        ranked.append(sample.rank(name))
    ranked.sort(key=_place)
    groups = [ranked[:size] for size in range(2, min(MOST_TOGETHER, len(ranked)) + 1)]
    together = {
        joined_name(group): sample.accuracy([one.name for one in group]) for group in groups
    }
    found = {"networks": [asdict(one) for one in ranked], "together": together, "slow": slow}
    measurement = CachedMeasurement(found, False, None if len(ranked) == len(networks) else seconds)
    store_measurement("networks", known, measurement, settings.data.cache_dir)
    return Ranking(tuple(ranked), together, slow)


def _place(network: RankedNetwork) -> Place:
    # A quick head has no probabilities, and so no log-loss.
    latency = 1000 / network.images_per_second
    return place(network.accuracy, maximize=True, log_loss=None, latency=latency, name=network.name)


def _within(
    networks: Mapping[str, LoadableNetwork], sample: Sample, count: int, deadline: float
) -> tuple[list[str], dict[str, float]]:
    """Return the networks to rank, which describe all pictures in time, and the others' speeds.

    The cheapest network is measured first; the speeds of the others are estimated from their cost,
    which decides which of them are measured. Where fewer than two fit, none is ranked.
    """
    cheapest = min(networks, key=lambda name: networks[name].cost)
    share = duration(max(0.0, _SHARE * (deadline - time.perf_counter())))
    _log.info("timing pretrained networks on a sample of the pictures, for about %s", share)
    speed = sample.speed(cheapest)
    speeds = {name: speed * networks[cheapest].cost / one.cost for name, one in networks.items()}
    pictures = count + len(sample.targets)  # the sample is described as well

    def left() -> float:
        return SURE * (deadline - time.perf_counter())

    fitting = []
    measuring_ends = time.perf_counter() + _SHARE * left()
    for name in networks:
        if pictures / (_COST_ERROR * speeds[name]) > left():
            continue
        if name != cheapest and time.perf_counter() < measuring_ends:
            speeds[name] = sample.speed(name)
        if pictures / speeds[name] <= left():
            fitting.append(name)
    fitting = fitting if len(fitting) > 1 else []
    return fitting, {name: speeds[name] for name in networks if name not in fitting}


def sampled_pictures(data: PictureData) -> Int64Array:
    """Return the indices of the training pictures that networks are ranked on, at most 500."""
    train = data.split.train
    found: Int64Array = train[permutation(len(train), data.seed, 0)[:_SAMPLE].numpy()]
    return found


def ranking_identity(settings: RunSettings, data: PictureData) -> dict[str, Any]:
    """Return everything that a ranking depends on."""
    model, sampled = embedding_settings(settings), sampled_pictures(data)
    form = replace(data.pictures.format, fit=settings.data.fit)
    return {
        "version": _VERSION,
        "networks": list(networks_of(settings)),
        "weights": model.pretrained,
        "size": [model.input_size, settings.data.image_size, form.plain()],
        "pictures": hashlib.sha256(data.pictures.content_hashes[sampled].tobytes()).hexdigest(),
        "labels": data.pictures.targets[sampled].tolist(),
        # Pictures of a group share a fold.
        **({} if data.groups is None else {"groups": data.groups[sampled].tolist()}),
        "machine": machine(device_of(settings.trainer.accelerator)),
    }


def joined_name(group: Sequence[RankedNetwork]) -> str:
    """Return the name of several networks whose features are joined."""
    return " + ".join(one.name for one in group)


def networks_of(settings: RunSettings) -> Mapping[str, LoadableNetwork]:
    """Return the networks to choose from: those that the settings name, and those that load."""
    return _loadable_networks(tuple(embedding_settings(settings).networks))


@cache  # listing the loadable networks takes a second
def _loadable_networks(configured: tuple[str, ...]) -> Mapping[str, LoadableNetwork]:
    """Return networks that load without a connection, the highest published accuracy first."""
    loaded = [one for one in loadable() if one.library == "timm"]
    found = {
        one.name: LoadableNetwork(
            float(one.parameters * (one.input_size or _UNKNOWN_SIDE) ** 2),
            one.accuracy or _UNKNOWN_ACCURACY,
        )
        for one in sorted(loaded, key=lambda one: -(one.accuracy or _UNKNOWN_ACCURACY))
    }
    unknown = LoadableNetwork(float(_UNKNOWN_PARAMETERS * _UNKNOWN_SIDE**2))
    names = list(dict.fromkeys([*configured, *found]))[:_MOST_NETWORKS]
    return {name: found.get(name, unknown) for name in names}
