"""Matthews' correlation coefficient, as a metric."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from src.config.metrics import metric


@metric("mcc", direction="maximize")
def mcc(probs: NDArray[np.float32], targets: NDArray[np.int64]) -> float:
    """Correlation of predictions (N, K) with targets (N,), in [-1, 1]; see Gorodkin (2004)."""
    from sklearn.metrics import matthews_corrcoef

    return float(matthews_corrcoef(targets, probs.argmax(axis=1)))
