"""Which mixture of trained networks answers best, without training any again.

Two ways: a weighted mean of probabilities, found greedily, and a weighted mean of log
probabilities, found by convex optimisation (`stacking`). Both return weights, one a member, for
`mixing`.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from src.metrics.probabilistic import SMALLEST_PROBABILITY

__all__ = ["greedy_weights"]

Floats = NDArray[np.float64]
Probs = NDArray[np.float32]


def greedy_weights(
    probs: Probs,
    targets: NDArray[np.int64],
    *,
    bags: int = 20,
    bag_share: float = 0.5,
    max_steps: int = 50,
    seed: int = 0,
) -> Floats:
    """Ensemble selection with replacement.

    Caruana, Niculescu-Mizil, Crew & Ksikes, "Ensemble Selection from Libraries of Models", ICML
    2004, with its three guards against overfitting: members may come again, the start is the best
    number of best members, and selection is repeated on random bags of members, whose weights
    are averaged. The measure that is climbed is the log-loss: it moves with every picture, where
    accuracy stands still for most, and it needs only the probability of each target.

    Args:
        probs: (M, N, K) of M members.
        targets: (N,).
        bags: random parts of the members to select from; 0 selects once from all of them.
        bag_share: of the members, in each bag; at least one.
        max_steps: members added after the start, at most.
        seed: of the bags.

    Returns:
        (M,) weights, at least 0, that sum to one.

    Raises:
        ValueError: no members or pictures, or a share that is none.
    """
    if probs.ndim != 3 or 0 in probs.shape or targets.shape != probs.shape[1:2]:
        raise ValueError(
            f"probs has shape {probs.shape} and targets {targets.shape}: they must be (M, N, K) "
            "and (N,), with at least one member and one picture."
        )
    if not 0 < bag_share <= 1:
        raise ValueError(f"bag_share is {bag_share}: it must be above 0 and at most 1.")
    likelihood = np.take_along_axis(probs, targets[None, :, None], axis=2)[:, :, 0]
    likelihood = likelihood.clip(SMALLEST_PROBABILITY, 1.0)
    members = len(probs)
    if bags == 0:
        return _climb(likelihood, max_steps)
    weights = np.zeros(members)
    generator = np.random.default_rng(seed)
    for _ in range(bags):
        size = max(1, round(bag_share * members))
        bag = np.sort(generator.choice(members, size, replace=False))
        weights[bag] += _climb(likelihood[bag], max_steps)
    return weights / bags


def _climb(likelihood: NDArray[np.float32], max_steps: int) -> Floats:
    """Weights of the best ensemble met on the way, for (M, N) probabilities of the targets."""
    counts = np.zeros(len(likelihood))
    order = np.argsort(-np.log(likelihood).mean(axis=1, dtype=np.float64), kind="stable")
    sums = np.zeros_like(likelihood[0])
    best, start = np.inf, 0
    for size, member in enumerate(order, start=1):
        sums = sums + likelihood[member]
        loss = _mean_log_loss(sums / size)
        if loss < best:
            best, start, start_sums = loss, size, sums
    counts[order[:start]] = 1
    best_counts, sums = counts.copy(), start_sums
    for size in range(start + 1, start + max_steps + 1):
        losses = -np.log((likelihood + sums) / size).mean(axis=1, dtype=np.float64)
        member = int(losses.argmin())
        counts[member] += 1
        sums = sums + likelihood[member]
        if losses[member] < best:
            best, best_counts = float(losses[member]), counts.copy()
    return best_counts / best_counts.sum()


def _mean_log_loss(likelihood: NDArray[np.float32]) -> float:
    return float(-np.log(likelihood).mean(dtype=np.float64))
