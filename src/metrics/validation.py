"""Validation of the inputs of metrics: probabilities and targets that fit together."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["checked"]

# Probabilities computed in bfloat16 sum to one only within some thousandths; logits miss by far.
_SUM_TOLERANCE = 1e-2


def checked(probs: ArrayLike, targets: ArrayLike) -> tuple[NDArray[Any], NDArray[np.int64]]:
    """Return probabilities and targets as arrays, after checking that they fit together.

    Args:
        probs: (N, K) floating point in [0, 1], rows summing to one; N >= 1, K >= 2.
        targets: (N,) whole numbers in [0, K).

    Returns:
        `probs` in its own precision (not copied) and `targets` as int64.

    Raises:
        ValueError: no samples, shapes that do not fit, a value that is no probability (NaN
            included), rows that do not sum to one (logits, for instance), or a target that names
            no class.
    """
    probs, targets = np.asarray(probs), np.asarray(targets)
    if probs.ndim != 2 or probs.shape[1] < 2:
        raise ValueError(f"probs has shape {probs.shape}: it must be (N, K) with K >= 2.")
    if targets.shape != probs.shape[:1]:
        raise ValueError(
            f"targets has shape {targets.shape}: it must be {probs.shape[:1]}, as probs has rows."
        )
    if len(targets) == 0:
        raise ValueError("There are no samples: a metric needs at least one.")
    if not np.issubdtype(probs.dtype, np.floating):
        raise ValueError(f"probs has type {probs.dtype}: it must be floating point.")
    if not np.issubdtype(targets.dtype, np.integer):
        raise ValueError(f"targets has type {targets.dtype}: it must be whole numbers.")
    # Written so that NaN, which compares false with everything, fails too.
    if not (probs.min() >= 0 and probs.max() <= 1 + _SUM_TOLERANCE):
        raise ValueError("probs holds a value that is no probability: below 0, above 1 or NaN.")
    sums = np.einsum("nk->n", probs, dtype=np.float64)  # a third of the time of `sum`
    worst = int(np.abs(sums - 1).argmax())
    if abs(sums[worst] - 1) > _SUM_TOLERANCE:
        raise ValueError(f"probs sums to {sums[worst]:.4g} in row {worst}: it must be 1.")
    if targets.min() < 0 or targets.max() >= probs.shape[1]:
        raise ValueError(
            f"targets reaches from {targets.min()} to {targets.max()}: "
            f"it must stay within 0 and {probs.shape[1] - 1}."
        )
    return probs, targets.astype(np.int64, copy=False)
