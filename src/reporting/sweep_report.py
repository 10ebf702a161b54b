"""The text of a sweep: its tables and result for a terminal, its trials as CSV, and its page."""

from __future__ import annotations

from collections import Counter
from typing import Any

from ..machine.text import csv_text
from ..metrics.pareto import pareto_front
from ..records.standings import (
    FamilyStanding,
    at_equal_time,
    at_equal_trials,
    best_of_families,
    leaderboard,
    values_of,
)
from ..records.trials import COMPLETE, FAILED, PRUNED, RUNNING, SweepRecord, TrialRecord
from .formatting import (
    Table,
    counted,
    duration,
    figure_text,
    mean_text,
    measured,
    metric_text,
    primary_text,
    settings_text,
    value_text,
)
from .scales import family_colors, metric_axis, value_axes

__all__ = [
    "COMMAND",
    "families_table",
    "finalists_table",
    "format_result",
    "headline",
    "leaderboard_csv",
    "leaderboard_table",
    "networks_csv",
    "networks_table",
    "pictures_raced",
    "sweep_page",
    "verdict",
]

COMMAND = "train it again"  # label of the command that repeats a run
_SHOWN = 10


def format_result(record: SweepRecord, width: int = 100) -> str:
    """Return a study in some thirty lines of `width` cells, without a final line break.

    Missing parts, such as a winner, have no line; commands are not broken, to be copied.
    """
    parts = [headline(record)]
    tables = [leaderboard_table(record, _SHOWN), families_table(record), finalists_table(record)]
    parts += [table.text(width) for table in tables if table.rows]
    rows = verdict(record)
    label = max(map(len, rows), default=0)
    parts += filter(None, ["\n".join(f"{name:<{label}}  {text}" for name, text in rows.items())])
    return "\n\n".join(parts)


def headline(record: SweepRecord) -> str:
    """Return, as in "fashion: 24 trials (15 complete, 9 pruned) of 4 families in 12 min 5 s".

    The pictures follow, where they are known: "; digits: 1,169 train, 269 val, 359 test pictures".
    """
    states = Counter(trial.state for trial in record.trials)
    counts = ", ".join(f"{states[s]} {s}" for s in (COMPLETE, PRUNED, FAILED, RUNNING) if states[s])
    trials = counted(len(record.trials), "trial") + (f" ({counts})" if counts else "")
    families = counted(len(record.families), "family", "families")
    text = f"{record.study}: {trials} of {families} in {duration(record.seconds)}"
    return f"{text}; {pictures}" if (pictures := pictures_raced(record)) else text


def pictures_raced(record: SweepRecord) -> str:
    """Return, as in "digits: 1,169 train, 269 val, 359 test pictures"; "" if not known."""
    parts = ", ".join(f"{count:,} {part}" for part, count in record.parts.items() if count)
    return f"{record.data}: {parts} pictures" if parts else record.data


def leaderboard_table(record: SweepRecord, most: int | None = None) -> Table:
    """Return the trials in order, or the first of them; with the reason of failed ones."""
    trials = leaderboard(record)
    shown = trials[:most]
    of = f"the best {len(shown)} of {len(trials)} trials" if len(shown) < len(trials) else "trials"
    order = "highest" if record.higher_is_better else "lowest"
    front: set[int] = set()  # numbers of the complete trials that no other beats in all metrics
    if len(record.metrics) > 1:
        complete = {t.number: t.objectives for t in trials if t.objectives is not None}
        found = pareto_front([*complete.values()], record.directions)
        front = {[*complete][index] for index in found}
    ranks = {trial.number: rank for rank, trial in enumerate(record.ranked(), 1)}
    rows = []
    for trial in shown:
        marks = {"in front": trial.number in front, "default": trial.is_default}
        about = [mark for mark, has in marks.items() if has]
        last = settings_text(trial.values)
        if trial.state == FAILED:
            last = trial.reason or "no reason known"
        values = values_of(record, trial)
        rows.append(
            (
                *(str(ranks.get(trial.number, "")), trial.name),
                *("" if v is None else metric_text(k, v) for k, v in zip(record.metrics, values)),
                *(", ".join([trial.state, *about]), str(trial.epochs)),
                *("" if trial.seconds is None else duration(trial.seconds), last),
            )
        )
    ends = ("state", record.steps, "time", "settings")
    headers = ("rank", "candidate", *record.metrics, *ends)
    texts = ("candidate", "state", "settings")
    numbers = {i for i, name in enumerate(headers) if name not in texts}
    title = f"Leaderboard: {of} by {record.metrics[0]}, {order} first"
    return Table(title, headers, tuple(rows), frozenset(numbers))


def leaderboard_csv(record: SweepRecord) -> str:
    """Return every trial as a row of CSV, in order, with a column for every searched key.

    Missing values are left empty. Ranks count complete trials only.
    """
    figures = sorted({key for trial in record.trials for key in trial.figures})
    figures = [key for key in figures if key not in record.metrics]
    keys = sorted({key for trial in record.trials for key in trial.values})
    about = ["rank", "candidate", "trial", "family", "state", "is_default"]
    ends = ["last", "best", record.steps, "seconds", "reason", "run_id"]
    header = [*about, *record.metrics, *ends, *figures, *keys, "command"]
    ranks = {trial.number: rank for rank, trial in enumerate(record.ranked(), 1)}
    rows = []
    for trial in leaderboard(record):
        objectives = trial.objectives or (None,) * len(record.metrics)
        row = [
            *(ranks.get(trial.number), trial.name, trial.number, trial.family, trial.state),
            str(trial.is_default).lower(),
            *objectives,
            *(trial.last, trial.best, trial.epochs, trial.seconds, trial.reason, trial.run_id),
            *(trial.figures.get(key) for key in figures),
            *(value_text(trial.values[key]) if key in trial.values else None for key in keys),
            record.commands.get(trial.number),
        ]
        rows.append(row)
    return csv_text(header, rows)


def families_table(record: SweepRecord) -> Table:
    """Return the best of each family: of all trials, of equally many, and within equal time.

    Has no rows while no trial has ended.
    """
    best = best_of_families(record)
    most, at_trials = at_equal_trials(record)
    seconds, at_time = at_equal_time(record)
    same_trials = {standing.family: standing for standing in at_trials}
    same_time = {standing.family: standing for standing in at_time}
    headers = ("family", "best", "candidate", f"first {counted(most, 'trial')}")
    rows = tuple(
        (
            standing.family,
            _best(record, standing),
            "" if standing.best is None else standing.best.name,
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
        frozenset({1, 3, 4, 5, 6}),
    )


def finalists_table(record: SweepRecord) -> Table:
    """Return the configurations that were trained again, with mean and spread over seeds."""
    metric = record.metrics[0]
    names = {trial.number: trial.name for trial in record.trials}
    rows = tuple(
        (
            names.get(finalist.trial, ""),
            mean_text(metric, finalist.mean, finalist.spread),
            ", ".join(
                f"{seed}: {'failed' if value is None else metric_text(metric, value)}"
                for seed, value in sorted(finalist.runs.items())
            ),
        )
        for finalist in record.finalists
    )
    title = f"Finalists by {metric}, trained again over seeds: mean ± standard deviation"
    return Table(title, ("candidate", "mean", "by seed"), rows)


def networks_table(record: SweepRecord) -> Table:
    """Return the frozen networks as ranked on a sample, and the best trial with those taken."""
    best = {one.family: one for one in best_of_families(record)}
    rows = tuple(
        (
            one.name,
            "" if one.side is None else str(one.side),
            "" if one.images_per_second is None else f"{one.images_per_second:.0f}",
            mean_text("accuracy", one.accuracy, one.error) if one.accuracy is not None else "",
            "" if one.logme is None else f"{one.logme:.3f}",
            _best(record, best[one.family]) if one.taken else "",
        )
        for one in record.networks
    )
    headers = ("network", "pixels a side", "pictures/s", "accuracy on a sample", "LogME")
    title = (
        "Frozen networks as ranked before the race, and what the trials with those taken reached"
    )
    return Table(title, (*headers, record.metrics[0]), rows, frozenset({1, 2, 3, 4, 5}))


def networks_csv(record: SweepRecord) -> str:
    """Return the frozen networks as ranked, and the best trial with those taken, as CSV."""
    best = {one.family: one.best for one in best_of_families(record)}
    columns = ["family", "name", "taken", "side", "images_per_second", "accuracy", "error", "logme"]
    rows = []
    for one in record.networks:
        trial = best[one.family] if one.taken else None
        values = vars(one) | {"taken": str(one.taken).lower()}
        reached = (None, None) if trial is None else (trial.number, trial.value)
        rows.append([*(values[column] for column in columns), *reached])
    return csv_text([*columns, "trial", record.metrics[0]], rows)


def verdict(record: SweepRecord) -> dict[str, str]:
    """Return winner, figures of the test and command by their labels; empty without a winner."""
    winner = _winner(record)
    if winner is None:
        return {}
    rows = {
        "winner": winner.name,
        "caution": record.caution or None,
        "test cost": figure_text(record.test, "test/cost"),
        "test part": primary_text(record.test, "test"),
        "test accuracy": figure_text(record.test, "test/accuracy"),
        "test part measured": (
            None if record.test_measurements is None else measured(record.test_measurements)
        ),
        COMMAND: record.commands.get(winner.number),
    }
    return {name: text for name, text in rows.items() if text is not None}


def _best(record: SweepRecord, standing: FamilyStanding) -> str:
    if standing.best is None:
        return "none"
    text = metric_text(record.metrics[0], standing.best.value)
    return f"pruned at {text}" if standing.best.state == PRUNED else text


def sweep_page(record: SweepRecord) -> str:
    """Return the page of a study; its tables are there without the script too."""
    from .page import html_page  # with Jinja2, which a terminal does not need

    table, trials = leaderboard_table(record), leaderboard(record)
    colors = family_colors([*dict.fromkeys((*record.families, *(t.family for t in trials)))])
    data = _data(record)
    values = {
        "kicker": f"Sweep {headline(record)}",
        "headline": _page_headline(record),
        "lead": _page_lead(record),
        "facts_shown": _page_facts(record),
        "metric": record.metrics[0],
        "higher": record.higher_is_better,
        "families": families_table(record),
        "finalists": finalists_table(record),
        "networks": networks_table(record),
        "leaderboard": table,
        "colors": [colors[trial.family] for trial in trials],
        "has_spaces": bool(data["spaces"]),
        "sort_values": [
            [
                *(row[0], trial.name, *values_of(record, trial), row[-4]),
                *(trial.epochs, trial.seconds, row[-1]),
            ]
            for trial, row in zip(trials, table.rows, strict=True)
        ],
        "numbers": [trial.number for trial in trials],
    }
    return html_page("sweep_page", f"{record.study}: sweep", values, data)


def _page_headline(record: SweepRecord) -> str:
    if (winner := _winner(record)) is not None:
        if record.caution:
            return f"{winner.name} comes first, and may know nothing of the pictures"
        return f"{winner.name} wins"
    return f"{record.ranked()[0].name} is the best so far" if record.ranked() else "No winner yet"


def _page_lead(record: SweepRecord) -> str:
    """Return the figure of the winner, or of the best so far."""
    metric = record.metrics[0]
    for one in record.finalists:
        if one.trial == record.winner and one.mean is not None:
            seeds = counted(sum(value is not None for value in one.runs.values()), "training")
            return f"{metric} {mean_text(metric, one.mean, one.spread)}, {seeds}"
    ranked = record.ranked()
    return f"{metric} {metric_text(metric, ranked[0].value)}, one training" if ranked else ""


def _page_facts(record: SweepRecord) -> list[tuple[str, str, str]]:
    """Return (term, text, kind) of what follows the headline."""
    found = verdict(record)
    winner = _winner(record)
    figures = {} if winner is None else winner.figures
    costs = {"cost/latency_ms": "a picture", "cost/parameters": "parameters"}
    price = [
        f"{metric_text(key, figures[key])} {of}" for key, of in costs.items() if key in figures
    ]
    if winner is not None and winner.seconds is not None:
        price.append(f"trained in {duration(winner.seconds)}")
    finalists = len(record.finalists)
    reason = "" if not finalists else f"The best mean of {counted(finalists, 'finalist')}."
    if finalists == 1:
        reason = "The only configuration for which there was time to train it again."
    term = "Test accuracy" if "test part" not in found else "Test part"
    tested = found.get("test part", found.get("test accuracy", ""))
    if "test part measured" in found:
        tested = ", measured ".join(filter(None, (tested, found["test part measured"])))
    rows = [
        ("Caution", record.caution, ""),
        ("Why", reason, ""),
        ("Test cost", found.get("test cost", ""), ""),
        (term, tested, ""),
        ("What it costs", ", ".join(price), ""),
        ("Next step", record.next_step, "command"),
        (COMMAND.capitalize(), found.get(COMMAND, ""), "command"),
    ]
    return [row for row in rows if row[1]]


def _winner(record: SweepRecord) -> TrialRecord | None:
    return next((trial for trial in record.trials if trial.number == record.winner), None)


def _data(record: SweepRecord) -> dict[str, Any]:
    metric, higher = record.metrics[0], record.higher_is_better
    judged = [t for t in record.trials if t.value is not None and t.state != FAILED]
    axis = metric_axis(metric, judged, higher_is_better=higher)
    spaces = []
    for family in record.families:
        own = [t for t in judged if t.family == family and t.state in (COMPLETE, PRUNED)]
        axes = value_axes(own, metric, higher_is_better=higher)
        if len(axes) > 1:
            # The result comes first, where no screen is too small for it.
            plain = [
                {"label": a.label, "ticks": a.ticks, "places": a.places}
                for a in (axes[-1], *axes[:-1])
            ]
            spaces.append({"family": family, "axes": plain, "trials": [t.number for t in own]})
    return {
        "higher": higher,
        "command": COMMAND,
        "colors": family_colors(record.families),
        "ticks": axis.ticks,
        "spaces": spaces,
        "trials": [
            {
                "number": trial.number,
                "name": trial.name,
                "family": trial.family,
                "state": trial.state,
                "value": None if trial.value is None else metric_text(metric, trial.value),
                "place": axis.places.get(trial.number),
                "settings": settings_text(trial.values),
                "about": _about(record, trial),
            }
            for trial in sorted(record.trials, key=lambda t: t.number)
        ],
    }


def _about(record: SweepRecord, trial: TrialRecord) -> list[tuple[str, str]]:
    metric = record.metrics[0]
    rows = {
        "state": trial.state + (", the family's default" if trial.is_default else ""),
        "reason": trial.reason,
        f"at its best {record.steps[:-1]}": None
        if trial.best is None
        else metric_text(metric, trial.best),
        record.steps: str(trial.epochs),
        "time": None if trial.seconds is None else duration(trial.seconds),
        "settings": settings_text(trial.values),
        **{key: metric_text(key, value) for key, value in sorted(trial.figures.items())},
        COMMAND: record.commands.get(trial.number),
    }
    return [(name, text) for name, text in rows.items() if text]
