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

from ...config.checks import ConfigError
from ...data.loading.picture_data import PictureData
from ...ensembles.mixing import Method, combined_probabilities
from ...machine.arrays import Float32Array, Float64Array, Int64Array
from ...records.pictures import Pixels
from ...serving.bundle_writing import write_ensemble_bundle
from ...serving.ensemble_predictor import ensemble_predictor
from ...serving.export_formats import ExportSource
from ...serving.predictor import Predictor
from ...storage.files import write_atomically
from ...targets import kind_of
from ..build import model_metadata
from .candidate import Answers, FitContext, Fitted, Trained, described_features
from .members import ENSEMBLE_SUFFIX, CombinationCandidate, read_held_out
from .mixed_pixels import mixed_answers

__all__ = ["EnsembleCandidate", "TrainedEnsemble", "member_files", "read_ensemble_metadata"]

_MEMBERS = "members"


@dataclass(frozen=True)
class TrainedEnsemble:
    """Several trained models whose probabilities are mixed.

    Its file has the weights and lies beside the members' files, in `members/`. For the validation
    part, whose labels its weights have seen, it returns the held-out predictions that were kept
    when it was made, each from members and weights chosen without that picture; an ensemble of
    cross-validations returns those of the training part as well, out of fold.

    Attributes:
        metadata: `ensemble` has the `way`, and of each of its `members` the run, the
            `file` and the `weight`.
        members: the models, in the same order.
    """

    metadata: dict[str, Any]
    file: Path
    members: tuple[Trained, ...]

    @property
    def method(self) -> Method:
        method: Method = self.metadata["ensemble"]["way"]
        return method

    @property
    def weights(self) -> Float64Array:
        return np.array([entry["weight"] for entry in self.metadata["ensemble"]["members"]])

    @property
    def num_parameters(self) -> int:
        return sum(member.num_parameters for member in self.members)

    def predict(self, data: PictureData, part: str) -> Answers:
        if part == "val":
            return read_held_out(self.file.parent)
        if kind_of(data.pictures.kind).pixels:
            predictors = [member.predictor(1) for member in self.members]
            return mixed_answers(predictors, data, part, [(self.method, self.weights)])
        answers = [member.predict(data, part) for member in self.members]
        probs = np.stack([probs for probs, _, _ in answers])
        _, targets, ids = answers[0]
        sets = kind_of(data.pictures.kind).sets
        return combined_probabilities(self.method, probs, self.weights, sets=sets), targets, ids

    def features(self, data: PictureData, part: str, rows: Int64Array) -> Float32Array | None:
        return described_features(self.predictor(128), data, getattr(data.split, part)[rows])

    def predictor(self, batch_size: int) -> Predictor:
        members = [member.predictor(batch_size) for member in self.members]
        return ensemble_predictor(
            members, self.method, self.weights.tolist(), self.metadata, batch_size=batch_size
        )

    def cost(self, data: PictureData, checkpoint: Path) -> dict[str, float]:
        """Sum the costs of the members, each measured alone: they predict one after another."""
        pairs = zip(self.members, member_files(self.metadata, self.file), strict=True)
        costs = [member.cost(data, file) for member, file in pairs]
        known = [name for name in costs[0] if all(name in cost for cost in costs)]
        total = {name: sum(cost[name] for cost in costs) for name in known}
        # Measured one after another: what one of them was measured beside marks the sum.
        if others := max(cost.get("latency_others", 0.0) for cost in costs):
            total["latency_others"] = others
        total["throughput"] = 1 / sum(1 / cost["throughput"] for cost in costs)
        total["peak_memory_mb"] = max(cost["peak_memory_mb"] for cost in costs)
        return total

    def write_bundle(self, folder: Path, example: Pixels) -> str:
        writers = [partial(member.write_bundle, example=example) for member in self.members]
        return write_ensemble_bundle(folder, writers, self.metadata, example)

    def export_source(self) -> ExportSource:
        raise ValueError("it is a combination of several models")

    def class_maps(self) -> None:
        return None


@dataclass(frozen=True)
class EnsembleCandidate(CombinationCandidate):
    """Runs with the weights that combine them; the fit writes the ensemble.

    `models` are the trained models of each run with a weight, in order: of a cross-validation one a
    fold.
    """

    data: PictureData
    models: Sequence[Sequence[Trained]]

    @property
    def num_parameters(self) -> int:
        return sum(trained.num_parameters for models in self.models for trained in models)

    def description(self) -> str:
        return f"{len(self.used)} of {len(self.library)} runs, {self.found.way}"

    def fit(self, context: FitContext) -> Fitted:
        started = time.perf_counter()
        checkpoints = context.folder.checkpoints
        shutil.rmtree(checkpoints / _MEMBERS, ignore_errors=True)
        entries = []
        for member, weight in self.used:
            for checkpoint in member.checkpoints:  # folds share the weight of their whole
                name = f"{checkpoint.parent.parent.name}{checkpoint.suffix}"
                _link_or_copy(checkpoint, checkpoints / _MEMBERS / name)
                share = weight / len(member.checkpoints)
                entries.append({"run": member.name, "file": name, "weight": share})
        metadata = {
            **model_metadata(self.resolved.settings, self.data),
            "epochs": 0,
            "ensemble": {"way": self.found.way, "members": entries},
        }
        file = checkpoints / f"ensemble{ENSEMBLE_SUFFIX}"
        write_atomically(file, json.dumps(metadata, indent=1) + "\n")
        models = tuple(trained for models in self.models for trained in models)
        return self.fitted(context, TrainedEnsemble(metadata, file, models), file, started)


def read_ensemble_metadata(file: Path) -> dict[str, Any]:
    """Read the metadata of an ensemble's file.

    Raises:
        ConfigError: the file is damaged, or one of its members is gone.
    """
    try:
        metadata: dict[str, Any] = json.loads(file.read_bytes())
        known = metadata["settings"], metadata["class_names"], metadata["ensemble"]["way"]
        weights = [float(entry["weight"]) for entry in metadata["ensemble"]["members"]]
        if not (all(known) and weights):
            raise ValueError("it names no members, settings or classes")
        missing = [path.name for path in member_files(metadata, file) if not path.is_file()]
    except (OSError, ValueError, LookupError, TypeError, RecursionError) as error:
        raise ConfigError(f"run: {file} cannot be read as an ensemble: {error!r}.") from error
    if missing:
        raise ConfigError(f"run: of the ensemble {file} the member {missing[0]} is gone.")
    return metadata


def member_files(metadata: dict[str, Any], file: Path) -> list[Path]:
    """Return the files of an ensemble's members, which lie beside its own file."""
    # The name alone counts: nothing outside of the run's folder is ever opened.
    members = metadata["ensemble"]["members"]
    return [file.parent / _MEMBERS / Path(entry["file"]).name for entry in members]


def _link_or_copy(source: Path, target: Path) -> None:
    """Give a file a second name: files of a run are replaced, never written into."""
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(source, target)
    except OSError:  # another file system, or one without links
        shutil.copyfile(source, target)
