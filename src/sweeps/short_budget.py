"""Estimate the time of families before they are measured, and report what a budget leaves out.

The estimates use the speed of frozen networks that were measured before. A report names the budget
at which a further family would be tried.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping, Sequence, Sized

from ..machine.cpu_load import slowdown
from ..machine.parallel import available_cores
from ..machine.text import counted
from ..records.trials import COMPLETE, PRUNED, TrialRecord
from ..search.space import Family
from .clock import (
    CHEAP_TRIAL_FRACTION,
    DESCRIBING_FRACTION,
    FINALS_FRACTION,
    FIRST_TRIAL_FRACTION,
    TRIALS_FRACTION,
    Clock,
)
from .families import is_finetuned, is_from_scratch, is_of
from .forecast import SAFETY_FACTOR
from .prepared import Prepared

__all__ = [
    "REFERENCE_SIDE",
    "TUNED_SIDE",
    "affordable_pictures",
    "cheaper_networks",
    "count_training_pictures",
    "describe_single_family",
    "estimate_finetuning_epoch",
    "estimate_handcrafted_trial",
    "explain_no_family",
    "families_without_time",
    "first_enough",
    "least_epochs",
    "network_to_tune",
    "next_affordable_family",
    "report_rough_result",
    "report_single_family",
    "seconds_on_fraction",
    "warn_single_family",
]

# Side of the pictures, in pixels, at which a network is fine-tuned where time is short.
TUNED_SIDE = 160
# Fewest epochs by which a network is judged: from scratch; with published weights, which are good
# early; and with them beside frozen networks, which are no worse than what one epoch makes of them
# (accuracies of five folds after one epoch, two, and of three frozen networks: clothing photos
# 89.4, 91.3, 91.0 %, magnetic tiles 76.7, 82.9, 86.4 %, 2,000 photos of CIFAR-10 81.5, 84.3,
# 81.0 %), so that a single epoch would win by chance on a small validation part.
_FROM_SCRATCH_EPOCHS, _PUBLISHED_EPOCHS, _BESIDE_FROZEN_EPOCHS = 3, 1, 2
# Epochs at that side which make a better network worth its time, the most wanted first.
_EPOCHS_TO_TUNE = 4, 2
# Standard errors by which a frozen network is worse than the best for sure.
_CLEARLY_WORSE = 2.0
# A training step costs as much as so many forward passes: forward, and twice that backward.
_STEP_PASSES = 3
# Cost of a trial of hand-crafted features (opening the pictures, describing them, the fit) relative
# to one forward pass of EfficientNet-Lite0 at 224 pixels: 0.016 and 0.06 CPU seconds a picture on
# 3,068 clothing photos. The cost of other networks is scaled by their number of pixels.
_HANDCRAFTED_COST, REFERENCE_SIDE = 0.27, 224
# The override of fewer training pictures.
_LIMIT = "data.train_limit="
# Fractions of the training pictures that may be used where all would take too long, the smallest
# number of pictures, and the fraction of a trial that opening takes, however few are described.
_FRACTIONS, _MIN_PICTURES, _OPENING_FRACTION = (0.5, 0.25, 0.125), 200, 0.25
# CPU seconds of a trial of hand-crafted features for each training picture, and seconds on two idle
# cores until workers have started, and of the first trial of frozen networks.
_HANDCRAFTED_PICTURE_SECONDS, _START_SECONDS, _FIRST_TRIAL_SECONDS = 0.016, 10.0, 10.0


def count_training_pictures(prepared: Collection[Prepared]) -> int:
    """Return the approximate number of training pictures; 0 if unknown.

    Those count that a family leaves out for lack of time, and not those that the sweep does.
    """
    return max(map(_training_pictures, prepared), default=0)


def _training_pictures(one: Prepared) -> int:
    reduced = any(override.startswith(_LIMIT) for override in one.overrides)
    return one.parts.get("train", 0) + reduced * one.parts.get("dropped", 0)


def estimate_finetuning_epoch(
    family: Family,
    prepared: Collection[Prepared],
    slots: int,
    side: int | None = TUNED_SIDE,
    network: str | None = None,
) -> float:
    """Estimate the seconds of an epoch of fine-tuning a published network on pictures of a side.

    None is the side at which the network describes pictures.

    The estimate is three forward passes of a frozen network that was measured, `network` or else
    the fastest one. 0 if no speed is known or the family is another.

    Args:
        slots: number of trainings that share what that network had for itself, all cores or a GPU.
    """
    speeds = _images_per_second(prepared, side)
    speed = speeds.get(network or "", max(speeds.values(), default=0.0))
    if not is_finetuned(family) or not speed:
        return 0.0
    return _STEP_PASSES * count_training_pictures(prepared) * slots / speed


def least_epochs(family: Family, prepared: Collection[Prepared]) -> int:
    """Return the fewest epochs by which a network is judged beside the families in `prepared`."""
    if is_from_scratch(family):
        return _FROM_SCRATCH_EPOCHS
    beside_frozen = any(one.affordable and one.networks for one in prepared)
    return _BESIDE_FROZEN_EPOCHS if beside_frozen else _PUBLISHED_EPOCHS


def network_to_tune(
    family: Family, prepared: Collection[Prepared], slots: int, seconds: float
) -> tuple[str | None, bool]:
    """Return the frozen network that is worth fine-tuning, and whether more time may change it.

    Of those with time for `_EPOCHS_TO_TUNE` epochs, the first number that any has time for, it is
    the fastest of those that are not worse frozen than the best by more than a standard error: it
    is trained on larger pictures or for more epochs. None if none was ranked or has the time.

    Args:
        family: that fine-tunes any published network.
        prepared: results of all families, with the networks that were ranked.
        slots: as of `estimate_finetuning_epoch`.
        seconds: of a training; infinite for no limit.
    """
    ranked = _ranked(prepared)
    each = {
        name: estimate_finetuning_epoch(family, prepared, slots, network=name)
        for *_, name in ranked
    }
    for epochs in _EPOCHS_TO_TUNE:
        fitting = [one for one in ranked if epochs * each[one[-1]] <= seconds]
        if fitting:
            accuracy, error, _ = max(fitting)
            good = [name for found, _, name in fitting if found >= accuracy - error]
            cut = epochs != _EPOCHS_TO_TUNE[0] or len(fitting) < len(ranked)
            return min(good, key=lambda name: (each[name], name)), cut
    return None, bool(ranked)


def cheaper_networks(
    family: Family, prepared: Collection[Prepared], slow: Prepared, side: int | None
) -> dict[str, float]:
    """Return the networks to tune instead of one that was too slow, the best ranked first.

    They are expected to be faster, and not worse frozen than the best by more than `_CLEARLY_WORSE`
    standard errors.

    Args:
        family, prepared: as of `network_to_tune`.
        slow: result of the slow one, with its measured time.
        side: of the pictures at which it was measured; None for its own.

    Returns:
        by name, the expected seconds of an epoch: those of the slow one, scaled by the estimates of
        both. Empty if it has no measured time.
    """
    ranked = sorted(_ranked(prepared), reverse=True)
    each = {name: estimate_finetuning_epoch(family, prepared, 1, side, name) for *_, name in ranked}
    own = each.get(slow.network or "", 0.0)
    if not own or not slow.seconds_per_epoch:
        return {}
    accuracy, error, _ = ranked[0]
    return {
        name: slow.seconds_per_epoch * each[name] / own
        for found, _, name in ranked
        if found >= accuracy - _CLEARLY_WORSE * error and each[name] < own
    }


def _ranked(prepared: Collection[Prepared]) -> list[tuple[float, float, str]]:
    """Return accuracy, standard error and name of each frozen network that was ranked and timed."""
    return [
        (network["accuracy"], network["error"] or 0.0, network["name"])
        for one in prepared
        for network in one.networks
        if network.get("accuracy") is not None and network.get("images_per_second")
    ]


def estimate_handcrafted_trial(family: Family, prepared: Collection[Prepared]) -> float:
    """Estimate the seconds of a trial of hand-crafted features.

    The estimate scales the time of the fastest frozen network that was measured; both use all
    cores. 0 if no speed is known or the family is another.
    """
    speed = max(_images_per_second(prepared, REFERENCE_SIDE).values(), default=0.0)
    if not is_of(family, "handcrafted") or not speed:
        return 0.0
    return _HANDCRAFTED_COST * count_training_pictures(prepared) / speed


def affordable_pictures(limit: float, count: int, needed: float, base: Sequence[str]) -> int | None:
    """Return how many training pictures fit into a time limit; None if even the fewest do not.

    Args:
        limit: seconds of a trial.
        count: number of all training pictures.
        needed: seconds of a trial on all of them; 0 if unknown.
        base: overrides that all trials share, which may set the number of pictures.
    """
    options = _picture_counts(count, needed, base)
    fitting = (pictures for pictures, seconds in options if 0 < seconds <= limit)
    return next(fitting, None)


def _picture_counts(count: int, needed: float, base: Sequence[str]) -> list[tuple[int, float]]:
    """Return the numbers of training pictures to choose from, all first, each with its seconds."""
    given = any(override.startswith(_LIMIT) for override in base)
    smaller = [one for one in _FRACTIONS if one * count >= _MIN_PICTURES and not given]
    return [(round(one * count), seconds_on_fraction(needed, one)) for one in (1.0, *smaller)]


def seconds_on_fraction(seconds: float, fraction: float) -> float:
    """Estimate the seconds of a trial on a fraction of the pictures from those on all of them."""
    return seconds * (_OPENING_FRACTION + (1 - _OPENING_FRACTION) * fraction)


def _images_per_second(prepared: Collection[Prepared], side: int | None) -> dict[str, float]:
    """Return the pictures a second of each frozen network at a side, as far as it is known.

    None is the side at which the network describes pictures.
    """
    return {
        network["name"]: network["images_per_second"]
        * (1.0 if side is None else (network["side"] / side) ** 2)
        for one in prepared
        for network in one.networks
        if network.get("images_per_second") and network.get("side")
    }


def warn_single_family(pictures: int, minutes: float, finals: bool, base: Sequence[str]) -> str:
    """Return a warning if only frozen networks fit into a budget on photos; "" if more does.

    Nothing has been measured at that point: the estimate uses costs on other photos. It is of idle
    cores, for the load of the machine at a moment may be many times that of the race.

    Args:
        pictures: number in the training part.
        minutes: the budget.
        finals: whether a fraction of the budget is kept for finalists.
        base: overrides that all trials share.
    """
    race, keeps = 60 * minutes * (1 - FINALS_FRACTION * finals), 1 - DESCRIBING_FRACTION

    def enough(slower: float) -> float:
        seconds = _HANDCRAFTED_PICTURE_SECONDS * pictures * slower / available_cores()
        fewest = _picture_counts(pictures, seconds, base)[-1][1]
        needed = SAFETY_FACTOR * fewest / CHEAP_TRIAL_FRACTION
        left = keeps * (race - slower * _START_SECONDS) - slower * _FIRST_TRIAL_SECONDS
        return minutes * (1 + (needed - left) / keeps / race)

    at_idle = enough(1.0)
    if max(at_idle, enough(slowdown())) <= minutes:
        return ""
    needs = f"takes about {counted(math.ceil(at_idle), 'minute')} on idle cores"
    if at_idle <= minutes:
        needs = "may not fit at the load of now, and does on idle cores"
    return (
        f"budget.minutes={minutes:g} may fit only one family: estimated from other photos, a "
        f"second one, handcrafted, {needs}"
    )


def families_without_time(
    families: Mapping[str, Family], prepared: Mapping[str, Prepared]
) -> dict[str, Family]:
    """Return the families that were left out for lack of time, not of memory."""
    return {n: family for n, family in families.items() if n not in prepared or prepared[n].is_late}


def next_affordable_family(
    late: Mapping[str, Family],
    prepared: Mapping[str, Prepared],
    clock: Clock,
    slots: int,
    base: Sequence[str],
) -> tuple[str, int] | None:
    """Return the family that would be tried first with a longer budget, and that budget in minutes.

    None if it cannot be estimated. Networks that were chosen by the time for describing are assumed
    to take the same fraction of a longer budget.

    Args:
        late: families to choose from, as `families_without_time` returns them.
        prepared: results of the families that were measured.
        clock: of the sweep.
        slots: as of `estimate_finetuning_epoch`.
        base: overrides that all trials share.
    """
    if clock.budget is None or clock.race is None:
        return None
    fitting = [one for one in prepared.values() if one.affordable]
    cut = any(one.limit is not None for one in fitting)
    keeps, left = 1 - DESCRIBING_FRACTION * cut, clock.race - clock.spent
    found = []
    for name, family in late.items():
        known = prepared.get(name)
        crafted = estimate_handcrafted_trial(family, fitting)
        epoch = estimate_finetuning_epoch(family, fitting, slots)
        if crafted:
            counts = _picture_counts(count_training_pictures(fitting), crafted, base)
            needed = counts[-1][1] / CHEAP_TRIAL_FRACTION
        elif known is not None and known.seconds_per_epoch:
            epochs = min(least_epochs(family, fitting), known.epochs)
            needed = epochs * known.seconds_per_epoch * known.trainings / FIRST_TRIAL_FRACTION
        else:
            needed = least_epochs(family, fitting) * epoch / FIRST_TRIAL_FRACTION
        if not needed:
            continue
        more = max(0.0, SAFETY_FACTOR * needed - left) / keeps
        if not crafted and not epoch:
            # Once trials wait, only families with an estimate are measured.
            if keeps <= TRIALS_FRACTION:
                continue
            more = max(more, (TRIALS_FRACTION * clock.race - left) / (keeps - TRIALS_FRACTION))
        found.append((clock.budget * (1 + more / clock.race), name))
    if not found:
        return None
    seconds, name = min(found)
    return name, max(math.ceil(seconds / 60), math.floor(clock.budget / 60) + 1)


def describe_single_family(name: str, minutes: float, second: tuple[str, int] | None) -> str:
    """Return that only one family fits into a budget, and the minutes for the next one."""
    more = "other families take more"
    if second is not None:
        more = f"{second[0]} takes about budget.minutes={second[1]}"
    return f"only {name} should fit into budget.minutes={minutes:g}; {more}"


def report_single_family(
    trials: Iterable[TrialRecord],
    families: Sized,
    second: tuple[str, int] | None,
    again: str | None,
) -> tuple[str, str]:
    """Return a sentence that only one of several families was tried, and the command for more.

    Two empty texts if several families were tried, or if no budget for a second one is known.

    Args:
        trials: of the study.
        families: of the study.
        second: as `next_affordable_family` returned it.
        again: the command that resumes the study.
    """
    tried = {trial.family for trial in trials if trial.state in (COMPLETE, PRUNED)}
    if len(tried) != 1 or len(families) == 1 or second is None or again is None:
        return "", ""
    (only,), (name, minutes) = tried, second
    sentence = (
        f"only {only} was tried; at the speed measured here, {name} takes about {minutes} minutes "
        "in all"
    )
    return sentence, f"{again} budget.minutes={minutes}"


def report_rough_result(
    trials: Iterable[TrialRecord], rough: tuple[float, float, str] | None, again: str | None
) -> tuple[str, str]:
    """Return a sentence that the only result is that of the minimal trial, and the remedy.

    Two empty texts where it is another one's.

    Args:
        trials: of the study.
        rough: the budget in minutes that the minimal trial was run for, and what `first_enough`
            returned; None where it was not run.
        again: the command that resumes the study.
    """
    complete = [trial.name for trial in trials if trial.state == COMPLETE]
    if rough is None or again is None or len(complete) != 1:
        return "", ""
    minutes, enough, name = rough
    sentence = (
        f"a rough result: nothing but the cheapest configuration, {complete[0]}, would have ended "
        f"within budget.minutes={minutes:g}; {name or 'more'} may fit into {enough:g}"
    )
    return sentence, f"{again} budget.minutes={enough:g}"


def explain_no_family(
    prepared: Mapping[str, Prepared],
    families: Mapping[str, Family],
    minutes: float | None,
    finals: bool,
) -> str:
    """Return why none of the families can be trained, and the remedy.

    Args:
        prepared: results of the families that were measured.
        families: all of them.
        minutes: the budget; None for no limit.
        finals: whether a fraction of the budget is kept for finalists.
    """
    reasons = "; ".join(f"{n}: {note}" for n, one in prepared.items() for note in one.notes[-1:])
    if prepared and not any(one.is_late for one in prepared.values()):
        return (
            f"none of the families can be trained ({reasons}): where memory is short, choose a "
            "smaller data.image_size, or smaller families"
        )
    because = f" ({reasons})" if reasons else ""
    budget, remedy = minutes or 0.0, "repeat the command with a larger budget"
    if minutes is not None:
        enough, name = first_enough(prepared, families, minutes, finals)
        may = f", in which {name} may fit at this load," if name else ""
        remedy = f"repeat the command with budget.minutes={enough:g}{may}"
    return (
        f"budget.minutes={budget:g} is too short for any of {', '.join(families)}{because}: "
        f"{remedy} or choose faster families"
    )


def first_enough(
    prepared: Mapping[str, Prepared],
    families: Mapping[str, Family],
    minutes: float,
    finals: bool,
) -> tuple[float, str]:
    """Return the budget in minutes in which a family of those that were too slow fits, and which.

    Twice the budget, and "", if the time of none is known. Arguments as of `explain_no_family`.
    """
    found = []
    for name, one in prepared.items():
        if not one.limit or not one.seconds:
            continue
        least = min(1.0, least_epochs(families[name], prepared.values()) / one.epochs)
        more = SAFETY_FACTOR * least * one.seconds / FIRST_TRIAL_FRACTION - one.limit
        found.append((minutes + max(0.0, more) / (1 - FINALS_FRACTION * finals) / 60, name))
    if not found:
        return 2 * minutes, ""
    enough, name = min(found)
    return max(math.ceil(enough), math.floor(minutes) + 1), name
