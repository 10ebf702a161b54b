"""An epoch of ours against one of Lightning + DataLoader + per-sample transforms + MLFlowLogger.

The same MLP, the same 54,000 training and 6,000 validation pictures of Fashion-MNIST, batches of
128, each with its own way to track, to show progress and to save. Runs take turns.
"""

from __future__ import annotations

import itertools
import statistics
import tempfile
import time
from pathlib import Path

from benchmarks import rival
from benchmarks.table import Row, spread
from src.config.compose import read_run_settings
from src.runs import build
from src.runs.experiment import run_experiment

__all__ = ["measure"]

_ROUNDS = 5
_EPOCHS = 3
_BAR = 5.0
_OVERRIDES = (
    *("data=fashion_mnist", "data.val_fraction=0.1", "model=mlp", "model.hidden=[64,128,64]"),
    *("model.dropout=0", "augment=none", "optimizer=adamw", "trainer.ema_decay=0"),
    *(f"trainer.max_epochs={_EPOCHS}", "evaluate_test=false"),
)


def measure() -> list[Row]:
    """The rival gets the number of workers that suits it better."""
    data = build.build_data(read_run_settings(list(_OVERRIDES)))
    images, targets = data.pictures.array, data.pictures.targets
    assert images is not None
    parts = {
        name: (images[ids], targets[ids])
        for name, ids in (("train", data.split.train), ("val", data.split.val))
    }
    ratios = []
    with tempfile.TemporaryDirectory() as folder:
        for turn in range(_ROUNDS):
            ours = min(_our_seconds(Path(folder)))
            theirs = min(
                min(rival.epoch_seconds(parts, Path(folder), epochs=2, workers=workers))
                for workers in (0, 2)
            )
            print(f"round {turn + 1}: {ours:.2f} s against {theirs:.2f} s", flush=True)
            ratios.append(theirs / ours)
    return [
        Row(
            "an epoch of the MLP 784-64-128-64-10 on Fashion-MNIST, against Lightning + "
            "DataLoader + per-sample transforms + MLFlowLogger",
            f"{spread(ratios, digits=1)} faster",
            f"at least {_BAR:.0f}x",
            statistics.median(ratios) >= _BAR,
        )
    ]


def _our_seconds(folder: Path) -> list[float]:
    moments: list[float] = []
    settings = read_run_settings([*_OVERRIDES, f"output_dir={folder}"])
    run_experiment(settings, lambda epoch, metrics: moments.append(time.perf_counter()))
    return [end - start for start, end in itertools.pairwise(moments)]
