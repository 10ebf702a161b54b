"""Coverage of label sets, by brute force and by simulation."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from src.statistics.conformal import (
    coverage_rank,
    expected_least_coverage,
    fewest_pictures,
    one_of_each_group,
    set_thresholds,
)


@pytest.mark.parametrize("coverage", [0.5, 0.8, 0.9, 0.95, 0.99])
def test_the_rank_is_that_of_split_conformal_prediction(coverage: float) -> None:
    for pictures in (1, 8, 9, 10, 99, 100, 1234):
        exact = math.ceil(round((pictures + 1) * coverage, 9))
        assert coverage_rank(pictures, coverage) == (exact if exact <= pictures else None)


def test_the_threshold_is_the_least_probability_that_enough_pictures_reach() -> None:
    probs = np.linspace(0.01, 0.99, 99)
    targets = np.arange(99) % 3
    (first, *others) = set_thresholds(probs, targets, 0.9, num_classes=3).tolist()
    assert others == [first, first] and (probs >= first).sum() == 90
    by_class = set_thresholds(probs, targets, 0.9, num_classes=4, classwise=True)
    for label in range(3):
        own = probs[targets == label]  # 33 pictures: ceil(34 * 0.9) = 31 must be held
        assert (own >= by_class[label]).sum() == 31
    assert by_class[3] == 0  # a class without pictures belongs to every set


def test_sets_hold_new_labels_as_often_as_was_asked_and_hardly_more() -> None:
    chance = np.random.default_rng(0)
    held = []
    for _ in range(2000):
        probs = chance.beta(5, 1, 61)
        threshold = set_thresholds(probs[:60], np.zeros(60, int), 0.9, num_classes=1)[0]
        held.append(probs[60] >= threshold)
    # 55 of 61 = 0.9016, with a standard error of 0.0067
    assert 0.88 < np.mean(held) < 0.925


@pytest.mark.parametrize("candidates", [2, 5, 40])
def test_the_bound_for_a_chosen_model_is_the_mean_of_the_lowest_share(candidates: int) -> None:
    rank, pictures = 180, 200
    drawn = np.sort(stats.beta(rank, pictures + 1 - rank).rvs(400_000, random_state=0))
    lowest = drawn[: len(drawn) // candidates].mean()
    assert expected_least_coverage(rank, pictures, candidates) == pytest.approx(lowest, abs=5e-4)
    assert expected_least_coverage(rank, pictures) == rank / (pictures + 1)


def test_the_worst_of_several_models_still_covers() -> None:
    """The adversary's choice: of 20 independent models the one whose threshold covers least."""
    chance = np.random.default_rng(1)
    worst, naive = [], []
    for _ in range(400):
        probs = chance.random((20, 200))
        for found, candidates in ((worst, 20), (naive, 1)):
            rank = coverage_rank(200, 0.9, candidates)
            assert rank is not None
            # The probability of a new label to reach the threshold of a uniform variable.
            found.append((1 - np.sort(probs, axis=1)[:, 200 - rank]).min())
    assert np.mean(worst) >= 0.9 > 0.88 > np.mean(naive)


def test_fewest_pictures_are_the_least_that_are_not_refused() -> None:
    assert [fewest_pictures(coverage) for coverage in (0.5, 0.9, 0.99)] == [1, 9, 99]
    fewest = fewest_pictures(0.9, candidates=10)
    assert coverage_rank(fewest, 0.9, 10) == fewest
    assert coverage_rank(fewest - 1, 0.9, 10) is None


@pytest.mark.parametrize("candidates", [1, 2, 30])
@pytest.mark.parametrize("pictures", [8, 9, 20, 60, 400])
def test_the_rank_is_the_least_that_covers_and_none_where_none_does(
    pictures: int, candidates: int
) -> None:
    expected = [expected_least_coverage(k, pictures, candidates) for k in range(1, pictures + 1)]
    enough = [k for k, covered in enumerate(expected, 1) if covered >= 0.9 - 1e-9]
    assert coverage_rank(pictures, 0.9, candidates) == (enough[0] if enough else None)


def test_one_picture_of_each_group_is_drawn() -> None:
    groups = np.array([4, 4, 4, 1, 2, 2])
    drawn = [one_of_each_group(groups, seed).tolist() for seed in range(40)]
    assert all(sorted(groups[one]) == [1, 2, 4] and one == sorted(one) for one in drawn)
    assert {one[0] for one in drawn} == {0, 1, 2}  # any of the group
    assert one_of_each_group(np.arange(5)).tolist() == [0, 1, 2, 3, 4]


def test_values_out_of_range_are_refused() -> None:
    for coverage in (0.0, 1.0, -1.0, math.nan):
        with pytest.raises(ValueError, match="coverage is"):
            coverage_rank(10, coverage)
    with pytest.raises(ValueError, match="candidates is 0"):
        coverage_rank(10, 0.9, 0)
    with pytest.raises(ValueError, match="labels"):
        set_thresholds([0.5, 0.5], [0], 0.9, num_classes=2)
