"""The choice of frozen networks, ranked on a sample before all pictures are described."""

from __future__ import annotations

import hashlib
import logging
import math
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cache
from typing import Any

from ...config.schema import RunSettings
from ...data.loading.datamodule import PictureData
from ...data.randomness import permutation
from ...machine.arrays import Int64Array
from ...machine.hardware import device_of, machine
from ...machine.status import with_progress
from ...machine.text import duration
from ...models.weights import PACKAGED, loadable
from ...records.ties import Place, place
from ...records.trials import NetworkRecord
from ...storage.cache import CachedMeasurement, load_measurement, store_measurement
from ..build import native_side
from .affordable import SURE, BestOption, NetworkEstimate, Option, best_option, counts_by_share
from .sample import RankedNetwork, Sample, embedding_settings

__all__ = ["NetworkChoice", "choose_networks", "described_by", "keep_described"]

_log = logging.getLogger(__name__)

# To be raised when a measurement would hold other values.
_VERSION = 2
_SAMPLE = 500
# Number of ranked networks, which takes seconds each; the best by published accuracy.
_MOST_NETWORKS = 12
_MOST_TOGETHER = 3
# Fractions of the time for ranking and describing: of ranking, and of describing by several
# networks, each of which adds less than the one before it.
_SHARE, _TOGETHER_SHARE = 0.25, 0.67
# Points of accuracy that a further network adds at least (see `choose_networks`).
_WITH_ANOTHER = 0.2
_UNKNOWN_ACCURACY, _UNKNOWN_SIDE, _UNKNOWN_PARAMETERS = 75.0, 224, 25_000_000
# Parameters times pixels predict a network's speed within this factor (EfficientNet-Lite0 to 2:
# within 1.2).
_COST_ERROR = 2.0

# Networks whose features are joined, and the accuracy of a head on these, in [0, 1].
_RankedGroup = tuple[Sequence[RankedNetwork], float]


@dataclass(frozen=True)
class NetworkChoice:
    """The chosen networks.

    Attributes:
        networks: timm's names; the features of several stand one after another.
        input_size: pixels of a side that they take pictures at; None for their native size.
        share: of the training pictures that are described, for lack of time.
        seconds: that describing all pictures takes, where it takes more than there is; else 0.
        considered: what was known of each network, the best first.
        cut: whether more time could lead to another choice.
        promise: about the accuracy of a head on their features by what is published, in points, for
            comparisons alone.
    """

    networks: tuple[str, ...]
    notes: tuple[str, ...]
    input_size: int | None = None
    share: float = 1.0
    seconds: float = 0.0
    considered: tuple[NetworkRecord, ...] = ()
    cut: bool = False
    promise: float = 0.0

    @property
    def options(self) -> frozenset[Option]:
        """The settings that decide how the pictures are described."""
        return frozenset(Option(name, self.input_size, self.share) for name in self.networks)

    @property
    def is_native(self) -> bool:
        """Whether all pictures are described in time, at the native size of the networks."""
        return self.input_size is None and self.share == 1 and not self.seconds

    @property
    def speeds(self) -> dict[str, float]:
        """Pictures a second of each chosen network, as far as they are known."""
        speeds = {one.name: one.images_per_second for one in self.considered}
        return {name: speed for name in self.networks if (speed := speeds.get(name)) is not None}


def choose_networks(
    settings: RunSettings,
    data: PictureData,
    seconds: float | None,
    *,
    anew: bool = False,
    described: Collection[Option] = (),
    at_once: bool = False,
) -> NetworkChoice:
    """Rank the networks that this machine can load, and choose one or several of them.

    Each that describes all pictures in time computes features of a sample of the training part; a
    fast head is cross-validated on them, and on the joined features of the best networks. The
    choice is the largest group that describes all pictures in time and is not worse than the best
    by more than a standard error. Where fewer than two networks are fast enough at their own size,
    it is what `best_option` returns, maybe for a share of the training pictures. Networks whose
    features are stored take no time.

    Args:
        settings: of a run, its model one of `EmbeddingSettings`.
        data: the pictures.
        seconds: for ranking and describing; None for no limit.
        anew: measure all again, for the machine is slower than it was.
        described: what the pictures are described by already.
        at_once: whether the best networks by which the pictures are described already, at their own
            size, are taken before others that promise more and would have to describe them. Where
            none has the time at its own size, the size and the share are of what is described.

    Raises:
        ConfigError: weights cannot be had.
    """
    deadline = None if seconds is None else time.perf_counter() + seconds
    train = data.split.train
    views = embedding_settings(settings).views(settings.data.mirror_ok)
    classes = len(data.pictures.class_names)
    counts = counts_by_share(views * len(train), len(data.split.val), classes)
    count = counts[1.0]
    networks = _networks_of(settings)
    sample = Sample(settings, data, _sampled(data))
    ranking = _ranking(settings, data, sample, count, deadline=deadline, anew=anew)

    def cost(one: RankedNetwork) -> float:
        return 0.0 if Option(one.name) in described else one.seconds(count)

    left = None if deadline is None else SURE * (deadline - time.perf_counter())
    fitting = [one for one in ranking.networks if left is None or cost(one) <= left]
    if not fitting:
        assert deadline is not None
        return _best_affordable(
            settings,
            sample,
            ranking,
            counts,
            deadline=deadline,
            described=described,
            at_once=at_once,
        )

    together = None if left is None else _TOGETHER_SHARE * left
    affordable, waits = _first_groups(ranking, fitting, cost, together), False
    best, accuracy = _largest_of_the_best(affordable)
    free = [one for one in fitting if not cost(one)]
    if at_once and free and any(map(cost, best)):
        first = _largest_of_the_best(_first_groups(ranking, free, cost, together))
        # A later result replaces this one if its expected accuracy is higher.
        if waits := _promise(first[0], networks) < _promise(best, networks):
            best, accuracy = first
    describing = sum(map(cost, best))
    notes = (
        f"on {len(sample.targets)} pictures: {'; '.join(map(str, ranking.networks))}",
        *ranking.slow_note(count),
        f"chosen: {_joined(best)} ({100 * accuracy:.1f} %); {_describing(count, describing)}",
        *_fetching_note(device_of(settings.trainer.accelerator).type, networks),
    )
    most = min(_MOST_TOGETHER, len(fitting))
    short = waits or len(affordable) < most or len(fitting) < len(networks)
    return NetworkChoice(
        tuple(one.name for one in best),
        notes,
        considered=ranking.records(_joined(best)),
        cut=seconds is not None and short,
        promise=_promise(best, networks),
    )


def _fetching_note(device: str, names: Collection[str]) -> tuple[str, ...]:
    """Return a note on larger networks if a device that is fast enough for them has none."""
    if device == "cpu" or not {*PACKAGED}.issuperset(names):
        return ()
    return ("larger networks: python -m src.weights fetch=suggested, before the next race",)


def _first_groups(
    ranking: _Ranking,
    networks: Sequence[RankedNetwork],
    cost: Callable[[RankedNetwork], float],
    seconds: float | None,
) -> list[_RankedGroup]:
    """Return the first network, the first two and so on, as far as they are described in time.

    Args:
        ranking: has the accuracy of several together.
        networks: to take the first few of, the best first.
        cost: returns the seconds of describing the pictures by a network.
        seconds: for describing them by several; None for no limit.
    """
    groups = (networks[:size] for size in range(1, min(_MOST_TOGETHER, len(networks)) + 1))
    return [
        (group, ranking.together.get(_joined(group), group[0].accuracy))
        for group in groups
        if len(group) == 1 or seconds is None or sum(map(cost, group)) <= seconds
    ]


def _promise(group: Sequence[RankedNetwork], networks: Mapping[str, _Network]) -> float:
    """Return about the points of accuracy of a group, for comparisons alone."""
    return max(networks[one.name].accuracy for one in group) + _WITH_ANOTHER * (len(group) - 1)


def _largest_of_the_best(
    groups: Sequence[_RankedGroup],
) -> _RankedGroup:
    """Return the largest of nested groups that is not worse than the best by a standard error.

    Several networks together are nearly always better than the best of them (clothing photos, five
    folds: lite2 88.1 %, with lite1 89.3 %, with lite0 as well 89.5 %), by less than so few pictures
    can show.

    Args:
        groups: the smallest first.
    """
    error = max(one.error for one in groups[0][0])
    enough = max(accuracy for _, accuracy in groups) - error
    return [pair for pair in groups if pair[1] >= enough][-1]


def keep_described(settings: RunSettings, data: PictureData, choice: NetworkChoice) -> None:
    """Record for later choices that a choice has described the pictures.

    The arguments are those of `choose_networks`, with the fit by which the pictures are described,
    and what it returned.
    """
    known = _identity(settings, data)
    options = sorted(choice.options | described_by(settings, data), key=str)
    found = {"options": [asdict(one) for one in options]}
    store_measurement("described", known, CachedMeasurement(found, False), settings.data.cache_dir)


def described_by(settings: RunSettings, data: PictureData) -> frozenset[Option]:
    """Return what `keep_described` has kept of these pictures."""
    kept = load_measurement("described", _identity(settings, data), settings.data.cache_dir)
    return (
        frozenset() if kept is None else frozenset(Option(**one) for one in kept.found["options"])
    )


def _sampled(data: PictureData) -> Int64Array:
    train = data.split.train
    found: Int64Array = train[permutation(len(train), data.seed, 0)[:_SAMPLE].numpy()]
    return found


def _identity(settings: RunSettings, data: PictureData) -> dict[str, Any]:
    """Return everything that a ranking depends on."""
    model, sampled = embedding_settings(settings), _sampled(data)
    form = replace(data.pictures.format, fit=settings.data.fit)
    return {
        "version": _VERSION,
        "networks": list(_networks_of(settings)),
        "weights": model.pretrained,
        "size": [model.input_size, settings.data.image_size, form.plain()],
        "pictures": hashlib.sha256(data.pictures.content_hashes[sampled].tobytes()).hexdigest(),
        "labels": data.pictures.targets[sampled].tolist(),
        # Pictures of a group share a fold; earlier versions only looked at contents.
        **({} if data.groups is None else {"groups": data.groups[sampled].tolist()}),
        "machine": machine(device_of(settings.trainer.accelerator)),
    }


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
class _Network:
    """A network that loads without a connection.

    Attributes:
        cost: of a picture, about in proportion to the time that it takes: parameters times pixels.
        accuracy: published, in percent.
    """

    cost: float
    accuracy: float = _UNKNOWN_ACCURACY


def _ranking(
    settings: RunSettings,
    data: PictureData,
    sample: Sample,
    count: int,
    *,
    deadline: float | None,
    anew: bool,
) -> _Ranking:
    """Rank on the sample, or load the ranking of the same networks on it, unless it is made `anew`.

    `count` pictures are described afterwards, until the deadline on `time.perf_counter`.
    """
    seconds = None if deadline is None else deadline - time.perf_counter()
    networks, known = _networks_of(settings), _identity(settings, data)
    kept = None if anew else load_measurement("networks", known, settings.data.cache_dir)
    if kept is not None and kept.is_enough_for(seconds):
        earlier = tuple(RankedNetwork(**plain) for plain in kept.found["networks"])
        return _Ranking(earlier, kept.found["together"], kept.found["slow"])
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
    groups = [ranked[:size] for size in range(2, min(_MOST_TOGETHER, len(ranked)) + 1)]
    together = {_joined(group): sample.accuracy([one.name for one in group]) for group in groups}
    found = {"networks": [asdict(one) for one in ranked], "together": together, "slow": slow}
    measurement = CachedMeasurement(found, False, None if len(ranked) == len(networks) else seconds)
    store_measurement("networks", known, measurement, settings.data.cache_dir)
    return _Ranking(tuple(ranked), together, slow)


def _place(network: RankedNetwork) -> Place:
    # A quick head has no probabilities, and so no log-loss.
    latency = 1000 / network.images_per_second
    return place(network.accuracy, maximize=True, log_loss=None, latency=latency, name=network.name)


def _within(
    networks: Mapping[str, _Network], sample: Sample, count: int, deadline: float
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


def _best_affordable(
    settings: RunSettings,
    sample: Sample,
    ranking: _Ranking,
    counts: Mapping[float, int],
    *,
    deadline: float,
    described: Collection[Option],
    at_once: bool,
) -> NetworkChoice:
    """Return the network, size and share of the pictures that `best_option` chooses."""
    model, networks = embedding_settings(settings), _networks_of(settings)
    given = model.input_size is not None or settings.data.image_size is not None
    speeds = {one.name: one.images_per_second for one in ranking.networks} | ranking.slow
    sides = {name: native_side(replace(model, networks=[name])) for name in speeds}
    estimates = {
        name: NetworkEstimate(networks[name].accuracy, None if given else sides[name], speed)
        for name, speed in speeds.items()
    }
    _log.info("timing pretrained networks on smaller or fewer pictures, to fit the budget")
    left = deadline - time.perf_counter()
    found = best_option(
        estimates,
        counts,
        left,
        lambda one: sample.speed(one.name, one.size),
        described=described,
        at_once=at_once,
    )
    name, size, share = found.option.name, found.option.size, found.option.share
    count = counts[share]
    took = count / found.speed
    at = "" if size is None else f" at {size} pixels (model.input_size={size})"
    of = "" if share == 1 else f" and 1/{round(1 / share)} of the training part (data.train_limit)"
    notes = (
        *ranking.slow_note(counts[1.0]),
        f"chosen for lack of time: {name}{at}{of}; {_describing(count, took)}",
    )
    considered = _measured_records(found, sides) + ranking.records(None)
    seconds = 0.0 if found.fits else took
    return NetworkChoice(
        (name,), notes, size, share, seconds, considered, found.better, found.promise
    )


def _measured_records(
    found: BestOption, sides: Mapping[str, int | None]
) -> tuple[NetworkRecord, ...]:
    """Return records of the measured options, the chosen one first, then by name and size."""
    speeds = {found.option.whole: found.speed, **found.measured}
    return tuple(
        NetworkRecord(
            one.name,
            one == found.option.whole,
            one.size or sides[one.name],
            images_per_second=speed if math.isfinite(speed) else None,
        )
        for one, speed in speeds.items()
    )


def _describing(count: int, seconds: float) -> str:
    if not seconds:
        return f"its features of the {count:,} pictures are stored already"
    return f"extracting its features of {count:,} pictures takes about {seconds:.0f} s"


def _joined(group: Sequence[RankedNetwork]) -> str:
    return " + ".join(one.name for one in group)


def _networks_of(settings: RunSettings) -> Mapping[str, _Network]:
    """Return the networks to choose from: those that the settings name, and those that load."""
    return _known(tuple(embedding_settings(settings).networks))


@cache  # listing the loadable networks takes a second
def _known(configured: tuple[str, ...]) -> Mapping[str, _Network]:
    """Return networks that load without a connection, the highest published accuracy first."""
    loaded = [one for one in loadable() if one.library == "timm"]
    found = {
        one.name: _Network(
            float(one.parameters * (one.input_size or _UNKNOWN_SIDE) ** 2),
            one.accuracy or _UNKNOWN_ACCURACY,
        )
        for one in sorted(loaded, key=lambda one: -(one.accuracy or _UNKNOWN_ACCURACY))
    }
    unknown = _Network(float(_UNKNOWN_PARAMETERS * _UNKNOWN_SIDE**2))
    names = list(dict.fromkeys([*configured, *found]))[:_MOST_NETWORKS]
    return {name: found.get(name, unknown) for name in names}
