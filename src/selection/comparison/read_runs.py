"""Finished runs, as far as comparing reads them."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from src.config.finished import ComparisonSettings
from src.records.run import Predictions, RunSummary
from src.runs.folder import RunFolder
from src.runs.seal import Seal, read_checked, read_seal
from src.selection.comparison.names import candidate_settings, configuration
from src.statistics.candidates import Measured

__all__ = ["FinishedRun", "read_runs", "read_settings"]

# The C reader takes a tenth of the time, which a thousand runs show.
_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_GROUP = re.compile(r"^(?=\w+:)", re.MULTILINE)
# More than there are: repeats of a cross-validation are told apart by what lies above.
_SEEDS = 2**31
_NO_SETTINGS = "its config.yaml holds no settings"


@dataclass(frozen=True, eq=False)
class FinishedRun:
    """A run with stored predictions.

    Attributes:
        settings: all of them, as nested as they are written.
        known: those of the candidate, by dotted key.
        repeats: what the predictions say, under the model's name; once for each repeat of a
            cross-validation, because the mean over repeats is better than any model one would use.
        changes: of its files since it was sealed, where they are used all the same.
    """

    folder: RunFolder
    summary: RunSummary
    settings: Mapping[str, Any]
    known: Mapping[str, Any]
    repeats: tuple[Measured, ...]
    changes: tuple[str, ...] = ()

    @property
    def measured(self) -> Measured:
        """What its predictions say, those of the first repeat."""
        return self.repeats[0]

    @property
    def folds(self) -> int | None:
        """How many of a cross-validation, whose predictions are out of fold; None of a split."""
        folds: int | None = self.settings.get("cv", {}).get("folds")
        return folds

    @property
    def pictures(self) -> tuple[str | None, str, str]:
        """Equal for runs that were trained and measured on the same pictures."""
        return self.summary.split_fingerprint, self.measured.pictures, self.measured.labels


def read_runs(
    folders: Iterable[RunFolder], settings: ComparisonSettings
) -> tuple[list[FinishedRun], list[str]]:
    """Those of the runs that finished and have predictions of the part that is compared.

    Returns:
        the runs, and a sentence for each that is damaged.
    """
    found = [_read(folder, settings) for folder in folders]
    runs = [run for run in found if isinstance(run, FinishedRun)]
    return runs, [problem for problem in found if isinstance(problem, str)]


def read_settings(text: str) -> dict[str, Any]:
    """The settings that a run's config.yaml holds.

    Most groups are the same in most runs, so each is read once and kept.

    Raises:
        yaml.YAMLError: it is no YAML.
        ValueError: it holds no settings.
    """
    return {key: value for group in _groups(text) for key, value in group.plain.items()}


class _Group(NamedTuple):
    """Settings as they are nested, and what of them a candidate's repeats share."""

    plain: dict[str, Any]
    known: dict[str, Any]


def _groups(text: str) -> list[_Group]:
    try:
        groups = [_group(part) for part in _GROUP.split(text) if part]
    except yaml.YAMLError:  # a group that refers to another one
        groups = [_group(text)]
    if not groups:
        raise ValueError(_NO_SETTINGS)
    return groups


@lru_cache(maxsize=1 << 14)
def _group(text: str) -> _Group:
    plain = yaml.load(text, _LOADER)
    if not isinstance(plain, dict):
        raise ValueError(_NO_SETTINGS)
    return _Group(plain, candidate_settings(plain))


def _read(folder: RunFolder, settings: ComparisonSettings) -> FinishedRun | str | None:
    """None for a run that did not finish, has no predictions of the part, or is on other data."""
    record = _Record(folder, settings.changed)
    try:
        summary = RunSummary.parse(record.read(folder.summary), folder.summary)
        if summary.status != "FINISHED" or settings.data not in (None, summary.data):
            return None
        groups = _groups(record.read(folder.config).decode())
        plain = {key: value for group in groups for key, value in group.plain.items()}
        if settings.runs is None and _is_fold(plain):
            return None
        known = {key: value for group in groups for key, value in group.known.items()}
        repeats = tuple(
            Measured.of(
                Predictions.parse(record.read(file), file, with_paths=False),
                run_id=folder.run_id,
                configuration=configuration(known),
                name=summary.model,
                seed=summary.seed + repeat * _SEEDS,
                part=settings.part,
                split_fingerprint=summary.split_fingerprint,
                cost=_finite(summary.metrics.get("cost/latency_ms")),
            )
            for repeat, file in enumerate(_predictions(folder, settings.part))
        )
    except FileNotFoundError:
        return None
    except (OSError, ValueError, yaml.YAMLError) as error:
        return f"{folder.path} is left out, as it cannot be read: {str(error).rstrip('.')}."
    return FinishedRun(folder, summary, plain, known, repeats, tuple(record.changes))


class _Record:
    """The files of a run's folder, each checked against the folder's seal when it is read.

    Args:
        folder: of the run.
        changed: "refuse", or "use" to note in `changes` what was changed and go on.

    Raises:
        ValueError: by `read`, for a file that was changed and is refused, and a damaged seal.
    """

    def __init__(self, folder: RunFolder, changed: str) -> None:
        self._folder = folder
        self._use = changed == "use"
        self._sealed: Seal | None = None
        self._looked = False
        self.changes: list[str] = []

    def read(self, path: Path) -> bytes:
        """The content of a file."""
        if not self._looked:
            self._sealed, self._looked = self._seal(), True
        content, fault = read_checked(self._folder.path, path, self._sealed)
        if fault is not None:
            self._note(f"{fault} since it was sealed")
        return content

    def _seal(self) -> Seal | None:
        try:
            sealed = read_seal(self._folder.path)
        except ValueError as error:
            self._note(str(error))
            return None
        if sealed is not None and sealed.identity not in (None, _identity(self._folder)):
            self._note("run.json has another run's id or name since it was sealed")
        return sealed

    def _note(self, change: str) -> None:
        if not self._use:
            raise ValueError(f"{change} (changed=use takes it all the same)")
        self.changes.append(change)


def _identity(folder: RunFolder) -> dict[str, str]:
    return {"run_id": folder.run_id, "name": folder.name}


def _predictions(folder: RunFolder, part: str) -> list[Path]:
    """Of the part, a file for each repeat of a cross-validation."""
    repeats = folder.predictions.glob(f"{part}-repeat*.parquet")
    return sorted(repeats, key=lambda file: (len(file.name), file)) or [
        folder.predictions / f"{part}.parquet"
    ]


def _is_fold(plain: Mapping[str, Any]) -> bool:
    """Whether it is a fold of a cross-validation, whose own run speaks for all its folds."""
    return plain.get("cv", {}).get("fold") is not None


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None
