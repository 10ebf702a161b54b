"""Finished runs that are combined into a new one without training any again.

`src.runs.candidates.ensemble` combines their probabilities, `src.runs.candidates.soup` their
weights; both keep held-out predictions of the validation part, because their choice has seen its
labels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from src.config.checks import ConfigError
from src.data.loading.datamodule import PictureData
from src.data.splitting.splits import Split
from src.machine.interruption import Interruption
from src.metrics.summary import metric_key
from src.records.combination import Combination
from src.records.run import Predictions, RunSummary
from src.reporting.terminal import format_combination
from src.runs.candidates.candidate import Answers, OnEpoch
from src.runs.folder import RunFolder
from src.runs.folds import FoldBook
from src.runs.seal import changed_since

__all__ = [
    "ENSEMBLE_SUFFIX",
    "Member",
    "NothingGained",
    "read_held_out",
    "read_members",
    "record_combination",
    "seconds_of",
]

ENSEMBLE_SUFFIX = ".json"

_HELD_OUT = "held_out.parquet"
# Of this many, each of the five folds of the choice still holds two out.
_LEAST_PICTURES = 10


class NothingGained(ConfigError):
    """The runs can be combined, but the combination is no better than the best of them."""


@dataclass(frozen=True, eq=False)
class Member:
    """A finished run, or a cross-validation, whose folds predict together.

    Attributes:
        folder: of the run.
        summary: of the run.
        checkpoints: the file that its model is loaded from; of a cross-validation one a fold.
        held_out: by ascending sample id, predictions of pictures that it was not trained on: those
            of the validation part, or out of fold of the training and the validation part.
    """

    folder: RunFolder
    summary: RunSummary
    checkpoints: tuple[Path, ...]
    held_out: Predictions

    @property
    def probs(self) -> NDArray[np.float32]:
        """(N, K) of `held_out`."""
        return self.held_out.probs

    @property
    def name(self) -> str:
        return self.folder.name

    @property
    def latency_ms(self) -> float:
        """Milliseconds for one picture, measured when the run ended; NaN if it was not."""
        return self._cost("latency_ms")

    @property
    def training_seconds(self) -> float:
        return self._cost("training_seconds")

    def _cost(self, name: str) -> float:
        """The sum over all folds, of which the summary has the mean."""
        each = self.summary.metrics.get(metric_key("cost", name), float("nan"))
        return len(self.checkpoints) * each


def read_members(runs: Sequence[str], output_dir: Path, data: PictureData) -> list[Member]:
    """Read runs to combine, in their order, each once.

    Raises:
        ConfigError: fewer than two, one that is not finished, that has lost its predictions or its
            model, or that was trained and validated on other pictures or classes.
    """
    found: dict[str, Member] = {}
    for run in runs:
        member = _read(run, output_dir, data)
        found.setdefault(member.folder.run_id, member)
    if len(found) < 2:
        count = "none" if not found else "1"
        raise ConfigError(f"runs: at least two different ones are needed, and there is {count}.")
    first, *others = found.values()
    for other in others:
        if not _alike(first, other):
            raise ConfigError(
                f"runs: {other.name} was not measured on the same pictures as {first.name}: "
                "combine runs of one split, or cross-validations into the same folds."
            )
    if len(first.probs) < _LEAST_PICTURES:
        raise ConfigError(
            f"runs: {len(first.probs)} pictures that were held out are too few to choose by, which "
            f"needs {_LEAST_PICTURES}."
        )
    return [first, *others]


def record_combination(
    checkpoints: Path,
    found: Combination,
    library: Sequence[Member],
    interruption: Interruption,
    on_epoch: OnEpoch | None,
) -> dict[str, float]:
    """Write the held-out predictions of a combination, print what it consists of, and report it.

    Args:
        checkpoints: folder of the run's checkpoints.
        found: the combination.
        library: the runs that it was chosen from.
        interruption, on_epoch: see `Candidate.fit`.

    Returns:
        Its validation metrics, by `val/{metric}`.
    """
    replace(library[0].held_out, probs=found.probs).write(checkpoints / _HELD_OUT)
    print(_description(found, library), flush=True)
    values = {
        "accuracy": found.accuracy,
        "loss": found.log_loss,
        "best_member_accuracy": found.best_accuracy,
        "best_member_p_value": found.test.p_value,
    }
    metrics = {metric_key("val", name): value for name, value in values.items()}
    if on_epoch is not None:
        on_epoch(0, dict(metrics))
    interruption.check()
    return metrics


def read_held_out(checkpoints: Path) -> Answers:
    """Read the predictions of a combination for each picture, made without that picture.

    Raises:
        ValueError: the file is damaged or gone.
    """
    try:
        kept = Predictions.read(checkpoints / _HELD_OUT)
    except FileNotFoundError as error:
        raise ValueError(f"{checkpoints} has lost its {_HELD_OUT}") from error
    return kept.probs, kept.targets, kept.sample_ids


def seconds_of(members: Sequence[Member]) -> float:
    """Return the seconds that the trainings of the members took together."""
    return float(np.nansum([member.training_seconds for member in members]))


def _alike(one: Member, other: Member) -> bool:
    same_split = one.summary.split_fingerprint == other.summary.split_fingerprint
    return same_split and np.array_equal(one.held_out.sample_ids, other.held_out.sample_ids)


def _folder(run: str, output_dir: Path) -> RunFolder:
    try:  # by its name, without a look into every other one
        return RunFolder.open(output_dir / "runs" / run)
    except ValueError:
        return RunFolder.find(run, output_dir)


def _read(run: str, output_dir: Path, data: PictureData) -> Member:
    try:
        folder = _folder(run, output_dir)
        _refuse_changed(folder)
        summary = RunSummary.read(folder.summary)
        held_out = Predictions.read(folder.predictions / "val.parquet")
        folds = _folds(folder)
        for fold in folds or ():
            _refuse_changed(fold)
        split = Split.read(folder.split)
        checkpoints = tuple(one.chosen_checkpoint() for one in folds or [folder])
    except FileNotFoundError as error:
        raise ConfigError(f"runs: {run} is not finished: it has no {error.filename}.") from error
    except ValueError as error:
        raise ConfigError(f"runs: {error}.") from error

    def refuse(reason: str) -> None:
        raise ConfigError(f"runs: {folder.name} {reason}.")

    if summary.status != "FINISHED":
        refuse(f"did not finish ({summary.reason or summary.status})")
    if any(checkpoint.suffix == ENSEMBLE_SUFFIX for checkpoint in checkpoints):
        refuse("is an ensemble itself: name its members")
    if held_out.class_names != tuple(data.pictures.class_names):
        refuse("has learnt other classes")
    if split.fingerprint != data.split.fingerprint:
        refuse("was trained and validated on other pictures than these")
    order = np.argsort(held_out.sample_ids, kind="stable")
    ids = held_out.sample_ids[order]
    wanted = data.split.val
    if folds is not None:
        wanted = np.sort(np.concatenate([data.split.train, data.split.val]))
    if not np.array_equal(ids, wanted):
        refuse("has not answered all pictures that it should have held out")
    ordered = replace(
        held_out,
        sample_ids=ids,
        paths=None,
        targets=held_out.targets[order],
        probs=held_out.probs[order],
        groups=None if held_out.groups is None else held_out.groups[order],
    )
    return Member(folder, summary, checkpoints, ordered)


def _refuse_changed(folder: RunFolder) -> None:
    """Raise a ValueError for a run whose files were changed after it had been sealed."""
    changed = changed_since(folder.path)
    if changed is not None:
        raise ValueError(f"{changed}: put the original back, or leave the run out")


def _folds(folder: RunFolder) -> list[RunFolder] | None:
    """Return the runs of a cross-validation's folds; None for a run of its own.

    Raises:
        ValueError: the list is damaged, or one of them is gone.
    """
    book = FoldBook.read(folder)
    if book is None:
        return None
    return [RunFolder.open(folder.path.parent / name) for name in book.runs.values()]


def _description(found: Combination, library: Sequence[Member]) -> str:
    """Return the members by weight and the outcome as text for a terminal."""
    targets = library[0].held_out.targets
    accuracies = [float(np.mean(one.probs.argmax(axis=1) == targets)) for one in library]
    return format_combination(found, accuracies, [one.latency_ms for one in library])
