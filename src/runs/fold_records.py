"""The record of a cross-validation's folds: which run is which, and what they give together."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from ..config.overrides import changed
from ..metrics.summary import metric_key
from ..records.pixel_answers import pixel_answers
from ..records.run import Predictions
from ..statistics.paired_tests import corrected_resampled_t
from ..storage.files import write_atomically
from .folder import FOLDS, RunFolder

__all__ = ["FoldBook", "fold_means", "fold_runs", "joined", "mean_of"]

# Interval ends of one fold's metrics; those of all folds together are computed otherwise.
_OF_ONE = ("_low", "_high")


@dataclass
class FoldBook:
    """The content of folds.json: the command of the whole, and the folds' runs by number."""

    file: Path
    command: list[str]
    runs: dict[int, str] = field(default_factory=dict)

    @classmethod
    def read(cls, folder: RunFolder) -> FoldBook | None:
        """Return the book of a cross-validation; None for any other run.

        Raises:
            ValueError: the file is damaged.
        """
        file = folder.path / FOLDS
        try:
            plain = json.loads(file.read_text(encoding="utf-8"))
            runs = {int(number): str(name) for number, name in plain["runs"].items()}
            return cls(file, list(plain["command"]), runs)
        except FileNotFoundError:
            return None
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ValueError(
                f"{file} is damaged ({type(error).__name__}: {error}): put a copy of it back, or "
                "begin a new cross-validation"
            ) from error

    @classmethod
    def open(cls, folder: RunFolder, command: Sequence[str]) -> FoldBook:
        """Return the book of a run that is resumed, with its first command, or a new one."""
        return cls.read(folder) or cls(folder.path / FOLDS, list(command))

    def add(self, number: int, run: RunFolder) -> None:
        """Keep the run of a fold on disk, so that it is found whatever ends this process."""
        self.runs[number] = run.name
        self.write()

    def run(self, number: int) -> RunFolder | None:
        """Return the run of a fold; None where none has begun, or its folder is gone."""
        path = self.file.parent.parent / self.runs.get(number, "")
        return RunFolder.open(path) if number in self.runs and path.is_dir() else None

    def fold_command(self, number: int) -> list[str]:
        """Return the argument list that repeats one fold by hand."""
        return changed(self.command, [f"cv.fold={number}", "evaluate_test=false"])

    def write(self) -> None:
        """Write the file, whole or not at all."""
        plain = {"command": self.command, "runs": self.runs}
        write_atomically(self.file, json.dumps(plain, indent=1, ensure_ascii=False) + "\n")


def fold_runs(whole: RunFolder) -> list[RunFolder]:
    """Return the runs of a cross-validation's folds, in order, without those that are gone."""
    if (book := FoldBook.read(whole)) is None:
        return []
    return [run for number in sorted(book.runs) if (run := book.run(number)) is not None]


def joined(folds: Sequence[Predictions]) -> Predictions:
    """Join the predictions of pictures that one fold each holds out, by ascending sample id.

    Raises:
        ValueError: a picture is held out twice, or the folds know different classes.
    """
    if len({one.class_names for one in folds}) != 1:
        raise ValueError("the folds know different classes")
    unordered = np.concatenate([one.sample_ids for one in folds])
    ids, order = np.unique(unordered, return_index=True)
    if len(ids) < len(unordered):
        raise ValueError("a picture is held out by two folds of one repeat")
    groups = [one.groups for one in folds if one.groups is not None]
    paths = [path for one in folds for path in one.paths or ()]
    preds = [one.preds for one in folds if one.preds is not None]
    return Predictions(
        sample_ids=ids,
        paths=tuple(paths[i] for i in order.tolist()) if len(paths) == len(ids) else None,
        targets=np.concatenate([one.targets for one in folds])[order],
        probs=np.concatenate([one.probs for one in folds])[order],
        class_names=folds[0].class_names,
        groups=np.concatenate(groups)[order] if len(groups) == len(folds) else None,
        kind=folds[0].kind,
        preds=np.concatenate(preds)[order] if len(preds) == len(folds) else None,
        copies=folds[0].copies,
    )


def mean_of(repeats: Sequence[Predictions]) -> Predictions:
    """Average the probabilities over repeats that hold out the same pictures.

    Of pixels, their confusion matrices are added up, and the class maps are those of the first.

    Labels are those that reach one half.

    Raises:
        ValueError: they hold out different pictures.
    """
    first = repeats[0]
    if any(not np.array_equal(one.sample_ids, first.sample_ids) for one in repeats):
        raise ValueError("the repeats hold out different pictures")
    if first.kind_of_targets.pixels:
        matrices = np.sum([one.probs["matrix"] for one in repeats], axis=0)
        losses = np.stack([one.probs["log_loss"] for one in repeats]).mean(axis=0)
        return replace(first, probs=pixel_answers(matrices, losses, first.probs["map"].tolist()))
    probs = np.stack([one.probs for one in repeats]).mean(axis=0, dtype=np.float64)
    return replace(first, probs=probs.astype(np.float32), preds=None)


def fold_means(values: Mapping[str, Sequence[float]], folds: int) -> dict[str, float]:
    """Compute the mean of each metric over the folds, and the uncertainty of the accuracy.

    `val/accuracy_low` and `val/accuracy_high`, of pixels `val/miou_low` and `val/miou_high`, are
    the ends of the 95 % interval by the corrected resampled t (see
    `src.statistics.paired_tests`); `val/{metric}_sd` is the sample standard deviation over folds.
    `values` has one of each fold of all repeats, `folds` those of one repeat.
    """
    found: dict[str, float] = {}
    for key, those in values.items():
        if key.endswith(_OF_ONE):
            continue
        found[key] = float(np.mean(those))
        if key.startswith("val/") and key.count("/") == 1:
            with np.errstate(invalid="ignore"):  # of infinities it is NaN
                found[f"{key}_sd"] = float(np.std(those, ddof=1))
    accuracy, miou = (metric_key("val", name) for name in ("accuracy", "miou"))
    judged = accuracy if accuracy in values else miou
    interval = corrected_resampled_t(values[judged], 1 / folds).interval
    found[f"{judged}_low"] = max(0.0, interval.low)
    found[f"{judged}_high"] = min(1.0, interval.high)
    return found
