"""Metrics of class maps: IoU, Dice and pixel accuracy, from one confusion matrix a picture.

A matrix (K, K) counts the pixels of a picture, rows for targets and columns for predictions, those
left out not among them. Each figure is a ratio of sums over all pictures, or a mean of such ratios
over the classes that occur, so large and small pictures count by their pixels.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .share_intervals import (
    group_numbers,
    influence_errors,
    influence_interval,
    variance_freedom,
)

__all__ = [
    "PixelScores",
    "Sums",
    "class_pixel_scores",
    "dice_sums",
    "influence_scores",
    "iou_sums",
    "mean_interval",
    "mean_ratio",
    "pixel_sums",
    "ratios",
]

Floats = NDArray[np.float64]
Matrices = NDArray[np.integer[Any]]


class Sums(NamedTuple):
    """Numerators and denominators (N, M) of M ratios, of which each picture has its summands."""

    above: Floats
    below: Floats


def iou_sums(matrices: Matrices) -> Sums:
    """Return intersections and unions (N, K) of matrices (N, K, K): their ratio is the IoU."""
    hits, targets, preds = _counts(matrices)
    return Sums(hits, targets + preds - hits)


def dice_sums(matrices: Matrices) -> Sums:
    """Return the two sides (N, K) of Dice's coefficient, which is the F1 of a class's pixels."""
    hits, targets, preds = _counts(matrices)
    return Sums(2 * hits, targets + preds)


def pixel_sums(matrices: Matrices) -> Sums:
    """Return right and all pixels (N, 1): their ratio is the pixel accuracy."""
    hits, targets, _ = _counts(matrices)
    return Sums(hits.sum(axis=1, keepdims=True), targets.sum(axis=1, keepdims=True))


def _counts(matrices: Matrices) -> tuple[Floats, Floats, Floats]:
    """Return (N, K) right, true and predicted pixels of each class."""
    hits = np.diagonal(matrices, axis1=1, axis2=2)
    found = hits, matrices.sum(axis=2), matrices.sum(axis=1)
    return found[0].astype(np.float64), found[1].astype(np.float64), found[2].astype(np.float64)


def ratios(sums: Sums) -> Floats:
    """Return (M,) ratios in [0, 1]; NaN where there is nothing below, as of a class that is absent
    from targets and predictions.
    """
    above, below = sums.above.sum(axis=0), sums.below.sum(axis=0)
    return np.divide(above, below, out=np.full_like(below, np.nan), where=below > 0)


def mean_ratio(sums: Sums) -> float:
    """Compute the mean of the ratios that there are, in [0, 1]; 1 where no pixel counts."""
    found = ratios(sums)
    return 1.0 if np.isnan(found).all() else float(np.nanmean(found))


def influence_scores(sums: Sums) -> Floats:
    """Return (N,) the mean ratio plus each picture's influence on it.

    The delta method for ratios of sums (Cochran, "Sampling Techniques", 1977, section 6.3): a
    picture moves a ratio r by (a - r b) over the mean of b.
    """
    count = len(sums.above)
    found = ratios(sums)
    known = ~np.isnan(found)
    if not known.any():
        return np.ones(count)
    moves: Floats = _influence(sums, found)[:, known].mean(axis=1)
    return found[known].mean() + moves


def _influence(sums: Sums, found: Floats) -> Floats:
    """Return (N, M) each picture's influence on each ratio, 0 on those that are not known."""
    per_picture = sums.below.mean(axis=0)
    residuals = sums.above - np.nan_to_num(found) * sums.below
    return np.divide(residuals, per_picture, out=np.zeros_like(residuals), where=per_picture > 0)


@dataclass(frozen=True)
class PixelScores:
    """The figures of one class; shares are NaN where they have nothing to go by.

    Attributes:
        name: of the class.
        pictures: that hold the class.
        share: of the counted pixels that are of the class.
        iou, dice, precision, recall: of the class's pixels.
        low, high: the 95 % interval of the IoU; NaN where fewer than two groups hold the class.
    """

    name: str
    pictures: int
    share: float
    iou: float
    low: float
    high: float
    dice: float
    precision: float
    recall: float


def class_pixel_scores(
    matrices: Matrices, class_names: Sequence[str], groups: NDArray[np.integer[Any]] | None = None
) -> list[PixelScores]:
    """Return the figures of each class.

    Args:
        matrices: (N, K, K).
        class_names: K names.
        groups: (N,) equal for pictures that go together; None where each stands for itself.
    """
    hits, targets, preds = (one.sum(axis=0) for one in _counts(matrices))
    union = iou_sums(matrices)
    ious = ratios(union)
    codes, freedom = group_numbers(len(matrices), groups)
    errors = influence_errors(_influence(union, ious), codes)
    dices = ratios(dice_sums(matrices))
    there = matrices.sum(axis=2) > 0
    holding = there.sum(axis=0)
    # One picture, or one group of them, says nothing of others.
    independent = np.array([len(np.unique(codes[own])) for own in there.T])
    errors[independent < 2] = math.nan
    found = []
    for k, name in enumerate(class_names):
        low, high = influence_interval(
            float(ious[k]), float(errors[k]), freedom, int(independent[k])
        )
        found.append(
            PixelScores(
                name=name,
                pictures=int(holding[k]),
                share=float(targets[k] / max(1.0, targets.sum())),
                iou=float(ious[k]),
                low=low,
                high=high,
                dice=float(dices[k]),
                precision=float(hits[k] / preds[k]) if preds[k] else math.nan,
                recall=float(hits[k] / targets[k]) if targets[k] else math.nan,
            )
        )
    return found


def mean_interval(
    sums: Sums, groups: NDArray[np.integer[Any]] | None = None
) -> tuple[float, float]:
    """Compute the 95 % interval of the mean ratio over pictures like these, drawn by groups.

    Args:
        sums: of N pictures.
        groups: as of `class_pixel_scores`.
    """
    mean = mean_ratio(sums)
    codes, freedom = group_numbers(len(sums.above), groups)
    moves = influence_scores(sums) - mean
    (error,) = influence_errors(moves[:, None], codes)
    # Few pictures may decide a variance.
    totals = np.bincount(codes, moves).astype(np.float64)
    freedom = min(freedom, variance_freedom(totals[None]))
    return influence_interval(mean, float(error), freedom, int(codes.max()) + 1)
