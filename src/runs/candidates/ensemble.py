"""Finished runs that answer together, as a candidate: what is fitted are their weights."""

from __future__ import annotations

import json
import os
import shutil
import time
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from src.config.checks import ConfigError, to_plain
from src.config.ensemble import EnsembleSettings
from src.config.schema import RunSettings
from src.data.loading.datamodule import PictureData
from src.ensembles.combine import WAYS, combine
from src.ensembles.mixing import Way, combined_probabilities
from src.machine.interruption import Interruption
from src.runs.candidates.candidate import Answers, Fitted, OnEpoch, Trained
from src.runs.candidates.choose import ENSEMBLE_SUFFIX, load_trained
from src.runs.candidates.combined import metrics_of, read_held_out, seconds_of, told, write_held_out
from src.runs.candidates.members import Member, load_member, read_members
from src.runs.folder import RunFolder
from src.runs.resolve import Resolved
from src.serving.bundle import write_ensemble_bundle
from src.serving.predictor import Predictor, ensemble_predictor
from src.storage.files import write_atomically
from src.tracking.tracker import Tracker

__all__ = ["EnsembleCandidate", "TrainedEnsemble"]

_MEMBERS = "members"


@dataclass(frozen=True)
class TrainedEnsemble:
    """Several trained models that answer as one.

    Its file says how they are mixed and lies beside theirs, in `members/`. Of the validation part,
    whose labels its weights have seen, it gives the answers that were held out when it was made,
    each from members and weights that were chosen without that picture; made of cross-validations
    it gives those of the training part as well, out of fold.

    Attributes:
        passport: `ensemble` says the `way`, and of each of its `members` the run, the `file` and
            the `weight`.
        file: its own.
    """

    passport: dict[str, Any]
    file: Path

    @classmethod
    def load(cls, file: Path) -> TrainedEnsemble:
        """The one of a run's file.

        Raises:
            ConfigError: the file or one of its members is damaged or gone, or holds code.
        """
        try:
            passport = json.loads(file.read_bytes())
            found = cls(passport, file)
            missing = [path.name for path in found._files if not path.is_file()]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ConfigError(f"run: {file} cannot be read as an ensemble: {error!r}.") from error
        if missing:
            raise ConfigError(f"run: of the ensemble {file} the member {missing[0]} is gone.")
        return found

    @property
    def _files(self) -> list[Path]:
        folder = self.file.parent / _MEMBERS
        # The name alone counts: nothing outside of the run's folder is ever opened.
        return [folder / Path(entry["file"]).name for entry in self.passport["ensemble"]["members"]]

    @cached_property
    def members(self) -> tuple[Trained, ...]:
        return tuple(load_trained(file) for file in self._files)

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

    def predictor(self, batch_size: int) -> Predictor:
        members = [member.predictor(batch_size) for member in self.members]
        return ensemble_predictor(
            members, self.way, self.weights.tolist(), self.passport, batch_size=batch_size
        )

    def cost(self, data: PictureData, checkpoint: Path) -> dict[str, float]:
        """What the members cost together, each measured alone: they answer one after another."""
        pairs = zip(self.members, self._files, strict=True)
        costs = [member.cost(data, file) for member, file in pairs]
        known = [name for name in costs[0] if all(name in cost for cost in costs)]
        total = {name: sum(cost[name] for cost in costs) for name in known}
        total["throughput"] = 1 / sum(1 / cost["throughput"] for cost in costs)
        total["peak_memory_mb"] = max(cost["peak_memory_mb"] for cost in costs)
        return total

    def write_bundle(self, folder: Path, example: NDArray[np.uint8]) -> str:
        writers = [partial(member.write_bundle, example=example) for member in self.members]
        return write_ensemble_bundle(folder, writers, self.passport, example)

    def class_maps(self) -> None:
        return None


@dataclass(frozen=True)
class _Part:
    """A model that answers, with its share: a member, or one of the folds that a member has."""

    member: Member
    checkpoint: Path
    weight: float

    @property
    def file(self) -> str:
        """What the checkpoint is called beside the ensemble's own file."""
        return f"{self.checkpoint.parent.parent.name}{self.checkpoint.suffix}"


class EnsembleCandidate:
    """Runs to choose from, chosen: everything but writing it down happens here.

    Args:
        settings: of the run.
        model: its model.
        data: the pictures, those of every run that is named.

    Raises:
        ConfigError: runs that cannot answer together.
    """

    def __init__(self, settings: RunSettings, model: EnsembleSettings, data: PictureData) -> None:
        started = time.perf_counter()
        self.resolved = Resolved(settings)
        self._settings = settings
        self._data = data
        self._library = read_members(model.runs, Path(settings.output_dir), data)
        ways = [way for way in WAYS if model.way in (way, "best")]
        self._found = combine(
            [member.name for member in self._library],
            np.stack([member.probs for member in self._library]),
            self._library[0].held_out.targets,
            ways=ways,
            at_most=model.at_most,
            seed=settings.seed,
        )
        used = np.flatnonzero(self._found.weights)
        self._members = [self._library[i] for i in used]
        self._trained = [one for member in self._members for one in load_member(member)]
        self._parts = [
            _Part(member, checkpoint, float(weight) / len(member.checkpoints))
            for member, weight in zip(self._members, self._found.weights[used], strict=True)
            for checkpoint in member.checkpoints
        ]
        self._seconds = time.perf_counter() - started

    @property
    def num_parameters(self) -> int:
        return sum(trained.num_parameters for trained in self._trained)

    def words(self) -> str:
        return f"{len(self._members)} of {len(self._library)} runs, {self._found.way}"

    def fit(
        self,
        folder: RunFolder,
        tracker: Tracker,
        interruption: Interruption,
        on_epoch: OnEpoch | None,
    ) -> Fitted:
        started = time.perf_counter()
        file = folder.checkpoints / f"ensemble{ENSEMBLE_SUFFIX}"
        shutil.rmtree(folder.checkpoints / _MEMBERS, ignore_errors=True)
        for part in self._parts:
            _take(part.checkpoint, folder.checkpoints / _MEMBERS / part.file)
        write_held_out(folder.checkpoints, self._found, self._library)
        trained = TrainedEnsemble(self._passport(), file)
        write_atomically(file, json.dumps(trained.passport, indent=1) + "\n")
        print(told(self._found, self._library), flush=True)
        metrics = metrics_of(self._found)
        if on_epoch is not None:
            on_epoch(0, dict(metrics))
        interruption.check()
        own = self._seconds + time.perf_counter() - started
        return Fitted(
            trained,
            file,
            own + seconds_of(self._members),
            metrics,
            split_fingerprint=self._library[0].summary.split_fingerprint,
        )

    def training_batch(self) -> None:
        return None

    def _passport(self) -> dict[str, Any]:
        data, pictures = self._data, self._data.pictures
        members = [
            {"run": part.member.name, "file": part.file, "weight": part.weight}
            for part in self._parts
        ]
        return {
            "settings": to_plain(self._settings) | {"resume": None},
            "class_names": list(pictures.class_names),
            **pictures.format.plain(),
            "split_fingerprint": data.split.fingerprint,
            "epochs": 0,
            "ensemble": {"way": self._found.way, "members": members},
        }


def _take(source: Path, target: Path) -> None:
    """The same file under a second name: files of a run are replaced, never written into."""
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(source, target)
    except OSError:  # another file system, or one without links
        shutil.copyfile(source, target)
