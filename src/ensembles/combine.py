"""Combine trained models, and say what the combination is worth on pictures it was not fitted to.

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

from src.ensembles.greedy import greedy_weights
from src.ensembles.mixing import Way, combined_probabilities
from src.ensembles.stacking import stacking_weights
from src.metrics.classification import accuracy
from src.metrics.intervals import wilson_interval
from src.metrics.probabilistic import calibration_error, log_loss
from src.statistics.intervals import Interval
from src.statistics.mcnemar import McNemar, mcnemar

__all__ = ["WAYS", "Combination", "combine", "dealt", "judged"]

Floats = NDArray[np.float64]
Probs = NDArray[np.float32]
WAYS: tuple[Way, ...] = ("greedy", "stacking")
# More members than these, the best by log-loss, are let go before any are weighed.
_LIBRARY = 50
# Halves are enough to tell which of two ways is better, and each more costs a search.
_FOLDS_FOR_THE_WAY = 2


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

    way: Way | Literal["soup"]
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
            verdict = "which cannot be told from the best single model"
        else:
            verdict = f"{'better' if gain > 0 else 'worse'} than the best single model"
        mixture = "mean of the weights" if self.way == "soup" else "combination"
        return (
            f"The {mixture} of {used} of {len(self.members)} trained models is right for "
            f"{100 * self.accuracy:.1f} % of pictures that it was not fitted to "
            f"({self.interval}), {verdict} ({gain:+.1f} points, McNemar's exact test on the same "
            f"pictures: p = {doubt:.2g}).",
            f"The single model was picked on the same pictures as the combination; picked on "
            f"all of them it is {self.best}.",
        )


def combine(
    members: Sequence[str],
    probs: Probs,
    targets: NDArray[np.int64],
    *,
    ways: Sequence[Way] = WAYS,
    at_most: int = 8,
    folds: int = 5,
    seed: int = 0,
) -> Combination:
    """Make a combination and measure it on held-out pictures.

    Args:
        members: M names.
        probs: (M, N, K) of pictures that no member was trained on.
        targets: (N,).
        ways: to choose from: "greedy" (Caruana et al. 2004), "stacking", or both, of which the one
            with the lower held-out log-loss is taken. That choice too is made anew for every fold.
        at_most: members with a weight, at most: each of them has to answer every picture. The
            heaviest stay and are weighed again; before, all but the 50 best by log-loss are let
            go, as in Caruana, Munson & Niculescu-Mizil, "Getting the Most Out of Ensemble
            Selection", ICDM 2006. Both choices are made anew for every fold.
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
    if at_most < 1:
        raise ValueError(f"at_most is {at_most}: it must be at least 1.")
    held_out = _held_out(ways, probs, targets, at_most, folds, seed)
    way, weights = _made(ways, probs, targets, at_most, seed)
    right = probs.argmax(axis=2) == targets
    return judged(way, members, weights, held_out, right, targets, folds=folds, seed=seed)


def judged(
    way: Way | Literal["soup"],
    members: Sequence[str],
    weights: Floats,
    held_out: Probs,
    right: NDArray[np.bool_],
    targets: NDArray[np.int64],
    *,
    folds: int,
    seed: int,
) -> Combination:
    """What a combination is worth beside the best single member.

    Args:
        way, members, weights: of the combination.
        held_out: (N, K), of each picture what a combination made on the other folds says.
        right: (M, N) which member has which picture right.
        targets: (N,).
        folds, seed: that `dealt` was given for `held_out`.
    """
    single = np.empty(len(targets), np.bool_)
    for outside in dealt(len(targets), folds, seed):
        single[outside] = right[int(right[:, ~outside].mean(axis=1).argmax()), outside]
    hits = held_out.argmax(axis=1) == targets
    return Combination(
        way=way,
        members=tuple(members),
        weights=weights,
        probs=held_out,
        accuracy=accuracy(held_out, targets),
        log_loss=log_loss(held_out, targets),
        calibration_error=calibration_error(held_out, targets),
        interval=Interval(*wilson_interval(int(hits.sum()), len(targets))),
        best=members[int(right.mean(axis=1).argmax())],
        best_accuracy=float(single.mean()),
        test=mcnemar(hits, single),
    )


def dealt(count: int, folds: int, seed: int) -> list[NDArray[np.bool_]]:
    """For each fold, (N,) bool: which of `count` pictures are held out.

    Raises:
        ValueError: there are fewer than 2 folds, or more than pictures.
    """
    if not 2 <= folds <= count:
        raise ValueError(f"folds is {folds}: it must be within 2 and the {count} pictures.")
    fold_of = np.random.default_rng(seed).permutation(count) % folds
    return [fold_of == fold for fold in range(folds)]


def _held_out(
    ways: Sequence[Way],
    probs: Probs,
    targets: NDArray[np.int64],
    at_most: int,
    folds: int,
    seed: int,
) -> Probs:
    """(N, K): of each picture, what a combination made on the other folds says."""
    found = np.empty(probs.shape[1:], np.float32)
    for outside in dealt(len(targets), folds, seed):
        inside = ~outside
        way, weights = _made(ways, probs[:, inside], targets[inside], at_most, seed)
        found[outside] = combined_probabilities(way, probs[:, outside], weights)
    return found


def _made(
    ways: Sequence[Way], probs: Probs, targets: NDArray[np.int64], at_most: int, seed: int
) -> tuple[Way, Floats]:
    way = ways[0]
    if len(ways) > 1 and len(targets) > 1:

        def loss(one: Way) -> float:
            folds = _FOLDS_FOR_THE_WAY
            return log_loss(_held_out((one,), probs, targets, at_most, folds, seed), targets)

        way = min(ways, key=loss)
    return way, _weights(way, probs, targets, at_most, seed)


def _weights(way: Way, probs: Probs, targets: NDArray[np.int64], at_most: int, seed: int) -> Floats:
    losses = np.array([log_loss(one, targets) for one in probs])
    weights = _of_these(losses.argsort(kind="stable")[:_LIBRARY], way, probs, targets, seed)
    if np.count_nonzero(weights) > at_most:
        heaviest = np.argsort(-weights, kind="stable")[:at_most]
        weights = _of_these(heaviest, way, probs, targets, seed)
    return weights


def _of_these(
    chosen: NDArray[np.int64], way: Way, probs: Probs, targets: NDArray[np.int64], seed: int
) -> Floats:
    """(M,) weights, 0 for all but the chosen members."""
    kept = np.sort(chosen)
    weights = np.zeros(len(probs))
    if way == "stacking":
        weights[kept] = stacking_weights(probs[kept], targets)
    else:
        weights[kept] = greedy_weights(probs[kept], targets, seed=seed)
    return weights
