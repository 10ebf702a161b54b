"""Finished runs that something new is made of, without training any again."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from src.config.checks import ConfigError
from src.data.loading.datamodule import PictureData
from src.data.splitting.splits import Split
from src.metrics.summary import metric_key
from src.records.run import Predictions, RunSummary
from src.runs.candidates.candidate import Trained
from src.runs.candidates.choose import ENSEMBLE_SUFFIX, load_trained
from src.runs.folder import FOLDS, RunFolder
from src.runs.seal import changed_since

__all__ = ["Member", "NothingGained", "load_member", "read_members"]

# Of this many, each of the five folds of the choice still holds two out.
_LEAST_PICTURES = 10


class NothingGained(ConfigError):
    """The runs can be combined, and what comes of it is no better than the best of them."""


@dataclass(frozen=True, eq=False)
class Member:
    """A finished run, or a cross-validation, whose folds answer together.

    Attributes:
        folder: of the run.
        summary: of the run.
        checkpoints: the file that brings its model back; of a cross-validation one a fold.
        held_out: by ascending sample id, what it said of pictures that it was not trained on: of
            the validation part, or out of fold of the training and the validation part.
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
        """For one picture, as it was measured when the run ended; NaN if it was not."""
        return self._cost("latency_ms")

    @property
    def training_seconds(self) -> float:
        return self._cost("training_seconds")

    def _cost(self, name: str) -> float:
        """Of all folds, whose mean the summary has."""
        each = self.summary.metrics.get(metric_key("cost", name), float("nan"))
        return len(self.checkpoints) * each


def read_members(runs: Sequence[str], output_dir: Path, data: PictureData) -> list[Member]:
    """The runs, in their order, each once.

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


def load_member(member: Member) -> list[Trained]:
    """The trained model of a member; of a cross-validation that of each fold.

    Raises:
        ConfigError: a file is damaged.
    """
    return [load_trained(checkpoint) for checkpoint in member.checkpoints]


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
    )
    return Member(folder, summary, checkpoints, ordered)


def _refuse_changed(folder: RunFolder) -> None:
    """Raise a ValueError for a run whose files were changed after it had been sealed."""
    changed = changed_since(folder.path)
    if changed is not None:
        raise ValueError(f"{changed}: put the original back, or leave the run out")


def _folds(folder: RunFolder) -> list[RunFolder] | None:
    """The runs of a cross-validation's folds; None for a run of its own.

    Raises:
        ValueError: the list is damaged, or one of them is gone.
    """
    try:
        runs = json.loads((folder.path / FOLDS).read_bytes())["runs"]
    except FileNotFoundError:
        return None
    except (KeyError, TypeError) as error:
        raise ValueError(f"{folder.path / FOLDS} names no runs") from error
    return [RunFolder.open(folder.path.parent / name) for name in runs.values()]
