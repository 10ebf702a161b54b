"""The frozen network and the size of its pictures that a limited time buys, by measured speeds."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field

__all__ = ["SURE", "Bought", "Offer", "Option", "best_buy"]

# Of the time that is left, what describing may take as it was measured: other work comes and goes.
SURE = 0.9
# Of the time, for measuring speeds.
_SHARE = 0.25
# A speed below such a share of what it was expected to be is measured once more: a moment in which
# other programs ran must not decide.
_DOUBTFUL = 0.7
# Smaller pictures than those a network was trained for, in such steps.
_STEP, _SMALLEST = 32, 64
# Points of accuracy that a network loses with each halving of the side of its pictures
# (EfficientNet-Lite0 and 2 on clothing photos under a logistic regression: 6 to 10).
_LOST = 8.0


@dataclass(frozen=True)
class Offer:
    """A published network.

    Attributes:
        accuracy: published, in percent.
        side: pixels of a side that it was trained for; None where it takes pictures at one size
            only.
        speed: pictures a second that it is expected to describe at that size, before it is
            measured.
    """

    accuracy: float
    side: int | None
    speed: float


@dataclass(frozen=True)
class Option:
    """A network with the pixels of a side of its pictures; None for its native size."""

    name: str
    size: int | None = None


@dataclass(frozen=True)
class Bought:
    """What a time buys.

    Attributes:
        speed: pictures a second; infinite where the pictures are described already.
        fits: whether it ends in time; False of the fastest option, where none does.
        better: whether there is a better option, for which time is short.
        measured: pictures a second of each option that was measured.
    """

    option: Option
    speed: float
    fits: bool
    better: bool
    measured: Mapping[Option, float] = field(default_factory=dict)


def best_buy(
    offers: Mapping[str, Offer],
    count: int,
    seconds: float,
    measure: Callable[[Option], float],
    described: Collection[Option] = (),
) -> Bought:
    """Return the most promising network and size that describe so many pictures in time.

    An option promises the published accuracy of its network, less what smaller pictures cost. The
    most promising one that should end in time, by what is known of the speeds, is measured, until
    one that was measured is the most promising.

    Args:
        offers: by name of the network, at least one.
        count: pictures to be described.
        seconds: for measuring and describing.
        measure: returns the pictures a second of an option.
        described: options of which the pictures are described already.
    """
    began = time.perf_counter()
    measured: dict[Option, float] = {}
    options = [Option(name, size) for name, offer in offers.items() for size in _sizes(offer)]
    options.sort(key=lambda one: -_promise(one, offers[one.name]))

    def speed(option: Option) -> float:
        if option in described:
            return math.inf
        return _speed(option, offers, measured)

    def look(option: Option) -> None:
        expected = _own_speed(option, offers, measured)
        found = measure(option)
        if found < _DOUBTFUL * expected:
            found = max(found, measure(option))
        measured[option] = found

    def bought(option: Option, fits: bool) -> Bought:
        return Bought(option, speed(option), fits, option != options[0], measured)

    while True:
        spent = time.perf_counter() - began
        left = SURE * (seconds - spent)
        fitting = [one for one in options if count / speed(one) <= left]
        if not fitting:
            fastest = max(options, key=speed)
            if fastest in measured:
                return bought(fastest, False)
            look(fastest)
            continue
        if fitting[0] in measured or fitting[0] in described:
            return bought(fitting[0], True)
        names = {one.name for one in measured}
        known = [one for one in fitting if one in described or one.name in names]
        if known and spent > _SHARE * seconds:
            return bought(known[0], True)
        look(fitting[0])


def _sizes(offer: Offer) -> list[int | None]:
    smaller = [] if offer.side is None else range(_SMALLEST, offer.side, _STEP)
    return [*smaller, None]


def _promise(option: Option, offer: Offer) -> float:
    if option.size is None or offer.side is None:
        return offer.accuracy
    return offer.accuracy - _LOST * math.log2(offer.side / option.size)


def _speed(option: Option, offers: Mapping[str, Offer], measured: Mapping[Option, float]) -> float:
    """Return pictures a second, measured or expected.

    A network that was not measured is expected to be faster than before where others were: to find
    out costs little.
    """
    expected = _own_speed(option, offers, measured)
    if any(one.name == option.name for one in measured):
        return expected
    faster = [speed / _own_speed(one, offers, {}) for one, speed in measured.items()]
    return expected * max([1.0, *faster])


def _own_speed(
    option: Option, offers: Mapping[str, Offer], measured: Mapping[Option, float]
) -> float:
    """Return pictures a second by the nearest size at which the network was measured.

    Without one, by what was expected at the size that it was trained for. A picture costs about in
    proportion to its pixels, less for larger ones, since it is decoded as well.
    """
    own = {one: speed for one, speed in measured.items() if one.name == option.name}
    own = own or {Option(option.name): offers[option.name].speed}
    nearest = min(own, key=lambda one: abs(math.log(_pixels(one, offers, option))))
    return own[nearest] * _pixels(nearest, offers, option)


def _pixels(option: Option, offers: Mapping[str, Offer], of: Option) -> float:
    """Return the pixels of a picture of an option, in units of those of another one."""
    native = offers[option.name].side or 1
    other = offers[of.name].side or 1
    return ((option.size or native) / (of.size or other)) ** 2
