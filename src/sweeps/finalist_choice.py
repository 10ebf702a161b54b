"""Which trials of a race become finalists."""

from __future__ import annotations

from collections.abc import Iterable

from ..records.trials import TrialRecord
from .families import CLASSIFIER
from .tasks import SweepJobs

__all__ = ["choose_finalists"]


def choose_finalists(ranked: Iterable[TrialRecord], jobs: SweepJobs) -> list[TrialRecord]:
    """Return the finalists among complete trials, each configuration once.

    A trial whose settings are near those of a better finalist is one more seed of the same answer:
    it comes behind those that differ more, unless the 95 % intervals of these and of the best trial
    have nothing in common.

    Args:
        ranked: best first.
        jobs: of the sweep, with its number of finalists.
    """
    count, metric = jobs.settings.finalists, jobs.settings.metrics[0]
    chosen: list[TrialRecord] = []
    near: list[TrialRecord] = []
    behind: list[TrialRecord] = []
    seen: set[tuple[str, ...]] = set()
    for trial in ranked:
        if len(chosen) == count:
            break
        if trial.overrides in seen:
            continue
        seen.add(trial.overrides)
        if any(_are_near(trial, one, jobs) for one in chosen):
            near.append(trial)
        elif chosen and not _overlap(trial, chosen[0], metric):
            behind.append(trial)
        else:
            chosen.append(trial)
    return [*chosen, *near, *behind][:count]


def _are_near(one: TrialRecord, other: TrialRecord, jobs: SweepJobs) -> bool:
    if one.family != other.family:
        return False
    family = jobs.families[one.family]
    if CLASSIFIER in {**family.constants, **one.values}:
        # It answers alike with every seed, so that the better numbers are known by now.
        near = family.are_near(one.values, other.values, 1.0)
    else:
        near = family.are_near(one.values, other.values)
    # What was measured again since may have chosen other networks, or fewer pictures.
    return near and [*jobs.chosen_for(one)] == [*jobs.chosen_for(other)]


def _overlap(one: TrialRecord, other: TrialRecord, metric: str) -> bool:
    """Return whether intervals have anything in common, as those that are not known have."""
    first, second = one.interval(metric), other.interval(metric)
    if first is None or second is None:
        return True
    return first[0] <= second[1] and second[0] <= first[1]
