"""A thousand finished runs: how long the verdict on them takes, and the report."""

from __future__ import annotations

import statistics
import tempfile
import time
from pathlib import Path

from benchmarks.finished_runs import write_runs
from benchmarks.table import Row, spread
from src.comparing import compared
from src.comparing.writing import write_comparison
from src.config.after import CompareSettings
from src.config.checks import ConfigError
from src.config.compose import compose_settings
from src.data.source import Source
from src.data.sources import digits, fashion_mnist

__all__ = ["measure"]

_RUNS, _ROUNDS = 1000, 3
_SECONDS = 5.0


def measure() -> list[Row]:
    """Run folders as trainings leave them, on the validation part of Fashion-MNIST."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        source = _pictures(folder)
        for _ in write_runs(folder / "outputs", source, _RUNS):
            continue
        settings = compose_settings(
            CompareSettings, [f"output_dir={folder / 'outputs'}"], config_name="compare"
        )
        verdicts, reports = [], []
        for turn in range(_ROUNDS + 1):
            began = time.perf_counter()
            comparison = compared(settings)
            judged = time.perf_counter()
            list(write_comparison(comparison, settings))
            if turn:  # the first time, what is needed is imported
                verdicts.append(judged - began)
                reports.append(time.perf_counter() - began)
        pictures = comparison.verdict.pictures
    what = f"{_RUNS:,} finished runs on {pictures:,} pictures, from their folders to the verdict"
    return [
        Row(
            what,
            f"{spread(verdicts, ' s')}; with page and pictures {spread(reports, ' s')}",
            f"at most {_SECONDS:.0f} s",
            statistics.median(verdicts) <= _SECONDS,
        )
    ]


def _pictures(folder: Path) -> Source:
    """Fashion-MNIST where it is installed, else the digits."""
    try:
        return fashion_mnist.load(None, folder / "cache", False)
    except ConfigError:
        return digits.load(None, folder / "cache", False)
