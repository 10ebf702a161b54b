"""Exported variants against eager PyTorch: one picture at a time through the default cnn."""

from __future__ import annotations

import json
import statistics
import tempfile
from functools import partial

import numpy as np

from benchmarks.commands import python, trained_in
from benchmarks.table import Row, spread
from src.runs.build import load_task
from src.runs.folder import RunFolder
from src.serving.bundle_files import model_file
from src.serving.export_formats import exportable
from src.serving.exported import open_logits
from src.serving.variant_choice import speedups, times_in_turns
from src.serving.whole_network import eager

__all__ = ["measure"]

_ROUNDS = 31
_THREADS = 2
_BAR, _LEAST_EQUAL = 1.5, 0.999
_TRAINING = ("data=fashion_mnist", "trainer.max_epochs=3", "evaluate_test=false", "tracking=none")


def measure() -> list[Row]:
    """A short training on Fashion-MNIST, exported; eager PyTorch in whatever way is fastest."""
    with tempfile.TemporaryDirectory() as output_dir:
        run = RunFolder.open(trained_in(output_dir, *_TRAINING))
        print(python("-m", "src.export", f"run={run.path}"))
        return [_row(run)]


def _row(run: RunFolder) -> Row:
    record = json.loads((run.exports / "export.json").read_text())
    equal = {row["name"]: row["equal_labels"] for row in record["variants"]}
    task = load_task(run.chosen_checkpoint())
    eagers = {
        f"{precision} {layout}": eager(
            exportable(load_task(run.chosen_checkpoint()).evaluated, task.metadata, layout),
            precision,
        )
        for precision in ("float32", "bfloat16")
        for layout in ("contiguous", "channels_last")
    }
    variants = {}
    for name in ("onnx", "int8", "pt2"):
        bundle = run.exports / name
        if bundle.is_dir() and equal[name] >= _LEAST_EQUAL:
            variants[name] = open_logits(bundle / model_file(bundle), _THREADS)
    channels, (height, width) = task.metadata["channels"], task.metadata["image_size"]
    picture = np.random.default_rng(0).integers(0, 256, (1, channels, height, width), np.uint8)
    calls = {name: partial(ask, picture) for name, ask in (eagers | variants).items()}
    seconds = times_in_turns(calls, _ROUNDS)
    for name, found in seconds.items():
        print(f"{name}: {1e3 * statistics.median(found):.3f} ms", flush=True)
    slow = min(eagers, key=lambda name: statistics.median(seconds[name]))
    fast = min(variants, key=lambda name: statistics.median(seconds[name]))
    faster = speedups(seconds[slow], seconds[fast])
    return Row(
        f"one picture through the default cnn: {fast} against eager PyTorch ({slow})",
        f"{spread(faster)} faster, {100 * equal[fast]:.2f} % equal labels",
        f"at least {_BAR}x, {100 * _LEAST_EQUAL:g} % on two cores",
        statistics.median(faster) >= _BAR,
    )
