"""What suits short fine-tuning: the defaults of `recipe=finetune` against other values.

At the size and for about the epochs that a race of ten minutes on two cores has for it. All see the
same pictures in the same order, and are compared on the validation part, picture by picture; no
test part is measured.

BAKEOFF_PHOTOS names the folder with the pictures; BAKEOFF_SETTINGS=augment,optimizer.lr,
BAKEOFF_PHOTO_SETS=clothing,cifar10, BAKEOFF_SEEDS=0,1, BAKEOFF_EPOCHS=2, BAKEOFF_SIDE=160, of a
picture, and BAKEOFF_PICTURES=1500, the most of a training part, choose what is measured.
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

# The default of each setting, and others.
_VALUES = {
    "augment": ("light", "photo", "none"),
    "optimizer.lr": ("0.0003", "0.0001", "0.001"),
}


def measure() -> list[Row]:
    """A row for each set and setting: accuracies, and paired differences from the default."""
    settings, sets, seeds, (epochs,), (side,), (pictures,) = (
        os.environ.get(f"BAKEOFF_{name}", usual).split(",")
        for name, usual in (
            ("SETTINGS", ",".join(_VALUES)),
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
            overrides = ["recipe=finetune", f"model.input_size={side}", "data=folder"]
            overrides += [f"data.root={root}", f"data.train_limit={pictures}"]
            overrides += [f"trainer.max_epochs={epochs}", "trainer.progress=false"]
            overrides += [
                "tracking.enabled=false",
                "evaluate_test=false",
                f"output_dir={folder}/out",
            ]
            for setting in settings:
                right = {
                    (value, seed): _right([*overrides, f"{setting}={value}", f"seed={seed}"])
                    for seed in seeds
                    for value in _VALUES[setting]
                }
                rows.append(_row(name, setting, right, seeds))
    return rows


def _right(overrides: list[str]) -> BoolArray:
    """Return which pictures of the validation part a training gets right."""
    summary = run_experiment(read_run_settings(overrides))
    assert summary is not None
    said = Predictions.read(os.path.join(summary.run_dir, "predictions", "val.parquet"))
    right: BoolArray = said.decided == said.targets
    print(f"  {' '.join(overrides[-2:])}: {100 * right.mean():.1f} %", flush=True)
    return right


def _row(name: str, setting: str, right: dict[tuple[str, str], BoolArray], seeds: list[str]) -> Row:
    usual, *others = _VALUES[setting]
    # (seeds, pictures) each.
    found = {
        value: np.stack([right[value, seed] for seed in seeds]).astype(float)
        for value in _VALUES[setting]
    }
    means = {one: ", ".join(f"{100 * v:.1f}" for v in found[one].mean(axis=1)) for one in found}
    shown, behind = [f"{usual} {means[usual]} %"], False
    for one in others:
        # Trainings of several seeds answer about the same pictures.
        more = (found[one] - found[usual]).mean(axis=0)
        error = more.std(ddof=1) / np.sqrt(len(more))
        behind = behind or more.mean() > 2 * error
        shown.append(f"{one} {means[one]} % ({100 * more.mean():+.1f} +- {100 * error:.1f})")
    what = f"{name}, fine-tuned, {setting}, seeds {', '.join(seeds)}: accuracy on"
    return Row(
        f"{what} {found[usual].shape[1]:,} validation photos",
        "; ".join(shown),
        f"{usual} not clearly behind",
        not behind,
    )
