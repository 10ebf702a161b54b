"""A thousand finished runs: how long the verdict on them takes, and the report."""

from __future__ import annotations

import resource
import shutil
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from benchmarks.commands import lines_of, python
from benchmarks.finished_runs import write_runs
from benchmarks.table import Row, spread
from src.config.checks import ConfigError
from src.config.compose import compose_settings
from src.config.finished import CompareSettings
from src.data.sources import digits, fashion_mnist
from src.data.sources.source import Source
from src.selection.comparison import compared
from src.selection.comparison.write import write_comparison

__all__ = ["measure"]

_RUNS, _ROUNDS = 1000, 3
_SECONDS = 5.0
_SEALS_BAR = 1.1
# `src.compare` as it would be if no file were checked against its seal, which still tells the files
# that runs have in common.
_UNSEALED = """
from src.compare import main
from src.selection.comparison.read_runs import _SealedFiles

def read(self, path):
    if not self._looked:
        self._sealed, self._looked = self._seal(), True
    return path.read_bytes()

_SealedFiles.read = read
_SealedFiles.check = _SealedFiles.check_seal = lambda self, what: None
main()
"""


def measure() -> list[Row]:
    """Run folders as trainings leave them, on the validation part of Fashion-MNIST."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        outputs = folder / "outputs"
        for _ in write_runs(outputs, _pictures(folder), _RUNS):
            continue
        within, pictures = _within_a_process(outputs)
        linked = _sealed_shares(outputs)
        copies = shutil.copytree(
            outputs, folder / "copies"
        )  # where each split is a file of its own
        copied = _sealed_shares(copies)
        shutil.rmtree(copies)
        _mirror(outputs)
        cold = [_command(outputs, "experiment=bakeoff") for _ in range(_ROUNDS)]
        condition = "filter=metrics.`val/accuracy` > 0"
        filtered = [_command(outputs, condition) for _ in range(_ROUNDS)]
    what = f"{_RUNS:,} finished runs on {pictures:,} pictures"
    command = f"{what}, python -m src.compare"
    return [
        *_rows(f"{what}, from their folders", within),
        *_rows(f"{command}, of an experiment in MLflow", cold),
        *_rows(f"{command}, by a filter of MLflow's", filtered),
        Row(
            f"{command}, processor time with seals checked against without",
            f"{spread(linked)}; of copied folders {spread(copied)}",
            f"at most {_SEALS_BAR}x",
            statistics.median(linked) <= _SEALS_BAR,
        ),
    ]


class _Seconds(NamedTuple):
    """Until the verdict, until the page, and until the pictures beside it are drawn."""

    verdict: float
    page: float
    pictures: float


def _within_a_process(outputs: Path) -> tuple[list[_Seconds], int]:
    """Once all is imported; and how many pictures the verdict is about."""
    settings = compose_settings(CompareSettings, [f"output_dir={outputs}"])
    times = []
    for turn in range(_ROUNDS + 1):
        began = time.perf_counter()
        comparison = compared(settings)
        verdict = page = time.perf_counter() - began
        for file in write_comparison(comparison, settings):
            if file.name == "report.html":
                page = time.perf_counter() - began
        if turn:  # the first time, what is needed is imported
            times.append(_Seconds(verdict, page, time.perf_counter() - began))
    return times, comparison.verdict.pictures


def _mirror(outputs: Path) -> None:
    """As their trainings would have, had they been tracked."""
    database = f"sqlite:///{outputs / 'mlflow.db'}"
    python("-m", "src.tracking.replay", f"output_dir={outputs}", f"tracking.uri={database}")


def _command(outputs: Path, which: str) -> _Seconds:
    """Of a process of its own, imports and all."""
    began = time.perf_counter()
    reached = dict.fromkeys(("Candidates on ", "report: "), 0.0)
    overrides = [f"output_dir={outputs}", which, "tracking.enabled=false"]
    for line in lines_of("-m", "src.compare", *overrides):
        for beginning in filter(line.startswith, reached):
            reached[beginning] = time.perf_counter() - began
    verdict, page = reached.values()
    return _Seconds(verdict, page, time.perf_counter() - began)


def _sealed_shares(outputs: Path) -> list[float]:
    """Processor time of the command against that without a look at seals, in turns."""
    overrides = [f"output_dir={outputs}", "tracking.enabled=false"]
    ratios = []
    for turn in range(_ROUNDS + 1):
        sealed = _processor_seconds("-m", "src.compare", *overrides)
        unsealed = _processor_seconds("-c", _UNSEALED, *overrides)
        if turn:  # the first time, files come from the disk
            ratios.append(sealed / unsealed)
    return ratios


def _processor_seconds(*overrides: str) -> float:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    python(*overrides)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime


def _rows(what: str, times: list[_Seconds]) -> Iterator[Row]:
    for name, seconds in zip(("verdict", "page", "pictures"), zip(*times)):
        met = statistics.median(seconds) <= _SECONDS
        bar = f"at most {_SECONDS:.0f} s"
        yield Row(f"{what}, to the {name}", spread(seconds, " s"), bar, met)


def _pictures(folder: Path) -> Source:
    """Fashion-MNIST where it is installed, else the digits."""
    try:
        return fashion_mnist.load(None, folder / "cache", False)
    except ConfigError:
        return digits.load(None, folder / "cache", False)
