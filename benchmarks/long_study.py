"""A study of ten thousand trials: how long it takes to open it again, and to ask for the next."""

from __future__ import annotations

import statistics
import tempfile
import time
from pathlib import Path

from benchmarks.studies import open_study
from benchmarks.table import Row, spread
from src.records.trials import TrialRecord

__all__ = ["measure"]

_TRIALS, _EPOCHS = 10_000, 5
_ROUNDS, _ASKED = 3, 25
_REOPEN_SECONDS, _ASK_SECONDS = 5.0, 0.02


def measure() -> list[Row]:
    """Two families of six keys each; TPE asks, as by default."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        _write(folder)
        reopened, asked = [], []
        for _ in range(_ROUNDS):
            began = time.perf_counter()
            with open_study(folder, "tpe") as study:
                study.trials()
                reopened.append(time.perf_counter() - began)
                study.failed(_number(study.ask()), "only asked for")
                for _ in range(_ASKED):
                    began = time.perf_counter()
                    trial = study.ask()
                    asked.append(time.perf_counter() - began)
                    study.failed(_number(trial), "only asked for")
    what = f"a study of {_TRIALS:,} trials"
    return [
        Row(
            f"{what}: open it again and list all",
            spread(reopened, " s"),
            f"at most {_REOPEN_SECONDS:.0f} s",
            statistics.median(reopened) <= _REOPEN_SECONDS,
        ),
        Row(
            f"{what}: ask for the next, with TPE",
            spread((1e3 * seconds for seconds in asked), " ms", 1),
            f"at most {1e3 * _ASK_SECONDS:.0f} ms",
            statistics.median(asked) <= _ASK_SECONDS,
        ),
    ]


def _write(folder: Path) -> None:
    """Trials as a sweep leaves them, drawn at random, with curves that rise."""
    with open_study(folder, "random") as study:
        for number in range(_TRIALS):
            trial = study.ask()
            assert trial is not None and trial.number == number
            overrides = [f"{key}={value}" for key, value in trial.values.items()]
            study.note(number, run_id=f"{number:032x}", run_dir=f"runs/{number}")
            study.note(number, overrides=overrides, seconds=1.0)
            value = (number * 37 % 997) / 997
            for epoch in range(1, _EPOCHS + 1):
                study.report(number, epoch, value * epoch / _EPOCHS)
            study.complete(number, [value])


def _number(trial: TrialRecord | None) -> int:
    assert trial is not None
    return trial.number
