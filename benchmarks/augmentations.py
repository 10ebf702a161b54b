"""Which augmentation suits short fine-tuning: `light`, the default, against `photo` and none.

`recipe=finetune` at the size and for about the epochs that a race of ten minutes on two cores has
for it.
All see the same pictures in the same order, and are compared on the validation part, picture by
picture; no test part is measured.

BAKEOFF_PHOTOS names the folder with the pictures; BAKEOFF_PHOTO_SETS=clothing,cifar10,
BAKEOFF_SEEDS=0,1, BAKEOFF_EPOCHS=2, BAKEOFF_SIDE=160, of a picture, and BAKEOFF_PICTURES=1500, the
most of a training part, choose what is measured.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import numpy as np

from benchmarks.photo_sets import photo_set
from benchmarks.table import Row
from src.config.compose import read_run_settings
from src.machine.arrays import BoolArray
from src.records.run import Predictions
from src.runs.experiment import run_experiment
from src.sweeps.short_budget import TUNED_SIDE

__all__ = ["measure"]

_USUAL, *_OTHERS = _AUGMENTATIONS = ("light", "photo", "none")


def measure() -> list[Row]:
    """A row for each set: accuracies by augmentation, and paired differences from the default."""
    sets, seeds, (epochs,), (side,), (pictures,) = (
        os.environ.get(f"BAKEOFF_{name}", usual).split(",")
        for name, usual in (
            ("PHOTO_SETS", "clothing,cifar10"),
            ("SEEDS", "0,1"),
            ("EPOCHS", "2"),
            ("SIDE", str(TUNED_SIDE)),
            ("PICTURES", "1500"),
        )
    )
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for name in sets:
            root = photo_set(name, Path(folder))
            words = ["recipe=finetune", f"model.input_size={side}", "data=folder"]
            words += [f"data.root={root}", f"data.train_limit={pictures}"]
            words += [f"trainer.max_epochs={epochs}", "trainer.progress=false"]
            words += ["tracking.enabled=false", "evaluate_test=false", f"output_dir={folder}/out"]
            right = {
                (augmentation, seed): _right([*words, f"augment={augmentation}", f"seed={seed}"])
                for seed in seeds
                for augmentation in _AUGMENTATIONS
            }
            rows.append(_row(name, right, seeds))
    return rows


def _right(words: list[str]) -> BoolArray:
    """Return which pictures of the validation part a training gets right."""
    summary = run_experiment(read_run_settings(words))
    assert summary is not None
    said = Predictions.read(os.path.join(summary.run_dir, "predictions", "val.parquet"))
    right: BoolArray = said.decided == said.targets
    print(f"  {' '.join(words[-2:])}: {100 * right.mean():.1f} %", flush=True)
    return right


def _row(name: str, right: dict[tuple[str, str], BoolArray], seeds: list[str]) -> Row:
    # (seeds, pictures) each.
    found = {
        one: np.stack([right[one, seed] for seed in seeds]).astype(float) for one in _AUGMENTATIONS
    }
    means = {one: ", ".join(f"{100 * v:.1f}" for v in found[one].mean(axis=1)) for one in found}
    shown, behind = [f"{_USUAL} {means[_USUAL]} %"], False
    for one in _OTHERS:
        # Trainings of several seeds answer about the same pictures.
        more = (found[one] - found[_USUAL]).mean(axis=0)
        error = more.std(ddof=1) / np.sqrt(len(more))
        behind = behind or more.mean() > 2 * error
        shown.append(f"{one} {means[one]} % ({100 * more.mean():+.1f} +- {100 * error:.1f})")
    what = f"{name}, fine-tuned, seeds {', '.join(seeds)}: accuracy on {found[_USUAL].shape[1]:,}"
    return Row(
        f"{what} validation photos", "; ".join(shown), f"{_USUAL} not clearly behind", not behind
    )
