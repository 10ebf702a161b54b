"""A weighted mean of log probabilities: the members' votes, sharpened or softened."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import logsumexp

from src.ensembles.mixing import logs_of

__all__ = ["stacking_weights"]

Floats = NDArray[np.float64]
Probs = NDArray[np.float32]


def stacking_weights(probs: Probs, targets: NDArray[np.int64]) -> Floats:
    """The weights, none below 0, with which `mean_of_logs` has the smallest log-loss.

    Wolpert, "Stacked Generalization", Neural Networks 1992, with Breiman's constraint ("Stacked
    Regressions", Machine Learning 1996) that no member may count against itself. It is multinomial
    logistic regression with one coefficient a member and none a class, so that it has as many
    parameters as members and is convex; with a single member it is temperature scaling.

    Args:
        probs: (M, N, K).
        targets: (N,).

    Returns:
        (M,) at least 0.

    Raises:
        ValueError: no members or pictures.
    """
    if probs.ndim != 3 or 0 in probs.shape or targets.shape != probs.shape[1:2]:
        raise ValueError(
            f"probs has shape {probs.shape} and targets {targets.shape}: they must be (M, N, K) "
            "and (N,), with at least one member and one picture."
        )
    logs = logs_of(probs)
    of_targets = np.take_along_axis(logs, targets[None, :, None], axis=2)[:, :, 0]
    reached = of_targets.mean(axis=1)

    def loss(weights: Floats) -> tuple[float, Floats]:
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
