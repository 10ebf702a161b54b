"""The mean of several networks' weights, as a candidate: what is fitted is whose."""

from __future__ import annotations

import time
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from src.config.checks import ConfigError
from src.config.ensemble import EnsembleSettings
from src.config.schema import RunSettings
from src.data.loading.datamodule import PictureData
from src.ensembles.soup import greedy_soup
from src.machine.interruption import Interruption
from src.runs.candidates.candidate import Answers, Fitted, OnEpoch
from src.runs.candidates.combined import metrics_of, read_held_out, seconds_of, told, write_held_out
from src.runs.candidates.members import Member, NothingGained, load_member, read_members
from src.runs.candidates.network import TrainedNetwork
from src.runs.folder import RunFolder
from src.runs.resolve import Resolved
from src.tracking.tracker import Tracker
from src.training.checkpoints import AtomicCheckpointIO
from src.training.task import ClassificationTask
from src.training.weight_averages import mean_of_weights, renew_batch_statistics

__all__ = ["SoupCandidate", "TrainedSoup"]

_FILE = "soup.ckpt"
# Batch statistics settle long before every training picture has been seen.
_PICTURES_FOR_STATISTICS = 8192
_SAME = ("network", "class_names", "image_size", "channels", "fit", "mean", "std")


@dataclass
class TrainedSoup(TrainedNetwork):
    """A network like any other, but for the validation part, by which it was chosen.

    Attributes:
        checkpoints: the folder where the answers lie that were held out when it was made.
    """

    checkpoints: Path

    @classmethod
    def from_file(
        cls, file: Path, task: ClassificationTask, settings: RunSettings, device: torch.device
    ) -> TrainedSoup:
        """The soup of a checkpoint, with the settings of its first member."""
        task.to(device)
        runtime, trainer = settings.runtime, settings.trainer
        return cls(task, device, runtime.precision, trainer.tta, file.parent)

    def predict(self, data: PictureData, part: str) -> Answers:
        return read_held_out(self.checkpoints) if part == "val" else super().predict(data, part)


class SoupCandidate:
    """Runs to choose from, chosen: everything but writing it down happens here.

    Args:
        settings: of the run.
        model: its model.
        data: the pictures, those of every run that is named.

    Raises:
        ConfigError: runs that are no networks of one architecture on these pictures.
        NothingGained: no mean of their weights is better than the best of them.
    """

    def __init__(self, settings: RunSettings, model: EnsembleSettings, data: PictureData) -> None:
        started = time.perf_counter()
        self.resolved = Resolved(settings)
        self._library = read_members(model.runs, Path(settings.output_dir), data)
        self._trained = _alike(self._library)
        self._data = data.formatted(self._trained[0].format)
        states = [trained.task.evaluated.state_dict() for trained in self._trained]
        self._states = [{name: t.clone() for name, t in state.items()} for state in states]
        targets = self._library[0].held_out.targets
        self._found = greedy_soup(
            [member.name for member in self._library], self._ask, targets, seed=settings.seed
        )
        self._chosen = tuple(np.flatnonzero(self._found.weights).tolist())
        accuracies = [float((m.probs.argmax(axis=1) == targets).mean()) for m in self._library]
        best = int(np.argmax(accuracies))
        if len(self._chosen) == 1:
            raise NothingGained(
                f"soup: no mean of the weights of these {len(self._library)} networks is as good "
                f"as {self._library[best].name} alone ({100 * accuracies[best]:.1f} % of the "
                "validation part): networks that started from different weights usually do not "
                "average."
            )
        own = self._ask(self._chosen)  # which also leaves its weights in the network
        reached = float((own.argmax(axis=1) == targets).mean())
        if reached <= accuracies[best]:
            raise NothingGained(
                f"soup: the mean of the weights of {len(self._chosen)} networks has "
                f"{100 * reached:.1f} % of the validation part right, no more than "
                f"{self._library[best].name} alone, so nothing is gained by it."
            )
        self._seconds = time.perf_counter() - started

    @property
    def num_parameters(self) -> int:
        return self._trained[0].num_parameters

    def words(self) -> str:
        return f"the mean of {len(self._chosen)} of {len(self._library)} networks"

    def fit(
        self,
        folder: RunFolder,
        tracker: Tracker,
        interruption: Interruption,
        on_epoch: OnEpoch | None,
    ) -> Fitted:
        started = time.perf_counter()
        task = self._trained[0].task
        members = [self._library[i] for i in self._chosen]
        task.metadata["soup"] = [member.name for member in members]
        file = folder.checkpoints / _FILE
        content = {
            "state_dict": task.state_dict(),
            "epoch": task.metadata["epochs"] - 1,
            "bakeoff": task.metadata,
        }
        AtomicCheckpointIO().save_checkpoint(content, file)
        write_held_out(folder.checkpoints, self._found, self._library)
        print(told(self._found, self._library), flush=True)
        metrics = metrics_of(self._found)
        if on_epoch is not None:
            on_epoch(0, dict(metrics))
        interruption.check()
        own = self._seconds + time.perf_counter() - started
        first = self._trained[0]
        trained = TrainedSoup(task, first.device, first.precision, first.tta, folder.checkpoints)
        return Fitted(trained, file, own + seconds_of(members), metrics)

    def training_batch(self) -> None:
        return None

    def _ask(self, soup: tuple[int, ...]) -> NDArray[np.float32]:
        """What the mean of these networks' weights says of the validation part."""
        if len(soup) == 1:
            return self._library[soup[0]].probs
        first = self._trained[0]
        state = mean_of_weights([self._states[i] for i in soup])
        first.task.evaluated.load_state_dict(state)
        renew_batch_statistics(first.task.evaluated, self._pictures())
        # Where the evaluated weights are a moving average, there is another set beside them.
        first.task.network.load_state_dict(first.task.evaluated.state_dict())
        probs, _, _ = first.predict(self._data, "val")
        return probs

    def _pictures(self) -> list[torch.Tensor]:
        """Training pictures without augmentation, normalised, in an order that is always so."""
        task, device = self._trained[0].task, self._trained[0].device
        most = max(1, _PICTURES_FOR_STATISTICS // self._data.batch_size)
        batches = islice(self._data.batches("train", training=True), most)
        return [task.normalized(batch.images.to(device)) for batch in batches]


def _alike(members: list[Member]) -> list[TrainedNetwork]:
    """Their networks; members of one architecture are asked for.

    Raises:
        ConfigError: one is no network, or built in another way than the first.
    """
    found: list[TrainedNetwork] = []
    for member in members:
        trained, *more = load_member(member)
        if more or not isinstance(trained, TrainedNetwork):
            raise ConfigError(f"runs: {member.name} is no network, and only weights have a mean.")
        found.append(trained)
        for key in _SAME:
            if trained.passport.get(key) != found[0].passport.get(key):
                raise ConfigError(
                    f"runs: {member.name} and {members[0].name} are networks of different "
                    f"architectures ({key} differs), whose weights have no mean."
                )
    return found
