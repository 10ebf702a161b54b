"""The text of a sweep: its tables and result for a terminal, and its trials as CSV."""

from __future__ import annotations

import csv
import io
from collections import Counter

from src.machine.text import csv_row
from src.metrics.pareto import pareto_front
from src.metrics.summary import metric_key
from src.records.standings import (
    FamilyStanding,
    at_equal_time,
    at_equal_trials,
    best_of_families,
    leaderboard,
    values_of,
)
from src.records.trials import COMPLETE, FAILED, PRUNED, RUNNING, SweepRecord, TrialRecord
from src.reporting.formatting import (
    Table,
    duration,
    mean_text,
    measured,
    metric_text,
    settings_text,
    share_with_interval,
    value_text,
)

__all__ = [
    "COMMAND",
    "families_table",
    "finalists_table",
    "format_result",
    "headline",
    "leaderboard_csv",
    "leaderboard_table",
    "verdict",
]

COMMAND = "train it again"  # label of the command that repeats a run
_SHOWN = 10


def format_result(record: SweepRecord, width: int = 100) -> str:
    """Return a study in some thirty lines, without a final line break.

    Missing parts, such as a winner, have no line.

    Args:
        record: with any number of trials.
        width: of the terminal in cells; commands are not broken, so that they can be copied.
    """
    parts = [headline(record)]
    tables = [leaderboard_table(record, _SHOWN), families_table(record), finalists_table(record)]
    parts += [table.text(width) for table in tables if table.rows]
    parts += filter(None, [_verdict_text(record)])
    return "\n\n".join(parts)


def headline(record: SweepRecord) -> str:
    """Return, as in "fashion: 24 trials (15 complete, 9 pruned) of 4 families in 12 min 5 s"."""
    states = Counter(trial.state for trial in record.trials)
    told = ", ".join(f"{states[s]} {s}" for s in (COMPLETE, PRUNED, FAILED, RUNNING) if states[s])
    trials = _counted(len(record.trials), "trial") + (f" ({told})" if told else "")
    families = _counted(len(record.families), "family", "families")
    return f"{record.study}: {trials} of {families} in {duration(record.seconds)}"


def leaderboard_table(record: SweepRecord, most: int | None = None) -> Table:
    """Return the trials in order, or the first of them; with the reason of failed ones."""
    trials = leaderboard(record)
    shown = trials[:most]
    of = f"the best {len(shown)} of {len(trials)} trials" if len(shown) < len(trials) else "trials"
    order = "highest" if record.higher_is_better else "lowest"
    front = _non_dominated(record) if len(record.metrics) > 1 else set()
    ranks = {trial.number: rank for rank, trial in enumerate(record.ranked(), 1)}
    rows = []
    for trial in shown:
        marks = ["in front"] if trial.number in front else []
        about = [*marks, "default"] if trial.is_default else marks
        last = settings_text(trial.values)
        if trial.state == FAILED:
            last = trial.reason or "no reason known"
        values = values_of(record, trial)
        rows.append(
            (
                *(str(ranks.get(trial.number, "")), str(trial.number), trial.family),
                *(_known(key, value) for key, value in zip(record.metrics, values, strict=True)),
                *(", ".join([trial.state, *about]), str(trial.epochs), _time(trial), last),
            )
        )
    headers = (
        "rank",
        "trial",
        "family",
        *record.metrics,
        "state",
        record.steps,
        "time",
        "settings",
    )
    numbers = frozenset({0, 1, *(3 + i for i in range(len(record.metrics)))})
    ends = {4 + len(record.metrics), 5 + len(record.metrics)}
    title = f"Leaderboard: {of} by {record.metrics[0]}, {order} first"
    return Table(title, headers, tuple(rows), numbers | ends)


def leaderboard_csv(record: SweepRecord) -> str:
    """Return every trial as a row of CSV, in order, with a column for every searched key.

    Missing values are left empty. Ranks count complete trials only.
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


def families_table(record: SweepRecord) -> Table:
    """Return the best of each family: of all trials, of equally many, and within equal time.

    Has no rows while no trial has ended.
    """
    best = best_of_families(record)
    most, at_trials = at_equal_trials(record)
    seconds, at_time = at_equal_time(record)
    same_trials = {standing.family: standing for standing in at_trials}
    same_time = {standing.family: standing for standing in at_time}
    headers = ("family", "best", "trial", f"first {_counted(most, 'trial')}")
    rows = tuple(
        (
            standing.family,
            _best(record, standing),
            "" if standing.best is None else str(standing.best.number),
            _best(record, same_trials[standing.family]),
            _best(record, same_time[standing.family]),
            str(standing.trials),
            duration(standing.seconds),
        )
        for standing in best
        if most
    )
    return Table(
        f"Families by {record.metrics[0]}: the best of each, at equal trials and at equal time",
        (*headers, f"first {duration(seconds)}", "trials", "time"),
        rows,
        frozenset({1, 2, 3, 4, 5, 6}),
    )


def finalists_table(record: SweepRecord) -> Table:
    """Return the configurations that were trained again, with mean and spread over seeds."""
    metric = record.metrics[0]
    families = {trial.number: trial.family for trial in record.trials}
    rows = tuple(
        (
            str(finalist.trial),
            families.get(finalist.trial, ""),
            mean_text(metric, finalist.mean, finalist.spread),
            ", ".join(
                f"{seed}: {'failed' if value is None else metric_text(metric, value)}"
                for seed, value in sorted(finalist.runs.items())
            ),
        )
        for finalist in record.finalists
    )
    title = f"Finalists by {metric}, trained again over seeds: mean ± standard deviation"
    return Table(title, ("trial", "family", "mean", "by seed"), rows, frozenset({0}))


def verdict(record: SweepRecord) -> dict[str, str]:
    """Return winner, test accuracy and command by their labels; empty without a winner."""
    if record.winner is None:
        return {}
    winner = next(trial for trial in record.trials if trial.number == record.winner)
    accuracy, low, high = (
        record.test.get(metric_key("test", name))
        for name in ("accuracy", "accuracy_low", "accuracy_high")
    )
    rows = {
        "winner": f"trial {winner.number}, {winner.family}",
        "test accuracy": None if accuracy is None else share_with_interval(accuracy, low, high),
        "test part measured": (
            None if record.test_measurements is None else measured(record.test_measurements)
        ),
        COMMAND: record.commands.get(winner.number),
    }
    return {name: text for name, text in rows.items() if text is not None}


def _non_dominated(record: SweepRecord) -> set[int]:
    """Return numbers of the complete trials that no other beats in all metrics."""
    complete = [(t.number, t.objectives) for t in record.trials if t.objectives is not None]
    front = pareto_front([objectives for _, objectives in complete], record.directions)
    return {complete[index][0] for index in front}


def _verdict_text(record: SweepRecord) -> str:
    rows = verdict(record)
    width = max(map(len, rows), default=0)
    return "\n".join(f"{name:<{width}}  {text}" for name, text in rows.items())


def _best(record: SweepRecord, standing: FamilyStanding) -> str:
    if standing.best is None:
        return "none"
    text = metric_text(record.metrics[0], standing.best.value)
    return f"pruned at {text}" if standing.best.state == PRUNED else text


def _known(key: str, value: float | None) -> str:
    return "" if value is None else metric_text(key, value)


def _time(trial: TrialRecord) -> str:
    return "" if trial.seconds is None else duration(trial.seconds)


def _counted(number: int, one: str, several: str | None = None) -> str:
    return f"{number} {one if number == 1 else several or one + 's'}"
