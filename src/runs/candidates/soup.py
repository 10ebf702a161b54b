"""The mean of several networks' weights, as a candidate: the fit finds which ones to average."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn.modules.batchnorm import _BatchNorm

from ...config.checks import ConfigError
from ...config.schema import RunSettings
from ...data.loading.picture_data import PictureData
from ...ensembles.combine import Judge, greedy_soup, ranked
from ...machine.arrays import AnyArray
from ...metrics.summary import metric_name
from ...records.combination import Combination
from ...reporting.formatting import metric_text
from ...training.checkpoints import write_checkpoint
from ...training.task import ClassificationTask
from ...training.weight_averages import mean_of_weights, renew_batch_statistics
from .candidate import Answers, FitContext, Fitted, Trained
from .members import CombinationCandidate, Member, NothingGained, read_held_out
from .network import TrainedNetwork

__all__ = ["SoupCandidate", "TrainedSoup", "choose_soup", "networks_of"]

_FILE = "soup.ckpt"
# Batch statistics settle long before every training picture has been seen.
_PICTURES_FOR_STATISTICS = 8192
_SAME = (
    *("network", "class_names", "image_size", "channels", "fit", "mean", "std", "bands"),
    "link",
)


@dataclass
class TrainedSoup(TrainedNetwork):
    """A network like any other, but for the validation part, by which it was chosen.

    Its held-out predictions, which were kept when it was made, are in `checkpoints`.
    """

    checkpoints: Path

    def predict(self, data: PictureData, part: str) -> Answers:
        return read_held_out(self.checkpoints) if part == "val" else super().predict(data, part)


@dataclass(frozen=True)
class SoupCandidate(CombinationCandidate):
    """Networks whose mean weights, in `network`, are better than the best; the fit writes them."""

    network: TrainedNetwork

    @property
    def num_parameters(self) -> int:
        return self.network.num_parameters

    def description(self) -> str:
        return f"the mean of {len(self.used)} of {len(self.library)} networks"

    def fit(self, context: FitContext) -> Fitted:
        started = time.perf_counter()
        checkpoints, network, task = context.folder.checkpoints, self.network, self.network.task
        task.metadata["soup"] = [member.name for member, _ in self.used]
        content = {
            "state_dict": task.state_dict(),
            "epoch": task.metadata["epochs"] - 1,
            "bakeoff": task.metadata,
        }
        write_checkpoint(content, checkpoints / _FILE)
        trained = TrainedSoup(task, network.device, checkpoints)
        return self.fitted(context, trained, checkpoints / _FILE, started)


def networks_of(
    library: Sequence[Member], models: Sequence[Sequence[Trained]]
) -> list[TrainedNetwork]:
    """Return the networks of runs, of each of which all trained models are given.

    Raises:
        ConfigError: one is no network, or of another architecture than the first.
    """
    found: list[TrainedNetwork] = []
    for member, (trained, *more) in zip(library, models, strict=True):
        if more or not isinstance(trained, TrainedNetwork):
            raise ConfigError(f"runs: {member.name} is no network, and only weights have a mean.")
        found.append(trained)
        for key in _SAME:
            if trained.metadata.get(key) != found[0].metadata.get(key):
                raise ConfigError(
                    f"runs: {member.name} and {library[0].name} are networks of different "
                    f"architectures ({key} differs), whose weights have no mean."
                )
    return found


def choose_soup(
    settings: RunSettings,
    library: Sequence[Member],
    judge: Judge,
    networks: Sequence[TrainedNetwork],
    data: PictureData,
) -> Combination:
    """Choose networks by the figure of their mean, whose weights the first of them then has.

    Raises:
        NothingGained: no mean of their weights is better than the best of them.
    """
    averaged = _Averaged(networks, library, data)
    held_out, groups = library[0].held_out, library[0].held_out.groups
    names = [member.name for member in library]
    options: dict[str, Any] = {"judge": judge, "seed": settings.seed, "groups": groups}
    found = greedy_soup(names, averaged.predictions, held_out.targets, **options)
    chosen = tuple(np.flatnonzero(found.weights).tolist())
    alone = [member.probs for member in library]
    scores = [judge.mean_score(one, held_out.targets, groups) for one in alone]
    best = ranked(judge, names, alone, held_out.targets, groups)[0]
    measure = found.measure

    def stated(score: float) -> str:
        return f"{metric_name(measure)} {metric_text(measure, judge.in_units(score))}"

    if len(chosen) == 1:
        raise NothingGained(
            f"soup: no mean of the weights of these {len(library)} networks is as good "
            f"as {library[best].name} alone ({stated(scores[best])} on the "
            "validation part): networks that started from different weights usually do not "
            "average."
        )
    own = averaged.predictions(chosen)  # which also leaves its weights in the network
    reached = judge.mean_score(own, held_out.targets, groups)
    if reached <= scores[best]:
        raise NothingGained(
            f"soup: the mean of the weights of {len(chosen)} networks has "
            f"{stated(reached)} on the validation part, no better than "
            f"{library[best].name} alone, so nothing is gained by it."
        )
    return found


class _Averaged:
    """Means of networks' weights, computed in the first network."""

    def __init__(
        self, networks: Sequence[TrainedNetwork], library: Sequence[Member], data: PictureData
    ) -> None:
        self._first = networks[0]
        self._alone = [member.probs for member in library]
        self._data = data.formatted(self._first.format)
        states = [network.task.evaluated.state_dict() for network in networks]
        self._states = [{name: t.clone() for name, t in state.items()} for state in states]
        # Norms that kept their statistics in every training have weights that go with these.
        self._measured = set[str]().union(*(_measured_norms(network.task) for network in networks))

    def predictions(self, chosen: tuple[int, ...]) -> AnyArray:
        """Predict the validation part with the mean of some networks' weights.

        Returns:
            As `Member.probs`.
        """
        if len(chosen) == 1:
            return self._alone[chosen[0]]
        task = self._first.task
        task.network.load_state_dict(mean_of_weights([self._states[i] for i in chosen]))
        task.set_modes()
        for name in self._measured:
            task.network.get_submodule(name).train()
        renew_batch_statistics(task.network, self._training_images())
        task.eval()
        # Where the evaluated weights are a moving average, there is another set beside them.
        task.evaluated.load_state_dict(task.network.state_dict())
        probs, _, _ = self._first.predict(self._data, "val")
        return probs

    def _training_images(self) -> list[torch.Tensor]:
        """Training images without augmentation, normalised, in an order that is always so."""
        task, device = self._first.task, self._first.device
        most = max(1, _PICTURES_FOR_STATISTICS // self._data.batch_size)
        batches = islice(self._data.batches("train", training=True), most)
        return [task.normalized(batch.images.to(device)) for batch in batches]


def _measured_norms(task: ClassificationTask) -> set[str]:
    """Return the names of the batch norms whose statistics a training measured."""
    task.set_modes(task.metadata["epochs"] - 1)
    norms = {n for n, m in task.network.named_modules() if isinstance(m, _BatchNorm) and m.training}
    task.eval()
    return norms
