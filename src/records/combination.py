"""The record of a combination of trained models."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from .comparison import Interval, McNemar

__all__ = ["Combination"]


@dataclass(frozen=True, eq=False)
class Combination:
    """A combination of M trained models, with its accuracy on held-out pictures.

    Attributes:
        way: how the members are combined; "soup" is the mean of their weights.
        members: names of the M members that it could choose from.
        weights: (M,) fitted on all pictures; 0 for a member that is not used.
        probs: (N, K) of held-out pictures, in the order given.
        accuracy, log_loss, calibration_error: of `probs`.
        interval: of the accuracy, 95 %.
        best: name of the single member with the highest accuracy on all pictures.
        best_accuracy: of the single members chosen as the combination was, on held-out pictures.
        test: the combination (first) against the single member, both on held-out pictures.
    """

    way: Literal["greedy", "stacking", "soup"]
    members: tuple[str, ...]
    weights: NDArray[np.float64]
    probs: NDArray[np.float32]
    accuracy: float
    log_loss: float
    calibration_error: float
    interval: Interval
    best: str
    best_accuracy: float
    test: McNemar
