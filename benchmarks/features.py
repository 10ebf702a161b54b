"""Hand-crafted features on Fashion-MNIST: how fast they are computed, how far they carry.

The candidate was chosen on the validation part; the test part is measured here, once a run.
"""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np

from benchmarks.commands import trained
from benchmarks.table import Row
from src.data.sources.fashion_mnist import load
from src.features.feature_table import described
from src.features.fusion import extractors_of

__all__ = ["measure"]

_PICTURES, _WORKERS, _BAR_SECONDS, _BAR_PERCENT = 60_000, 2, 60.0, 92.6
_HOG = {"hog": {"orientations": 9, "cells": [7], "block": 2}}
_CANDIDATE = (
    "model=handcrafted",
    "data=fashion_mnist",
    "model.mirror=false",  # a third of the time for the same accuracy
)


def measure() -> list[Row]:
    """One extraction, one run of the command line."""
    return [_extraction(), _candidate()]


def _extraction() -> Row:
    images = load(None, Path("/nowhere"), False).arrays
    assert images is not None, "Fashion-MNIST comes as arrays"
    (hog,) = extractors_of(["hog"], _HOG)
    started = time.perf_counter()
    rows = described(hog, images.__getitem__, np.arange(_PICTURES), _WORKERS)
    count = sum(map(len, rows))
    seconds = time.perf_counter() - started
    return Row(
        f"HOG of {count:,} Fashion-MNIST pictures",
        f"{seconds:.0f} s",
        "at most 60 s on two cores",
        seconds <= _BAR_SECONDS,
    )


def _candidate() -> Row:
    metrics = trained(*_CANDIDATE)["metrics"]
    percent, seconds = 100 * metrics["test/accuracy"], metrics["cost/training_seconds"]
    return Row(
        "hand-crafted features on Fashion-MNIST: test accuracy, fit",
        f"{percent:.2f} % after {seconds:.0f} s",
        "at least 92.6 %",
        percent >= _BAR_PERCENT,
    )
