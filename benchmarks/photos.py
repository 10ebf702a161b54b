"""What a race gets out of photos within its budget, from cold caches to the measured champion.

The pictures come from the folder that BAKEOFF_PHOTOS names (benchmarks/photo_sets.py). The sweep
chooses on the validation part and measures the test part once.
BAKEOFF_PHOTO_SETS=clothing,breastmnist and BAKEOFF_MINUTES=10 measure some of them.
"""

from __future__ import annotations

import json
import os
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from benchmarks.commands import environment, python
from benchmarks.photo_sets import photo_set
from benchmarks.rivals.protocol import cpu_seconds_used
from benchmarks.table import Row
from src.metrics.share_intervals import wilson_interval

__all__ = ["RaceResult", "measure", "race"]

# Of a set: minutes, and the test accuracy in percent that is to be reached.
_BARS = {
    ("clothing", 10.0): 90.5,
    ("clothing", 30.0): 92.0,
    ("breastmnist", 10.0): 86.5,
    ("retinamnist", 10.0): 54.0,
}


@dataclass(frozen=True)
class RaceResult:
    """What one sweep gave.

    Attributes:
        family: of the champion.
        validation, test: accuracies in [0, 1].
        pictures: in the test part.
        seconds, cpu_seconds: from the command's start to its end.
    """

    family: str
    validation: float
    test: float
    pictures: int
    seconds: float
    cpu_seconds: float


def race(root: Path, minutes: float, seed: int = 0) -> RaceResult:
    """Return what `python -m src.sweep` finds in pictures that no cache has seen."""
    with tempfile.TemporaryDirectory() as folder, environment(BAKEOFF_CACHE=f"{folder}/cache"):
        started, used = time.perf_counter(), cpu_seconds_used()
        python(
            *("-m", "src.sweep", "study=photos", "data=folder", f"data.root={root}"),
            *(f"budget.minutes={minutes:g}", f"seed={seed}", f"output_dir={folder}/out"),
            *("tracking.enabled=false", "data.on_duplicates=drop"),
        )
        seconds, cpu = time.perf_counter() - started, cpu_seconds_used() - used
        record = json.loads(Path(folder, "out/sweeps/photos/sweep.json").read_text())
        winner = record["trials"][record["winner"]]
        finalist = next(f for f in record["finalists"] if f["trial"] == record["winner"])
        values = [value for value in finalist["runs"].values() if value is not None]
        run = Path(next(iter(finalist["run_dirs"].values())))
        lines = (run / "split.csv").read_text().splitlines()
        tested = sum(line.startswith("test,") for line in lines)
        return RaceResult(
            winner["family"],
            sum(values) / len(values),
            record["test"]["test/accuracy"],
            tested,
            seconds,
            cpu,
        )


def measure() -> list[Row]:
    """A row for each set and budget."""
    names = os.environ.get("BAKEOFF_PHOTO_SETS", "clothing,breastmnist,retinamnist").split(",")
    minutes = [float(m) for m in os.environ.get("BAKEOFF_MINUTES", "10,30").split(",")]
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for name, limit in ((n, m) for n in names for m in minutes if (n, m) in _BARS):
            found = race(photo_set(name, Path(folder)), limit)
            low, high = wilson_interval(round(found.test * found.pictures), found.pictures)
            rows.append(
                Row(
                    f"{name}, {limit:g} minutes from cold caches: test accuracy (95 % interval), "
                    "champion, all of the command",
                    f"{100 * found.test:.1f} % ({100 * low:.1f} to {100 * high:.1f}), "
                    f"{found.family}, {found.seconds:.0f} s, {found.cpu_seconds:.0f} CPU seconds",
                    f"{_BARS[name, limit]:g} %",
                    100 * found.test >= _BARS[name, limit],
                )
            )
    return rows
