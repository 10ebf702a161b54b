"""Finished runs that are combined into a new one without training any again.

A combination keeps held-out predictions of the validation part, whose labels its choice has seen.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from ...config.checks import ConfigError
from ...config.metrics import plain_metric
from ...config.schema import RunSettings
from ...data.loading.picture_data import PictureData
from ...data.splitting.splits import Split
from ...ensembles.combine import Judge, WeightFit, combine
from ...machine.arrays import AnyArray
from ...machine.text import counted
from ...metrics.summary import metric_key
from ...records.combination import Combination
from ...records.run import Predictions, RunSummary
from ...reporting.terminal import format_combination
from ...statistics.candidates import Measure
from ...targets import kind_of
from ..fold_records import FoldBook
from ..folder import RunFolder
from ..resolve import Resolved
from ..seal import changed_since
from .candidate import Answers, FitContext, Fitted, Trained

__all__ = [
    "ENSEMBLE_SUFFIX",
    "CombinationCandidate",
    "Member",
    "NothingGained",
    "choose_among",
    "judge_of",
    "read_held_out",
    "read_members",
    "refuse_single",
]

ENSEMBLE_SUFFIX = ".json"

_HELD_OUT = "held_out.parquet"
# Fewest pictures, and fewest groups of them: each of the five folds of the choice then holds two
# pictures out, and a group.
_LEAST_PICTURES, _LEAST_GROUPS = 10, 5


class NothingGained(ConfigError):
    """The runs can be combined, but the combination is no better than the best of them."""


@dataclass(frozen=True, eq=False)
class Member:
    """A finished run, or a cross-validation, whose folds predict together.

    Attributes:
        checkpoints: the file that its model is loaded from; of a cross-validation one a fold.
        held_out: by ascending sample id, predictions of pictures that it was not trained on: those
            of the validation part, or out of fold of the training and the validation part.
    """

    folder: RunFolder
    summary: RunSummary
    checkpoints: tuple[Path, ...]
    held_out: Predictions

    @property
    def probs(self) -> AnyArray:
        """(N, K) of `held_out`, or of pixels its (N,) answers."""
        return self.held_out.probs

    @property
    def name(self) -> str:
        return self.folder.name

    def cost(self, name: str) -> float:
        """Return what was measured when the run ended, summed over folds; NaN where nothing was."""
        each = self.summary.metrics.get(metric_key("cost", name), float("nan"))
        return len(self.checkpoints) * each


def read_members(runs: Sequence[str], output_dir: Path, data: PictureData) -> list[Member]:
    """Read runs to combine, in their order, each once.

    Raises:
        ConfigError: fewer than two, one that is not finished, that has lost its predictions or its
            model, or that was trained and validated on other pictures or classes; or too few
            pictures, or groups of them, to choose by.
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
        same_split = first.summary.split_fingerprint == other.summary.split_fingerprint
        ids = first.held_out.sample_ids, other.held_out.sample_ids
        if not (same_split and np.array_equal(*ids)):
            raise ConfigError(
                f"runs: {other.name} was not measured on the same pictures as {first.name}: "
                "combine runs of one split, or cross-validations into the same folds."
            )
    if len(first.probs) < _LEAST_PICTURES:
        raise ConfigError(
            f"runs: {len(first.probs)} pictures that were held out are too few to choose by, which "
            f"needs {_LEAST_PICTURES}."
        )
    groups = first.held_out.groups
    if groups is not None and (found_groups := len(np.unique(groups))) < _LEAST_GROUPS:
        raise ConfigError(
            f"runs: the {len(groups)} pictures that were held out are of "
            f"{counted(found_groups, 'group')}, too few to choose by, which needs {_LEAST_GROUPS}."
        )
    return [first, *others]


def judge_of(settings: RunSettings, data: PictureData) -> Judge:
    """Return what judges a combination: by `trainer.monitor`, with the answers of `data.answer`."""
    kind, monitor = kind_of(data.pictures.kind), settings.trainer.monitor
    name = kind.primary if monitor == "auto" else plain_metric(monitor)
    costs = data.costs if name == "cost" else None
    return Judge(kind, Measure(name, costs), settings.data.best_for, data.costs)


def choose_among(library: Sequence[Member], judge: Judge, fit: WeightFit) -> Combination:
    """Choose among runs by the probabilities that they gave to held-out pictures.

    Args:
        library: the runs.
        judge: of the answers.
        fit: fits the weights.
    """
    held_out = library[0].held_out
    return combine(
        [member.name for member in library],
        np.stack([member.probs for member in library]),
        held_out.targets,
        fit,
        judge=judge,
        groups=held_out.groups,
    )


def refuse_single(library: Sequence[Member], found: Combination) -> None:
    """Raise NothingGained for a mean of probabilities in which a single run has all the weight."""
    used = np.flatnonzero(found.weights)
    if found.way == "greedy" and len(used) == 1:
        alone = library[used[0]].name
        raise NothingGained(
            f"ensemble: no mean of the answers of these {len(library)} runs has a lower log-loss "
            f"on the validation part than {alone} alone, so nothing is gained by it."
        )


@dataclass(frozen=True)
class CombinationCandidate:
    """Finished runs that are combined into a new one; the fit of a subclass writes its model.

    Attributes:
        library: the runs to choose from.
        judge: of their answers.
        found: how they are combined.
        seconds: that the choice took.
    """

    resolved: Resolved
    library: Sequence[Member]
    judge: Judge
    found: Combination
    seconds: float

    @property
    def used(self) -> list[tuple[Member, float]]:
        """The runs that have a weight, and it."""
        pairs = zip(self.library, self.found.weights.tolist(), strict=True)
        return [(member, weight) for member, weight in pairs if weight]

    def training_batch(self) -> None:
        return None

    def fitted(self, context: FitContext, trained: Trained, file: Path, started: float) -> Fitted:
        """Write the held-out predictions, print what the model consists of, and report it."""
        found, targets = self.found, self.library[0].held_out.targets
        groups = self.library[0].held_out.groups
        kept = replace(self.library[0].held_out, probs=found.probs, thresholds=None, preds=None)
        kept.write(context.folder.checkpoints / _HELD_OUT)
        figures = [self.judge.figure(one.probs, targets, groups) for one in self.library]
        latencies = [one.cost("latency_ms") for one in self.library]
        print(format_combination(found, figures, latencies), flush=True)
        values = {
            "loss": found.log_loss,
            f"best_member_{found.measure}": found.best_figure,
            "best_member_p_value": found.p_value,
        }
        metrics = {metric_key("val", name): value for name, value in values.items()}
        seconds = np.nansum([member.cost("training_seconds") for member, _ in self.used])
        return Fitted(
            trained,
            file,
            self.seconds + time.perf_counter() - started + float(seconds),
            metrics,
            split_fingerprint=self.library[0].summary.split_fingerprint,
        )


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


def _read(run: str, output_dir: Path, data: PictureData) -> Member:
    try:
        folder = RunFolder.find(run, output_dir)
        _refuse_changed(folder)
        summary = RunSummary.read(folder.summary)
        held_out = Predictions.read(folder.predictions / "val.parquet")
        book = FoldBook.read(folder)
        names = [] if book is None else book.runs.values()
        folds = [RunFolder.open(folder.path.parent / name) for name in names]
        for fold in folds:
            _refuse_changed(fold)
        # Runs on fewer training pictures are judged on the same held-out pictures.
        division, here = summary.split_fingerprint, data.split.division
        before = Split.read(folder.split)
        if book is not None:  # the one in its summary is of the folds
            division, here = before.fingerprint, data.split.fingerprint
        checkpoints = tuple(one.chosen_checkpoint() for one in folds or [folder])
    except FileNotFoundError as error:
        raise ConfigError(f"runs: {run} is not finished: it has no {error.filename}.") from error
    except ValueError as error:
        raise ConfigError(f"runs: {error}.") from error

    held_out = replace(held_out, paths=None, preds=None).in_order()
    ids, wanted = held_out.sample_ids, data.split.val
    if book is not None:
        wanted = np.sort(np.concatenate([data.split.train, data.split.val]))
    refused = {
        f"did not finish ({summary.reason or summary.status})": summary.status != "FINISHED",
        "is an ensemble itself: name its members": any(
            checkpoint.suffix == ENSEMBLE_SUFFIX for checkpoint in checkpoints
        ),
        "is a cross-validation, and its folds are not asked again about single pixels": (
            kind_of(held_out.kind).pixels and book is not None
        ),
        "has learnt other classes": held_out.class_names != tuple(data.pictures.class_names),
        "was trained and validated on other pictures than these": (division != here),
        "has not answered all pictures that it should have held out": (
            not np.array_equal(ids, wanted)
        ),
        "has answered these pictures in another order, as where files were renamed since": (
            not before.numbers_as(data.split)
        ),
    }
    for reason, holds in refused.items():
        if holds:
            raise ConfigError(f"runs: {folder.name} {reason}.")
    return Member(folder, summary, checkpoints, held_out)


def _refuse_changed(folder: RunFolder) -> None:
    """Raise a ValueError for a run whose files were changed after it had been sealed."""
    changed = changed_since(folder.path)
    if changed is not None:
        raise ValueError(f"{changed}: put the original back, or leave the run out")
