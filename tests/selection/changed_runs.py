"""Copies of finished runs that are changed in one way."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch
import yaml

from src.data.sources.digits import load
from src.data.splitting.splits import Split
from src.records.run import Predictions, RunSummary
from src.runs.candidates.choose import load_trained
from src.runs.folder import RunFolder
from tests.runs.unsealed import copied


def of_plugin(run: RunFolder) -> RunFolder:
    """Copy a run as that of a network which a plugin brings."""
    copy, new_id = run.path.with_name("mixer"), run.run_id[::-1]
    shutil.copytree(run.path, copy)
    for file in (copy / "run.json", copy / "summary.json"):
        file.write_text(file.read_text(encoding="utf-8").replace(run.run_id, new_id))
    config = RunFolder.open(copy).config
    plain = yaml.safe_load(config.read_text(encoding="utf-8"))
    plain["model"]["_target_"] = "mixer.Mixer"
    config.write_text(yaml.safe_dump(plain))
    return RunFolder.open(copy)


def val(folder: RunFolder) -> Predictions:
    return Predictions.read(folder.predictions / "val.parquet")


def changed(folder: RunFolder, name: str, change: Callable[[RunFolder], None]) -> RunFolder:
    """A copy of a run with another id, changed."""
    copy = copied(folder, name)
    change(copy)
    return copy


def cross_validation(folds: tuple[RunFolder, ...], name: str) -> RunFolder:
    """A cross-validation as its records tell of it, made of runs that take the place of folds."""

    def change(copy: RunFolder) -> None:
        split = Split.read(copy.split)
        ids = np.sort(np.concatenate([split.train, split.val]))
        source = load(None, copy.path, False)
        said = [
            load_trained(one.chosen_checkpoint()).predictor(64).probabilities(source.arrays[ids])
            for one in folds
        ]
        Predictions(
            ids,
            None,
            source.targets[ids],
            np.stack(said)[np.arange(len(ids)) % len(said), np.arange(len(ids))],
            val(copy).class_names,
        ).write(copy.predictions / "val.parquet")
        (copy.path / "folds.json").write_text(
            json.dumps({"command": [], "runs": {i: one.name for i, one in enumerate(folds, 1)}})
        )
        shutil.rmtree(copy.checkpoints)
        plain = yaml.safe_load(copy.config.read_text())
        plain["cv"]["folds"] = 2
        copy.config.write_text(yaml.safe_dump(plain))
        summary = RunSummary.read(copy.summary)
        replace(summary, checkpoint=None, split_fingerprint="into two folds").write(copy.summary)

    return changed(folds[0], name, change)


def moved(by: float) -> Callable[[RunFolder], None]:
    """Weights moved along one fixed direction, so that moved(1) and moved(-1) have the old mean."""

    def change(copy: RunFolder) -> None:
        file = copy.chosen_checkpoint()
        stored = torch.load(file, weights_only=True)
        generator = torch.Generator().manual_seed(0)
        for name, tensor in stored["state_dict"].items():
            if ".network." in f".{name}":
                noise = torch.randn(tensor.shape, generator=generator) * tensor.std()
                tensor += by * noise
        torch.save(stored, file)
        stated = val(copy)
        pictures = load(None, copy.path, False).arrays[stated.sample_ids]
        probs = load_trained(file).predictor(64).probabilities(pictures)
        Predictions(stated.sample_ids, None, stated.targets, probs, stated.class_names).write(
            copy.predictions / "val.parquet"
        )

    return change


def with_loss(target: str) -> Callable[[RunFolder], None]:
    def change(folder: RunFolder) -> None:
        plain = yaml.safe_load(folder.config.read_text())
        plain["loss"]["_target_"] = target
        folder.config.write_text(yaml.safe_dump(plain))

    return change
