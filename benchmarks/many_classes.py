"""A thousand classes and 100,000 pictures: metrics, figures, verdict and page of finished runs.

Every picture is of the part that is compared, so that each run has 100 million probabilities.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks.finished_runs import write_runs
from benchmarks.table import Row
from src.config.compose import compose_settings
from src.config.finished import CompareSettings
from src.data.sources.source import Source
from src.metrics.summary import scalar_metrics
from src.records.run import Predictions
from src.reporting.run_figures import draw_run_figures
from src.selection.comparison import compared
from src.selection.comparison.write import write_comparison

__all__ = ["measure", "measured"]

_CLASSES, _PICTURES, _RUNS = 1000, 100_000, 4
_SECONDS, _LARGEST_SIDE, _LARGEST_PAGE = 60.0, 4000, 10e6


def measure() -> list[Row]:
    """Four runs of different families, in this process."""
    return measured(_CLASSES, _PICTURES, _RUNS)


def measured(classes: int, pictures: int, runs: int) -> list[Row]:
    """Measure with other numbers of classes, pictures and runs."""
    with tempfile.TemporaryDirectory() as place:
        outputs = Path(place) / "outputs"
        (first, *_) = list(write_runs(outputs, _source(classes, pictures), runs))
        predictions = Predictions.read(first.predictions / "val.parquet")
        seconds = {}

        def timed(what: str, work: Callable[[], object]) -> object:
            began = time.perf_counter()
            found = work()
            seconds[what] = time.perf_counter() - began
            print(f"{what}: {seconds[what]:.1f} s", flush=True)
            return found

        timed("metrics", lambda: _metrics(predictions))
        figures = Path(place) / "figures"
        figures.mkdir()
        timed("figures", lambda: _figures(figures, predictions))
        settings = compose_settings(CompareSettings, [f"output_dir={outputs}"])
        comparison = timed("verdict", lambda: compared(settings))
        files = timed("page", lambda: list(write_comparison(comparison, settings)))  # type: ignore[arg-type]
        assert isinstance(files, list)
        images = [*figures.glob("*.png"), *(f for f in files if f.suffix == ".png")]
        side = max(max(Image.open(file).size) for file in images)
        page = next(file.stat().st_size for file in files if file.name == "report.html")
    what = f"{classes:,} classes, {len(predictions.targets):,} pictures, {runs} runs"
    each = ", ".join(f"{name} {spent:.1f}" for name, spent in seconds.items())
    whole = sum(seconds.values())
    return [
        Row(
            f"{what}: metrics and figures of one, verdict and page of all",
            f"{whole:.0f} s ({each})",
            f"at most {_SECONDS:.0f} s",
            whole <= _SECONDS,
        ),
        Row(
            f"{what}: the longest side of a figure, and the page",
            f"{side:,} pixels, {page / 1e6:.1f} MB",
            f"at most {_LARGEST_SIDE:,} pixels, {_LARGEST_PAGE / 1e6:.0f} MB",
            side <= _LARGEST_SIDE and page <= _LARGEST_PAGE,
        ),
    ]


def _source(classes: int, pictures: int) -> Source:
    """Pictures of two by two pixels, each its own number; one in a hundred is there to train."""
    targets = np.arange(pictures) % classes
    numbers = np.arange(pictures, dtype=np.uint32).view(np.uint8).reshape(pictures, 1, 2, 2)
    parts = np.where(np.arange(pictures) < max(classes, pictures // 100), "train", "val")
    names = tuple(f"species {number:04}" for number in range(classes))
    return Source("digits", names, targets, arrays=numbers, given_parts=parts)


def _metrics(predictions: Predictions) -> dict[str, float]:
    return scalar_metrics(predictions.probs, predictions.targets, predictions.class_names)


def _figures(folder: Path, predictions: Predictions) -> list[Path]:
    blank = np.zeros((3, 32, 32), np.uint8)
    return list(draw_run_figures(folder, {}, {"val": predictions}, lambda _: blank, batch=None))
