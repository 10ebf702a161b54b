"""One of ordered classes a picture."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..machine.arrays import Float32Array, Float64Array, Int64Array
from ..metrics.ordered import (
    MEDIAN,
    expected_classes,
    kappa_cuts,
    kappa_influence,
    mean_absolute_error,
    probabilities_above,
    quadratic_kappa,
)
from .kind import Labels, Probs
from .single import SingleLabel

__all__ = ["Ordinal"]


class Ordinal(SingleLabel):
    """One of K classes a picture, from the lowest to the highest.

    "kappa" is the one with quadratic weights, "mae" the mean distance in classes. The most probable
    class is the answer, as for classes without an order, or by `thresholds`, those of all pictures
    or a row for each:

    - K or K * K of them: as for classes without an order;
    - K - 1 of them: the class that the mean of the classes lies in; they are where one ends and the
      next begins, see `src.metrics.ordered.kappa_cuts`;
    - one: the lowest class above which all others together are less probable than it, with 0.5 the
      median. Of two classes both are one rule: their mean is the probability of the higher one.
    """

    name = "ordinal"
    described = "ordered classes"

    def threshold_counts(self, num_classes: int) -> tuple[int, ...]:
        return *super().threshold_counts(num_classes), num_classes - 1, 1

    def decide(self, probs: Probs, thresholds: Probs | None = None) -> Labels:
        """Return (N,) the classes that are answered."""
        if thresholds is None or np.shape(thresholds)[-1] >= probs.shape[1]:
            return super().decide(probs, thresholds)
        least = np.asarray(thresholds)
        alone = least.shape[-1] == 1
        found = probabilities_above(probs) if alone else expected_classes(probs)[:, None]
        return (found >= least).sum(axis=1)

    def thresholds(self, probs: Probs, targets: Labels, wanted: str) -> Float64Array | None:
        if wanted == "mae":
            return np.array([MEDIAN])
        if wanted == "kappa":
            return kappa_cuts(expected_classes(probs), targets, probs.shape[1])
        return super().thresholds(probs, targets, wanted)

    def baseline(self, measure: str, probs: Probs, targets: Labels) -> float | None:
        if measure == "mae":
            return float(np.abs(targets - np.quantile(targets, 0.5, method="nearest")).mean())
        return 0.0 if measure == "kappa" else super().baseline(measure, probs, targets)

    def scores(
        self,
        measure: str,
        probs: Probs,
        preds: Labels,
        targets: Labels,
        groups: Int64Array | None = None,
    ) -> Float32Array:
        if measure == "mae":
            return (-np.abs(preds.astype(np.int64) - targets)).astype(np.float32)
        if measure == "kappa":
            classes = probs.shape[1]
            moves = kappa_influence(preds, targets, classes)
            scores = quadratic_kappa(preds, targets, classes) + moves
            # What is left of 0 by rounding would be shown, and -0 as well.
            return (scores.round(9) + 0.0).astype(np.float32)
        return super().scores(measure, probs, preds, targets, groups)

    def _metrics(
        self, probs: Probs, targets: Labels, preds: Labels, class_names: Sequence[str]
    ) -> dict[str, float]:
        ordered = {
            "kappa": quadratic_kappa(preds, targets, probs.shape[1]),
            "mae": mean_absolute_error(preds, targets),
        }
        return ordered | super()._metrics(probs, targets, preds, class_names)

    def binary_targets(self, targets: Labels, num_classes: int) -> Int64Array:
        """Return (N, K - 1): whether the class is above each but the highest.

        Frank and Hall, "A Simple Approach to Ordinal Classification", ECML 2001.
        """
        return (targets[:, None] > np.arange(num_classes - 1)).astype(np.int64)

    def from_binary(self, probs: Float32Array) -> Float32Array:
        """Return (N, K) from the probabilities (N, K - 1) of being above each class.

        Those of a higher class are cut to that of the lower one.
        """
        falling = np.minimum.accumulate(probs.astype(np.float64), axis=1)
        ends = np.ones((len(probs), 1)), np.zeros((len(probs), 1))
        above = np.concatenate([ends[0], falling, ends[1]], axis=1)
        return (above[:, :-1] - above[:, 1:]).astype(np.float32)
