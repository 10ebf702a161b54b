"""Tables of a sweep: its trials, families, finalists and frozen networks."""

from __future__ import annotations

from ..machine.text import counted, fixed
from ..metrics.pareto import pareto_front
from ..metrics.summary import metric_name
from ..records.standings import (
    FamilyStanding,
    at_equal_time,
    at_equal_trials,
    best_of_families,
    leaderboard,
    values_of,
)
from ..records.trials import FAILED, PRUNED, RUNNING, Finalist, SweepRecord
from .formatting import Table, duration, mean_text, metric_text, settings_text

__all__ = [
    "families_table",
    "finalists_table",
    "is_trial_itself",
    "leaderboard_table",
    "networks_table",
    "ranked_by",
]


def ranked_by(record: SweepRecord) -> str:
    """Return the name of the metric that ranks, as in "validation mean IoU"."""
    return metric_name(record.metrics[0], sets=record.sets, folds=record.steps == "folds")


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
            last = trial.reason or "unknown reason"
        values = values_of(record, trial)
        rows.append(
            (
                *(str(ranks.get(trial.number, "")), trial.name),
                *("" if v is None else metric_text(k, v) for k, v in zip(record.metrics, values)),
                *(", ".join([trial.ending, *about]), _count(trial.known_epochs)),
                *("" if trial.seconds is None else duration(trial.seconds), last),
            )
        )
    ends = ("state", record.steps, "time", "settings")
    # Short, as the title says of which part they are.
    names = (metric_name(key.removeprefix("val/"), sets=record.sets) for key in record.metrics)
    headers = ("rank", "candidate", *names, *ends)
    texts = ("candidate", "state", "settings")
    numbers = {i for i, name in enumerate(headers) if name not in texts}
    title = f"Leaderboard: {of} by {ranked_by(record)}, {order} first"
    return Table(title, headers, tuple(rows), frozenset(numbers), least=24)


def families_table(record: SweepRecord) -> Table:
    """Return the best of each family: of all trials, of equally many, and within equal time.

    Has no rows while no trial has ended.
    """
    best = best_of_families(record)
    most, at_trials = at_equal_trials(record)
    seconds, at_time = at_equal_time(record)
    same_trials = {standing.family: standing for standing in at_trials}
    same_time = {standing.family: standing for standing in at_time}
    headers = ("family", "best", "candidate", f"best of {counted(most, 'trial')}")

    def spent(standing: FamilyStanding) -> tuple[str, str]:
        return (str(standing.trials), duration(standing.seconds)) if standing.trials else ("", "")

    rows = tuple(
        (
            standing.family,
            _best(record, standing),
            standing.best.name,
            _best(record, same_trials[standing.family]),
            _best(record, same_time[standing.family]),
            *spent(standing),
        )
        if standing.best is not None
        else (standing.family, _why_none(record, standing), "", "", "", *spent(standing))
        for standing in best
        if most
    )
    return Table(
        f"Families by {ranked_by(record)}: best of all, of equally many trials, and in equal time",
        (*headers, f"best in {duration(seconds)}", "trials", "time"),
        rows,
        frozenset({1, 3, 4, 5, 6}),
    )


def finalists_table(record: SweepRecord) -> Table:
    """Return the configurations that were trained again, with mean and spread over seeds.

    Without time for that the finalist is a trial itself, which has no row.
    """
    metric = record.metrics[0]
    trials = {trial.number: trial for trial in record.trials}
    rows = tuple(
        (
            trials[finalist.trial].name,
            metric_text(metric, trials[finalist.trial].value),
            mean_text(metric, finalist.mean, finalist.spread),
            ", ".join(
                f"{seed}: {'failed' if value is None else metric_text(metric, value)}"
                f"{', collapsed' * (seed in finalist.collapsed)}"
                for seed, value in sorted(finalist.runs.items())
            ),
        )
        for finalist in record.finalists
        if not is_trial_itself(record, finalist)
    )
    title = f"Finalists by {ranked_by(record)}, trained again over seeds: mean ± standard deviation"
    return Table(title, ("candidate", "trial", "mean", "by seed"), rows)


def is_trial_itself(record: SweepRecord, finalist: Finalist) -> bool:
    """Return whether the run of its trial stands for a finalist, which was not trained again."""
    run_dir = next(one.run_dir for one in record.trials if one.number == finalist.trial)
    return run_dir is not None and run_dir in finalist.run_dirs.values()


def networks_table(record: SweepRecord) -> Table:
    """Return the frozen networks as ranked on a sample, and the best trial with those taken."""
    best = {one.family: one for one in best_of_families(record)}
    rows = tuple(
        (
            one.name,
            "" if one.side is None else str(one.side),
            "" if one.images_per_second is None else f"{one.images_per_second:.0f}",
            mean_text("accuracy", one.accuracy, one.error) if one.accuracy is not None else "",
            "" if one.logme is None else fixed(one.logme, 3),
            _best(record, best[one.family]) if one.taken else "",
        )
        for one in record.networks
    )
    sets = any(one.measure == "map" for one in record.networks)
    judged = f"{'mAP' if sets else 'accuracy'} on a sample"
    headers = ("network", "pixels a side", "pictures/s", judged, "LogME")
    title = (
        "Frozen networks as ranked on a sample, and the result of the trials with the chosen ones"
    )
    return Table(title, (*headers, ranked_by(record)), rows, frozenset({1, 2, 3, 4, 5}))


def _best(record: SweepRecord, standing: FamilyStanding) -> str:
    if standing.best is None:
        return "none"
    text = metric_text(record.metrics[0], standing.best.value)
    return f"{standing.best.ending} at {text}" if standing.best.state == PRUNED else text


def _why_none(record: SweepRecord, standing: FamilyStanding) -> str:
    """Return why a family has no result: it had no trial, or its last one ended without a value.

    The reasons for families that were left out are sentences, which stand beneath the table.
    """
    if not standing.trials:
        return "left out" if standing.family in record.left_out else "no trial"
    last = [t for t in record.trials if t.family == standing.family and t.state != RUNNING][-1]
    return f"{last.ending}: {last.reason}" if last.state == PRUNED and last.reason else last.state


def _count(number: int | None) -> str:
    return "" if number is None else str(number)
