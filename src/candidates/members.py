"""Finished runs that something new is made of, without training any again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from src.candidates.candidate import Trained
from src.candidates.choose import ENSEMBLE_SUFFIX, load_trained
from src.config.checks import ConfigError
from src.data.datamodule import PictureData
from src.metrics.summary import metric_key
from src.records import Predictions, RunSummary
from src.run_folder import RunFolder

__all__ = ["Member", "NothingGained", "load_member", "read_members"]

# Of this many, each of the five folds of the choice still holds two out.
_LEAST_VAL = 10


class NothingGained(ConfigError):
    """The runs can be combined, and what comes of it is no better than the best of them."""


@dataclass(frozen=True, eq=False)
class Member:
    """A finished run.

    Attributes:
        folder: of the run.
        summary: of the run.
        checkpoint: the file that brings its model back.
        probs: (N, K) float32, what it said of the N pictures of the validation part, by ascending
            sample id.
    """

    folder: RunFolder
    summary: RunSummary
    checkpoint: Path
    probs: NDArray[np.float32]

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
        return self.summary.metrics.get(metric_key("cost", name), float("nan"))


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
    if len(data.split.val) < _LEAST_VAL:
        raise ConfigError(
            f"data: {len(data.split.val)} pictures of the validation part are too few to choose "
            f"runs by, which needs {_LEAST_VAL}."
        )
    if len(found) < 2:
        count = "none" if not found else "1"
        raise ConfigError(f"runs: at least two different ones are needed, and there is {count}.")
    return list(found.values())


def load_member(member: Member, data: PictureData) -> Trained:
    """The trained model of a member.

    Raises:
        ConfigError: its file is damaged, or it takes pictures of another shape.
    """
    trained = load_trained(member.checkpoint)
    height, width = data.pictures.image_size
    needed = (height, width, data.pictures.channels)
    takes = (*trained.passport["image_size"], trained.passport["channels"])
    if takes != needed:
        shapes = ["x".join(map(str, shape)) for shape in (takes, needed)]
        raise ConfigError(
            f"runs: {member.name} takes pictures of {shapes[0]}, and the others of {shapes[1]}."
        )
    return trained


def _read(run: str, output_dir: Path, data: PictureData) -> Member:
    try:
        folder = RunFolder.find(run, output_dir)
        summary = RunSummary.read(folder.summary)
        predictions = Predictions.read(folder.predictions / "val.parquet")
        checkpoint = folder.chosen_checkpoint()
    except FileNotFoundError as error:
        raise ConfigError(f"runs: {run} is not finished: it has no {error.filename}.") from error
    except ValueError as error:
        raise ConfigError(f"runs: {error}.") from error

    def refuse(reason: str) -> None:
        raise ConfigError(f"runs: {folder.name} {reason}.")

    if summary.status != "FINISHED":
        refuse(f"did not finish ({summary.reason or summary.status})")
    if checkpoint.suffix == ENSEMBLE_SUFFIX:
        refuse("is an ensemble itself: name its members")
    if predictions.class_names != tuple(data.pictures.class_names):
        refuse("has learnt other classes")
    if summary.split_fingerprint != data.split.fingerprint:
        refuse("was trained and validated on other pictures than these")
    order = np.argsort(predictions.sample_ids, kind="stable")
    if not np.array_equal(predictions.sample_ids[order], data.split.val):
        refuse("has not answered all pictures of the validation part")
    return Member(folder, summary, checkpoint, predictions.probs[order])
