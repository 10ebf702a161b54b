"""An ensemble against its best member: four runs of the command line on all of Fashion-MNIST.

The members, their weights and which of them is the best are chosen on the validation part. The test
part is measured once by the ensemble and once by that member, and the two are compared picture by
picture. Half an hour on two cores.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.commands import python
from benchmarks.table import Row
from src.records.run import Predictions
from src.statistics.paired_tests import mcnemar

__all__ = ["measure"]

_LEVEL = 0.05
_RUNS = (
    ("model=cnn",),
    ("model=cnn", "seed=1"),
    ("model=cnn", "seed=2"),
    ("model=handcrafted", "model.mirror=false"),
)


def measure() -> list[Row]:
    """Four trainings of the command line, an ensemble of them, and two looks at the test part."""
    with tempfile.TemporaryDirectory() as folder:
        place = f"output_dir={folder}/out"
        shared = ["data=fashion_mnist", "evaluate_test=false"]
        shared += ["tracking=none", "tracking.figures=false", "tracking.log_model=false", place]
        for overrides in _RUNS:
            python("-m", "src.train", *shared, *overrides)
        python("-m", "src.compare", "ensemble=true", "tracking.enabled=false", place)
        runs = [
            json.loads(path.read_text()) for path in Path(folder).glob("out/runs/*/summary.json")
        ]
        (ensemble,) = [run for run in runs if run["model"] == "ensemble"]
        members = [run for run in runs if run["model"] != "ensemble"]
        best = max(members, key=lambda run: run["metrics"]["val/accuracy"])
        return [_row(ensemble, best, place)]


def _row(ensemble: dict[str, Any], best: dict[str, Any], place: str) -> Row:
    right, latency = [], []
    for run in (ensemble, best):
        python("-m", "src.evaluate", f"run={run['run_dir']}", "split=test", place)
        predicted = Predictions.read(Path(run["run_dir"]) / "predictions" / "test.parquet")
        right.append(predicted.probs.argmax(axis=1) == predicted.targets)
        latency.append(run["metrics"]["cost/latency_ms"])
    test = mcnemar(*right)
    ours, theirs = (100 * one.mean() for one in right)
    return Row(
        f"ensemble against its best member ({best['model']}) on Fashion-MNIST: "
        "test accuracy, latency",
        f"{ours:.2f} % against {theirs:.2f} % (p = {test.p_value:.1g}), "
        f"{latency[0]:.1f} ms against {latency[1]:.1f} ms",
        "better, and McNemar's exact test says so (p at most 0.05)",
        bool(ours > theirs and test.p_value <= _LEVEL),
    )
