"""Checks that measure nothing."""

from __future__ import annotations

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
