"""Trials a minute of a real sweep with two one-thread slots, against the same one with one slot.

python -m benchmarks sweep_pair

Four minutes on two idle cores: with company it measures the company. Each sweep trains sixteen
equal trials of about two seconds; its time is that of the race, from the first trial's begin to the
end of the last one, and so without the workers' imports, which take both sweeps alike.
"""

from __future__ import annotations

import json
import statistics
import tempfile
from pathlib import Path

from benchmarks.commands import python
from benchmarks.table import Row, spread

__all__ = ["measure"]

_ROUNDS = 3
_TRIALS = 16
_OVERRIDES = [
    *("families=[mlp]", "search=[optimizer.lr]", "sampler=random", "pruner=none"),
    *(f"budget.trials={_TRIALS}", "finalists=0", "tracking=none"),
    *("workers.threads=1", "runtime=float32", "trainer.max_epochs=20"),
]


def measure() -> list[Row]:
    """The two take turns, so that a machine that slows down slows both."""
    ratios = []
    with tempfile.TemporaryDirectory() as name:
        for turn in range(_ROUNDS):
            one, two = (_trials_a_minute(Path(name) / f"{turn}-{n}", n) for n in (1, 2))
            print(f"round {turn + 1}: {one:.1f} against {two:.1f} trials a minute", flush=True)
            ratios.append(two / one)
    return [
        Row(
            f"two one-thread slots against one, {_TRIALS} equal trials on digits",
            f"{spread(ratios)} trials a minute",
            "at least 1.7x",
            statistics.median(ratios) >= 1.7,
        )
    ]


def _trials_a_minute(folder: Path, slots: int) -> float:
    """As the study itself kept account of them."""
    overrides = [*_OVERRIDES, f"workers.count={slots}", f"output_dir={folder}"]
    python("-m", "src.sweep", *overrides)
    record = json.loads((folder / "sweeps" / "default" / "sweep.json").read_text())
    return 60 * len(record["trials"]) / float(record["seconds"])
