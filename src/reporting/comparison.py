"""A verdict as a table with sentences, and as CSV."""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass

from src.reporting.tables import Table
from src.selection.verdict import Standing, Verdict

__all__ = ["Comparison", "comparison_csv", "format_comparison"]

_MOST_SHOWN = 15
_COLUMNS = (
    *("rank", "candidate", "accuracy", "low", "high", "spread", "log_loss"),
    *("calibration_error", "latency_ms", "tied", "runs"),
)


@dataclass(frozen=True)
class Comparison:
    """What was compared, and what came of it.

    Attributes:
        verdict: on the candidates.
        sentences: the same in words.
        part: whose stored predictions were compared.
        data: name of the data set.
        runs: compared.
        left_out: runs on other pictures.
        test_measurements: how often the test part of this split has been measured.
    """

    verdict: Verdict
    sentences: tuple[str, ...]
    part: str
    data: str
    runs: int
    left_out: int
    test_measurements: int


def format_comparison(comparison: Comparison, width: int = 100) -> str:
    """For a terminal: the best candidates, the verdict, and what it does not speak of."""
    standings = comparison.verdict.standings
    shown = standings[:_MOST_SHOWN]
    table = Table(
        title=f"Candidates on the {comparison.part} part of {comparison.data}, "
        f"{comparison.verdict.pictures:,} pictures",
        headers=(
            "rank",
            "accuracy",
            "95 % interval",
            "runs",
            "log-loss",
            "ms",
            "tied",
            "candidate",
        ),
        rows=tuple(_row(standing) for standing in shown),
        numbers=frozenset({0, 1, 3, 4, 5}),
    )
    parts = [table.text(width)]
    if len(standings) > len(shown):
        parts[0] += f"\n  and {len(standings) - len(shown)} more, in leaderboard.csv"
    parts.append("\n".join(comparison.sentences))
    if comparison.left_out:
        some = "One run" if comparison.left_out == 1 else f"{comparison.left_out} runs"
        parts.append(f"{some} on other pictures left out.")
    if comparison.test_measurements:
        times = comparison.test_measurements
        often = "once" if times == 1 else f"{times} times"
        parts.append(f"The test part of this split has been measured {often}.")
    return "\n\n".join(parts) + "\n"


def comparison_csv(comparison: Comparison) -> str:
    """All candidates, the best first."""
    stream = io.StringIO()
    rows = csv.writer(stream)
    rows.writerow(_COLUMNS)
    for one in comparison.verdict.standings:
        low, high = one.interval.low, one.interval.high
        known = (one.accuracy, low, high, one.spread, one.log_loss, one.calibration_error, one.cost)
        rows.writerow([one.rank, one.name, *known, one.tied, " ".join(one.run_ids)])
    return stream.getvalue()


def _row(standing: Standing) -> tuple[str, ...]:
    return (
        str(standing.rank),
        f"{100 * standing.accuracy:.2f} %",
        str(standing.interval),
        str(len(standing.run_ids)),
        f"{standing.log_loss:.3f}",
        "" if standing.cost is None else f"{standing.cost:.2f}",
        "yes" if standing.tied else "",
        standing.name,
    )
