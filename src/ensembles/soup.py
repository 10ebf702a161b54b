"""The greedy soup: the mean of the weights of networks of one architecture."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from src.ensembles.combine import dealt, judged
from src.records.combination import Combination

__all__ = ["Ask", "greedy_soup"]

Probs = NDArray[np.float32]
# Ascending indices of some of the members -> (N, K) predictions of the mean of their weights.
Ask = Callable[[tuple[int, ...]], Probs]


def greedy_soup(
    members: Sequence[str],
    ask: Ask,
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
        members: M names.
        ask: predicts the N pictures; called once for every soup that is tried.
        targets: (N,).
        folds: at least 2, at most as many as groups.
        seed: of the folds.
        groups: (N,) of the pictures, as for `combine`.

    Returns:
        Of the weights, those of the members in the soup are equal and the others 0.

    Raises:
        ValueError: no members, or no such number of folds.
    """
    if not members:
        raise ValueError("There are no members to average.")
    known: dict[tuple[int, ...], Probs] = {}

    def said(soup: tuple[int, ...]) -> Probs:
        if soup not in known:
            known[soup] = ask(soup)
        return known[soup]

    right = np.stack([said((i,)).argmax(axis=1) == targets for i in range(len(members))])

    def made(kept: NDArray[np.bool_]) -> tuple[int, ...]:
        def accuracy(soup: tuple[int, ...]) -> float:
            return float((said(soup)[kept].argmax(axis=1) == targets[kept]).mean())

        first, *others = np.argsort(-right[:, kept].mean(axis=1), kind="stable").tolist()
        soup: tuple[int, ...] = (first,)
        for other in others:
            larger = tuple(sorted((*soup, other)))
            if accuracy(larger) >= accuracy(soup):
                soup = larger
        return soup

    held_out = np.empty_like(said((0,)))
    folded = dealt(len(targets), folds, seed, groups)
    for outside in folded:
        held_out[outside] = said(made(~outside))[outside]
    weights = np.zeros(len(members))
    chosen = list(made(np.ones(len(targets), np.bool_)))
    weights[chosen] = 1 / len(chosen)
    return judged("soup", members, weights, held_out, right, targets, folded, groups)
