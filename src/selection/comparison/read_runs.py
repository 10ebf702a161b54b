"""Read what comparing needs of finished runs."""

from __future__ import annotations

import math
import threading
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from ...config.checks import ConfigError
from ...config.finished import ComparisonSettings
from ...data.sources.costs import CostTable
from ...data.splitting.splits import Split
from ...machine.parallel import available_cores, in_order
from ...machine.spare_cores import SpareCores
from ...machine.status import with_progress
from ...machine.text import counted
from ...metrics.roc import sides
from ...records.run import Predictions, RunSummary
from ...runs.folder import RunFolder
from ...runs.seal import NO_SEAL, SEAL, Seal, read_checked, read_seal
from ...statistics.candidates import Measure, MeasuredRun
from ...storage.digests import digest_of, file_state
from ...targets.kind import TargetKind
from .candidate_settings import configuration_of, read_settings

__all__ = [
    "FinishedRun",
    "picture_order",
    "picture_orders",
    "read_runs",
    "refuse_measure",
]

# Larger than any seed; multiples of it are added to those of further repeats of a cross-validation.
_SEEDS = 2**31
# Contents of split.csv by bytes and digest: runs on the same pictures have equal ones, and two are
# compared in a fifth of the time that a digest takes. Of a million pictures each is 50 MB.
_LATELY: dict[tuple[int, str] | None, bytes] = {}
_REMEMBERED = 4
_BUFFER = threading.local()
# Device, state, bytes and digest of files that were found equal to the sealed ones.
_UNCHANGED_FILES: set[tuple[int, tuple[int, ...], tuple[int, str] | None]] = set()


@dataclass(frozen=True, eq=False)
class FinishedRun:
    """A run with stored predictions.

    Attributes:
        settings: all of them, as nested as they are written.
        known: those of the candidate, by dotted key.
        repeats: its predictions reduced, under the model's name; one for each repeat of a
            cross-validation, because the mean over repeats is better than any single model.
        changes: of its files since it was sealed, where `changed=use` accepts them.
        listing: bytes and digest of its split.csv as it was sealed; None where it was not.
    """

    folder: RunFolder
    summary: RunSummary
    settings: Mapping[str, Any]
    known: Mapping[str, Any]
    repeats: tuple[MeasuredRun, ...]
    changes: tuple[str, ...] = ()
    listing: tuple[int, str] | None = None

    @property
    def measured(self) -> MeasuredRun:
        """The predictions of the first repeat, reduced."""
        return self.repeats[0]

    @property
    def target(self) -> str:
        """What a picture is labelled with; runs of older versions, which do not say, one class."""
        return str(self.settings.get("data", {}).get("target", "single"))

    @property
    def measure(self) -> str:
        """The measure that its scores are by."""
        return self.measured.scale.measure

    @property
    def folds(self) -> int | None:
        """Number of folds of a cross-validation, whose predictions are out of fold; else None."""
        folds: int | None = self.settings.get("cv", {}).get("folds")
        return folds

    @property
    def pictures(self) -> tuple[str | None, str, str]:
        """Equal for runs that were trained and measured on the same pictures."""
        return self.summary.split_fingerprint, self.measured.pictures, self.measured.labels


def read_runs(
    folders: Iterable[RunFolder],
    settings: ComparisonSettings,
    measure: str | None = None,
    costs: CostTable | None = None,
    spare: SpareCores | None = None,
) -> tuple[list[FinishedRun], list[str]]:
    """Read the runs that finished and have predictions of the part that is compared.

    Args:
        folders: of the runs.
        settings: of the comparison.
        measure: that candidates are ranked by; None for the primary one of each run's targets.
        costs: for the measure "cost".
        spare: to read many of them by; None for threads of this process.

    Returns:
        the runs, and sentences for those that are damaged and for those, unless they were named,
        that have no such measure or other classes than the costs.

    Raises:
        ConfigError: the costs are of other classes, or there is no such measure, of named runs or
            of all.
    """
    listed = list(folders)
    one = partial(_read, settings=settings, name=measure, costs=costs)
    # Decoding and checking leave other threads their turn.
    threads = partial(in_order, workers=available_cores())
    read = (threads if spare is None else spare.map)(one, listed)
    found = list(with_progress(read, len(listed), "runs read"))
    runs = [run for run in found if isinstance(run, FinishedRun)]
    others = [run for run in found if isinstance(run, ConfigError)]
    problems = [problem for problem in found if isinstance(problem, str)]
    if others and (settings.runs is not None or not runs):
        raise others[0]
    if others:
        some = counted(len(others), "run", begins=True)
        problems.append(f"{some} left out that cannot be judged so: {others[0]}")
    return runs, problems


def picture_orders(runs: Sequence[FinishedRun]) -> list[str]:
    """Return a hash for each run, equal for runs whose sample ids are of the same pictures.

    The pictures of equal splits are numbered otherwise where files were renamed, or a table has its
    lines in another order.

    Args:
        runs: of equal `pictures`.
    """
    listings = {run.listing for run in runs}
    if len(listings) == 1 and None not in listings:  # as nearly always
        return [""] * len(runs)
    found = {run.listing: picture_order(run) for run in runs if run.listing is not None}
    return [picture_order(run) if run.listing is None else found[run.listing] for run in runs]


def picture_order(run: FinishedRun) -> str:
    """Return a hash of the contents of a run's pictures by ascending id; "" where not known."""
    answers = run.folder.answers(run.measured.part)[0]
    try:
        hashes = Split.read(run.folder.split).content_hashes
        ids = Predictions.read(answers, with_paths=False).sample_ids
        return digest_of(hashes[np.sort(ids)].tobytes())
    except (OSError, ValueError, IndexError):
        return ""


def _read(
    folder: RunFolder, settings: ComparisonSettings, name: str | None, costs: CostTable | None
) -> FinishedRun | ConfigError | str | None:
    """Return None for a run that did not finish, lacks the predictions or has other data.

    A `ConfigError` for one that cannot be judged by the measure, or by the costs.
    """
    files = _SealedFiles(folder, settings.changed)
    try:
        summary = RunSummary.parse(files.read(folder.summary), folder.summary)
        if summary.status != "FINISHED" or settings.data not in (None, summary.data):
            return None
        files.check_seal(summary)
        plain, known = read_settings(files.read(folder.config).decode())
        # The run of the cross-validation has all predictions of its folds.
        if settings.runs is None and plain.get("cv", {}).get("fold") is not None:
            return None
        # Values that a run measured do not define a candidate, since repeats measure other ones.
        known |= dict.fromkeys(summary.found or (), "found")
        answers = folder.answers(settings.part)
        files.miss(f"predictions/{settings.part}-repeat", answers)
        predictions = [Predictions.parse(files.read(one), one, with_paths=False) for one in answers]
        files.check(folder.split)
        measured = partial(
            MeasuredRun.of,
            run_id=folder.run_id,
            configuration=configuration_of(known),
            name=summary.model,
            part=settings.part,
            split_fingerprint=summary.split_fingerprint,
            cost=_latency(summary),
            measure=_measure_of(predictions[0], name, costs, folder),
        )
        repeats = tuple(
            measured(one, seed=summary.seed + repeat * _SEEDS)
            for repeat, one in enumerate(predictions)
        )
    except FileNotFoundError as error:
        return files.lost(Path(error.filename))
    except ConfigError as error:
        return error
    except (OSError, ValueError, yaml.YAMLError) as error:
        return f"{folder.path} is left out, as it cannot be read: {str(error).rstrip('.')}."
    listing = files.sealed_as(folder.split)
    return FinishedRun(folder, summary, plain, known, repeats, tuple(files.changes), listing)


def _measure_of(
    predictions: Predictions, name: str | None, costs: CostTable | None, folder: RunFolder
) -> Measure:
    """Return the measure of this name, or for None the primary one of the kind of targets.

    Raises:
        ConfigError: the kind has no such measure, the pictures have no AUC, or the costs are of
            other classes.
    """
    kind = predictions.kind_of_targets
    if name is not None:
        refuse_measure(name, kind, folder)
    if name == "auc" and next(sides(predictions.probs, predictions.targets), None) is None:
        raise ConfigError(
            f"metric is auc, and each class has all pictures of {folder.name}, or none, so that "
            "there are no two to be told apart: name another metric."
        )
    table = None if costs is None else costs.of(predictions.class_names)
    return Measure(name or kind.primary, table)


def refuse_measure(name: str, kind: TargetKind, folder: RunFolder) -> None:
    """Raise a ConfigError for a measure that the kind of targets of a run does not have."""
    if name not in kind.measures:
        raise ConfigError(
            f"metric is {name}, and the pictures of {folder.name} have {kind.described}: it must "
            f"be one of {', '.join(kind.measures)}."
        )


class _SealedFiles:
    """The files of a run's folder, each checked against the folder's seal when it is read.

    Args:
        folder: of the run.
        changed: "refuse", or "use" to note in `changes` what was changed and go on.

    Raises:
        ValueError: for a file that was changed and is refused, and a damaged or missing seal.
    """

    def __init__(self, folder: RunFolder, changed: str) -> None:
        self._folder = folder
        self._use = changed == "use"
        self._sealed: Seal | None = None
        self._looked = False
        self.changes: list[str] = []

    def read(self, path: Path) -> bytes:
        """Return the content of a file."""
        if not self._looked:
            self._sealed, self._looked = self._seal(), True
        content, fault = read_checked(self._folder.path, path, self._sealed)
        if fault is not None:
            self._note(f"{fault} since it was sealed")
        return content

    def check(self, path: Path) -> None:
        """Check a file that is not read, which only some runs have and many have in common."""
        name = path.relative_to(self._folder.path).as_posix()
        sealed = None if self._sealed is None else self._sealed.files.get(name)
        try:
            status = path.stat()
            state = file_state(status)
            if self._sealed is not None and self._sealed.states.get(name) == state:
                return
            known = status.st_dev, state, sealed
            if known in _UNCHANGED_FILES:  # another name of the same file
                return
            if sealed not in _LATELY or not _holds(path, _LATELY[sealed]):
                content = self.read(path)
                if sealed != (len(content), digest_of(content)):
                    return
                _remember(sealed, content)
            _UNCHANGED_FILES.add(known)
        except FileNotFoundError:
            if sealed is not None:
                self._note(f"{name} is gone since it was sealed")

    def sealed_as(self, path: Path) -> tuple[int, str] | None:
        """Return bytes and digest of a file when it was sealed; None for one that was not."""
        name = path.relative_to(self._folder.path).as_posix()
        return None if self._sealed is None else self._sealed.files.get(name)

    def miss(self, prefix: str, found: Sequence[Path]) -> None:
        """Check that no sealed file whose path begins so is missing."""
        names = () if self._sealed is None else self._sealed.files
        for name in names:
            if name.startswith(prefix) and self._folder.path / name not in found:
                self._note(f"{name} is gone since it was sealed")

    def lost(self, path: Path) -> str | None:
        """Describe that a file is missing; None if the run never had it."""
        name = path.relative_to(self._folder.path).as_posix()
        if self._sealed is None or name not in self._sealed.files:
            return None
        return f"{self._folder.path} is left out: {name} is gone since it was sealed."

    def check_seal(self, summary: RunSummary) -> None:
        """Check that a run whose summary says so has a seal."""
        if summary.sealed and not (self._folder.path / SEAL).is_file():
            self._note(NO_SEAL)

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


def _remember(sealed: tuple[int, str], content: bytes) -> None:
    if len(_LATELY) >= _REMEMBERED:
        _LATELY.clear()
    _LATELY[sealed] = content


def _holds(path: Path, content: bytes) -> bool:
    """Return whether a file has this content.

    The buffer is kept, as to get memory anew takes longer than to read and to compare it.

    Raises:
        FileNotFoundError: there is no such file.
    """
    buffer = getattr(_BUFFER, "value", b"")
    if len(buffer) != len(content):
        buffer = _BUFFER.value = bytearray(len(content))
    with path.open("rb", buffering=0) as file:
        return file.readinto(buffer) == len(content) and not file.read(1) and buffer == content


def _identity(folder: RunFolder) -> dict[str, str]:
    return {"run_id": folder.run_id, "name": folder.name}


def _latency(summary: RunSummary) -> float | None:
    """Return the milliseconds of an answer; None where they were not measured."""
    found = summary.metrics.get("cost/latency_ms", math.nan)
    return found if math.isfinite(found) else None
