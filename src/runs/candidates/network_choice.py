"""The choice of frozen networks, ranked on a sample before all pictures are described."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace

from ...config.schema import RunSettings
from ...data.loading.picture_data import PictureData
from ...machine.hardware import device_of
from ...models.weights import PACKAGED
from ...records.trials import NetworkRecord
from ...storage.cache import CachedMeasurement, load_measurement, store_measurement
from ..build import native_side
from .affordable import (
    SURE,
    BestOption,
    NetworkEstimate,
    Option,
    best_option,
    counts_by_share,
    lost_with_pictures,
)
from .ranking import (
    MOST_TOGETHER,
    LoadableNetwork,
    Ranking,
    joined_name,
    networks_of,
    rank_networks,
    ranking_identity,
    sampled_pictures,
)
from .sample import RankedNetwork, Sample, embedding_settings

__all__ = ["NetworkChoice", "choose_networks", "described_by", "keep_described"]

_log = logging.getLogger(__name__)

# Fraction of the time for describing by several networks, each of which adds less than the one
# before it.
_TOGETHER_SHARE = 0.67
# Points of accuracy that a further network adds at least (see `choose_networks`).
_WITH_ANOTHER = 0.2

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

    def reduced(self, share: float) -> NetworkChoice:
        """Return the choice with so much of its training pictures described, for lack of time."""
        if share == 1:
            return self
        promise = self.promise - lost_with_pictures(share)
        return replace(self, share=share * self.share, cut=True, promise=promise)

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
    views = embedding_settings(settings).views(settings.data.mirror_ok)
    classes = len(data.pictures.class_names)
    counts = counts_by_share(views * len(data.split.train), len(data.split.val), classes)
    if settings.cv.folds is not None:  # which describes every picture, as each is held out once
        counts = {1.0: counts[1.0]}
    count = counts[1.0]
    sample = Sample(settings, data, sampled_pictures(data))
    ranking = rank_networks(settings, data, sample, count, deadline=deadline, anew=anew)
    costs = {
        one.name: 0.0 if Option(one.name) in described else one.seconds(count)
        for one in ranking.networks
    }
    left = None if deadline is None else SURE * (deadline - time.perf_counter())
    fitting = [one for one in ranking.networks if left is None or costs[one.name] <= left]
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
    networks, slow = networks_of(settings), ranking.slow_seconds(count)
    (best, accuracy), cut = _best_group(ranking, fitting, networks, costs, left, at_once=at_once)
    notes = (
        f"on {len(sample.targets)} pictures: {'; '.join(map(str, ranking.networks))}",
        *([f"not ranked, for lack of time: {slow}"] if slow else ()),
        f"chosen: {joined_name(best)} ({100 * accuracy:.1f} %); "
        f"{_describing(count, _seconds(best, costs))}",
        *_fetching_note(device_of(settings.trainer.accelerator).type, networks),
    )
    return NetworkChoice(
        tuple(one.name for one in best),
        notes,
        considered=ranking.records(joined_name(best)),
        cut=cut and seconds is not None,
        promise=_promise(best, networks),
    )


def _best_group(
    ranking: Ranking,
    fitting: Sequence[RankedNetwork],
    networks: Mapping[str, LoadableNetwork],
    costs: Mapping[str, float],
    seconds: float | None,
    *,
    at_once: bool,
) -> tuple[_RankedGroup, bool]:
    """Return the group of networks that is chosen, and whether more time may lead to another.

    Args:
        ranking: has the accuracy of several together.
        fitting: those that describe all pictures in time, the best first.
        networks: all that can be loaded.
        costs: seconds of describing the pictures, by network; 0 where they are described.
        seconds: for describing; None for no limit.
        at_once: as of `choose_networks`.
    """
    together = None if seconds is None else _TOGETHER_SHARE * seconds
    groups = _first_groups(ranking, fitting, costs, together)
    best = _largest_of_the_best(groups)
    free = [one for one in fitting if not costs[one.name]]
    if at_once and free and _seconds(best[0], costs):
        first = _largest_of_the_best(_first_groups(ranking, free, costs, together))
        # A later result replaces this one if its expected accuracy is higher.
        if _promise(first[0], networks) < _promise(best[0], networks):
            return first, True
    all_groups = min(MOST_TOGETHER, len(fitting))
    return best, len(groups) < all_groups or len(fitting) < len(networks)


def _seconds(group: Iterable[RankedNetwork], costs: Mapping[str, float]) -> float:
    return sum(costs[one.name] for one in group)


def _fetching_note(device: str, names: Collection[str]) -> tuple[str, ...]:
    """Return a note on larger networks if a device that is fast enough for them has none."""
    if device == "cpu" or not {*PACKAGED}.issuperset(names):
        return ()
    return ("larger networks: python -m src.weights fetch=suggested, before the next race",)


def _first_groups(
    ranking: Ranking,
    networks: Sequence[RankedNetwork],
    costs: Mapping[str, float],
    seconds: float | None,
) -> list[_RankedGroup]:
    """Return the first network, the first two and so on, as far as they are described in time.

    Args:
        ranking: has the accuracy of several together.
        networks: to take the first few of, the best first.
        costs: seconds of describing the pictures, by network.
        seconds: for describing them by several; None for no limit.
    """
    groups = (networks[:size] for size in range(1, min(MOST_TOGETHER, len(networks)) + 1))
    return [
        (group, ranking.together.get(joined_name(group), group[0].accuracy))
        for group in groups
        if len(group) == 1 or seconds is None or _seconds(group, costs) <= seconds
    ]


def _promise(group: Sequence[RankedNetwork], networks: Mapping[str, LoadableNetwork]) -> float:
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


def _best_affordable(
    settings: RunSettings,
    sample: Sample,
    ranking: Ranking,
    counts: Mapping[float, int],
    *,
    deadline: float,
    described: Collection[Option],
    at_once: bool,
) -> NetworkChoice:
    """Return the network, size and share of the pictures that `best_option` chooses."""
    model, networks = embedding_settings(settings), networks_of(settings)
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
    slow = ranking.slow_seconds(counts[1.0])
    notes = (
        *([f"no time to compare networks at their own size: {slow}"] if slow else ()),
        f"chosen by published accuracy and speed: {name}{at}{of}; {_describing(count, took)}",
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


def keep_described(settings: RunSettings, data: PictureData, choice: NetworkChoice) -> None:
    """Record for later choices that a choice has described the pictures.

    The arguments are those of `choose_networks`, with the fit by which the pictures are described,
    and what it returned.
    """
    known = ranking_identity(settings, data)
    options = sorted(choice.options | described_by(settings, data), key=str)
    found = {"options": [asdict(one) for one in options]}
    store_measurement("described", known, CachedMeasurement(found, False), settings.data.cache_dir)


def described_by(settings: RunSettings, data: PictureData) -> frozenset[Option]:
    """Return what `keep_described` has kept of these pictures."""
    kept = load_measurement("described", ranking_identity(settings, data), settings.data.cache_dir)
    return (
        frozenset() if kept is None else frozenset(Option(**one) for one in kept.found["options"])
    )
