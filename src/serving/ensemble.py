"""Several models that answer as one."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from src.selection.mixing import Way, combined_probabilities
from src.serving.predictor import Classify

__all__ = ["ensemble_classifier"]


def ensemble_classifier(
    members: Sequence[Classify], way: Way, weights: Sequence[float]
) -> Classify:
    """What gives the members' common probabilities (N, K) to pictures (N, C, H, W) uint8.

    Args:
        members: M of them, for pictures and classes of the same kind.
        way, weights: see `src.selection.mixing`.

    Raises:
        ValueError: there are no members, or not as many weights.
    """
    if not members or len(members) != len(weights):
        raise ValueError(f"There are {len(weights)} weights for {len(members)} members.")

    def classify(images: NDArray[np.uint8]) -> NDArray[np.float32]:
        probs = np.stack([member(images) for member in members])
        return combined_probabilities(way, probs, np.array(weights))

    return classify
