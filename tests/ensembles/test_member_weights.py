from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize_scalar

from src.ensembles.member_weights import greedy_weights, stacking_weights
from src.ensembles.mixing import mean_of_logs, mean_of_probabilities
from src.metrics.probabilistic import log_loss


def library(seed: int, members: int, pictures: int = 60, classes: int = 3) -> tuple:
    generator = np.random.default_rng(seed)
    targets = generator.integers(classes, size=pictures)
    logits = generator.normal(0, 1, (members, pictures, classes))
    logits[:, np.arange(pictures), targets] += generator.uniform(0.2, 1.5, (members, 1))
    probs = np.exp(logits) / np.exp(logits).sum(axis=2, keepdims=True)
    return probs.astype(np.float32), targets


def greedy_by_hand(probs: np.ndarray, targets: np.ndarray, steps: int) -> np.ndarray:
    """Caruana's procedure with lists and the log-loss of the metrics, nothing shared."""

    def loss(bag: list[int]) -> float:
        return log_loss(np.mean(probs[bag], axis=0, dtype=np.float64), targets)

    order = sorted(range(len(probs)), key=lambda m: loss([m]))
    bag = min((order[:size] for size in range(1, len(order) + 1)), key=loss)
    best = bag
    for _ in range(steps):
        bag = min(([*bag, member] for member in range(len(probs))), key=loss)
        best = min(best, bag, key=loss)
    return np.bincount(best, minlength=len(probs)) / len(best)


@given(st.integers(0, 10_000), st.integers(1, 5))
@settings(max_examples=25, deadline=None)
def test_agrees_with_the_procedure_by_hand(seed: int, members: int) -> None:
    probs, targets = library(seed, members)
    found = greedy_weights(probs, targets, bags=0, max_steps=8)
    assert found == pytest.approx(greedy_by_hand(probs, targets, 8))


def test_comes_near_the_best_of_all_mixtures() -> None:
    probs, targets = library(1, 3, 200)
    grid = np.linspace(0, 1, 41)
    mixtures = [(a, b, 1 - a - b) for a, b in itertools.product(grid, grid) if a + b <= 1 + 1e-9]
    best = min(
        log_loss(mean_of_probabilities(probs, np.array(m).clip(0)), targets) for m in mixtures
    )
    found = greedy_weights(probs, targets, bags=0)
    assert log_loss(mean_of_probabilities(probs, found), targets) < best + 1e-3


def test_bags_are_weighted_means_of_their_own_selections() -> None:
    probs, targets = library(2, 6)
    whole = greedy_weights(probs, targets, bags=3, bag_share=1.0)
    assert whole == pytest.approx(greedy_weights(probs, targets, bags=0))
    halves = greedy_weights(probs, targets, bags=10, seed=4)
    assert halves.sum() == pytest.approx(1)
    assert np.count_nonzero(halves) >= np.count_nonzero(whole)
    np.testing.assert_array_equal(halves, greedy_weights(probs, targets, bags=10, seed=4))


@pytest.mark.parametrize("useless", [1, 3, 14])
def test_a_good_member_is_not_outvoted_by_useless_ones(useless: int) -> None:
    generator, pictures, classes = np.random.default_rng(0), 300, 10
    targets = generator.integers(classes, size=pictures)
    probs = generator.dirichlet(np.ones(classes), (1 + useless, pictures)).astype(np.float32)
    probs[0] = 0.1 / 9
    probs[0, np.arange(pictures), targets] = 0.9
    weights = greedy_weights(probs, targets)
    assert weights[0] == pytest.approx(1)


def test_many_members_are_selected_from_bags() -> None:
    probs, targets = library(5, 12)
    weights = greedy_weights(probs, targets)
    assert weights == pytest.approx(greedy_weights(probs, targets, bags=20))
    assert np.count_nonzero(weights) > np.count_nonzero(greedy_weights(probs, targets, bags=0))
    few = probs[:9]
    assert greedy_weights(few, targets) == pytest.approx(greedy_weights(few, targets, bags=0))


def test_a_mean_is_a_mean() -> None:
    probs, _ = library(3, 4)
    weights = np.array([0.5, 0.0, 0.25, 0.25])
    expected = 0.5 * probs[0] + 0.25 * probs[2] + 0.25 * probs[3]
    np.testing.assert_allclose(mean_of_probabilities(probs, weights), expected, rtol=1e-5)


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
