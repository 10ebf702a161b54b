"""Cohen's kappa, as a metric."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from src.config.metrics import metric


@metric("kappa", direction="maximize")
def kappa(probs: NDArray[np.float32], targets: NDArray[np.int64]) -> float:
    """Agreement of predictions (N, K) with targets (N,) beyond chance, in [-1, 1]."""
    from sklearn.metrics import cohen_kappa_score

    return float(cohen_kappa_score(targets, probs.argmax(axis=1)))
