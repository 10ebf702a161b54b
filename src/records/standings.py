"""Standings of a sweep: its trials in order, and the best of its families on equal terms."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import accumulate

from .ties import Place
from .trials import COMPLETE, FAILED, PRUNED, RUNNING, SweepRecord, TrialRecord

__all__ = [
    "FamilyStanding",
    "at_equal_time",
    "at_equal_trials",
    "best_of_families",
    "ended_by_family",
    "leaderboard",
    "own_clock",
    "values_of",
]

_ORDER = {COMPLETE: 0, PRUNED: 1, RUNNING: 2, FAILED: 3}
_Place = tuple[bool, int, Place]
_NOWHERE: _Place = (True, len(_ORDER), (0.0, 0.0, 0.0, ()))


@dataclass(frozen=True)
class FamilyStanding:
    """The first in the leaderboard of some trials of a family (None where none has a value).

    `trials` is how many of them there are, in any final state, `seconds` their total duration.
    """

    family: str
    best: TrialRecord | None
    trials: int
    seconds: float


def leaderboard(record: SweepRecord) -> list[TrialRecord]:
    """Return all trials: complete ones by the first metric, pruned ones by their last value, rest.

    Values that are not finite come after those that are. Equal ones are in the order of
    `src.records.ties`.
    """
    return sorted(record.trials, key=lambda trial: _place(record, trial))


def best_of_families(record: SweepRecord) -> list[FamilyStanding]:
    """Return the best trial of each family, the best family first."""
    return _standings(record, ended_by_family(record))


def at_equal_trials(record: SweepRecord) -> tuple[int, list[FamilyStanding]]:
    """Return the best of each family's first n trials, where n is the size of the smallest family.

    Failed and pruned trials count. Families without an ended trial do not enter the minimum, which
    is 0 where nothing has ended.
    """
    ended = ended_by_family(record)
    most = min((len(trials) for trials in ended.values() if trials), default=0)
    return most, _standings(record, {name: trials[:most] for name, trials in ended.items()})


def at_equal_time(record: SweepRecord) -> tuple[float, list[FamilyStanding]]:
    """Return the best of each family within the same duration of its own trials, by number.

    It is the total duration of the family that had the least, 0 where nothing has ended; trials
    that had ended by then count.
    """
    ended = ended_by_family(record)
    clocks = {name: own_clock(trials) for name, trials in ended.items()}
    limit = min((clock[-1] for clock in clocks.values() if clock), default=0.0)
    within = {
        name: [trial for trial, end in zip(trials, clocks[name]) if end <= limit]
        for name, trials in ended.items()
    }
    return limit, _standings(record, within)


def ended_by_family(record: SweepRecord) -> dict[str, list[TrialRecord]]:
    """Return the trials that have ended, by family and in order of number."""
    ended: dict[str, list[TrialRecord]] = {family: [] for family in record.families}
    for trial in sorted(record.trials, key=lambda t: t.number):
        if trial.state != RUNNING:
            ended.setdefault(trial.family, []).append(trial)
    return ended


def values_of(record: SweepRecord, trial: TrialRecord) -> tuple[float | None, ...]:
    """Return a value or None for each metric; of an incomplete trial, the last of the first."""
    return trial.objectives or (trial.last, *(None for _ in record.metrics[1:]))


def own_clock(trials: Iterable[TrialRecord]) -> list[float]:
    """Return when each trial would have ended, in seconds, had they run one after the other."""
    return list(accumulate(trial.seconds or 0.0 for trial in trials))


def _place(record: SweepRecord, trial: TrialRecord) -> _Place:
    known = trial.value is not None and trial.state != FAILED
    return not known, _ORDER[trial.state], trial.place(record.directions[0])


def _standings(record: SweepRecord, trials: dict[str, list[TrialRecord]]) -> list[FamilyStanding]:
    found = []
    for family, own in trials.items():
        judged = [t for t in own if t.value is not None and t.state in (COMPLETE, PRUNED)]
        best = min(judged, key=lambda trial: _place(record, trial), default=None)
        place = _NOWHERE if best is None else _place(record, best)
        clock = own_clock(own)
        seconds = clock[-1] if clock else 0.0
        found.append((place, FamilyStanding(family, best, len(own), seconds)))
    return [standing for _, standing in sorted(found, key=lambda entry: entry[0])]
