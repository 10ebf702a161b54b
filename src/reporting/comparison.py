"""A verdict as a table with sentences, as CSV, and as plain values."""

from __future__ import annotations

import csv
import io
import math
from dataclasses import asdict, dataclass
from typing import Any

from src.machine.text import csv_row
from src.reporting.formatting import count, duration, mean_text, measured
from src.reporting.tables import Table
from src.statistics.fold_tests import FoldTest
from src.statistics.mcnemar import McNemar
from src.statistics.verdict import Standing, Verdict

__all__ = [
    "Comparison",
    "Entrant",
    "Pair",
    "comparison_csv",
    "comparison_plain",
    "comparison_table",
    "format_comparison",
]

_MOST_SHOWN = 15
# Log-loss and calibration error are the spread's and the interval's company: all of one part.
_COLUMNS = (
    *("rank", "candidate", "family", "accuracy", "spread", "low", "high", "runs"),
    *(
        "log_loss",
        "calibration_error",
        "size",
        "start",
        "weights",
        "parameters",
        "latency_ms",
        "training_seconds",
        "tied",
    ),
)


@dataclass(frozen=True)
class Entrant:
    """A candidate with what the verdict has no use for.

    Attributes:
        standing: of the candidate.
        family: its kind of model.
        size: (H, W) in pixels of the pictures that it takes, None where that is not known.
        start, weights: see `RunSummary`.
        parameters: of its network, None where that is not known.
        training_seconds: of one training, mean over the repeats; None where nobody measured.
        run_dirs: folders of its repeats, in the order of `standing.run_ids`.
        command: the command line that repeats the first of them.
    """

    standing: Standing
    family: str
    size: tuple[int, int] | None
    start: str | None
    weights: str | None
    parameters: int | None
    training_seconds: float | None
    run_dirs: tuple[str, ...]
    command: str


@dataclass(frozen=True)
class Pair:
    """Two runs by name, and the test of them.

    Attributes:
        first, second: their names.
        test: of two trained networks.
        over_folds: of two cross-validations; of the two tests one is there.
    """

    first: str
    second: str
    test: McNemar | None
    over_folds: FoldTest | None

    @property
    def sentence(self) -> str:
        """The outcome, with what it is about."""
        if self.over_folds is not None:
            return self.over_folds.sentence(self.first, self.second)
        return "" if self.test is None else self.test.sentence(self.first, self.second)


@dataclass(frozen=True)
class Comparison:
    """What was compared, and what came of it.

    Attributes:
        verdict: on the candidates.
        entrants: the same candidates in the same order.
        pair: where two runs were compared, and no more.
        sentences: the verdict and the pair in words.
        remarks: what was left out, a sentence each.
        part: whose stored predictions were compared.
        data: name of the data set.
        runs: compared.
        test_measurements: how often the test part of this split has been measured.
        cross_validated: whether the predictions are those of folds, each of its held-out pictures.
    """

    verdict: Verdict
    entrants: tuple[Entrant, ...]
    pair: Pair | None
    sentences: tuple[str, ...]
    remarks: tuple[str, ...]
    part: str
    data: str
    runs: int
    test_measurements: int
    cross_validated: bool = False

    @property
    def where(self) -> str:
        """What the candidates were measured on, in words."""
        if self.cross_validated:
            return f"{self.data}, each picture held out once"
        return f"the {self.part} part of {self.data}"

    @property
    def closing(self) -> tuple[str, ...]:
        """What a reader should know beside the verdict."""
        if not self.test_measurements:
            return (*self.remarks, "The test part of this split has not been measured.")
        times = measured(self.test_measurements).removesuffix(" on this split")
        return (*self.remarks, f"The test part of this split has been measured {times}.")


def format_comparison(comparison: Comparison, width: int = 100) -> str:
    """For a terminal: the best candidates, the verdict, and what it does not speak of."""
    table = comparison_table(comparison, _MOST_SHOWN)
    parts = [table.text(width)]
    if more := len(comparison.entrants) - len(table.rows):
        parts[0] += f"\n  and {more} more, in leaderboard.csv"
    parts += ["\n".join(comparison.sentences), "\n".join(comparison.closing)]
    return "\n\n".join(parts) + "\n"


def comparison_table(comparison: Comparison, most: int | None = None) -> Table:
    """The candidates in order, or the first of them; the spread is a standard deviation."""
    headers = (
        *("rank", "accuracy", "95 % interval", "runs", "log-loss", "calib."),
        *("size", "start", "params", "ms", "trained", "tied", "candidate"),
    )
    return Table(
        title=f"Candidates on {comparison.where}, {comparison.verdict.pictures:,} pictures",
        headers=headers,
        rows=tuple(_row(one) for one in comparison.entrants[:most]),
        numbers=frozenset({0, 3, 4, 5, 8, 9, 10}),
    )


def comparison_csv(comparison: Comparison) -> str:
    """All candidates, the best first; what is not known is left empty."""
    stream = io.StringIO()
    columns = [*_COLUMNS, "run_ids", "command"]
    rows = csv.writer(stream, lineterminator="\n")
    rows.writerow(columns)
    for one in comparison.entrants:
        known = _candidate(one) | {"run_ids": " ".join(one.standing.run_ids)}
        rows.writerow(csv_row(known[column] for column in columns))
    return stream.getvalue()


def comparison_plain(comparison: Comparison) -> dict[str, Any]:
    """All of it in plain values that JSON knows; what is not known is null."""
    verdict = comparison.verdict
    return {
        "data": comparison.data,
        "part": comparison.part,
        "cross_validated": comparison.cross_validated,
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
        "enough": None if verdict.enough is None else asdict(verdict.enough),
        "pair": None if comparison.pair is None else asdict(comparison.pair),
        "sentences": list(comparison.sentences),
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
