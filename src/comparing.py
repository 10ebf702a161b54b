"""From run folders to a verdict: which runs, which of them repeat each other, what they said."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import yaml

from src.config.after import CompareSettings
from src.config.checks import ConfigError
from src.config.compose import leaves
from src.files import write_atomically
from src.records import Predictions, RunSummary
from src.reporting.comparison import Comparison, comparison_csv
from src.run_folder import RunFolder
from src.selection.candidates import Measured, candidates_of
from src.selection.sentences import sentences_of
from src.selection.verdict import judge

__all__ = ["compared", "write_comparison"]

# Of a run's settings: where it was kept, how it was carried out, and what repeats change.
_NOT_THE_CANDIDATE = (
    *("output_dir", "resume", "seed", "evaluate_test", "find_lr", "tracking.", "runtime."),
    *("trainer.progress", "trainer.accelerator", "data.cache_dir", "data.cache_limit_gb"),
    *("data.num_workers", "data.download"),
)
_MOST_DIFFERENCES = 3


@dataclass(frozen=True)
class _Run:
    """A finished run, as far as comparing reads it."""

    folder: RunFolder
    summary: RunSummary
    settings: Mapping[str, Any]  # of the candidate, by dotted key

    @property
    def configuration(self) -> str:
        """Equal for runs that differ in nothing but the seed."""
        text = json.dumps(self.settings, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()


def compared(settings: CompareSettings) -> Comparison:
    """Read the runs and judge them.

    Raises:
        ConfigError: no such runs, or none that were measured on the same pictures.
    """
    output_dir = Path(settings.output_dir).absolute()
    found = [run for folder in _folders(settings, output_dir) if (run := _read(folder, settings))]
    if not found:
        raise ConfigError(
            f"there is no finished run to compare in {output_dir} (with stored predictions of the "
            f"{settings.part} part)."
        )
    split, count = Counter(run.summary.split_fingerprint for run in found).most_common(1)[0]
    left_out = len(found) - count
    if left_out and settings.runs is not None:
        raise ConfigError(
            "runs: they were measured on different pictures, so no difference between them would "
            "mean anything: name runs of one split."
        )
    chosen = [run for run in found if run.summary.split_fingerprint == split]
    names = _names(chosen)
    try:
        candidates = candidates_of(_measured(run, settings.part, names) for run in chosen)
        verdict = judge(candidates)
    except ValueError as error:
        raise ConfigError(f"compare: {error}") from error
    measurements = max((run.summary.test_measurements or 0 for run in chosen), default=0)
    return Comparison(
        verdict=verdict,
        sentences=sentences_of(verdict),
        part=settings.part,
        data=chosen[0].summary.data,
        runs=len(chosen),
        left_out=left_out,
        test_measurements=measurements,
    )


def write_comparison(comparison: Comparison, settings: CompareSettings) -> list[Path]:
    """`leaderboard.json` and `leaderboard.csv`, in a folder for what was compared.

    Raises:
        OSError: it cannot be written.
    """
    name = settings.sweep or settings.data or ("runs" if settings.runs else "all")
    folder = Path(settings.output_dir).absolute() / "compare" / name
    contents = {
        "leaderboard.json": json.dumps(asdict(comparison), indent=1, default=str) + "\n",
        "leaderboard.csv": comparison_csv(comparison),
    }
    for file, content in contents.items():
        write_atomically(folder / file, content)
    return [folder / file for file in contents]


def _folders(settings: CompareSettings, output_dir: Path) -> Iterator[RunFolder]:
    try:
        if settings.runs is not None:
            yield from (RunFolder.find(run, output_dir) for run in settings.runs)
        elif settings.sweep is not None:
            yield from (RunFolder.open(path) for path in _of_sweep(output_dir, settings.sweep))
        else:
            for path in sorted((output_dir / "runs").glob("*/run.json")):
                yield RunFolder.open(path.parent)
    except ConfigError:
        raise
    except ValueError as error:
        raise ConfigError(f"runs: {error}.") from error


def _of_sweep(output_dir: Path, study: str) -> list[Path]:
    """The runs of a study's trials and finalists that are still there."""
    record = output_dir / "sweeps" / study / "sweep.json"
    try:
        plain = json.loads(record.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(f"sweep is {study!r}: there is no {record} to read.") from error
    named = [trial["run_dir"] for trial in plain["trials"]]
    named += [path for finalist in plain["finalists"] for path in finalist["run_dirs"].values()]
    return [Path(path) for path in named if path and (Path(path) / "run.json").is_file()]


def _read(folder: RunFolder, settings: CompareSettings) -> _Run | None:
    """None for a run that did not finish, has no predictions of the part, or is on other data."""
    if not (folder.predictions / f"{settings.part}.parquet").is_file():
        return None
    try:
        summary = RunSummary.read(folder.summary)
        # The C reader takes a tenth of the time, which a thousand runs show.
        loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
        plain = yaml.load(folder.config.read_text(encoding="utf-8"), loader)
    except (OSError, ValueError, yaml.YAMLError):
        return None
    if summary.status != "FINISHED" or settings.data not in (None, summary.data):
        return None
    known = {k: v for k, v in leaves(plain).items() if not k.startswith(_NOT_THE_CANDIDATE)}
    return _Run(folder, summary, known)


def _measured(run: _Run, part: str, names: Mapping[str, str]) -> Measured:
    return Measured.of(
        Predictions.read(run.folder.predictions / f"{part}.parquet"),
        run_id=run.folder.run_id,
        configuration=run.configuration,
        name=names[run.configuration],
        seed=run.summary.seed,
        part=part,
        split_fingerprint=run.summary.split_fingerprint,
        cost=run.summary.metrics.get("cost/latency_ms"),
    )


def _names(runs: Sequence[_Run]) -> dict[str, str]:
    """Of each configuration: its model, and what sets it apart from others of that model."""
    names: dict[str, str] = {}
    by_model: dict[str, dict[str, _Run]] = {}
    for run in runs:
        by_model.setdefault(run.summary.model, {})[run.configuration] = run
    for model, configurations in by_model.items():
        values = [run.settings for run in configurations.values()]
        differing = [
            key
            for key in values[0]
            if len({json.dumps(one.get(key)) for one in values}) > 1 and "_target_" not in key
        ]
        for configuration, run in configurations.items():
            told = [f"{key}={run.settings.get(key)}" for key in differing[:_MOST_DIFFERENCES]]
            mark = f" #{configuration[:4]}" if len(differing) > _MOST_DIFFERENCES else ""
            names[configuration] = " ".join([model, *told]) + mark
    return names
