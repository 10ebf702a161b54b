"""Combine trained networks, and say what the combination is worth on pictures it was not fitted to.

A combination that is chosen and measured on the same pictures looks better than it is. So the
pictures are dealt into folds: for each fold the combination is made on the other folds alone, and
so is the choice of the single best member that it is held against. Every picture is then answered
once by both, in the way in which either would be made, and the two are compared picture by
picture. What is taken away is made on all pictures.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from src.metrics.classification import accuracy
from src.metrics.intervals import wilson_interval
from src.metrics.probabilistic import calibration_error, log_loss
from src.selection.ensemble import greedy_weights, mean_of_probabilities
from src.selection.intervals import Interval
from src.selection.mcnemar import McNemar, mcnemar
from src.selection.stacking import mean_of_logs, stacking_weights

__all__ = ["Combination", "Way", "combine", "combined_probabilities"]

Floats = NDArray[np.float64]
Probs = NDArray[np.float32]
Way = Literal["greedy", "stacking"]


@dataclass(frozen=True, eq=False)
class Combination:
    """A mixture of members and what it is worth.

    Attributes:
        way: how the members are mixed.
        members: names of the M members that it could choose from.
        weights: (M,) made on all pictures; 0 for a member that is not needed.
        probs: (N, K) of held-out pictures, in the order given.
        accuracy, log_loss, calibration_error: of `probs`.
        interval: of the accuracy, 95 %.
        best: name of the single member that would be chosen on all pictures, by accuracy.
        best_accuracy: of the single members chosen as the combination was, on held-out pictures.
        test: the combination (first) against the single member, both on held-out pictures.
    """

    way: Way
    members: tuple[str, ...]
    weights: Floats
    probs: Probs
    accuracy: float
    log_loss: float
    calibration_error: float
    interval: Interval
    best: str
    best_accuracy: float
    test: McNemar

    @property
    def sentences(self) -> tuple[str, ...]:
        """The outcome in words."""
        used = int(np.count_nonzero(self.weights))
        gain = 100 * (self.accuracy - self.best_accuracy)
        doubt = self.test.p_value
        if doubt > 0.05:
            verdict = "which cannot be told from the best single network"
        else:
            verdict = (
                "better than the best single network"
                if gain > 0
                else ("worse than the best single network")
            )
        return (
            f"The combination of {used} of {len(self.members)} trained networks is right for "
            f"{100 * self.accuracy:.1f} % of pictures that it was not fitted to "
            f"({self.interval}), {verdict} ({gain:+.1f} points, p = {doubt:.2g}).",
            f"The single network was picked on the same pictures as the combination; picked on "
            f"all of them it is {self.best}.",
        )


def combined_probabilities(way: Way, probs: Probs, weights: Floats) -> Probs:
    """(N, K) of the (M, N, K) probabilities of the members."""
    return (
        mean_of_logs(probs, weights) if way == "stacking" else mean_of_probabilities(probs, weights)
    )


def combine(
    members: Sequence[str],
    probs: Probs,
    targets: NDArray[np.int64],
    *,
    way: Way = "greedy",
    at_most: int = 50,
    folds: int = 5,
    seed: int = 0,
) -> Combination:
    """Make a combination and measure it on held-out pictures.

    Args:
        members: M names.
        probs: (M, N, K) of pictures that no member was trained on.
        targets: (N,).
        way: "greedy" (Caruana et al. 2004) or "stacking".
        at_most: so many members, the best by log-loss, take part; the others are let go, as in
            Caruana, Munson & Niculescu-Mizil, "Getting the Most Out of Ensemble Selection", ICDM
            2006. That choice too is made anew for every fold.
        folds: at least 2, at most N.
        seed: of the folds and of the bags.

    Raises:
        ValueError: shapes that do not fit, no such number of folds, or what the metrics refuse.
    """
    if probs.ndim != 3 or len(members) != len(probs) or targets.shape != probs.shape[1:2]:
        raise ValueError(
            f"probs has shape {probs.shape}, for {len(members)} members and targets of shape "
            f"{targets.shape}: it must be (M, N, K) for M members and (N,) targets."
        )
    count = len(targets)
    if not 2 <= folds <= count:
        raise ValueError(f"folds is {folds}: it must be within 2 and the {count} pictures.")
    dealt = np.random.default_rng(seed).permutation(count) % folds
    held_out = np.empty(probs.shape[1:], np.float32)
    single = np.empty(count, np.bool_)
    right = probs.argmax(axis=2) == targets
    for fold in range(folds):
        inside, outside = dealt != fold, dealt == fold
        weights = _weights(way, probs[:, inside], targets[inside], at_most, seed)
        held_out[outside] = combined_probabilities(way, probs[:, outside], weights)
        single[outside] = right[int(right[:, inside].mean(axis=1).argmax()), outside]
    hits = held_out.argmax(axis=1) == targets
    return Combination(
        way=way,
        members=tuple(members),
        weights=_weights(way, probs, targets, at_most, seed),
        probs=held_out,
        accuracy=accuracy(held_out, targets),
        log_loss=log_loss(held_out, targets),
        calibration_error=calibration_error(held_out, targets),
        interval=Interval(*wilson_interval(int(hits.sum()), count)),
        best=members[int(right.mean(axis=1).argmax())],
        best_accuracy=float(single.mean()),
        test=mcnemar(hits, single),
    )


def _weights(way: Way, probs: Probs, targets: NDArray[np.int64], at_most: int, seed: int) -> Floats:
    losses = np.array([log_loss(one, targets) for one in probs])
    kept = np.sort(np.argsort(losses, kind="stable")[:at_most])
    weights = np.zeros(len(probs))
    if way == "stacking":
        weights[kept] = stacking_weights(probs[kept], targets)
    else:
        weights[kept] = greedy_weights(probs[kept], targets, seed=seed)
    return weights
