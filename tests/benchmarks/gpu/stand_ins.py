"""Checks that measure nothing."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import torch

from benchmarks.table import Row


def fails(device: torch.device, folder: Path) -> Iterator[Row]:
    yield Row("fails", "1", "1", True)
    raise RuntimeError("on purpose")


def hangs(device: torch.device, folder: Path) -> Iterator[Row]:
    yield Row("hangs", "1", "1", True)
    time.sleep(600)


def skips(device: torch.device, folder: Path) -> Iterator[Row]:
    yield Row("skips", "skipped: on purpose", "", None)


def meets(device: torch.device, folder: Path) -> Iterator[Row]:
    """Meet another one that runs at the same time."""
    place = Path(os.environ["BAKEOFF_MEETING"])
    place.mkdir(exist_ok=True)
    (place / str(os.getpid())).touch()
    deadline = time.monotonic() + 60
    while len(list(place.iterdir())) < 2 and time.monotonic() < deadline:
        time.sleep(0.1)
    yield Row("meets", "", "", len(list(place.iterdir())) == 2)
