"""Which trials of a race become finalists."""

from __future__ import annotations

from collections.abc import Iterable

from ..records.trials import TrialRecord
from .tasks import SweepJobs

__all__ = ["choose_finalists"]


def choose_finalists(ranked: Iterable[TrialRecord], jobs: SweepJobs) -> list[TrialRecord]:
    """Return the finalists among complete trials, each configuration once.

    A trial whose settings are near those of a better finalist, as `Family.are_near` has it, is one
    more seed of the same answer: it comes behind all others.

    Args:
        ranked: best first.
        jobs: of the sweep, with its number of finalists.
    """
    count = jobs.settings.finalists
    chosen: list[TrialRecord] = []
    near: list[TrialRecord] = []
    seen: set[tuple[str, ...]] = set()
    for trial in ranked:
        if len(chosen) == count:
            break
        if trial.overrides in seen:
            continue
        seen.add(trial.overrides)
        alike = any(_are_near(trial, one, jobs) for one in chosen)
        (near if alike else chosen).append(trial)
    return [*chosen, *near][:count]


def _are_near(one: TrialRecord, other: TrialRecord, jobs: SweepJobs) -> bool:
    if one.family != other.family:
        return False
    near = jobs.families[one.family].are_near(one.values, other.values)
    # What was measured again since may have chosen other networks, or fewer pictures.
    return near and [*jobs.chosen_for(one)] == [*jobs.chosen_for(other)]
