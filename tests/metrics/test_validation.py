from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import ArrayLike

from src.metrics.validation import checked


@pytest.mark.parametrize(
    ("probs", "targets", "message"),
    [
        (np.empty((0, 3)), [], "no samples"),
        ([0.5, 0.5], [0, 1], r"shape \(2,\)"),
        ([[1.0]], [0], "K >= 2"),
        ([[0.5, 0.5]], [0, 1], r"targets has shape \(2,\)"),
        ([[0.5, 0.5]], [[0]], r"targets has shape \(1, 1\)"),
        ([[1, 0]], [0], "floating point"),
        ([[0.5, 0.5]], [0.0], "whole numbers"),
        ([[0.5, 0.5], [0.5, np.nan]], [0, 1], "NaN"),
        ([[np.inf, 0.0]], [0], "above 1"),
        ([[-0.5, 1.5]], [0], "below 0"),
        ([[0.5, 0.5], [0.4, 0.3]], [0, 1], "sums to 0.7 in row 1"),
        ([[0.5, 0.5]], [2], "from 2 to 2"),
        ([[0.5, 0.5]], [-1], "from -1 to -1"),
    ],
)
def test_refuses(probs: ArrayLike, targets: ArrayLike, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        checked(probs, targets)


def test_neither_copies_nor_changes_good_probabilities() -> None:
    given = np.array([[0.25, 0.75]], np.float32)
    probs, targets = checked(given, np.array([1], np.uint8))
    assert probs is given
    assert targets.dtype == np.int64


def test_takes_the_rounding_of_bfloat16() -> None:
    probs = np.full((1, 1000), 0.001) * 1.004
    assert checked(probs, [0])[0] is probs
