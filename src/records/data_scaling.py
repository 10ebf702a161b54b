"""How a run's figure grows with its training pictures: the content of data_scaling.json."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

__all__ = [
    "DATA_SCALING",
    "DataScalingRecord",
    "ForecastRecord",
    "MeasuredRecord",
    "fraction_runs",
    "scaling_text",
    "with_runs",
]

# The file's name in the folder of the run that the forecast is of.
DATA_SCALING = "data_scaling.json"


@dataclass(frozen=True)
class MeasuredRecord:
    """A training on some of the pictures.

    Attributes:
        pictures: that it trained on.
        run: its folder's name.
        figure, low, high: on the held-out pictures, with its 95 % interval.
    """

    pictures: int
    run: str
    figure: float
    low: float
    high: float


@dataclass(frozen=True)
class ForecastRecord:
    """What is expected of more training pictures of the same kind.

    Attributes:
        pictures: in all.
        figure, low, high: median and 95 % interval.
        gain, gain_low, gain_high: by how much the figure is better than with all pictures there
            are, at least 0, likewise.
    """

    pictures: int
    figure: float
    low: float
    high: float
    gain: float
    gain_low: float
    gain_high: float


@dataclass(frozen=True)
class DataScalingRecord:
    """All of it.

    Attributes:
        metric: plain name of what the figures are.
        part: whose pictures were held out, "val" or "out-of-fold", with so many `held_out`.
        measured: by ascending number of pictures; the last one is the run itself.
        forecasts: by ascending number.
        goal: figure that was asked for, or None.
        needed, needed_low, needed_high: training pictures with which it is reached, median and
            95 % interval; None where it takes more than `most` of them, or there is no goal.
        most: the largest number that was looked at.
        fitted: median figure of the fitted curve with all pictures there are, from which gains
            count.
        sets: whether pictures have sets of labels, of which accuracy is the exact match.
        epochs: of the run, where they are so few that fewer pictures got more of them, for as many
            steps; else None.
    """

    metric: str
    part: str
    held_out: int
    measured: tuple[MeasuredRecord, ...]
    forecasts: tuple[ForecastRecord, ...]
    goal: float | None = None
    needed: int | None = None
    needed_low: int | None = None
    needed_high: int | None = None
    most: int = 0
    fitted: float = math.nan
    sets: bool = False
    epochs: int | None = None


def scaling_text(runs: Mapping[int, str], record: DataScalingRecord | None = None) -> str:
    """Return the file's content: runs by number of pictures, and what they say once all ended."""
    return _text(runs, {} if record is None else asdict(record))


def with_runs(file: Path, runs: Mapping[int, str]) -> str:
    """Return such a file's content with these runs; the forecast that it has stays until the next.

    Trainings of the next one may take hours, or never end.
    """
    try:
        return _text(runs, dict(json.loads(file.read_text(encoding="utf-8"))))
    except (OSError, ValueError, TypeError):  # there is none yet, or it is damaged
        return _text(runs, {})


def _text(runs: Mapping[int, str], forecast: Mapping[str, Any]) -> str:
    known = {"runs": {str(count): name for count, name in sorted(runs.items())}}
    return json.dumps({**forecast, **known}, indent=2, allow_nan=False) + "\n"


def fraction_runs(file: Path) -> dict[int, str]:
    """Return the names of the runs in such a file by their number of pictures; {} without one."""
    try:
        found = json.loads(file.read_text(encoding="utf-8"))["runs"]
        return {int(count): Path(name).name for count, name in found.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}
