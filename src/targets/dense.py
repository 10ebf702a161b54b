"""A class for every pixel of a picture."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from ..machine.arrays import BoolArray, Float32Array, Int64Array
from ..metrics.class_maps import (
    dice_sums,
    influence_scores,
    iou_sums,
    mean_ratio,
    pixel_sums,
    ratios,
)
from ..metrics.probabilistic import entropy_terms
from ..metrics.summary import per_class
from .kind import Labels, Probs, TargetKind

__all__ = ["Dense"]

_SUMS = {"miou": iou_sums, "dice": dice_sums, "pixel_accuracy": pixel_sums}


class Dense(TargetKind):
    """One of K classes a pixel.

    In the place of probabilities stand the answers of `src.records.pixel_answers`, (N,) with a
    confusion matrix and a log-loss of each picture, in the place of predictions their matrices
    (N, K, K), and targets are (N, K) 0 and 1, the classes that a picture holds. A picture is right
    when all of its pixels that count are.
    """

    name = "dense"
    described = "a class for every pixel"
    pixels = True

    def checked(self, probs: ArrayLike, targets: ArrayLike) -> tuple[Probs, Labels]:
        answers: Any = np.asarray(probs)
        held = np.asarray(targets)
        if answers.dtype.names is None or "matrix" not in answers.dtype.names:
            raise ValueError("the answers about pixels have no confusion matrices")
        if not len(answers):
            raise ValueError("There are no samples: a metric needs at least one.")
        if held.shape != answers["matrix"].shape[:2]:
            raise ValueError(
                f"targets has shape {held.shape}: it must be {answers['matrix'].shape[:2]}, "
                "pictures times classes."
            )
        if not np.isfinite(answers["log_loss"]).all():
            raise ValueError("a log-loss is no number: the network's outputs are not finite.")
        return answers, held

    def decide(self, probs: Probs, thresholds: Probs | None = None) -> Labels:
        """Return the confusion matrices (N, K, K)."""
        return probs["matrix"]  # type: ignore[call-overload]

    def measured_on(self, probs: Probs, targets: Labels) -> Labels:
        """Return (N, K) pixels of each class: figures of pictures in two sizes do not compare."""
        return self.decide(probs).sum(axis=2, dtype=np.int64)

    def right(self, preds: Labels, targets: Labels) -> BoolArray:
        """Return (N,) whether all pixels that count are right."""
        sums = pixel_sums(preds)
        return (sums.above == sums.below)[:, 0]

    def losses(self, probs: Probs, targets: Labels) -> Float32Array:
        """Return (N,) the mean log-loss of each picture's pixels."""
        return probs["log_loss"]  # type: ignore[call-overload]

    def uncertainties(self, probs: Probs) -> Probs:
        """Return (N,) in [0, 1]: the mean of what it is of a single label over the pixels.

        Args:
            probs: (N, K, H, W) of pixels.
        """
        first, second = probs[:, 0], np.zeros_like(probs[:, 0])
        for plane in probs[:, 1:].swapaxes(0, 1):  # sorting would take all planes once more
            second = np.maximum(second, np.minimum(first, plane))
            first = np.maximum(first, plane)
        return 1 - (first - second).mean(axis=(1, 2), dtype=np.float64)

    def calibration_error(
        self, probs: Probs, targets: Labels, preds: Labels | None = None
    ) -> float:
        """Return NaN: the probabilities of pixels are not kept."""
        return float("nan")

    def constant(self, targets: Labels) -> float:
        """Return 0: which constant map is the best depends on the pixels, not on these."""
        return 0.0

    def baseline(self, measure: str, probs: Probs, targets: Labels) -> float | None:
        """Return the figure of the most frequent class, or of all shares, for every pixel."""
        matrices = self.decide(probs)
        if measure == "log_loss":  # a mean over pictures, 0 of those without pixels that count
            pixels = matrices.sum(axis=2, dtype=np.float64)
            shares = (pixels / pixels.sum(axis=1, keepdims=True).clip(1)).mean(axis=0)
            counted = shares.sum()
            return float(counted * entropy_terms(shares / counted).sum()) if counted else 0.0
        if measure not in _SUMS:
            return None
        pixels = matrices.sum(axis=(0, 2))
        constant = np.zeros((1, *matrices.shape[1:]), np.int64)
        constant[0, :, pixels.argmax()] = pixels
        return mean_ratio(_SUMS[measure](constant))

    def scores(
        self,
        measure: str,
        probs: Probs,
        preds: Labels,
        targets: Labels,
        groups: Int64Array | None = None,
    ) -> Float32Array:
        if measure == "log_loss":
            return -self.losses(probs, targets)
        if measure in _SUMS:
            return influence_scores(_SUMS[measure](preds)).astype(np.float32)
        raise self.no_such(measure)

    def _metrics(
        self, probs: Probs, targets: Labels, preds: Labels, class_names: Sequence[str]
    ) -> dict[str, float]:
        """Compute all metrics, with "iou/<class>" of up to 20 classes.

        "log_loss" is the mean over pictures of the mean over a picture's pixels, which pairs and
        resamples as other losses do; the ratios, and the loss of an epoch, are of all pixels.
        """
        metrics = {name: mean_ratio(sums(preds)) for name, sums in _SUMS.items()}
        metrics["log_loss"] = float(self.losses(probs, targets).mean(dtype=np.float64))
        return metrics | per_class("iou", class_names, ratios(iou_sums(preds)))
