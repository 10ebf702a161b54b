"""The text of a sweep: its result for a terminal, its trials as CSV, and its page."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any

from ..machine.text import counted, csv_text
from ..metrics.summary import metric_name
from ..records.standings import best_of_families, leaderboard, values_of
from ..records.trials import (
    COMPLETE,
    FAILED,
    PRUNED,
    RUNNING,
    STOPPED,
    SweepRecord,
    TrialRecord,
)
from .formatting import (
    duration,
    figure_text,
    mean_text,
    metric_text,
    one_line,
    part_texts,
    settings_text,
    times_measured,
    value_text,
)
from .scales import family_colors, metric_axis, value_axes
from .sweep_tables import (
    families_table,
    finalists_table,
    is_trial_itself,
    leaderboard_table,
    networks_table,
    ranked_by,
)

__all__ = [
    "COMMAND",
    "format_result",
    "headline",
    "leaderboard_csv",
    "networks_csv",
    "pictures_raced",
    "sweep_page",
    "verdict",
]

COMMAND = "train it again"  # label of the command that repeats a run
_MOST_SHOWN = 10
# Metrics of which `part_texts` has the figure.
_IN_PART_TEXTS = frozenset(
    ("accuracy", "cost", "map", "kappa", "mae", "miou", "dice", "pixel_accuracy")
)


def format_result(record: SweepRecord, width: int = 100) -> str:
    """Return a study in some thirty lines of `width` cells, without a final line break.

    Missing parts, such as a winner, have no line. The page also has the winner's command, and the
    families where only one has a result.
    """
    parts = [headline(record)]
    tables = [leaderboard_table(record, _MOST_SHOWN), finalists_table(record)]
    if sum(one.best is not None for one in best_of_families(record)) > 1:
        tables.insert(1, families_table(record))
    parts += [table.text(width) for table in tables if table.rows]
    reasons = [f"{name}: left out: {why}" for name, why in _reasons(record, record.left_out)]
    reasons += [f"{name}: no further trial: {why}" for name, why in _reasons(record, record.closed)]
    reasons += [f"{name}: for lack of time {of}" for name, of in _reasons(record, record.reduced)]
    parts += filter(None, ["\n".join(reasons)])
    rows = {name: text for name, text in verdict(record).items() if name != COMMAND}
    label = max(map(len, rows), default=0)
    parts += filter(None, ["\n".join(f"{name:<{label}}  {text}" for name, text in rows.items())])
    return "\n\n".join(parts)


def headline(record: SweepRecord) -> str:
    """Return, as in "fashion: 24 trials (15 complete, 9 pruned), 4 families, 12 min 5 s".

    Where some families had no trial it is "2 of 4 families".
    The pictures follow, where they are known: "; digits: 1,169 train, 269 val, 359 test pictures".
    """
    endings = Counter(trial.ending for trial in record.trials)
    order = (COMPLETE, PRUNED, STOPPED, FAILED, RUNNING)
    counts = ", ".join(f"{endings[one]} {one}" for one in order if endings[one])
    trials = counted(len(record.trials), "trial") + (f" ({counts})" if counts else "")
    families = counted(len(record.families), "family", "families")
    tried = len({trial.family for trial in record.trials})
    families = f"{tried} of {families}" if 0 < tried < len(record.families) else families
    text = f"{record.study}: {trials}, {families}, {duration(record.seconds)}"
    return f"{text}; {pictures}" if (pictures := pictures_raced(record)) else text


def pictures_raced(record: SweepRecord) -> str:
    """Return, as in "digits: 1,169 train, 269 val, 359 test pictures"; "" if not known."""
    parts = ", ".join(f"{count:,} {part}" for part, count in record.parts.items() if count)
    return f"{record.data}: {parts} pictures" if parts else record.data


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
            *(trial.last, trial.best, trial.known_epochs, trial.seconds, trial.reason),
            trial.run_id,
            *(trial.figures.get(key) for key in figures),
            *(value_text(trial.values[key]) if key in trial.values else None for key in keys),
            record.commands.get(trial.number),
        ]
        rows.append(row)
    return csv_text(header, rows)


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
        "baseline": record.constant or None,
        **_test_texts(record),
        "test part measured": (
            None if record.test_measurements is None else times_measured(record.test_measurements)
        ),
        COMMAND: record.commands.get(winner.number),
    }
    return {name: text for name, text in rows.items() if text is not None}


def _test_texts(record: SweepRecord) -> dict[str, str | None]:
    """Return the figures of the test part by their names, first that of the metric that ranks."""
    metric = record.metrics[0].removeprefix("val/")
    first = {}
    beside_map = metric == "macro_f1" and record.sets
    if metric not in _IN_PART_TEXTS and not beside_map:
        name = metric_name(f"test/{metric}", sets=record.sets)
        first = {name: figure_text(record.test, f"test/{metric}")}
    return first | part_texts(record.test, "test", "test")


def sweep_page(
    record: SweepRecord,
    *,
    as_of: datetime | None = None,
    next_within: float = 60.0,
    stopped: bool = False,
) -> str:
    """Return the page of a study; its tables are there without the script too.

    Args:
        record: of the study.
        as_of: when this was so, of a race that is running, whose page loads itself again; None of
            one that has ended.
        next_within: seconds in which such a race writes its page once more.
        stopped: whether it was stopped before its end.
    """
    from .page import html_page  # with Jinja2, which a terminal does not need

    if as_of is not None:  # there is nothing to do yet
        record = replace(record, next_step="", short=("", ""))
    table, trials = leaderboard_table(record), leaderboard(record)
    colors = family_colors([*dict.fromkeys((*record.families, *(t.family for t in trials)))])
    data = _data(record)
    if as_of is not None:
        data["live"] = {"written": as_of.timestamp(), "next_within": next_within}
    values = {
        "as_of": "" if as_of is None else f"{as_of:%Y-%m-%d %H:%M:%S}",
        "stopped": stopped,
        "kicker": f"Sweep {headline(record)}",
        "headline": _page_headline(record),
        "lead": _page_lead(record),
        "facts_shown": _page_facts(record),
        "metric": ranked_by(record),
        "higher": record.higher_is_better,
        "families": families_table(record),
        "left_out": _reasons(record, record.left_out),
        "closed": _reasons(record, record.closed),
        "reduced": _reasons(record, record.reduced),
        "finalists": finalists_table(record),
        "networks": networks_table(record),
        "leaderboard": table,
        "colors": [colors[trial.family] for trial in trials],
        "has_spaces": bool(data["spaces"]),
        "has_history": sum(one["place"] is not None for one in data["trials"]) > 1,
        "undrawn": sum(one["place"] is None and one["state"] != FAILED for one in data["trials"]),
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
            return f"{winner.name} comes first, but is no better than a constant answer"
        if len(record.ranked()) == 1:
            return f"{winner.name} is the only candidate"
        return f"{winner.name} wins"
    return f"{record.ranked()[0].name} is the best so far" if record.ranked() else "No winner yet"


def _page_lead(record: SweepRecord) -> str:
    """Return the figure of the winner, or of the best so far, and of which trainings it is."""
    metric, winner = record.metrics[0], _winner(record)
    name = ranked_by(record)
    title = name[0].upper() + name[1:]
    for one in record.finalists:
        if winner is None or one.trial != winner.number or one.mean is None:
            continue
        if not is_trial_itself(record, one):
            many = len(one.values) > 1
            trained = f"mean of {len(one.values)} seeds" if many else "trained again once"
            return (
                f"{title} {mean_text(metric, one.mean, one.spread)}, {trained}; "
                f"{metric_text(metric, winner.value)} in its trial"
            )
    ranked = record.ranked()
    return f"{title} {metric_text(metric, ranked[0].value)}, in its trial" if ranked else ""


def _page_facts(record: SweepRecord) -> list[tuple[str, str, str]]:
    """Return (term, text, kind) of what follows the headline."""
    found = verdict(record)
    finalists = len(record.finalists)
    reason = "" if not finalists else f"The best mean of {counted(finalists, 'finalist')}."
    if finalists == 1:
        reason = "The only finalist within the budget."
    names = [name for name in _test_texts(record) if name in found]
    tested = [(name[:1].upper() + name[1:], found[name], "") for name in names]
    if "test part measured" in found:
        term, text, kind = tested.pop() if tested else ("Test", "", "")
        measurement = ", measured ".join(filter(None, (text, found["test part measured"])))
        tested.append((term, measurement, kind))
    rows = [
        ("Caution", record.caution, ""),
        ("Baseline", record.constant, ""),
        ("Why", reason, ""),
        *tested,
        ("What it costs", _price(_winner(record)), ""),
        ("Short of time", record.short[0], ""),
        ("Next step", record.next_step, "command"),
        ("With more time", record.short[1], "command"),
        (COMMAND.capitalize(), found.get(COMMAND, ""), "command"),
    ]
    return [row for row in rows if row[1]]


def _price(winner: TrialRecord | None) -> str:
    """Return what the trial of the winner cost, where a comparison has means over its runs."""
    if winner is None:
        return ""
    figures = winner.figures
    costs = {"cost/latency_ms": "a picture", "cost/parameters": "parameters"}
    price = [
        f"{metric_text(key, figures[key])} {of}" for key, of in costs.items() if key in figures
    ]
    # As a comparison calls it: without what the whole trial took, measuring included.
    if "cost/training_seconds" in figures:
        price.append(f"trained in {duration(figures['cost/training_seconds'])}")
    whole = "" if winner.seconds is None else f"the whole trial took {duration(winner.seconds)}"
    return "; ".join(filter(None, (f"In its trial {', '.join(price)}" if price else "", whole)))


def _reasons(record: SweepRecord, why_not: Mapping[str, str]) -> list[tuple[str, str]]:
    """Return the families that have a reason, by name in `why_not`, each with the reason."""
    known = [(name, why_not.get(name, "")) for name in record.families]
    return [(name, one_line(why).rstrip(".")) for name, why in known if why]


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
                {"label": label, "ticks": one.ticks, "places": one.places}
                for label, one in [
                    (ranked_by(record), axes[-1]),
                    *((a.label, a) for a in axes[:-1]),
                ]
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
                "state": trial.ending,
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
        "state": trial.ending + (", the family's default" if trial.is_default else ""),
        "reason": trial.reason,
        f"at its best {record.steps[:-1]}": None
        if trial.best is None
        else metric_text(metric, trial.best),
        record.steps: None if trial.known_epochs is None else str(trial.known_epochs),
        "time of the whole trial": None if trial.seconds is None else duration(trial.seconds),
        "settings": settings_text(trial.values),
        **{
            metric_name(key, sets=record.sets): metric_text(key, value)
            for key, value in sorted(trial.figures.items())
        },
        COMMAND: record.commands.get(trial.number),
    }
    return [(name, text) for name, text in rows.items() if text]
