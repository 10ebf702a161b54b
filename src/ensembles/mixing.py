"""Weighted combination of predictions, in NumPy alone because it is served."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Literal

import numpy as np

from ..machine.arrays import Float32Array, Float64Array
from ..metrics.probabilistic import SMALLEST_PROBABILITY

__all__ = [
    "Method",
    "as_pairs",
    "combined_probabilities",
    "from_pairs",
    "logs_of",
    "mean_of_logs",
    "mean_of_probabilities",
    "mixed_pixels",
]

Probs = Float32Array
Method = Literal["greedy", "stacking"]


def combined_probabilities(
    method: Method, probs: Probs, weights: Float64Array, *, sets: bool = False
) -> Probs:
    """Return (N, K) of the (M, N, K) probabilities of the members, of label sets label by label."""
    if sets:
        mixed = combined_probabilities(method, as_pairs(probs), weights)
        return from_pairs(mixed, probs.shape[2])
    return (
        mean_of_logs(probs, weights)
        if method == "stacking"
        else mean_of_probabilities(probs, weights)
    )


def as_pairs(probs: Probs) -> Probs:
    """Return (M, N K, 2), of (M, N, K) probabilities of labels those of not there and of there.

    Each label of each picture is then an answer of its own with two classes.
    """
    flat = probs.reshape(len(probs), -1)
    return np.stack([1 - flat, flat], axis=2)


def from_pairs(pairs: Probs, classes: int) -> Probs:
    """Return (N, K) probabilities of labels from (N K, 2), as `as_pairs` makes them of a member."""
    return np.ascontiguousarray(pairs[:, 1]).reshape(-1, classes)


def mixed_pixels(
    method: Method, answers: Iterable[Probs], weights: Sequence[float] | Float64Array
) -> Probs:
    """Return (N, K, H, W) of as many probabilities of pixels as there are members.

    They are asked for one after another, so that no more than two members' are in memory.

    Args:
        method: as of `combined_probabilities`.
        answers: of M members, (N, K, H, W) each.
        weights: (M,).
    """
    total: Probs | None = None
    for probs, weight in zip(answers, weights, strict=True):
        # Maps are large: single precision, where `logs_of` has double.
        found = np.log(probs.clip(SMALLEST_PROBABILITY, 1.0)) if method == "stacking" else probs
        share = np.float32(weight) * found
        total = share if total is None else np.add(total, share, out=total)
    assert total is not None
    if method == "stacking":
        total = np.exp(total - total.max(axis=1, keepdims=True))
        total /= total.sum(axis=1, keepdims=True)
    return total


def mean_of_probabilities(probs: Probs, weights: Float64Array) -> Probs:
    """Return (N, K), the mean of (M, N, K) probabilities with (M,) weights that sum to one."""
    used = np.flatnonzero(weights)
    return np.einsum("m,mnk->nk", weights[used].astype(np.float32), probs[used])


def mean_of_logs(probs: Probs, weights: Float64Array) -> Probs:
    """Return (N, K) probabilities in proportion to prod_m probs[m] ** weights[m].

    The logarithmic opinion pool: Genest & Zidek, "Combining Probability Distributions: A Critique
    and an Annotated Bibliography", Statistical Science 1986.

    Args:
        probs: (M, N, K).
        weights: (M,), at least 0; they need not sum to one.
    """
    used = np.flatnonzero(weights)
    pooled = np.tensordot(weights[used], logs_of(probs[used]), axes=1)
    # The largest is 1 before the division, so that nothing overflows.
    shares = np.exp(pooled - pooled.max(axis=1, keepdims=True))
    return (shares / shares.sum(axis=1, keepdims=True)).astype(np.float32)


def logs_of(probs: Probs) -> Float64Array:
    """Return logarithms of probabilities, none below that of `SMALLEST_PROBABILITY`."""
    return np.log(probs.astype(np.float64).clip(SMALLEST_PROBABILITY, 1.0))
