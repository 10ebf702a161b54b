"""What a short budget leaves out, how much more would let it in, and how that is said."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence, Sized

from ..machine.cpu_load import slowdown
from ..machine.parallel import available_cores
from ..records.trials import COMPLETE, PRUNED, TrialRecord
from ..search.space import Family
from .clock import FINALS_SHARE, TRIALS_SHARE, Clock
from .forecast import crafted_seconds, least_crafted, training_pictures, tuned_epoch
from .prepare import ALLOWANCE, DESCRIBING, LITTLE
from .prepared import Prepared

__all__ = ["alone", "foretold", "late_families", "only_family", "second_family", "why_none"]

# CPU seconds of a trial of hand-crafted features, a training picture (see `forecast.py`), and on
# two idle cores seconds until workers have started, and of the first trial of frozen networks.
_CRAFTED, _START, _FIRST_TRIAL = 0.024, 10.0, 10.0
# So many times as long may take what was not tried yet, and other work may come.
_ROUGHLY = 1.5


def foretold(pictures: int, minutes: float, finals: bool, base: Sequence[str]) -> str:
    """Return that photos get frozen networks alone in these minutes; "" where they get more.

    Told by what photos cost elsewhere and by the load of this moment, before anything is measured.

    Args:
        pictures: of the training part.
        finals: whether finalists have a share of the minutes.
        base: overrides that all trials share.
    """
    slower = slowdown()
    seconds = _CRAFTED * pictures * slower / available_cores()
    needed = _ROUGHLY * least_crafted(pictures, seconds, base) / LITTLE
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
    known = {name: one for name, one in prepared.items() if one.affordable or one.limit is None}
    return {name: family for name, family in families.items() if name not in known}


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
            needed = least_crafted(training_pictures(fitting), crafted, base) / LITTLE
        elif known is not None and known.seconds_per_epoch:
            epochs = 1 if known.published else min(3, known.epochs)
            needed = epochs * known.seconds_per_epoch * known.trainings / ALLOWANCE
        else:
            needed = tuned_epoch(family, fitting, slots) / ALLOWANCE
        more = max(0.0, _ROUGHLY * needed - left) / keeps
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
    if prepared and all(one.limit is None for one in prepared.values()):  # none for its time
        return (
            f"none of the families can be trained on this machine ({reasons}): choose a smaller "
            "data.image_size, or name smaller families"
        )
    because = f" ({reasons})" if reasons else ""
    return (
        f"budget.minutes={minutes or 0:g} is too short for any of {', '.join(names)}{because}: "
        "give it more, or name faster families"
    )
