"""Who leads a sweep: its trials in order, and its families on equal terms."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import accumulate

from src.machine.text import csv_row
from src.metrics.pareto import pareto_front
from src.records.trials import COMPLETE, FAILED, PRUNED, RUNNING, SweepRecord, TrialRecord
from src.reporting.formatting import value_text

__all__ = [
    "FamilyStanding",
    "at_equal_time",
    "at_equal_trials",
    "best_of_families",
    "ended_by_family",
    "leaderboard",
    "leaderboard_csv",
    "non_dominated",
    "own_clock",
    "values_of",
]

_ORDER = {COMPLETE: 0, PRUNED: 1, RUNNING: 2, FAILED: 3}
_Place = tuple[bool, int, float, int]
_NOWHERE: _Place = (True, len(_ORDER), 0.0, 0)


@dataclass(frozen=True)
class FamilyStanding:
    """One family's best among some of its trials.

    Attributes:
        family: its name.
        best: first of them in the leaderboard, or None where none has a value.
        trials: how many of them there are, of any end.
        seconds: that they took together.
    """

    family: str
    best: TrialRecord | None
    trials: int
    seconds: float


def leaderboard(record: SweepRecord) -> list[TrialRecord]:
    """All trials: complete ones by the first metric, pruned ones by their last value, the others.

    A value that is no finite number comes after those that are. Equal ones are in order of number.
    """
    return sorted(record.trials, key=lambda trial: _place(record, trial))


def best_of_families(record: SweepRecord) -> list[FamilyStanding]:
    """Each family's best trial of all that have ended, the best family first."""
    return _standings(record, ended_by_family(record))


def at_equal_trials(record: SweepRecord) -> tuple[int, list[FamilyStanding]]:
    """Each family's best among its first n trials, where n is what the smallest family has.

    Failed and pruned trials count, for they took their turn. Families without an ended trial stay
    out of the minimum.

    Returns:
        n, 0 where nothing has ended, and the standings.
    """
    ended = ended_by_family(record)
    most = min((len(trials) for trials in ended.values() if trials), default=0)
    return most, _standings(record, {name: trials[:most] for name, trials in ended.items()})


def at_equal_time(record: SweepRecord) -> tuple[float, list[FamilyStanding]]:
    """Each family's best within the same seconds of its own trials, in order of number.

    These are the seconds of the family that had the least; a trial counts if it had ended by then.

    Returns:
        the seconds, 0 where nothing has ended, and the standings.
    """
    ended = ended_by_family(record)
    clocks = {name: own_clock(trials) for name, trials in ended.items()}
    limit = min((clock[-1] for clock in clocks.values() if clock), default=0.0)
    within = {
        name: [trial for trial, end in zip(trials, clocks[name]) if end <= limit]
        for name, trials in ended.items()
    }
    return limit, _standings(record, within)


def non_dominated(record: SweepRecord) -> set[int]:
    """Numbers of the complete trials that no other beats in all metrics."""
    complete = [(t.number, t.objectives) for t in record.trials if t.objectives is not None]
    front = pareto_front([objectives for _, objectives in complete], record.directions)
    return {complete[index][0] for index in front}


def leaderboard_csv(record: SweepRecord) -> str:
    """Every trial in a row, in order of the leaderboard, with a column for every searched key.

    What a trial has not is left empty. Ranks count complete trials only.
    """
    figures = sorted({key for trial in record.trials for key in trial.figures})
    figures = [key for key in figures if key not in record.metrics]
    keys = sorted({key for trial in record.trials for key in trial.values})
    text = io.StringIO()
    out = csv.writer(text, lineterminator="\n")
    about = ["rank", "trial", "family", "state", "is_default"]
    ends = ["last", "best", record.steps, "seconds", "reason", "run_id"]
    out.writerow([*about, *record.metrics, *ends, *figures, *keys, "command"])
    ranks = {trial.number: rank for rank, trial in enumerate(record.ranked(), 1)}
    for trial in leaderboard(record):
        objectives = trial.objectives or (None,) * len(record.metrics)
        cells = [
            *(ranks.get(trial.number), trial.number, trial.family, trial.state),
            str(trial.is_default).lower(),
            *objectives,
            *(trial.last, trial.best, trial.epochs, trial.seconds, trial.reason, trial.run_id),
            *(trial.figures.get(key) for key in figures),
            *(value_text(trial.values[key]) if key in trial.values else None for key in keys),
            record.commands.get(trial.number),
        ]
        out.writerow(csv_row("" if cell is None else cell for cell in cells))
    return text.getvalue()


def ended_by_family(record: SweepRecord) -> dict[str, list[TrialRecord]]:
    """The trials that have ended, by family and in order of number."""
    ended: dict[str, list[TrialRecord]] = {family: [] for family in record.families}
    for trial in sorted(record.trials, key=lambda t: t.number):
        if trial.state != RUNNING:
            ended.setdefault(trial.family, []).append(trial)
    return ended


def values_of(record: SweepRecord, trial: TrialRecord) -> tuple[float | None, ...]:
    """A value or None for each metric: of a trial that is not complete, the last of the first."""
    return trial.objectives or (trial.last, *(None for _ in record.metrics[1:]))


def own_clock(trials: Iterable[TrialRecord]) -> list[float]:
    """When each of them ended, in seconds, had they run one after the other."""
    return list(accumulate(trial.seconds or 0.0 for trial in trials))


def _place(record: SweepRecord, trial: TrialRecord) -> _Place:
    sign = -1.0 if record.higher_is_better else 1.0
    known = trial.value is not None and trial.state != FAILED
    return not known, _ORDER[trial.state], sign * (trial.value or 0.0), trial.number


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
