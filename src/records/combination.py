"""The record of a combination of trained models."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from ..machine.arrays import AnyArray, Float64Array

__all__ = ["Combination"]


@dataclass(frozen=True, eq=False)
class Combination:
    """A combination of M trained models, with its figure on held-out pictures.

    Attributes:
        way: how the members are combined; "soup" is the mean of their weights.
        members: names of the M members that it could choose from.
        weights: (M,) fitted on all pictures; 0 for a member that is not used.
        probs: (N, K) of held-out pictures, in the order given; of pixels (N,) answers, see
            `src.records.pixel_answers`.
        measure: what figures are of.
        figure: of `probs`.
        log_loss: of `probs`, mean over the pictures.
        best: name of the single member with the best figure on all pictures.
        best_figure: of the single members chosen as the combination was, on held-out pictures.
        p_value: two-sided, of the combination against the single member, both on held-out pictures:
            of accuracies McNemar's exact test, of other figures Student's on each picture's
            influence.
    """

    way: Literal["greedy", "stacking", "soup"]
    members: tuple[str, ...]
    weights: Float64Array
    probs: AnyArray
    measure: str
    figure: float
    log_loss: float
    best: str
    best_figure: float
    p_value: float
