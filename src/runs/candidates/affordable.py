"""Options of describing pictures that fit into a time limit, by measured speeds.

An option is a frozen network, the size of its pictures, and a share of the training part.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace

__all__ = [
    "SURE",
    "BestOption",
    "NetworkEstimate",
    "Option",
    "best_option",
    "counts_by_share",
    "lost_with_pictures",
]

# Fraction of the time left that describing may take by its measured speed, as load changes.
SURE = 0.9
# Fraction of the time for measuring speeds.
_SHARE = 0.25
# A speed below this fraction of the expected one is measured again, in case other programs ran.
_DOUBTFUL = 0.7
# Step between the sizes of pictures below the one that a network was trained for.
_STEP, _SMALLEST = 32, 64
# Points of accuracy that a network loses with each halving of the side of its pictures
# (EfficientNet-Lite0 and 2 on clothing photos under a logistic regression: 6 to 10).
_LOST = 8.0
# And with each halving of the training pictures (there, Lite0 at 224 and 128: 0 to 5, 2.6 on
# average), of which so many are described at least.
_LOST_WITH_PICTURES = 3.0
_FEWEST, _FEWEST_OF_A_CLASS = 200, 10


@dataclass(frozen=True)
class NetworkEstimate:
    """What is known of a published network before it is measured.

    Attributes:
        accuracy: published, in percent.
        side: pixels of a side that it was trained for; None where it takes pictures at one size
            only.
        speed: pictures a second that it is expected to describe at that size.
    """

    accuracy: float
    side: int | None
    speed: float


@dataclass(frozen=True)
class Option:
    """A network with the pixels of a side of its pictures; None for its native size.

    Attributes:
        share: of the training pictures that are described, in (0, 1].
    """

    name: str
    size: int | None = None
    share: float = 1.0

    @property
    def whole(self) -> Option:
        """The same option with all training pictures, whose speed is the same."""
        return replace(self, share=1.0)


@dataclass(frozen=True)
class BestOption:
    """The best option within a time limit, with the speeds that were measured.

    Attributes:
        speed: pictures a second; infinite where the pictures are described already.
        promise: about the accuracy of a head on its features, in points, for comparisons alone.
        fits: whether it ends in time; False of the fastest option, where none does.
        better: whether there is a better option, for which time is short.
        measured: pictures a second of each option that was measured, with all training pictures.
    """

    option: Option
    speed: float
    promise: float
    fits: bool
    better: bool
    measured: Mapping[Option, float]


def counts_by_share(train: int, others: int, classes: int) -> dict[float, int]:
    """Return the number of described pictures by share of the training part: 1, 1/2, 1/4, ...

    Args:
        train, others: pictures of the training part with their mirror images, and of all else.
        classes: a training part of few pictures of each is left whole.
    """
    counts, share = {1.0: train + others}, 0.5
    while share * train >= max(_FEWEST, _FEWEST_OF_A_CLASS * classes):
        counts[share] = math.ceil(share * train) + others
        share /= 2
    return counts


def best_option(
    estimates: Mapping[str, NetworkEstimate],
    counts: Mapping[float, int],
    seconds: float,
    measure: Callable[[Option], float],
    *,
    described: Collection[Option] = (),
    at_once: bool = False,
) -> BestOption:
    """Return the option with the highest expected accuracy that fits into the time.

    The expected accuracy is the published one of the network, less a loss for smaller and fewer
    pictures. The best option that should fit by the known speeds is measured, until the best one
    has been measured.

    Args:
        estimates: by name of the network, at least one.
        counts: pictures to be described, by the share of the training part; 1.0 is among them.
        seconds: for measuring and describing.
        measure: returns the pictures a second of an option with all training pictures.
        described: options of which the pictures are described already.
        at_once: whether the most promising of those is taken where there is one.
    """
    began = time.perf_counter()
    speeds = _Speeds(estimates, described)
    options = [
        Option(name, size, share)
        for name, estimate in estimates.items()
        for size in _sizes(estimate)
        for share in counts
    ]
    options.sort(key=lambda one: -_promise(one, estimates[one.name]))

    def seconds_of(option: Option) -> float:
        return counts[option.share] / speeds.of(option)

    def result(option: Option, fits: bool) -> BestOption:
        promise = _promise(option, estimates[option.name])
        better = option != options[0]
        return BestOption(option, speeds.of(option), promise, fits, better, speeds.measured)

    if at_once and (ready := [one for one in options if one in described]):
        return result(ready[0], True)
    while True:
        spent = time.perf_counter() - began
        left = SURE * (seconds - spent)
        fitting = [one for one in options if seconds_of(one) <= left]
        if not fitting:
            fastest = min(options, key=seconds_of)
            if fastest.whole in speeds.measured:
                return result(fastest, False)
            speeds.take(fastest.whole, measure)
            continue
        if fitting[0].whole in speeds.measured or fitting[0] in described:
            return result(fitting[0], True)
        names = {one.name for one in speeds.measured}
        known = [one for one in fitting if one in described or one.name in names]
        if known and spent > _SHARE * seconds:
            return result(known[0], True)
        speeds.take(fitting[0].whole, measure)


@dataclass
class _Speeds:
    """Pictures a second of options, as far as they are known.

    Attributes:
        estimates: by name of the network.
        described: options of which the pictures are described already.
        measured: of options with all training pictures.
    """

    estimates: Mapping[str, NetworkEstimate]
    described: Collection[Option]
    measured: dict[Option, float] = field(default_factory=dict)

    def take(self, option: Option, measure: Callable[[Option], float]) -> None:
        """Measure the speed of an option with all training pictures."""
        expected = self._scaled(option, self.measured)
        found = measure(option)
        if found < _DOUBTFUL * expected:
            found = max(found, measure(option))
        self.measured[option] = found

    def of(self, option: Option) -> float:
        """Return the measured or expected speed; infinite where the pictures are described already.

        If other networks were faster than expected, so is one that was not measured: measuring it
        costs little.
        """
        if option in self.described:
            return math.inf
        expected = self._scaled(option, self.measured)
        if any(one.name == option.name for one in self.measured):
            return expected
        faster = [speed / self._scaled(one, {}) for one, speed in self.measured.items()]
        return expected * max([1.0, *faster])

    def _scaled(self, option: Option, measured: Mapping[Option, float]) -> float:
        """Return a speed scaled from the nearest size at which the network was measured.

        Without a measurement, it is scaled from the expected speed at the size of its training. A
        picture costs about in proportion to its pixels, less for larger ones, since it is decoded
        as well.
        """
        own = {one: speed for one, speed in measured.items() if one.name == option.name}
        own = own or {Option(option.name): self.estimates[option.name].speed}
        nearest = min(own, key=lambda one: abs(math.log(self._pixels(one, option))))
        return own[nearest] * self._pixels(nearest, option)

    def _pixels(self, option: Option, of: Option) -> float:
        """Return the pixels of a picture of an option, in units of those of another one."""
        native = self.estimates[option.name].side or 1
        other = self.estimates[of.name].side or 1
        return ((option.size or native) / (of.size or other)) ** 2


def _sizes(estimate: NetworkEstimate) -> list[int | None]:
    smaller = [] if estimate.side is None else range(_SMALLEST, estimate.side, _STEP)
    return [*smaller, None]


def lost_with_pictures(share: float) -> float:
    """Return about how many points of accuracy a share of the training pictures loses."""
    return -_LOST_WITH_PICTURES * math.log2(share)


def _promise(option: Option, estimate: NetworkEstimate) -> float:
    found = estimate.accuracy - lost_with_pictures(option.share)
    if option.size is None or estimate.side is None:
        return found
    return found - _LOST * math.log2(estimate.side / option.size)
