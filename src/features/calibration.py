"""From a classifier's scores to probabilities that mean what they say."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import log_softmax, softmax

__all__ = ["Calibration", "log_votes"]

# What a class that no tree or neighbour voted for still gets, before the logarithm.
_LEAST_VOTE = 1e-3


@dataclass(frozen=True, eq=False)
class Calibration:
    """softmax(slope * scores + shift): temperature scaling with a bias a class.

    Guo et al., "On Calibration of Modern Neural Networks" (ICML 2017), with the biases of
    Alexandari et al., "Maximum Likelihood With Bias-Corrected Calibration is Hard-To-Beat at Label
    Shift Adaptation" (ICML 2020).

    Attributes:
        slope: above 0, so that within a class the order of the pictures stays.
        shift: (K,) float64, which sum to 0.
    """

    slope: float
    shift: NDArray[np.float64]

    @classmethod
    def fit(cls, scores: NDArray[np.floating], targets: NDArray[np.int64]) -> Self:
        """The one under which the targets are most likely.

        Args:
            scores: (N, K) of pictures that the classifier was not fitted to.
            targets: (N,) in [0, K).
        """
        scores = np.asarray(scores, np.float64)
        count, classes = scores.shape
        unit = max(float(scores.std()), 1e-12)
        hits = np.zeros_like(scores)
        hits[np.arange(count), targets] = 1.0

        def loss(values: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
            slope, shift = np.exp(values[0]) / unit, values[1:]
            logits = slope * scores + shift
            logs = log_softmax(logits, axis=1)
            errors = np.exp(logs) - hits
            # A standard normal prior, which a hundred pictures outweigh, keeps what separates
            # perfectly, or was never seen, finite.
            gradient = np.concatenate([[(errors * scores).sum() * slope], errors.sum(axis=0)])
            return (
                float(0.5 * values @ values - (logs * hits).sum()) / count,
                (gradient + values) / count,
            )

        found = minimize(loss, np.zeros(classes + 1), jac=True, method="L-BFGS-B").x
        shift = found[1:] - found[1:].mean()
        return cls(float(np.exp(found[0]) / unit), shift)

    def __call__(self, scores: NDArray[np.floating]) -> NDArray[np.float32]:
        """Probabilities (N, K) of scores (N, K)."""
        logits = self.slope * np.asarray(scores, np.float64) + self.shift
        probs: NDArray[np.float32] = softmax(logits, axis=1).astype(np.float32)
        return probs


def log_votes(votes: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return scores (N, K) of shares of votes (N, K) in [0, 1], which may be 0."""
    found: NDArray[np.float64] = np.log((votes + _LEAST_VOTE) / (1 + votes.shape[1] * _LEAST_VOTE))
    return found
