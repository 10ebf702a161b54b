"""What every candidate can do, whatever it is made of."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from src.data.loading.datamodule import PictureData
from src.machine.interruption import Interruption
from src.records.class_maps import ClassMaps
from src.runs.folder import RunFolder
from src.runs.resolve import Resolved
from src.serving.predictor import Predictor
from src.tracking.tracker import Tracker

__all__ = ["Answers", "Candidate", "Fitted", "OnEpoch", "Trained"]

OnEpoch = Callable[[int, dict[str, float]], None]
# Probabilities (N, K) float32, targets (N,) int64, sample ids (N,) int64.
Answers = tuple[NDArray[np.float32], NDArray[np.int64], NDArray[np.int64]]


class Trained(Protocol):
    """A model that can be asked, fresh from its fit or out of a file.

    Attributes:
        passport: plain containers that say what it is; its `settings` are those of its run, its
            `epochs` how long it was trained (0 for what knows no epochs).
        num_parameters: how many numbers it holds that were fitted to pictures.
    """

    @property
    def passport(self) -> dict[str, Any]: ...

    @property
    def num_parameters(self) -> int: ...

    def predict(self, data: PictureData, part: str) -> Answers:
        """What it says of every picture of "train", "val" or "test"."""

    def predictor(self, batch_size: int) -> Predictor:
        """What labels pictures of any size with it."""

    def cost(self, data: PictureData, checkpoint: Path) -> dict[str, float]:
        """What it costs to store and to run, by plain name; see `src.training.cost`."""

    def write_bundle(self, folder: Path, example: NDArray[np.uint8]) -> str:
        """Write what MLflow serves; returns its digest. See `src.serving.bundle`."""

    def class_maps(self) -> ClassMaps | None:
        """None for a model in which no value belongs to a place of the picture."""


@dataclass(frozen=True)
class Fitted:
    """What came of a fit.

    Attributes:
        trained: the model.
        checkpoint: the file that brings it back.
        seconds: that the fit took, all starts of the run together.
        metrics: by `{split}/{metric}`, what was measured while fitting; the last values.
        history: (epoch from 1, value) pairs of those that have a curve.
        split_fingerprint: of the division that its held-out answers go by, where that is not the
            split of its pictures: the folds of the cross-validations that it was made of.
    """

    trained: Trained
    checkpoint: Path
    seconds: float
    metrics: dict[str, float]
    history: dict[str, list[list[float]]] = field(default_factory=dict)
    split_fingerprint: str | None = None


class Candidate(Protocol):
    """Settings and pictures, ready to be fitted.

    Attributes:
        resolved: the run's settings without any `auto`.
        num_parameters: as of `Trained`; None where only the fit will tell.
    """

    resolved: Resolved

    @property
    def num_parameters(self) -> int | None: ...

    def words(self) -> str:
        """What it is, in a few words for the first line of a run."""

    def fit(
        self,
        folder: RunFolder,
        tracker: Tracker,
        interruption: Interruption,
        on_epoch: OnEpoch | None,
    ) -> Fitted:
        """Fit it to the training part.

        Args:
            folder: of the run; a fit that was stopped goes on from what it left there.
            tracker: is told of what is measured meanwhile.
            interruption: is asked where the state is whole.
            on_epoch: called with (epoch from 0, metrics); what it raises ends the fit.
        """

    def training_batch(self) -> tuple[NDArray[np.generic], NDArray[np.generic]] | None:
        """Pictures and targets as the fit saw them, where that is not as they are."""
