"""Novelty: how far pictures lie from those that a model was trained on, and what that says.

The distance of a picture is that of its features to the k-th nearest of a sample of training
pictures (Sun, Ming, Zhu & Li, "Out-of-distribution detection with deep nearest neighbors", ICML
2022). How often pictures like the training set lie as far is known from calibration pictures, which
makes of a distance a conformal p-value (Bates, Candès, Lei, Romano & Sesia, "Testing for outliers
with conformal p-values", AoS 2023).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = [
    "FALSE_ALARMS",
    "Shift",
    "feature_scale",
    "neighbour_distances",
    "novelty_p_values",
    "shift_test",
    "standardised",
]

# Share of pictures like the training set that is flagged.
FALSE_ALARMS = 0.01
_NEIGHBOUR = 5
_ROWS_AT_ONCE = 512

Floats = NDArray[np.float32]


def standardised(features: ArrayLike, mean: Floats, scale: Floats) -> Floats:
    """Return features (N, F) centred, scaled and of unit length."""
    rows = (np.asarray(features, np.float32) - mean) / scale
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    unit: Floats = (rows / np.maximum(lengths, 1e-12)).astype(np.float32)
    return unit


def feature_scale(features: ArrayLike) -> tuple[Floats, Floats]:
    """Return mean (F,) and scale (F,) of training features (R, F), R at least 1.

    What hardly varies in training has a tenth of the typical deviation as its scale: a value that
    differs there is far, and not infinitely so.
    """
    found = np.asarray(features, np.float64)
    deviation = found.std(axis=0)
    varying = deviation[deviation > 0]
    least = 0.1 * float(np.median(varying)) if len(varying) else 1.0
    return found.mean(axis=0).astype(np.float32), np.maximum(deviation, least).astype(np.float32)


def neighbour_distances(
    rows: ArrayLike, reference: ArrayLike, same: Callable[[slice], NDArray[np.bool_]] | None = None
) -> Floats:
    """Return the distance (N,) float32 in [0, 2] to the fifth nearest row of a reference.

    Args:
        rows: (N, F), of unit length.
        reference: (R, F), of unit length, R at least 1; with fewer than five the farthest counts.
        same: for a slice of the rows, which of the reference (n, R) bool are no neighbours, since
            they are the same picture or of its group; None where all count.
    """
    found, known = np.asarray(rows, np.float32), np.asarray(reference, np.float32)
    neighbour = min(_NEIGHBOUR, len(known)) - 1
    distances = np.empty(len(found), np.float32)
    for start in range(0, len(found), _ROWS_AT_ONCE):
        part = slice(start, min(start + _ROWS_AT_ONCE, len(found)))
        alike = found[part] @ known.T
        if same is not None:
            alike[same(part)] = -1.0
        nearest = -np.partition(-alike, neighbour, axis=1)[:, neighbour]
        distances[part] = np.sqrt(np.maximum(2 - 2 * nearest, 0))
    return distances


def novelty_p_values(distances: ArrayLike, calibration: ArrayLike) -> NDArray[np.float64]:
    """Return conformal p-values (N,): how probable it is to lie as far for a picture like training.

    Args:
        distances: (N,) of new pictures.
        calibration: (n,) of pictures that did not train.
    """
    known = np.sort(np.asarray(calibration))
    as_far = len(known) - np.searchsorted(known, np.asarray(distances), side="left")
    p_values: NDArray[np.float64] = (1 + as_far) / (len(known) + 1)
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
