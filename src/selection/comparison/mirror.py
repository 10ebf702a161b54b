"""The comparison's own run in MLflow, beside the runs that it compares."""

from __future__ import annotations

import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from src.config.checks import to_plain
from src.config.finished import ComparisonSettings
from src.reporting.comparison import Comparison
from src.selection.comparison.read_runs import read_settings
from src.tracking.provenance import Provenance
from src.tracking.spool import last_start
from src.tracking.tracker import Tracker

__all__ = ["begun"]

_NOT_PARAMS = ("output_dir", "tracking")


@contextmanager
def begun(
    comparison: Comparison,
    folder: Path,
    settings: ComparisonSettings,
    warn: Callable[[str], None] | None = None,
) -> Iterator[Tracker]:
    """Record the comparison as a run that is mirrored where its runs are, and goes on.

    Asked again, the same question goes on with the same run. Its description there is the verdict.
    It begins before the report is written, so that the mirror's import of MLflow, which takes
    longer, goes on meanwhile.

    Args:
        comparison: the answer.
        folder: of the comparison.
        settings: the question.
        warn: shows a line to a person; None for standard error.

    Yields:
        what is to be told of the files that the comparison leaves there, and of its end, unless
        that is an exception.

    Raises:
        ConfigError: another process is comparing into the same folder.
        OSError: the folder cannot be written.
    """
    home = _home(comparison)
    verdict, plain = comparison.verdict, to_plain(settings)
    provenance = Provenance.read()
    tracker = Tracker.start(
        folder,
        output_dir=Path(settings.output_dir),
        uri=settings.tracking.uri or home.uri,
        experiment=settings.experiment or home.experiment,
        run_id=str(last_start(folder).get("run_id") or uuid.uuid4().hex),
        run_name=f"compare-{folder.name}",
        params={k: v for k, v in plain.items() if k not in _NOT_PARAMS},
        tags=provenance.tags()
        | {
            "bakeoff.kind": "compare",
            "bakeoff.data": comparison.data,
            "bakeoff.winner": verdict.winner.name,
            "bakeoff.tied": ", ".join(one.name for one in verdict.tied),
            "mlflow.note.content": _description(comparison),
        },
        enabled=settings.tracking.enabled and home.tracked,
        warn=warn,
    )
    figures = {
        "winner/accuracy": verdict.winner_accuracy,
        "winner/accuracy_low": verdict.winner.interval.low,
        "winner/accuracy_high": verdict.winner.interval.high,
        "compared/candidates": float(len(verdict.standings)),
        "compared/pictures": float(verdict.pictures),
        "compared/runs": float(comparison.runs),
        "compared/tied": float(len(verdict.tied)),
    }
    tracker.metrics(figures, step=0, final=True)
    try:
        yield tracker
    except Exception as error:
        tracker.finish("FAILED", f"{type(error).__name__}: {error}")
        raise


class _Home(NamedTuple):
    """Where runs are mirrored, if they are."""

    tracked: bool
    uri: str | None
    experiment: str


def _home(comparison: Comparison) -> _Home:
    """Where most of the runs of the candidates tied with the best are mirrored."""
    said: Counter[_Home] = Counter()
    for one in comparison.entrants:
        if one.standing.tied:
            for place in one.run_dirs:
                text = (Path(place) / "config.yaml").read_text(encoding="utf-8")
                tracking = read_settings(text)["tracking"]
                home = _Home(tracking["enabled"], tracking["uri"], tracking["experiment"])
                said[home] += 1
    return said.most_common(1)[0][0]


def _description(comparison: Comparison) -> str:
    """As Markdown, in which MLflow shows it."""
    said = [*comparison.sentences, " ".join(comparison.closing)]
    return "\n\n".join(said)
