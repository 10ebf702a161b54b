"""Novelty: how far pictures lie from those that a model was trained on, and what that says.

The distance of a picture is that of its features to the fifth nearest of a sample of training
pictures (after Sun, Ming, Zhu & Li, "Out-of-distribution detection with deep nearest neighbors",
ICML 2022, who leave out the length of the features). How often pictures like the training set lie
as far is known from calibration pictures, which makes of a distance a conformal p-value (Bates,
Candès, Lei, Romano & Sesia, "Testing for outliers with conformal p-values", AoS 2023).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..machine.arrays import BoolArray, Float32Array, Float64Array
from ..records.certainty import FeatureScale

__all__ = [
    "FALSE_ALARMS",
    "Shift",
    "feature_rows",
    "feature_scale",
    "neighbour_distances",
    "novelty_p_values",
    "shift_test",
]

# Share of pictures like the training set that is flagged.
FALSE_ALARMS = 0.01
_NEIGHBOUR = 5
_ROWS_AT_ONCE = 512
_LENGTH_WEIGHT = 0.2
_SHORTEST = 1e-6
# Of the logarithm: features that are all equally long still vary by rounding.
_LEAST_SPREAD = 0.01


def feature_rows(features: ArrayLike, scale: FeatureScale) -> Float32Array:
    """Return what distances are measured between: direction and length of features.

    Networks tell pictures by the direction of their features, and what is strange to them often by
    the length. The direction is a vector of unit length; the length's logarithm, in a fifth of the
    deviations that it has in training, stands behind it.

    Args:
        features: (N, F), finite.
        scale: of the training features.

    Returns:
        (N, F + 1) float32.
    """
    centred = (np.asarray(features, np.float32) - scale.mean) / scale.deviation
    lengths = np.maximum(np.linalg.norm(centred, axis=1, keepdims=True), _SHORTEST)
    mean, deviation = scale.length
    last = _LENGTH_WEIGHT * (np.log(lengths) - mean) / deviation
    rows: Float32Array = np.hstack([centred / lengths, last]).astype(np.float32)
    return rows


def feature_scale(features: ArrayLike) -> FeatureScale:
    """Return the scale of training features (R, F), R at least 1.

    What hardly varies in training has a tenth of the typical deviation as its own: a value that
    differs there is far, and not infinitely so.
    """
    found = np.asarray(features, np.float64)
    deviation = found.std(axis=0)
    varying = deviation[deviation > 0]
    least = 0.1 * float(np.median(varying)) if len(varying) else 1.0
    deviation = np.maximum(deviation, least)
    centred = (found - found.mean(axis=0)) / deviation
    lengths = np.log(np.maximum(np.linalg.norm(centred, axis=1), _SHORTEST))
    return FeatureScale(
        found.mean(axis=0).astype(np.float32),
        deviation.astype(np.float32),
        np.array([lengths.mean(), max(float(lengths.std()), _LEAST_SPREAD)], np.float32),
    )


def neighbour_distances(
    rows: ArrayLike, reference: ArrayLike, same: Callable[[slice], BoolArray] | None = None
) -> Float32Array:
    """Return the distance (N,) float32, at least 0, to the fifth nearest row of a reference.

    Args:
        rows: (N, D).
        reference: (R, D), R at least 1; with fewer than five the farthest counts.
        same: for a slice of the rows, which of the reference (n, R) bool are no neighbours, since
            they are the same picture or of its group; None where all count.
    """
    found, known = np.asarray(rows, np.float32), np.asarray(reference, np.float32)
    neighbour = min(_NEIGHBOUR, len(known)) - 1
    distances = np.empty(len(found), np.float32)
    lengths = (known**2).sum(axis=1)
    for start in range(0, len(found), _ROWS_AT_ONCE):
        part = slice(start, min(start + _ROWS_AT_ONCE, len(found)))
        squares = (found[part] ** 2).sum(axis=1)[:, None] + lengths - 2 * found[part] @ known.T
        if same is not None:
            squares[same(part)] = np.inf
        nearest = np.partition(squares, neighbour, axis=1)[:, neighbour]
        # Where all others are of the same group there is no neighbour to be near.
        farthest = squares.max(axis=1, initial=0.0, where=np.isfinite(squares))
        distances[part] = np.sqrt(np.maximum(np.minimum(nearest, farthest), 0))
    return distances


def novelty_p_values(distances: ArrayLike, calibration: ArrayLike) -> Float64Array:
    """Return conformal p-values (N,): how probable it is to lie as far for a picture like training.

    Args:
        distances: (N,) of new pictures.
        calibration: (n,) of pictures that did not train.
    """
    known = np.sort(np.asarray(calibration))
    as_far = len(known) - np.searchsorted(known, np.asarray(distances), side="left")
    p_values: Float64Array = (1 + as_far) / (len(known) + 1)
    return p_values


@dataclass(frozen=True)
class Shift:
    """Whether a set of pictures looks like the calibration pictures.

    Attributes:
        p_value: in (0, 1], of the hypothesis that both were drawn alike.
        largest: which distribution differs most: "distances" or "confidences".
    """

    p_value: float
    largest: str


def shift_test(
    new: Mapping[str, NDArray[np.floating]], calibration: Mapping[str, NDArray[np.floating]]
) -> Shift:
    """Test whether new pictures come from the distribution of the calibration pictures.

    Kolmogorov and Smirnov's two-sample test of each quantity, corrected for their number
    (Rabanser, Günnemann & Lipton, "Failing loudly", NeurIPS 2019). Pictures count as independent.

    Args:
        new: values (N,) by quantity, N at least 1.
        calibration: values (n,) of the same quantities.
    """
    from scipy.stats import ks_2samp

    found = {name: float(ks_2samp(new[name], calibration[name]).pvalue) for name in new}
    largest = min(found, key=lambda name: found[name])
    return Shift(min(1.0, len(found) * found[largest]), largest)
