"""Distances and p-values against scikit-learn and simulated features."""

from __future__ import annotations

import numpy as np
from scipy import stats
from sklearn.neighbors import NearestNeighbors

from src.statistics.novelty import (
    feature_scale,
    neighbour_distances,
    novelty_p_values,
    shift_test,
    standardised,
)


def features(count: int, seed: int, shift: float = 0.0) -> np.ndarray:
    chance = np.random.default_rng(seed)
    return (chance.normal(size=(count, 12)) * np.arange(1, 13) + shift).astype(np.float32)


def test_distances_are_those_to_the_fifth_neighbour() -> None:
    known = features(900, 0)
    mean, scale = feature_scale(known)
    reference = standardised(known, mean, scale)
    new = standardised(features(700, 1), mean, scale)
    expected, _ = NearestNeighbors(n_neighbors=5).fit(reference).kneighbors(new)
    np.testing.assert_allclose(neighbour_distances(new, reference), expected[:, 4], atol=1e-3)
    # A picture is no neighbour of itself.
    own, _ = NearestNeighbors(n_neighbors=6).fit(reference).kneighbors(reference)
    found = neighbour_distances(
        reference, reference, same=lambda part: np.eye(900, dtype=bool)[part]
    )
    np.testing.assert_allclose(found, own[:, 5], atol=1e-3)
    assert neighbour_distances(new[:1], reference[:2]).shape == (1,)


def test_features_that_do_not_vary_in_training_are_far_where_they_differ() -> None:
    known = np.hstack([features(300, 0), np.ones((300, 1), np.float32)])
    mean, scale = feature_scale(known)
    assert np.isfinite(scale).all() and (scale > 0).all()
    strange = known[:1].copy()
    strange[0, -1] = 50
    reference = standardised(known, mean, scale)
    near, far = neighbour_distances(
        standardised(np.vstack([known[:1], strange]), mean, scale), reference
    )
    assert far > 1.2 > near
    constant = np.ones((3, 2), np.float32)
    assert np.isfinite(standardised(constant, *feature_scale(constant))).all()


def test_p_values_of_pictures_like_training_are_uniform() -> None:
    chance = np.random.default_rng(0)
    found = [novelty_p_values(chance.random(1), chance.random(99))[0] for _ in range(3000)]
    assert np.mean(np.array(found) <= 0.05) < 0.065
    assert stats.kstest(found, "uniform").statistic < 0.04
    assert novelty_p_values([2.0, 0.5, 0.0], [0.1, 0.5, 0.9, 1.0]).tolist() == [0.2, 0.8, 1.0]


def test_other_pictures_are_told_and_like_ones_seldom() -> None:
    chance = np.random.default_rng(0)
    known = {"confidences": chance.beta(5, 1, 400), "distances": chance.normal(size=400)}
    alarms = 0
    for _ in range(300):
        new = {"confidences": chance.beta(5, 1, 80), "distances": chance.normal(size=80)}
        alarms += shift_test(new, known).p_value < 0.05
    assert alarms < 27  # 15 expected at most
    other = {"confidences": chance.beta(5, 1, 80), "distances": chance.normal(1.0, size=80)}
    found = shift_test(other, known)
    assert found.p_value < 1e-6 and found.largest == "distances"
