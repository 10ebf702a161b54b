"""Distances and p-values against scikit-learn and simulated features."""

from __future__ import annotations

import numpy as np
from scipy import stats
from sklearn.neighbors import NearestNeighbors

from src.statistics.novelty import (
    feature_rows,
    feature_scale,
    neighbour_distances,
    novelty_p_values,
    shift_test,
)


def features(count: int, seed: int, shift: float = 0.0) -> np.ndarray:
    chance = np.random.default_rng(seed)
    return (chance.normal(size=(count, 12)) * np.arange(1, 13) + shift).astype(np.float32)


def test_distances_are_those_to_the_fifth_neighbour() -> None:
    known = features(900, 0)
    scale = feature_scale(known)
    reference = feature_rows(known, scale)
    new = feature_rows(features(700, 1), scale)
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
    scale = feature_scale(known)
    assert np.isfinite(scale.deviation).all() and (scale.deviation > 0).all()
    strange = known[:1].copy()
    strange[0, -1] = 50
    reference = feature_rows(known, scale)
    near, far = neighbour_distances(feature_rows(np.vstack([known[:1], strange]), scale), reference)
    assert far > 1.2 > near
    constant = np.ones((3, 2), np.float32)
    assert np.isfinite(feature_rows(constant, feature_scale(constant))).all()


def test_direction_and_length_of_features_both_count() -> None:
    def mirrored(seed: int, sign: int = 1) -> np.ndarray:
        half = features(500, seed)[:, :6]
        return np.hstack([half, sign * half])

    scale = feature_scale(mirrored(0))
    reference = feature_rows(mirrored(0), scale)
    np.testing.assert_allclose(np.linalg.norm(reference[:, :-1], axis=1), 1, atol=1e-5)
    np.testing.assert_allclose(reference[:, -1].std(), 0.2, atol=1e-3)

    usual = neighbour_distances(feature_rows(mirrored(1), scale), reference)
    limit = np.quantile(usual, 0.95)
    for strange in (mirrored(1, sign=-1), 9 * mirrored(1), mirrored(1) / 9):
        found = neighbour_distances(feature_rows(strange, scale), reference)
        assert (found > limit).mean() > 0.9


def test_with_neighbours_of_the_same_group_alone_a_picture_is_as_far_as_can_be_known() -> None:
    rows = np.eye(3, dtype=np.float32)
    found = neighbour_distances(
        rows, rows, same=lambda part: np.array([[True, True, False]] * 3)[part]
    )
    np.testing.assert_allclose(found, [np.sqrt(2), np.sqrt(2), 0], atol=1e-6)
    nobody = neighbour_distances(rows, rows, same=lambda part: np.ones((3, 3), bool)[part])
    assert np.isfinite(nobody).all()


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
