"""What one run promises: accuracy and time on the digits, memory on Fashion-MNIST.

Every figure comes from runs of the command line in processes of their own.

    python -m benchmarks.one_run
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

_PEAK = (
    "import src.experiment, src.build;"
    "from src.training.cost import peak_memory_bytes; import torch;"
    "print(peak_memory_bytes(torch.device('cpu')) / 1e6)"
)


def main() -> None:
    """Run, measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=5, help="runs on the digits")
    parser.add_argument("--epochs", type=int, default=1, help="epochs on Fashion-MNIST")
    given = parser.parse_args()
    rows = [*_digits(given.seeds), _memory(given.epochs)]
    width = max(len(what) for what, _, _ in rows)
    print(f"\n{'what':<{width}}  {'measured':<34}  bar")
    for what, measured, bar in rows:
        print(f"{what:<{width}}  {measured:<34}  {bar}")


def _digits(seeds: int) -> list[tuple[str, str, str]]:
    summaries = [_trained(f"seed={seed}") for seed in range(seeds)]
    accuracies = [s["metrics"]["test/accuracy"] for s in summaries]
    seconds = [s["metrics"]["cost/training_seconds"] for s in summaries]
    spread = statistics.stdev(accuracies) if seeds > 1 else 0.0
    return [
        ("digits, test accuracy, seed 0", f"{accuracies[0]:.2%}", "at least 98.0 %"),
        (
            f"digits, test accuracy, mean of {seeds} seeds",
            f"{statistics.mean(accuracies):.2%} (sd {spread:.2%}, worst {min(accuracies):.2%})",
            "at least 98.5 %",
        ),
        (
            "digits, training part",
            f"{statistics.median(seconds):.1f} s (most {max(seconds):.1f} s)",
            "at most 30 s on two cores",
        ),
    ]


def _memory(epochs: int) -> tuple[str, str, str]:
    command = [sys.executable, "-c", _PEAK]
    imports = float(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    words = ("data=fashion_mnist", f"trainer.max_epochs={epochs}", "evaluate_test=false")
    peak = _trained(*words)["metrics"]["cost/peak_memory_mb"]
    return (
        "Fashion-MNIST, peak memory",
        f"{peak:.0f} MB, imports alone {imports:.0f} MB",
        "at most 1000 MB more",
    )


def _trained(*words: str) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "src.train", f"output_dir={folder}", *words]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            sys.exit(f"{' '.join(words)} failed:\n{done.stderr}")
        path = done.stdout.splitlines()[-1].removeprefix("summary: ")
        summary: dict[str, Any] = json.loads(Path(path).read_text())
        return summary


if __name__ == "__main__":
    main()
