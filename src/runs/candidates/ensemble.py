"""Finished runs whose probabilities are combined, as a candidate: the fit finds their weights."""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from src.config.checks import ConfigError, to_plain
from src.config.models import EnsembleSettings
from src.config.schema import RunSettings
from src.data.loading.datamodule import PictureData
from src.ensembles.combine import WAYS, combine
from src.ensembles.mixing import Way, combined_probabilities
from src.machine.interruption import Interruption
from src.records.combination import Combination
from src.runs.candidates.candidate import Answers, Fitted, OnEpoch, Trained, described_features
from src.runs.candidates.members import (
    ENSEMBLE_SUFFIX,
    Member,
    read_held_out,
    record_combination,
    seconds_of,
)
from src.runs.folder import RunFolder
from src.runs.resolve import Resolved
from src.serving.bundle import write_ensemble_bundle
from src.serving.predictor import Predictor, ensemble_predictor
from src.storage.files import write_atomically
from src.tracking.tracker import Tracker

__all__ = [
    "EnsembleCandidate",
    "TrainedEnsemble",
    "choose_members",
    "member_files",
    "read_metadata",
]

_MEMBERS = "members"


@dataclass(frozen=True)
class TrainedEnsemble:
    """Several trained models whose probabilities are mixed.

    Its file has the weights and lies beside the members' files, in `members/`. For the validation
    part, whose labels its weights have seen, it returns the held-out predictions that were kept
    when it was made, each from members and weights chosen without that picture; an ensemble of
    cross-validations returns those of the training part as well, out of fold.

    Attributes:
        passport: metadata; `ensemble` has the `way`, and of each of its `members` the run, the
            `file` and the `weight`.
        file: its own.
        members: the models, in the same order.
    """

    passport: dict[str, Any]
    file: Path
    members: tuple[Trained, ...]

    @property
    def way(self) -> Way:
        way: Way = self.passport["ensemble"]["way"]
        return way

    @property
    def weights(self) -> NDArray[np.float64]:
        return np.array([entry["weight"] for entry in self.passport["ensemble"]["members"]])

    @property
    def num_parameters(self) -> int:
        return sum(member.num_parameters for member in self.members)

    def predict(self, data: PictureData, part: str) -> Answers:
        if part == "val":
            return read_held_out(self.file.parent)
        answers = [member.predict(data, part) for member in self.members]
        probs = np.stack([probs for probs, _, _ in answers])
        _, targets, ids = answers[0]
        return combined_probabilities(self.way, probs, self.weights), targets, ids

    def features(
        self, data: PictureData, part: str, rows: NDArray[np.int64]
    ) -> NDArray[np.float32] | None:
        return described_features(self.predictor(128), data, getattr(data.split, part)[rows])

    def predictor(self, batch_size: int) -> Predictor:
        members = [member.predictor(batch_size) for member in self.members]
        return ensemble_predictor(
            members, self.way, self.weights.tolist(), self.passport, batch_size=batch_size
        )

    def cost(self, data: PictureData, checkpoint: Path) -> dict[str, float]:
        """Sum the costs of the members, each measured alone: they predict one after another."""
        pairs = zip(self.members, member_files(self.passport, self.file), strict=True)
        costs = [member.cost(data, file) for member, file in pairs]
        known = [name for name in costs[0] if all(name in cost for cost in costs)]
        total = {name: sum(cost[name] for cost in costs) for name in known}
        # Measured one after another: what one of them was measured beside marks the sum.
        if others := max(cost.get("latency_others", 0.0) for cost in costs):
            total["latency_others"] = others
        total["throughput"] = 1 / sum(1 / cost["throughput"] for cost in costs)
        total["peak_memory_mb"] = max(cost["peak_memory_mb"] for cost in costs)
        return total

    def write_bundle(self, folder: Path, example: NDArray[np.uint8]) -> str:
        writers = [partial(member.write_bundle, example=example) for member in self.members]
        return write_ensemble_bundle(folder, writers, self.passport, example)

    def class_maps(self) -> None:
        return None


@dataclass(frozen=True)
class EnsembleCandidate:
    """Runs with the weights that combine them; the fit writes the ensemble.

    Attributes:
        resolved: settings of the run.
        data: the pictures, those of every run that is named.
        library: the runs to choose from.
        found: how they are combined.
        models: of each run with a weight, in order, its trained models: of a cross-validation one
            a fold.
        seconds: that the choice took.
    """

    resolved: Resolved
    data: PictureData
    library: Sequence[Member]
    found: Combination
    models: Sequence[Sequence[Trained]]
    seconds: float

    @property
    def num_parameters(self) -> int:
        return sum(trained.num_parameters for models in self.models for trained in models)

    @property
    def _used(self) -> list[tuple[Member, float]]:
        pairs = zip(self.library, self.found.weights.tolist(), strict=True)
        return [(member, weight) for member, weight in pairs if weight]

    def description(self) -> str:
        return f"{len(self._used)} of {len(self.library)} runs, {self.found.way}"

    def fit(
        self,
        folder: RunFolder,
        tracker: Tracker,
        interruption: Interruption,
        on_epoch: OnEpoch | None,
    ) -> Fitted:
        started = time.perf_counter()
        members = folder.checkpoints / _MEMBERS
        shutil.rmtree(members, ignore_errors=True)
        entries = []
        for member, weight in self._used:
            for checkpoint in member.checkpoints:  # folds share the weight of their whole
                name = f"{checkpoint.parent.parent.name}{checkpoint.suffix}"
                _link_or_copy(checkpoint, members / name)
                share = weight / len(member.checkpoints)
                entries.append({"run": member.name, "file": name, "weight": share})
        file = folder.checkpoints / f"ensemble{ENSEMBLE_SUFFIX}"
        models = tuple(trained for models in self.models for trained in models)
        trained = TrainedEnsemble(self._passport(entries), file, models)
        write_atomically(file, json.dumps(trained.passport, indent=1) + "\n")
        metrics = record_combination(
            folder.checkpoints, self.found, self.library, interruption, on_epoch
        )
        own = self.seconds + time.perf_counter() - started
        return Fitted(
            trained,
            file,
            own + seconds_of([member for member, _ in self._used]),
            metrics,
            split_fingerprint=self.library[0].summary.split_fingerprint,
        )

    def training_batch(self) -> None:
        return None

    def _passport(self, members: list[dict[str, Any]]) -> dict[str, Any]:
        pictures = self.data.pictures
        return {
            "settings": to_plain(self.resolved.settings) | {"resume": None},
            "class_names": list(pictures.class_names),
            **pictures.format.plain(),
            "split_fingerprint": self.data.split.fingerprint,
            "epochs": 0,
            "ensemble": {"way": self.found.way, "members": members},
        }


def choose_members(
    settings: RunSettings, model: EnsembleSettings, library: Sequence[Member]
) -> Combination:
    """Choose runs and their weights by the pictures that all of them held out."""
    return combine(
        [member.name for member in library],
        np.stack([member.probs for member in library]),
        library[0].held_out.targets,
        ways=[way for way in WAYS if model.way in (way, "best")],
        at_most=model.at_most,
        seed=settings.seed,
    )


def read_metadata(file: Path) -> dict[str, Any]:
    """Read the metadata of an ensemble's file.

    Raises:
        ConfigError: the file is damaged, or one of its members is gone.
    """
    try:
        passport: dict[str, Any] = json.loads(file.read_bytes())
        missing = [path.name for path in member_files(passport, file) if not path.is_file()]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigError(f"run: {file} cannot be read as an ensemble: {error!r}.") from error
    if missing:
        raise ConfigError(f"run: of the ensemble {file} the member {missing[0]} is gone.")
    return passport


def member_files(passport: dict[str, Any], file: Path) -> list[Path]:
    """Return the files of an ensemble's members, which lie beside its own file."""
    # The name alone counts: nothing outside of the run's folder is ever opened.
    members = passport["ensemble"]["members"]
    return [file.parent / _MEMBERS / Path(entry["file"]).name for entry in members]


def _link_or_copy(source: Path, target: Path) -> None:
    """Give a file a second name: files of a run are replaced, never written into."""
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(source, target)
    except OSError:  # another file system, or one without links
        shutil.copyfile(source, target)
