"""How soon training begins: of a kept folder of 60,000 pictures, and of the digits."""

from __future__ import annotations

import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks.commands import python
from benchmarks.table import Row, spread

__all__ = ["measure"]

_ROUNDS = 5
_PICTURES, _CLASSES, _SIDE = 60_000, 10, 32

_FIRST_BATCH = """
import sys, time
from src.config.compose import read_run_settings
import src.runs.experiment
from src.runs import build
began = time.perf_counter()
settings = read_run_settings(["data=folder", f"data.root={sys.argv[1]}",
                              f"data.cache_dir={sys.argv[2]}"])
batch = next(iter(build.build_data(settings).batches("train", training=True)))
print(time.perf_counter() - began, len(batch.images))
"""

# Both begin at the moment, given as the first word, at which their process was asked for.
_FIRST_STEP = """
import sys, os, time
from src import train
from src.training.epochs import EpochKeeper
def done(*_, **__):
    print(time.time() - float(born), flush=True)
    os._exit(0)
EpochKeeper.on_train_batch_end = done
_, born, *overrides = sys.argv
sys.argv = ["src.train", *overrides]
train.main()
"""

# Before it: every file counts as one that this process has read already.
_UNCHECKED = """
import src.storage.cache
class All(set):
    def __contains__(self, one):
        return True
src.storage.cache._checked = All()
"""

_IMPORTS = """
import sys, time
import torch, pytorch_lightning
print(time.time() - float(sys.argv[1]))
"""


def measure() -> list[Row]:
    """Both, each in fresh processes."""
    with tempfile.TemporaryDirectory() as folder:
        return [_kept_folder(Path(folder)), _verified(Path(folder)), _digits(Path(folder))]


def _kept_folder(folder: Path) -> Row:
    root, cache = folder / "pictures", folder / "cache"
    _write_pictures(root)
    arguments = ("-c", _FIRST_BATCH, str(root), str(cache))
    first = float(python(*arguments).split()[0])
    seconds = [float(python(*arguments).split()[0]) for _ in range(_ROUNDS)]
    return Row(
        f"second start on a folder of {_PICTURES:,} pictures: first batch, beyond imports",
        f"{spread(seconds, ' s')}; first start {first:.0f} s",
        "at most 1 s",
        statistics.median(seconds) <= 1.0,
    )


def _verified(folder: Path) -> Row:
    """Of the same folder, with and without reading the store for its checksums."""
    overrides = (
        *("model=mlp", "data=folder", f"data.root={folder / 'pictures'}", "tracking=none"),
        *(f"data.cache_dir={folder / 'cache'}", f"output_dir={folder}", "trainer.progress=false"),
    )
    ratios = []
    for turn in range(_ROUNDS + 1):
        checked, unchecked = (
            float(python("-c", code, str(time.time()), *overrides).splitlines()[-1])
            for code in (_FIRST_STEP, _UNCHECKED + _FIRST_STEP)
        )
        if turn:  # the first start chooses the plan
            ratios.append(checked / unchecked)
    return Row(
        f"first step on {_PICTURES:,} kept pictures: their store verified, against unverified",
        spread(ratios),
        "at most 1.1x",
        statistics.median(ratios) <= 1.1,
    )


def _digits(folder: Path) -> Row:
    overrides = (f"output_dir={folder}", f"data.cache_dir={folder}", "trainer.progress=false")
    ratios = []
    for turn in range(_ROUNDS + 1):
        step = float(python("-c", _FIRST_STEP, str(time.time()), *overrides).splitlines()[-1])
        imports = float(python("-c", _IMPORTS, str(time.time())))
        if turn:  # the first start chooses the plan
            ratios.append(step / imports)
    return Row(
        "`python -m src.train` to its first step on digits, against importing torch and Lightning",
        spread(ratios),
        "at most 1.7x",
        statistics.median(ratios) <= 1.7,
    )


def _write_pictures(root: Path) -> None:
    rng = np.random.default_rng(0)
    for label in range(_CLASSES):
        (root / f"class {label}").mkdir(parents=True)
        noise = rng.integers(0, 256, (_PICTURES // _CLASSES, _SIDE, _SIDE, 3), np.uint8)
        for number, picture in enumerate(noise):
            Image.fromarray(picture).save(root / f"class {label}" / f"{number:05}.jpg")
