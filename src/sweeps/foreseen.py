"""What families take, foreseen by the frozen networks that were measured before them."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from ..search.space import Family
from .tasks import Prepared

__all__ = ["TUNED_SIDE", "crafted_seconds", "pictures_within", "training_pictures", "tuned_epoch"]

# Pixels of a side at which a network is tuned where time is short.
TUNED_SIDE = 160
# Passes through a network that a step of training is worth.
_PASSES = 3
# A trial of hand-crafted features, from opening the pictures and describing them twice to the fit,
# against describing each once by EfficientNet-Lite0 at 224 pixels: on 3,068 clothing photos 0.024
# CPU seconds a picture, and 0.06. Other networks are told from their pixels alone.
_CRAFTED, _SIDE = 0.4, 224
_TRAINING = ("train", "dropped")
# Where all training pictures would take too long, the shares that may be described, of which so
# many are the fewest. Opening the pictures takes a part of a trial, whatever its share.
_SHARES, _FEWEST, _OPENING = (1, 0.5, 0.25, 0.125), 200, 0.25


def training_pictures(prepared: Collection[Prepared]) -> int:
    """Return about how many there are, with those that a family leaves out; 0 if unknown."""
    return max((sum(map(one.parts.get, _TRAINING, (0, 0))) for one in prepared), default=0)


def tuned_epoch(family: Family, prepared: Collection[Prepared], slots: int) -> float:
    """Return about what an epoch of a published network takes on small pictures, in seconds.

    By the fastest frozen network that was measured, which had the cores of all `slots`: forward and
    back through all layers is three times the work. 0 where nothing is known.
    """
    speed = _speed(prepared, TUNED_SIDE)
    if "recipe=finetune" not in family.overrides or not speed:
        return 0.0
    return _PASSES * training_pictures(prepared) * slots / speed


def crafted_seconds(family: Family, prepared: Collection[Prepared]) -> float:
    """Return about what a trial of hand-crafted features takes, in seconds; 0 if it is not known.

    By the fastest frozen network that was measured, which used all cores as this does.
    """
    speed = _speed(prepared, _SIDE)
    if "model=handcrafted" not in family.overrides or not speed:
        return 0.0
    return _CRAFTED * training_pictures(prepared) / speed


def pictures_within(most: float, count: int, needed: float, base: Sequence[str]) -> int | None:
    """Return how many training pictures can be described in a time; None where none can.

    Args:
        most: that time, in seconds.
        count: all training pictures.
        needed: seconds of a trial on all of them; 0 if it is not known.
        base: overrides that all trials share, which may state the number of pictures.
    """
    given = any(word.startswith("data.train_limit=") for word in base)
    for share in _SHARES[: 1 if given else None]:
        least = 0 if share == 1 else _FEWEST
        if 0 < needed * (_OPENING + (1 - _OPENING) * share) <= most:
            return round(share * count) if share * count >= least else None
    return None


def _speed(prepared: Collection[Prepared], side: int) -> float:
    """Return pictures a second of the fastest frozen network at a size; 0 where none is known."""
    speeds = [
        network["images_per_second"] * (network["side"] / side) ** 2
        for one in prepared
        for network in one.networks
        if network.get("images_per_second") and network.get("side")
    ]
    return max(speeds, default=0.0)
