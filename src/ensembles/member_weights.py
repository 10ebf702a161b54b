"""Weights with which trained networks are combined, fitted on their predictions.

Two methods: a weighted mean of probabilities, selected greedily, and a weighted mean of log
probabilities (stacking), found by convex optimisation. `mixing` applies the weights.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import logsumexp

from ..machine.arrays import Float32Array, Float64Array, Int64Array
from ..metrics.probabilistic import SMALLEST_PROBABILITY
from .mixing import logs_of

__all__ = ["greedy_weights", "stacking_weights"]

_BAGS, _LEAST_FOR_BAGS = 20, 10

Probs = Float32Array


def greedy_weights(
    probs: Probs,
    targets: Int64Array,
    *,
    bags: int | None = None,
    bag_share: float = 0.5,
    max_steps: int = 50,
    seed: int = 0,
) -> Float64Array:
    """Return weights by ensemble selection with replacement.

    Caruana, Niculescu-Mizil, Crew & Ksikes, "Ensemble Selection from Libraries of Models", ICML
    2004, with its three guards against overfitting: members may come again, the start is the best
    number of best members, and selection is repeated on random bags of members, whose weights
    are averaged. The measure that is climbed is the log-loss: it moves with every picture, where
    accuracy stands still for most, and it needs only the probability of each target.

    The bags are for libraries of many good members, there of some 2,000. One of few members, or of
    few good ones, often holds no good one, and then gives weight to what is bad: below 10 members
    there are none, nor where their mean is worse than the best member alone.

    Args:
        probs: (M, N, K) of M members.
        targets: (N,).
        bags: random parts of the members to select from; 0 selects once from all of them; None for
            20 where there are 10 members or more.
        bag_share: of the members, in each bag, in (0, 1]; at least one.
        max_steps: members added after the start, at most.
        seed: of the bags.

    Returns:
        (M,) weights, at least 0, that sum to one.
    """
    likelihood = np.take_along_axis(probs, targets[None, :, None], axis=2)[:, :, 0]
    likelihood = likelihood.clip(SMALLEST_PROBABILITY, 1.0)
    members = len(probs)
    if bags is None:
        bags = _BAGS if members >= _LEAST_FOR_BAGS else 0
    if bags == 0:
        return _climb(likelihood, max_steps)
    weights, generator = np.zeros(members), np.random.default_rng(seed)
    size = max(1, round(bag_share * members))
    for _ in range(bags):
        bag = np.sort(generator.choice(members, size, replace=False))
        weights[bag] += _climb(likelihood[bag], max_steps) / bags
    best_alone = _loss(likelihood).min()
    return weights if _loss(weights @ likelihood) <= best_alone else _climb(likelihood, max_steps)


def stacking_weights(probs: Probs, targets: Int64Array) -> Float64Array:
    """Return weights (M,), none below 0, with which `mean_of_logs` has the smallest log-loss.

    Wolpert, "Stacked Generalization", Neural Networks 1992, with Breiman's constraint ("Stacked
    Regressions", Machine Learning 1996) that no member may count against itself. It is multinomial
    logistic regression with one coefficient a member and none a class, so that it has as many
    parameters as members and is convex; with a single member it is temperature scaling.

    Args:
        probs: (M, N, K) of M members.
        targets: (N,).
    """
    logs = logs_of(probs)
    of_targets = np.take_along_axis(logs, targets[None, :, None], axis=2)[:, :, 0]
    reached = of_targets.mean(axis=1)

    def loss(weights: Float64Array) -> tuple[float, Float64Array]:
        pooled = np.tensordot(weights, logs, axes=1)
        normaliser = logsumexp(pooled, axis=1, keepdims=True)
        shares = np.exp(pooled - normaliser)
        expected = np.einsum("nk,mnk->m", shares, logs) / len(targets)
        return float(normaliser.mean() - weights @ reached), expected - reached

    members = len(probs)
    found = minimize(
        loss,
        np.full(members, 1 / members),
        jac=True,
        method="L-BFGS-B",
        bounds=[(0, None)] * members,
        options={"maxiter": 500, "ftol": 1e-12, "gtol": 1e-8},
    )
    return np.asarray(found.x, np.float64)


def _loss(likelihood: NDArray[np.floating]) -> Float64Array:
    """Return the log-loss of (..., N) probabilities of the targets."""
    return -np.log(likelihood).mean(axis=-1, dtype=np.float64)


def _climb(likelihood: Float32Array, max_steps: int) -> Float64Array:
    """Return weights of the best ensemble found, for (M, N) probabilities of the targets."""
    counts = np.zeros(len(likelihood))
    order = np.argsort(_loss(likelihood), kind="stable")
    sums = np.zeros_like(likelihood[0])
    best, start = np.inf, 0
    for size, member in enumerate(order, start=1):
        sums = sums + likelihood[member]
        loss = float(_loss(sums / size))
        if loss < best:
            best, start, start_sums = loss, size, sums
    counts[order[:start]] = 1
    best_counts, sums = counts.copy(), start_sums
    for size in range(start + 1, start + max_steps + 1):
        losses = _loss((likelihood + sums) / size)
        member = int(losses.argmin())
        counts[member] += 1
        sums = sums + likelihood[member]
        if losses[member] < best:
            best, best_counts = float(losses[member]), counts.copy()
    return best_counts / best_counts.sum()
