"""A thousand finished runs: how long the verdict on them takes, the report, and the command."""

from __future__ import annotations

import statistics
import tempfile
import time
from pathlib import Path

from benchmarks.commands import python
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
        outputs = folder / "outputs"
        for _ in write_runs(outputs, _pictures(folder), _RUNS):
            continue
        verdicts, reports, pictures = _within_a_process(outputs)
        _mirror(outputs)
        commands = [_command(outputs, "experiment=bakeoff") for _ in range(_ROUNDS)]
        # MLflow's own import and search.
        filtered = [_command(outputs, "filter=metrics.`val/accuracy` > 0")]
    what = f"{_RUNS:,} finished runs on {pictures:,} pictures"
    return [
        _row(f"{what}, from their folders to the verdict", verdicts),
        _row(f"{what}, the same with page and pictures", reports),
        _row(f"{what}, the whole command, of an experiment in MLflow", commands),
        _row(f"{what}, the whole command, by a filter of MLflow's", filtered),
    ]


def _within_a_process(outputs: Path) -> tuple[list[float], list[float], int]:
    """Seconds to the verdict and to the report, once all is imported; how many pictures."""
    settings = compose_settings(CompareSettings, [f"output_dir={outputs}"], config_name="compare")
    verdicts, reports = [], []
    for turn in range(_ROUNDS + 1):
        began = time.perf_counter()
        comparison = compared(settings)
        judged = time.perf_counter()
        list(write_comparison(comparison, settings))
        if turn:  # the first time, what is needed is imported
            verdicts.append(judged - began)
            reports.append(time.perf_counter() - began)
    return verdicts, reports, comparison.verdict.pictures


def _mirror(outputs: Path) -> None:
    """As their trainings would have, had they been tracked."""
    database = f"sqlite:///{outputs / 'mlflow.db'}"
    python("-m", "src.tracking.replay", f"output_dir={outputs}", f"tracking.uri={database}")


def _command(outputs: Path, which: str) -> float:
    began = time.perf_counter()
    python("-m", "src.compare", f"output_dir={outputs}", which, "tracking.enabled=false")
    return time.perf_counter() - began


def _row(what: str, seconds: list[float]) -> Row:
    met = statistics.median(seconds) <= _SECONDS
    return Row(what, spread(seconds, " s"), f"at most {_SECONDS:.0f} s", met)


def _pictures(folder: Path) -> Source:
    """Fashion-MNIST where it is installed, else the digits."""
    try:
        return fashion_mnist.load(None, folder / "cache", False)
    except ConfigError:
        return digits.load(None, folder / "cache", False)
