"""What one run promises: accuracy and time on the digits, memory on Fashion-MNIST.

The digits' bars were set before the runs; the default network was chosen on validation parts.
"""

from __future__ import annotations

import statistics

from benchmarks.commands import python, trained
from benchmarks.table import Row, spread

__all__ = ["measure"]

_SEEDS = 5
_PEAK = (
    "import src.runs.experiment, src.runs.candidates.network, src.reporting.run_figures;"
    "from src.training.cost import peak_memory_bytes; import torch;"
    "print(peak_memory_bytes(torch.device('cpu')) / 1e6)"
)


def measure() -> list[Row]:
    """Five runs on the digits, one on Fashion-MNIST."""
    return [*_digits(), _memory()]


def _digits() -> list[Row]:
    metrics = [trained(f"seed={seed}")["metrics"] for seed in range(_SEEDS)]
    percent = [100 * found["test/accuracy"] for found in metrics]
    mean, deviation = statistics.mean(percent), statistics.stdev(percent)
    seconds = [found["cost/training_seconds"] for found in metrics]
    return [
        Row(
            "digits, test accuracy, seed 0",
            f"{percent[0]:.2f} %",
            "at least 98.0 %",
            percent[0] >= 98.0,
        ),
        Row(
            f"digits, test accuracy, mean of {_SEEDS} seeds",
            f"{mean:.2f} % (sd {deviation:.2f}, worst {min(percent):.2f})",
            "at least 98.5 %",
            mean >= 98.5,
        ),
        Row(
            "digits, training part",
            spread(seconds, " s", 1),
            "at most 30 s on two cores",
            statistics.median(seconds) <= 30,
        ),
    ]


def _memory() -> Row:
    imports = float(python("-c", _PEAK))
    overrides = ("data=fashion_mnist", "trainer.max_epochs=1", "evaluate_test=false")
    above = trained(*overrides)["metrics"]["cost/peak_memory_mb"] - imports
    return Row(
        "Fashion-MNIST, peak memory above the imports",
        f"{above:.0f} MB",
        "at most 1000 MB",
        above <= 1000,
    )
