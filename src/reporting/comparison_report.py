"""The text of a comparison: the verdict in sentences, the candidates as table, CSV and JSON."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from src.machine.text import csv_text
from src.records.comparison import Comparison, Entrant, FoldTest, Pair, Standing, Verdict
from src.reporting.formatting import Table, count, duration, mean_text, measured

__all__ = [
    "closing_remarks",
    "comparison_csv",
    "comparison_plain",
    "comparison_table",
    "format_comparison",
    "pair_sentence",
    "pictures_compared",
    "verdict_sentences",
]

_MOST_SHOWN = 15
# A longer list of names helps nobody: the leaderboard has them all, by rank.
_NAMED_AT_MOST, _LETTERS_AT_MOST = 5, 120
# Half of the last digit that is shown.
_NOT_WORTH_SAYING = 0.0005
_TRAININGS = ("the trained networks", "these folds and trainings")
_ONCE = ("Trained once", "Cross-validated once")


# Log-loss and calibration error follow the interval: all of them are measured on one part.
_COLUMNS = (
    *("rank", "candidate", "family", "accuracy", "spread", "low", "high", "runs"),
    *("log_loss", "calibration_error", "size", "start", "weights", "parameters"),
    *("latency_ms", "training_seconds", "tied"),
)


def verdict_sentences(comparison: Comparison) -> tuple[str, ...]:
    """Return the verdict in sentences: winner, doubt, choice, data needed and scope."""
    verdict, folds = comparison.verdict, comparison.folds
    said = [_winner(verdict, folds), _corrected(verdict)]
    if len(verdict.standings) > 1:
        said += [_tied(verdict), _difference(verdict, folds), _choice(verdict), _need(verdict)]
    said += [_seeds(verdict), _about(verdict, folds)]
    if comparison.pair is not None:
        said.append(pair_sentence(comparison.pair))
    return tuple(filter(None, said))


def pair_sentence(pair: Pair, level: float = 0.05) -> str:
    """Return the outcome of the test of two runs, and what it is about; "" without a test.

    Args:
        pair: of two runs.
        level: p-value up to which they differ.
    """
    test = pair.over_folds or pair.test
    if test is None:
        return ""
    p_value = test.p_value
    verdict = "differ" if p_value <= level else "cannot be told apart"
    if isinstance(test, FoldTest):
        ends = test.interval
        outcome = (
            f"{verdict} over the folds: the first is ahead by "
            f"{100 * test.difference:.2f} points ({100 * ends.low:.2f} to "
            f"{100 * ends.high:.2f}; corrected resampled t, p = {p_value:.2g})."
        )
        if pair.repeats:
            return (
                f"Two cross-validations of one configuration, {pair.first} and {pair.second}, "
                f"{outcome} They differ in nothing but the seed."
            )
        return f"The configurations {pair.first} and {pair.second} {outcome}"
    scope = (
        "They are repeats of one configuration, so only their seeds differ."
        if pair.repeats
        else "This compares two trained networks; trained again with other seeds, the two "
        "configurations may compare differently."
    )
    return (
        f"The trained networks {pair.first} and {pair.second} {verdict}: {test.first_alone} "
        f"pictures only the first has right, {test.second_alone} only the second (McNemar's "
        f"exact test, p = {p_value:.2g}). {scope}"
    )


def pictures_compared(comparison: Comparison) -> str:
    """Return which pictures the candidates were measured on, as a noun phrase."""
    if comparison.folds is not None:
        return f"{comparison.data}, each picture held out once"
    return f"the {comparison.part} part of {comparison.data}"


def closing_remarks(comparison: Comparison) -> tuple[str, ...]:
    """Return what was left out, and how often the test part of the split has been measured."""
    if not comparison.test_measurements:
        return (*comparison.remarks, "The test part of this split has not been measured.")
    times = measured(comparison.test_measurements).removesuffix(" on this split")
    return (*comparison.remarks, f"The test part of this split has been measured {times}.")


def format_comparison(comparison: Comparison, width: int = 100) -> str:
    """Return the text for a terminal: the best candidates, the verdict, and what was left out."""
    table = comparison_table(comparison, _MOST_SHOWN)
    parts = [table.text(width)]
    if more := len(comparison.entrants) - len(table.rows):
        parts[0] += f"\n  and {more} more, in leaderboard.csv"
    parts += ["\n".join(verdict_sentences(comparison)), "\n".join(closing_remarks(comparison))]
    return "\n\n".join(parts) + "\n"


def comparison_table(comparison: Comparison, most: int | None = None) -> Table:
    """Return the candidates in order, or the first of them, with standard deviations as spread."""
    headers = (
        *("rank", "accuracy", "95 % interval", "runs", "log-loss", "calib."),
        *("size", "start", "params", "ms", "trained", "tied", "candidate"),
    )
    pictures = comparison.verdict.pictures
    return Table(
        title=f"Candidates on {pictures_compared(comparison)}, {pictures:,} pictures",
        headers=headers,
        rows=tuple(_row(one) for one in comparison.entrants[:most]),
        numbers=frozenset({0, 3, 4, 5, 8, 9, 10}),
    )


def comparison_csv(comparison: Comparison) -> str:
    """Return all candidates as CSV, the best first; unknown values are left empty."""
    columns = [*_COLUMNS, "run_ids", "command"]
    rows = (
        _candidate(one) | {"run_ids": " ".join(one.standing.run_ids)} for one in comparison.entrants
    )
    return csv_text(columns, [[known[column] for column in columns] for known in rows])


def comparison_plain(comparison: Comparison) -> dict[str, Any]:
    """Return all of it as values that JSON can hold; unknown ones are null."""
    verdict = comparison.verdict
    return {
        "data": comparison.data,
        "part": comparison.part,
        "cross_validated": comparison.folds is not None,
        "pictures": verdict.pictures,
        "runs": comparison.runs,
        "test_measurements": comparison.test_measurements,
        "winner": verdict.winner.name,
        "winner_accuracy": verdict.winner_accuracy,
        "tied": [one.name for one in verdict.tied],
        "cheapest": None if verdict.cheapest is None else verdict.cheapest.name,
        "choice": verdict.choice.name,
        "difference": None if verdict.difference is None else asdict(verdict.difference),
        "of_configurations": verdict.of_configurations,
        "seed_share": verdict.seed_share,
        "enough": None if verdict.power is None else asdict(verdict.power),
        "pair": None if comparison.pair is None else asdict(comparison.pair),
        "sentences": list(verdict_sentences(comparison)),
        "remarks": list(comparison.remarks),
        "candidates": [
            _candidate(one)
            | {
                "behind": asdict(one.standing.behind),
                "run_ids": list(one.standing.run_ids),
                "run_dirs": list(one.run_dirs),
            }
            for one in comparison.entrants
        ],
    }


def _candidate(one: Entrant) -> dict[str, Any]:
    standing = one.standing
    known = {
        "rank": standing.rank,
        "candidate": standing.name,
        "family": one.family,
        "accuracy": standing.accuracy,
        "spread": standing.spread,
        "low": standing.interval.low,
        "high": standing.interval.high,
        "runs": len(standing.run_ids),
        "log_loss": standing.log_loss,
        "calibration_error": standing.calibration_error,
        "size": None if one.size is None else "x".join(map(str, one.size)),
        "start": one.start,
        "weights": one.weights,
        "parameters": one.parameters,
        "latency_ms": standing.cost,
        "training_seconds": one.training_seconds,
        "tied": standing.tied,
        "command": one.command,
    }
    # JSON knows no NaN.
    return {k: None if isinstance(v, float) and math.isnan(v) else v for k, v in known.items()}


def _row(one: Entrant) -> tuple[str, ...]:
    standing = one.standing
    return (
        str(standing.rank),
        mean_text("accuracy", standing.accuracy, standing.spread),
        str(standing.interval),
        str(len(standing.run_ids)),
        f"{standing.log_loss:.3f}",
        f"{100 * standing.calibration_error:.1f} %",
        "" if one.size is None else "x".join(map(str, one.size)),
        one.start or "",
        "" if one.parameters is None else count(one.parameters),
        "" if standing.cost is None else f"{standing.cost:.3g}",
        "" if one.training_seconds is None else duration(one.training_seconds),
        "yes" if standing.tied else "",
        standing.name,
    )


def _winner(verdict: Verdict, folds: int | None) -> str:
    winner, repeats = verdict.winner, len(verdict.winner.run_ids)
    field = len(verdict.standings)
    first = "is the only candidate" if field == 1 else f"comes first of {field} candidates"
    trained = "trained once" if repeats == 1 else f"the mean of {repeats} trainings"
    if folds is not None:
        trained = f"each when it was held out as one of {folds} folds"
        trained += "" if repeats == 1 else f", the mean of {repeats} repeats"
    return (
        f"{winner.name} {first}: {_percent(winner.accuracy)} of {verdict.pictures:,} pictures "
        f"right, {trained}."
    )


def _corrected(verdict: Verdict) -> str:
    winner = verdict.winner
    within = f"{100 * winner.interval.low:.1f} and {_percent(winner.interval.high)} (95 % interval)"
    if winner.accuracy - verdict.winner_accuracy < _NOT_WORTH_SAYING:
        return f"Its true accuracy lies between {within}."
    return (
        f"The first of many is partly first by luck: corrected for that its accuracy is "
        f"{_percent(verdict.winner_accuracy)}, and the true one lies between {within}."
    )


def _tied(verdict: Verdict) -> str:
    others = [one for one in verdict.tied if one.name != verdict.winner.name]
    if not others:
        return "It is better than every other candidate, with 95 % confidence for all at once."
    return (
        f"It cannot be told from {_which(others)}: with 95 % confidence the truly best is one of "
        f"these {len(verdict.tied)}."
    )


def _difference(verdict: Verdict, folds: int | None) -> str:
    # Of two cross-validations the folds themselves tell (see `folds`).
    if verdict.difference is None or folds is not None:
        return ""
    ahead = verdict.standings[0].accuracy - verdict.standings[1].accuracy
    measured = f"It is {100 * ahead:.1f} points ahead" if ahead else "The two are level"
    return (
        f"{measured}; the true difference lies between "
        f"{100 * verdict.difference.low:.1f} and {100 * verdict.difference.high:.1f} points "
        "(95 % interval)."
    )


def _choice(verdict: Verdict) -> str:
    cheapest = verdict.cheapest
    if cheapest is None or len(verdict.tied) == 1:
        return ""
    if cheapest.name == verdict.winner.name:
        return "It is also the cheapest of them."
    if cheapest.name == verdict.choice.name:
        return f"The cheapest of them is {cheapest.name}, within one standard error of it."
    behind = 100 * (verdict.winner.accuracy - cheapest.accuracy)
    near = verdict.choice.name
    if near == verdict.winner.name:
        near = f"{near} itself"
    return (
        f"The cheapest of them is {cheapest.name}, {behind:.1f} points behind; of those within one "
        f"standard error of the winner it is {near}."
    )


def _need(verdict: Verdict) -> str:
    power = verdict.power
    if power is None or len(verdict.tied) == 1:
        return ""
    reach = (
        f"With the pictures and repeats there are, a difference of "
        f"{100 * power.smallest_gap:.1f} points between the best two would be found four times "
        "out of five"
    )
    if power.pictures is None:
        return f"{reach}; on these pictures they are level."
    repeats = f" and {power.repeats} repeats of each" if power.repeats > 1 else ""
    return (
        f"{reach}; theirs is {100 * power.gap:.2f} points, and if that is the true one, some "
        f"{_rounded(power.pictures):,} pictures{repeats} are needed to find it."
    )


def _seeds(verdict: Verdict) -> str:
    if verdict.seed_share is None or verdict.seed_share <= 0.5:
        return ""
    return (
        f"Seeds make most of what is unsure about {verdict.winner.name} "
        f"({100 * verdict.seed_share:.0f} %): more repeats would tell more than more pictures."
    )


def _about(verdict: Verdict, folds: int | None) -> str:
    if not verdict.of_configurations:
        return (
            f"Without repeats to judge by, all of this is about {_TRAININGS[folds is not None]}: "
            "what the same configurations give with other seeds is not known."
        )
    if verdict.borrowed:
        borrowed = [one for one in verdict.standings if one.name in verdict.borrowed]
        return (
            f"{_ONCE[folds is not None]}: {_which(borrowed)}; what another seed would "
            "change there is judged by the candidates with repeats."
        )
    return ""


def _which(standings: Sequence[Standing]) -> str:
    """Their names, or where there are too many to read their ranks."""
    names = [one.name for one in standings]
    if len(names) <= _NAMED_AT_MOST and sum(map(len, names)) <= _LETTERS_AT_MOST:
        return _listed(names)
    runs: list[list[int]] = []
    for rank in sorted(one.rank for one in standings):
        if runs and rank == runs[-1][-1] + 1:
            runs[-1].append(rank)
        else:
            runs.append([rank])
    spans: list[str] = []
    for run in runs:
        spans += [f"{run[0]} to {run[-1]}"] if len(run) > 2 else map(str, run)
    return f"those ranked {_listed(spans)}"


def _listed(words: Sequence[str]) -> str:
    return f"{', '.join(words[:-1])} and {words[-1]}" if len(words) > 1 else words[0]


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def _rounded(count: int) -> int:
    """To two digits, as a forecast of this kind has no more."""
    step = 10 ** max(0, len(str(count)) - 2)
    return -(-count // step) * step
