"""Write a comparison into its folder, and record it as a run in MLflow."""

from __future__ import annotations

import hashlib
import json
import re
import uuid
from collections import Counter
from collections.abc import Iterator, Mapping
from concurrent.futures import BrokenExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from ...config.checks import to_plain
from ...config.finished import CompareSettings
from ...config.tracking import TrackingSettings
from ...machine.interruption import Interrupted
from ...machine.spare_cores import SpareCores
from ...metrics.registry import RANKING
from ...records.comparison import Comparison
from ...records.report_data import ReportData
from ...reporting.comparison_page import comparison_page
from ...reporting.comparison_report import closing_remarks, comparison_csv, comparison_plain
from ...reporting.comparison_verdict import verdict_sentences
from ...reporting.formatting import escaped
from ...storage.files import write_atomically
from ...tracking.events import last_start
from ...tracking.provenance import Provenance
from ...tracking.tracker import Tracker
from .candidate_settings import read_settings
from .report import gather, with_pictures

__all__ = ["comparison_folder", "tracked", "write_comparison"]

_NOT_PARAMS = ("output_dir", "tracking")
# Names of studies whose comparison would get the folder of a different one.
_QUALIFIERS = "|".join((*RANKING, "test", "(gap|costs|band|subgroup|changed)-.*"))
_LIKE_ANOTHER = re.compile(rf"all|(sweep|experiment|data|runs)-.*|(.*-)?({_QUALIFIERS})")


def write_comparison(
    comparison: Comparison,
    settings: CompareSettings,
    next_step: str | None = None,
    spare: SpareCores | None = None,
) -> Iterator[Path]:
    """Write `leaderboard.json`, `leaderboard.csv`, `report.html` and `figures/` in its folder.

    Args:
        comparison: to write.
        settings: that it was made with.
        next_step: the command that takes the choice, for the page; None where there is none.
        spare: for figures, which are drawn while the page is written where it has processes.

    Yields:
        the path of each file once it is written.

    Raises:
        OSError: it cannot be written.
        ConfigError: the predictions of a leader no longer exist.
    """
    folder = comparison_folder(settings)
    figures = folder / "figures"
    data = gather(comparison, settings)
    begun = [] if spare is None else spare.share(_draw, figures, data)
    data = with_pictures(data)
    contents = {
        "leaderboard.json": _json_text(comparison_plain(comparison)),
        "leaderboard.csv": comparison_csv(comparison),
        "report.html": comparison_page(data, next_step),
    }
    for file, content in contents.items():
        write_atomically(folder / file, content)
        yield folder / file
    drawn: list[Path] = []
    with suppress(BrokenExecutor):  # a process was killed, as for lack of memory
        drawn = [path for share in begun for path in share.result()]
    yield from (drawn := drawn or _draw(figures, data))
    for old in set(figures.glob("*.png")) - {*drawn}:  # of an earlier comparison
        old.unlink()


def _draw(folder: Path, data: ReportData, first: int = 0, step: int = 1) -> list[Path]:
    """Draw every step-th figure from the first one on."""
    # matplotlib takes half a second to import, which neither the verdict nor the page needs.
    from ...reporting.comparison_figures import draw_comparison_figures

    return [*draw_comparison_figures(folder, data, first, step)]


def _json_text(plain: Mapping[str, Any]) -> str:
    """Return a comparison as JSON, with a line for each candidate.

    Indented as a whole, a thousand take Python's own encoder ten times as long.
    """
    before = json.dumps({**plain, "candidates": []}, indent=1).removesuffix("[]\n}")
    lines = ",\n".join(f"  {json.dumps(one)}" for one in plain["candidates"])
    return f"{before}[\n{lines}\n ]\n}}\n"


def comparison_folder(settings: CompareSettings) -> Path:
    """Return the folder of a comparison: equal questions give the same, which is replaced."""
    kinds = {"experiment": settings.experiment, "data": settings.data}
    sweep = settings.sweep
    if sweep is not None and _LIKE_ANOTHER.fullmatch(sweep):
        sweep = f"sweep-{sweep}"
    asked = [sweep, *(f"{kind}-{name}" for kind, name in kinds.items() if name)]
    if settings.runs is not None or settings.filter is not None:
        chosen = "\n".join(settings.runs or [settings.filter or ""])
        asked.append(f"runs-{hashlib.sha256(chosen.encode()).hexdigest()[:6]}")
    if settings.part != "val":
        asked.append(settings.part)
    if settings.metric is not None:
        asked.append(settings.metric)
    usual = CompareSettings(tracking=settings.tracking)
    for key in ("costs", "gap", "band", "subgroup", "changed"):
        if (value := getattr(settings, key)) != getattr(usual, key):
            asked.append(f"{key}-{Path(value).stem if key == 'costs' else value}")
    name = "-".join(re.sub(r"[^\w.-]+", "_", one) for one in asked if one)
    return Path(settings.output_dir).absolute() / "compare" / (name or "all")


@contextmanager
def tracked(
    comparison: Comparison,
    folder: Path,
    settings: CompareSettings,
) -> Iterator[Tracker]:
    """Record the comparison as a run where its runs are mirrored.

    Equal settings continue the same run. Its description there is the verdict. It is started
    before the report is written, so that the mirror imports MLflow, which takes longer, meanwhile.

    Args:
        comparison: to record.
        folder: of the comparison.
        settings: that it was made with.

    Yields:
        the tracker, for the files of the comparison and its end; exceptions finish it as failed.

    Raises:
        ConfigError: another process is comparing into the same folder.
        OSError: the folder cannot be written.
    """
    home = _home(comparison)
    verdict, plain = comparison.verdict, to_plain(settings)
    provenance = Provenance.read()
    tracker = Tracker.start(
        folder,
        TrackingSettings(
            uri=settings.tracking.uri or home.uri,
            enabled=settings.tracking.enabled and home.enabled,
            experiment=settings.experiment or home.experiment,
            system_metrics_seconds=None,
        ),
        output_dir=Path(settings.output_dir),
        run_id=str(last_start(folder).get("run_id") or uuid.uuid4().hex),
        run_name=f"compare {folder.name}",
        tags=provenance.tags()
        | {
            "bakeoff.kind": "compare",
            "bakeoff.data": comparison.data,
            "bakeoff.winner": verdict.winner.name,
            "bakeoff.tied": ", ".join(one.name for one in verdict.tied),
            "mlflow.note.content": _description(comparison),
        },
        nice=False,
    )
    tracker.params({k: v for k, v in plain.items() if k not in _NOT_PARAMS})
    figures = {
        f"winner/{verdict.measure}": verdict.corrected,
        f"winner/{verdict.measure}_low": verdict.winner.interval.low,
        f"winner/{verdict.measure}_high": verdict.winner.interval.high,
        "compared/candidates": float(len(verdict.standings)),
        "compared/pictures": float(verdict.pictures),
        "compared/runs": float(comparison.runs),
        "compared/tied": float(len(verdict.tied)),
    }
    tracker.metrics(figures, step=0, final=True)
    try:
        yield tracker
    except Interrupted as stop:
        tracker.finish("KILLED", str(stop))
        raise
    except Exception as error:
        tracker.finish("FAILED", f"{type(error).__name__}: {error}")
        raise


def _home(comparison: Comparison) -> TrackingSettings:
    """Return where most runs of the candidates tied with the best are mirrored, if they are."""
    counts: Counter[TrackingSettings] = Counter()
    for one in comparison.entrants:
        if one.standing.tied:
            for place in one.run_dirs:
                text = (Path(place) / "config.yaml").read_text(encoding="utf-8")
                tracking = read_settings(text)[0]["tracking"]
                shared = {key: tracking[key] for key in ("enabled", "uri", "experiment")}
                counts[TrackingSettings(**shared)] += 1
    return counts.most_common(1)[0][0]


def _description(comparison: Comparison) -> str:
    """Return the verdict as Markdown, which MLflow shows."""
    closing = " ".join(closing_remarks(comparison))
    return "\n\n".join([*map(escaped, (*verdict_sentences(comparison), closing))])
