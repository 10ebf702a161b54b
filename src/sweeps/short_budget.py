"""Estimates of what families take before they are measured, and what a short budget leaves out.

They go by the speed of frozen networks that were measured before. How much more time would let a
family in, and the sentences on it, stand here as well.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping, Sequence, Sized

from ..machine.cpu_load import slowdown
from ..machine.parallel import available_cores
from ..records.trials import COMPLETE, PRUNED, TrialRecord
from ..search.space import Family
from .clock import ALLOWANCE, DESCRIBING, FINALS_SHARE, LITTLE, TRIALS_SHARE, Clock
from .families import is_of
from .forecast import ROUGHLY
from .prepared import Prepared

__all__ = [
    "TUNED_SIDE",
    "alone",
    "crafted_seconds",
    "foretold",
    "late_families",
    "only_family",
    "partly",
    "pictures_within",
    "second_family",
    "training_pictures",
    "tuned_epoch",
    "why_none",
]

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
_SHARES, _FEWEST, _OPENING = (0.5, 0.25, 0.125), 200, 0.25
# CPU seconds of a trial of hand-crafted features, a training picture, and on two idle cores seconds
# until workers have started, and of the first trial of frozen networks.
_CRAFTED_PICTURE, _START, _FIRST_TRIAL = 0.024, 10.0, 10.0


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
    if not is_of(family, "handcrafted") or not speed:
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
    fitting = (few for few, takes in _options(count, needed, base) if 0 < takes <= most)
    return next(fitting, None)


def _options(count: int, needed: float, base: Sequence[str]) -> list[tuple[int, float]]:
    """Return how many training pictures may be described, all first, and what each way takes."""
    given = any(word.startswith("data.train_limit=") for word in base)
    few = [share for share in _SHARES if share * count >= _FEWEST and not given]
    return [(round(share * count), partly(needed, share)) for share in (1.0, *few)]


def partly(needed: float, share: float) -> float:
    """Return about what a trial takes on a share of the pictures, where `needed` is for all."""
    return needed * (_OPENING + (1 - _OPENING) * share)


def _speed(prepared: Collection[Prepared], side: int) -> float:
    """Return pictures a second of the fastest frozen network at a size; 0 where none is known."""
    speeds = [
        network["images_per_second"] * (network["side"] / side) ** 2
        for one in prepared
        for network in one.networks
        if network.get("images_per_second") and network.get("side")
    ]
    return max(speeds, default=0.0)


def foretold(pictures: int, minutes: float, finals: bool, base: Sequence[str]) -> str:
    """Return that photos get frozen networks alone in these minutes; "" where they get more.

    Told by what photos cost elsewhere and by the load of this moment, before anything is measured.

    Args:
        pictures: of the training part.
        finals: whether finalists have a share of the minutes.
        base: overrides that all trials share.
    """
    slower = slowdown()
    seconds = _CRAFTED_PICTURE * pictures * slower / available_cores()
    needed = ROUGHLY * _options(pictures, seconds, base)[-1][1] / LITTLE
    race, keeps = 60 * minutes * (1 - FINALS_SHARE * finals), 1 - DESCRIBING
    left = keeps * (race - slower * _START) - slower * _FIRST_TRIAL
    if needed <= left:
        return ""
    enough = math.ceil(minutes * (1 + (needed - left) / keeps / race))
    return (
        f"{minutes:g} minutes may be enough for one family only; by the load of this moment, some "
        f"{enough} let hand-crafted features in as well"
    )


def late_families(
    families: Mapping[str, Family], prepared: Mapping[str, Prepared]
) -> dict[str, Family]:
    """Return those that were left out for want of time, not of memory."""
    return {n: family for n, family in families.items() if n not in prepared or prepared[n].is_late}


def second_family(
    late: Mapping[str, Family],
    prepared: Mapping[str, Prepared],
    clock: Clock,
    slots: int,
    base: Sequence[str],
) -> tuple[str, int] | None:
    """Return which of `late_families` a longer budget lets in first, and its minutes.

    None if that is not known. What describes pictures as well as the budget allows takes the same
    share of a longer one.
    """
    if clock.budget is None or clock.race is None:
        return None
    fitting = [one for one in prepared.values() if one.affordable]
    cut = any(one.limit is not None for one in fitting)
    keeps, left = 1 - DESCRIBING * cut, clock.race - clock.spent
    found = []
    for name, family in late.items():
        known = prepared.get(name)
        crafted = crafted_seconds(family, fitting)
        if crafted:
            needed = _options(training_pictures(fitting), crafted, base)[-1][1] / LITTLE
        elif known is not None and known.seconds_per_epoch:
            epochs = 1 if known.published else min(3, known.epochs)
            needed = epochs * known.seconds_per_epoch * known.trainings / ALLOWANCE
        else:
            needed = tuned_epoch(family, fitting, slots) / ALLOWANCE
        more = max(0.0, ROUGHLY * needed - left) / keeps
        if not crafted:  # nothing else is measured once trials wait
            if not needed or keeps <= TRIALS_SHARE:
                continue
            more = max(more, (TRIALS_SHARE * clock.race - left) / (keeps - TRIALS_SHARE))
        found.append((clock.budget * (1 + more / clock.race), name))
    if not found:
        return None
    seconds, name = min(found)
    return name, max(math.ceil(seconds / 60), math.floor(clock.budget / 60) + 1)


def alone(name: str, minutes: float, second: tuple[str, int] | None) -> str:
    """Return that a family is the only one in these minutes, and how many let the next one in."""
    more = (
        "more let others in" if second is None else f"some {second[1]} let {second[0]} in as well"
    )
    return f"in {minutes:g} minutes only {name} can be tried here; {more}"


def only_family(
    trials: Iterable[TrialRecord],
    families: Sized,
    second: tuple[str, int] | None,
    again: str | None,
) -> tuple[str, str]:
    """Return that one of several families alone was tried, and what lets a second one in.

    Two empty texts where there were several, or it is not known.

    Args:
        second: as `second_family` returned it.
        again: the command that goes on with the study.
    """
    tried = {trial.family for trial in trials if trial.state in (COMPLETE, PRUNED)}
    if len(tried) != 1 or len(families) == 1 or second is None or again is None:
        return "", ""
    (only,), (name, minutes) = tried, second
    sentence = f"only {only} was tried; some {minutes} minutes in all let {name} in as well"
    return sentence, f"{again} budget.minutes={minutes}"


def why_none(prepared: Mapping[str, Prepared], names: Iterable[str], minutes: float | None) -> str:
    """Return why no family of these names can be trained, by what was found, and the remedy."""
    reasons = "; ".join(f"{n}: {note}" for n, one in prepared.items() for note in one.notes[-1:])
    if prepared and not any(one.is_late for one in prepared.values()):
        return (
            f"none of the families can be trained on this machine ({reasons}): choose a smaller "
            "data.image_size, or name smaller families"
        )
    because = f" ({reasons})" if reasons else ""
    return (
        f"budget.minutes={minutes or 0:g} is too short for any of {', '.join(names)}{because}: "
        "give it more, or name faster families"
    )
