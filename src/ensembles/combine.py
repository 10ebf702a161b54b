"""Combine trained models, and estimate the accuracy of the combination by cross-validation.

A combination that is chosen and measured on the same pictures looks better than it is. The
pictures are therefore split into folds: for each fold the combination is fitted on the other folds,
and so is the choice of the single best member that it is compared with. Both then predict every
picture once, and are compared picture by picture. The weights returned are fitted on all pictures.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ..metrics.classification import accuracy
from ..metrics.probabilistic import calibration_error, log_loss
from ..records.combination import Combination
from ..statistics.intervals import share_interval
from ..statistics.paired_tests import mcnemar
from .mixing import Way, as_pairs, combined_probabilities, from_pairs
from .weights import greedy_weights, stacking_weights

__all__ = ["WAYS", "combine", "combine_sets", "dealt", "greedy_soup"]

Floats = NDArray[np.float64]
Probs = NDArray[np.float32]
WAYS: tuple[Way, ...] = ("greedy", "stacking")
# More members than these, the best by log-loss, are let go before any are weighed.
_LIBRARY = 50
# Halves are enough to tell which of two ways is better, and each more costs a search.
_FOLDS_FOR_THE_WAY = 2


def combine(
    members: Sequence[str],
    probs: Probs,
    targets: NDArray[np.int64],
    *,
    ways: Sequence[Way] = WAYS,
    at_most: int,
    folds: int = 5,
    seed: int = 0,
    groups: NDArray[np.int64] | None = None,
) -> Combination:
    """Fit a combination and measure it on held-out pictures.

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
        folds: at least 2, at most as many as groups.
        seed: of the folds and of the bags.
        groups: (N,) of the pictures, each of which is dealt as a whole; None where each picture is
            a group of its own.

    Raises:
        ValueError: shapes that do not fit, no such number of folds, or what the metrics refuse.
    """
    if probs.ndim != 3 or len(members) != len(probs) or targets.shape != probs.shape[1:2]:
        raise ValueError(
            f"probs has shape {probs.shape}, for {len(members)} members and targets of shape "
            f"{targets.shape}: it must be (M, N, K) for M members and (N,) targets."
        )
    held_out = _held_out(ways, probs, targets, at_most, folds, seed, groups)
    way, weights = _made(ways, probs, targets, at_most, seed, groups)
    right = probs.argmax(axis=2) == targets
    outside = dealt(len(targets), folds, seed, groups)
    return _judged(way, members, weights, held_out, right, targets, outside, groups)


def combine_sets(
    members: Sequence[str],
    probs: Probs,
    targets: NDArray[np.integer],
    *,
    ways: Sequence[Way] = WAYS,
    at_most: int,
    folds: int = 5,
    seed: int = 0,
    groups: NDArray[np.int64] | None = None,
) -> Combination:
    """Fit a combination of predictions of label sets, as `combine` does.

    Each label of each picture counts as an answer, right or wrong; those of a picture are dealt
    together. The probabilities of the result are (N, K) of labels.

    Args:
        members, ways, at_most, folds, seed, groups: as of `combine`.
        probs: (M, N, K) of labels.
        targets: (N, K), 0 and 1.
    """
    count, classes = targets.shape
    pictures = np.arange(count) if groups is None else groups
    found = combine(
        members,
        as_pairs(probs),
        targets.astype(np.int64).ravel(),
        ways=ways,
        at_most=at_most,
        folds=folds,
        seed=seed,
        groups=np.repeat(pictures, classes),
    )
    return replace(found, probs=from_pairs(found.probs, classes))


def greedy_soup(
    members: Sequence[str],
    predict: Callable[[tuple[int, ...]], Probs],
    targets: NDArray[np.int64],
    *,
    folds: int = 5,
    seed: int = 0,
    groups: NDArray[np.int64] | None = None,
) -> Combination:
    """Return the greedy soup, measured on pictures that it was not chosen on.

    Wortsman et al., "Model soups: averaging weights of multiple fine-tuned models improves
    accuracy without increasing inference time", ICML 2022, recipe 1: from the best member to the
    worst, each is put in if the accuracy does not fall. As in `combine`, the soup and its best
    member are chosen anew for every fold, from the pictures of the other folds.

    Args:
        members: M names, at least one.
        predict: ascending indices of some members -> (N, K) of the mean of their weights; called
            once for every soup that is tried.
        targets: (N,).
        folds, seed, groups: see `dealt`, whose errors it raises.

    Returns:
        Of the weights, those of the members in the soup are equal and the others 0.
    """
    predicted = cache(predict)
    right = np.stack([predicted((i,)).argmax(axis=1) == targets for i in range(len(members))])

    def made(kept: NDArray[np.bool_]) -> tuple[int, ...]:
        def accuracy(soup: tuple[int, ...]) -> float:
            return float((predicted(soup)[kept].argmax(axis=1) == targets[kept]).mean())

        first, *others = np.argsort(-right[:, kept].mean(axis=1), kind="stable").tolist()
        soup: tuple[int, ...] = (first,)
        for other in others:
            larger = tuple(sorted((*soup, other)))
            if accuracy(larger) >= accuracy(soup):
                soup = larger
        return soup

    held_out = np.empty_like(predicted((0,)))
    folded = dealt(len(targets), folds, seed, groups)
    for outside in folded:
        held_out[outside] = predicted(made(~outside))[outside]
    weights = np.zeros(len(members))
    chosen = list(made(np.ones(len(targets), np.bool_)))
    weights[chosen] = 1 / len(chosen)
    return _judged("soup", members, weights, held_out, right, targets, folded, groups)


def _judged(
    way: Way | Literal["soup"],
    members: Sequence[str],
    weights: Floats,
    held_out: Probs,
    right: NDArray[np.bool_],
    targets: NDArray[np.int64],
    outside: Sequence[NDArray[np.bool_]],
    groups: NDArray[np.int64] | None,
) -> Combination:
    """Compare a combination with the best single member, both on held-out pictures.

    Args:
        held_out: (N, K) predictions for each picture of a combination fitted on the other folds.
        right: (M, N) which member has which picture right.
        outside: of each fold of `held_out`, (N,) bool, which pictures it holds out.
        groups: (N,) of the pictures, or None.
    """
    single = np.empty(len(targets), np.bool_)
    for held in outside:
        single[held] = right[int(right[:, ~held].mean(axis=1).argmax()), held]
    hits = held_out.argmax(axis=1) == targets
    return Combination(
        way=way,
        members=tuple(members),
        weights=weights,
        probs=held_out,
        accuracy=accuracy(held_out, targets),
        log_loss=log_loss(held_out, targets),
        calibration_error=calibration_error(held_out, targets),
        interval=share_interval(hits, groups),
        best=members[int(right.mean(axis=1).argmax())],
        best_accuracy=float(single.mean()),
        test=mcnemar(hits, single, groups),
    )


def dealt(
    count: int, folds: int, seed: int, groups: NDArray[np.int64] | None = None
) -> list[NDArray[np.bool_]]:
    """Return for each fold, (N,) bool, which of `count` pictures are held out.

    Args:
        count: N.
        folds: at least 2.
        seed: of the order in which they are dealt.
        groups: (N,) of the pictures, each of which is held out as a whole; None where each picture
            is a group of its own.

    Raises:
        ValueError: there are fewer than 2 folds, or more than groups.
    """
    own = np.arange(count) if groups is None else np.unique(groups, return_inverse=True)[1]
    units = int(own.max(initial=-1)) + 1
    if not 2 <= folds <= units:
        what = "pictures" if groups is None else "groups of pictures"
        raise ValueError(f"folds is {folds}: it must be within 2 and the {units} {what}.")
    fold_of = (np.random.default_rng(seed).permutation(units) % folds)[own]
    return [fold_of == fold for fold in range(folds)]


def _held_out(
    ways: Sequence[Way],
    probs: Probs,
    targets: NDArray[np.int64],
    at_most: int,
    folds: int,
    seed: int,
    groups: NDArray[np.int64] | None,
) -> Probs:
    """Return (N, K) predictions for each picture of a combination fitted on the other folds."""
    found = np.empty(probs.shape[1:], np.float32)
    for outside in dealt(len(targets), folds, seed, groups):
        inside = ~outside
        kept = None if groups is None else groups[inside]
        way, weights = _made(ways, probs[:, inside], targets[inside], at_most, seed, kept)
        found[outside] = combined_probabilities(way, probs[:, outside], weights)
    return found


def _made(
    ways: Sequence[Way],
    probs: Probs,
    targets: NDArray[np.int64],
    at_most: int,
    seed: int,
    groups: NDArray[np.int64] | None,
) -> tuple[Way, Floats]:
    way = ways[0]
    units = len(targets) if groups is None else len(np.unique(groups))
    if len(ways) > 1 and units > 1:
        given = probs, targets, at_most, _FOLDS_FOR_THE_WAY, seed, groups
        way = min(ways, key=lambda one: log_loss(_held_out((one,), *given), targets))
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
    """Return (M,) weights, 0 for all but the chosen members."""
    kept, weights = np.sort(chosen), np.zeros(len(probs))
    if way == "stacking":
        weights[kept] = stacking_weights(probs[kept], targets)
    else:
        weights[kept] = greedy_weights(probs[kept], targets, seed=seed)
    return weights
