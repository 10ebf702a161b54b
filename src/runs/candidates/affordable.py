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

    while True:
        spent = time.perf_counter() - began
        left = SURE * (seconds - spent)
        fitting = [one for one in options if count / speed(one) <= left]
        known = [one for one in fitting if one in measured or one in described]
        if not fitting:
            fastest = max(options, key=speed)
            if fastest in measured:
                return Bought(fastest, speed(fastest), False, True, measured)
            measured[fastest] = measure(fastest)
            continue
        if known and (known[0] == fitting[0] or spent > _SHARE * seconds):
            return Bought(known[0], speed(known[0]), True, known[0] != options[0], measured)
        measured[fitting[0]] = measure(fitting[0])


def _sizes(offer: Offer) -> list[int | None]:
    smaller = [] if offer.side is None else range(_SMALLEST, offer.side, _STEP)
    return [*smaller, None]


def _promise(option: Option, offer: Offer) -> float:
    if option.size is None or offer.side is None:
        return offer.accuracy
    return offer.accuracy - _LOST * math.log2(offer.side / option.size)


def _speed(option: Option, offers: Mapping[str, Offer], measured: Mapping[Option, float]) -> float:
    """Return pictures a second, measured or expected.

    By the nearest size at which the network was measured: a picture costs about in proportion to
    its pixels, less for larger ones, since it is decoded as well. A network that was not measured
    is expected to be faster than before where others were: to find out costs little.
    """
    own = {one: speed for one, speed in measured.items() if one.name == option.name}
    if own:
        nearest = min(own, key=lambda one: abs(math.log(_pixels(one, offers, option))))
        return own[nearest] * _pixels(nearest, offers, option)
    faster = [
        speed / (offers[one.name].speed * _pixels(Option(one.name), offers, one))
        for one, speed in measured.items()
    ]
    expected = offers[option.name].speed * _pixels(Option(option.name), offers, option)
    return expected * max([1.0, *faster])


def _pixels(option: Option, offers: Mapping[str, Offer], of: Option) -> float:
    """Return the pixels of a picture of an option, in units of those of another one."""
    native = offers[option.name].side or 1
    other = offers[of.name].side or 1
    return ((option.size or native) / (of.size or other)) ** 2
