from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import minimize_scalar

from src.ensembles.mixing import mean_of_logs
from src.ensembles.stacking import stacking_weights
from src.metrics.probabilistic import log_loss
from tests.ensembles.test_greedy import library


def test_one_member_is_temperature_scaling() -> None:
    probs, targets = library(0, 1, 400)

    def loss(temperature: float) -> float:
        powered = probs[0].astype(np.float64) ** (1 / temperature)
        return log_loss(powered / powered.sum(axis=1, keepdims=True), targets)

    expected = 1 / minimize_scalar(loss, bounds=(0.05, 20), method="bounded").x
    assert stacking_weights(probs, targets)[0] == pytest.approx(expected, rel=1e-3)


def test_two_classes_are_logistic_regression() -> None:
    from sklearn.linear_model import LogisticRegression

    probs, targets = library(1, 3, 500, classes=2)
    odds = np.log(probs[..., 1] / probs[..., 0]).T
    model = LogisticRegression(fit_intercept=False, C=np.inf, tol=1e-10, max_iter=1000)
    expected = model.fit(odds, targets).coef_[0]
    assert (expected > 0).all()
    assert stacking_weights(probs, targets) == pytest.approx(expected, rel=1e-3)


def test_a_member_that_misleads_counts_nothing() -> None:
    probs, targets = library(2, 3, 500)
    # It is sure of the class next to the right one.
    probs[1] = np.roll(probs[1], 1, axis=1)
    assert stacking_weights(probs, targets)[1] == 0


def test_no_other_weights_are_better() -> None:
    probs, targets = library(3, 4, 300)
    found = stacking_weights(probs, targets)
    best = log_loss(mean_of_logs(probs, found), targets)
    generator = np.random.default_rng(0)
    for _ in range(50):
        other = np.maximum(0, found + generator.normal(0, 0.1, 4))
        assert log_loss(mean_of_logs(probs, other), targets) >= best - 1e-6


def test_pools_by_powers() -> None:
    probs, _ = library(4, 2)
    powered = probs[0].astype(np.float64) ** 0.5 * probs[1].astype(np.float64) ** 2
    expected = powered / powered.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(mean_of_logs(probs, np.array([0.5, 2.0])), expected, rtol=1e-4)
    # Nobody's vote is no opinion.
    np.testing.assert_allclose(mean_of_logs(probs, np.zeros(2)), 1 / 3, rtol=1e-6)


def test_refuses_shapes_that_do_not_fit() -> None:
    probs, targets = library(0, 2)
    with pytest.raises(ValueError, match="probs has shape"):
        stacking_weights(probs, targets[:-1])
