"""What a person reads when a sweep is over, on a terminal or as Markdown."""

from __future__ import annotations

from collections import Counter

from src.metrics.summary import metric_key
from src.records.trials import COMPLETE, FAILED, PRUNED, RUNNING, SweepRecord, TrialRecord
from src.reporting.formatting import (
    duration,
    mean_text,
    measured,
    metric_text,
    settings_text,
    share_with_interval,
)
from src.reporting.leaderboard import (
    FamilyStanding,
    at_equal_time,
    at_equal_trials,
    best_of_families,
    leaderboard,
    non_dominated,
    values_of,
)
from src.reporting.tables import Table

__all__ = [
    "COMMAND",
    "families_table",
    "finalists_table",
    "format_result",
    "headline",
    "leaderboard_table",
    "markdown",
    "verdict",
]

COMMAND = "train it again"  # the line of a result that is there to be copied
_SHOWN = 10


def format_result(record: SweepRecord, width: int = 100) -> str:
    """A study in some thirty lines of plain text, without a final line break.

    What is not there, such as a winner, has no line.

    Args:
        record: with any number of trials.
        width: of the terminal in cells; commands are not broken, for they are there to be copied.
    """
    parts = [headline(record)]
    tables = [leaderboard_table(record, _SHOWN), families_table(record), finalists_table(record)]
    parts += [table.text(width) for table in tables if table.rows]
    parts += filter(None, [_verdict_text(record)])
    return "\n\n".join(parts)


def markdown(record: SweepRecord) -> str:
    """All trials, families and finalists as Markdown tables, and the winner's command."""
    tables = [leaderboard_table(record), families_table(record), finalists_table(record)]
    parts = [f"# {headline(record)}", *(table.markdown() for table in tables if table.rows)]
    if told := _verdict_text(record):
        parts.append(f"```\n{told}\n```")
    return "\n\n".join(parts) + "\n"


def headline(record: SweepRecord) -> str:
    """As in "fashion: 24 trials (15 complete, 9 pruned) of 4 families in 12 min 5 s"."""
    states = Counter(trial.state for trial in record.trials)
    told = ", ".join(f"{states[s]} {s}" for s in (COMPLETE, PRUNED, FAILED, RUNNING) if states[s])
    trials = _counted(len(record.trials), "trial") + (f" ({told})" if told else "")
    families = _counted(len(record.families), "family", "families")
    return f"{record.study}: {trials} of {families} in {duration(record.seconds)}"


def leaderboard_table(record: SweepRecord, most: int | None = None) -> Table:
    """The trials in order, or the first of them; failed ones say why in the last column."""
    trials = leaderboard(record)
    shown = trials[:most]
    of = f"the best {len(shown)} of {len(trials)} trials" if len(shown) < len(trials) else "trials"
    order = "highest" if record.higher_is_better else "lowest"
    front = non_dominated(record) if len(record.metrics) > 1 else set()
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


def families_table(record: SweepRecord) -> Table:
    """Each family's best: of all its trials, of equally many, and within equal training time.

    Without rows while no trial has ended.
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
    """The configurations that were trained again, with mean and spread over their seeds."""
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
    """Winner, test accuracy and command, by what they are; empty without a winner."""
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
