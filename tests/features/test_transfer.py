"""Estimates of how well features suit a task, against closed answers."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.stats import multivariate_normal

from src.features.transfer import cross_validated, gain, logme
from tests.features.classifiers import CLASSES, DIGITS

DIGITS, CLASSES = DIGITS[:400], CLASSES[:400]


def judged(*arguments: object) -> tuple[float, float]:
    """The figure of `cross_validated`, and its error."""
    found = cross_validated(*arguments)
    return found.figure, found.error


def maximum_evidence(features: np.ndarray, target: np.ndarray) -> float:
    """The largest log density of N(0, F F' / alpha + I / beta) at the target, by general search."""

    def negative(logs: np.ndarray) -> float:
        alpha, beta = np.exp(logs)
        covariance = features @ features.T / alpha + np.eye(len(target)) / beta
        return -multivariate_normal(np.zeros(len(target)), covariance).logpdf(target)

    starts = [(0.0, 0.0), (2.0, 2.0), (4.0, 2.0)]
    return -min(minimize(negative, one, method="Nelder-Mead").fun for one in starts)


@pytest.mark.parametrize("shape", [(60, 8), (30, 50)])
def test_logme_is_the_maximum_of_the_evidence(shape: tuple[int, int]) -> None:
    rng = np.random.default_rng(0)
    targets = np.arange(shape[0]) % 3
    features = rng.standard_normal(shape) + 0.8 * rng.standard_normal((3, shape[1]))[targets]
    expected = np.mean([maximum_evidence(features, targets == k) for k in range(3)])
    assert logme(features, targets, 3) == pytest.approx(expected / shape[0], abs=2e-3)


def test_logme_does_not_change_with_rotation_order_and_empty_columns() -> None:
    rng = np.random.default_rng(0)
    value = logme(DIGITS, CLASSES, 10)
    rotation, _ = np.linalg.qr(rng.standard_normal((64, 64)))
    assert logme(DIGITS @ rotation, CLASSES, 10) == pytest.approx(value, abs=1e-4)
    order = rng.permutation(400)
    assert logme(DIGITS[order], CLASSES[order], 10) == pytest.approx(value, abs=1e-6)
    wide = np.concatenate([DIGITS, np.zeros((400, 500), np.float32)], axis=1)
    assert logme(wide, CLASSES, 10) == pytest.approx(value, abs=1e-3)
    assert logme(7 * DIGITS, CLASSES, 10) == pytest.approx(value, abs=1e-3)
    assert logme(DIGITS, CLASSES, 12) == pytest.approx(value), "classes that are not there"


def test_both_prefer_features_that_tell_more() -> None:
    rng = np.random.default_rng(0)
    noisy = [
        (DIGITS + rng.normal(0, spread, DIGITS.shape)).astype(np.float32)
        for spread in (0.0, 0.5, 1.5)
    ]
    evidence = [logme(one, CLASSES, 10) for one in noisy]
    accuracy = [cross_validated(one, CLASSES, np.arange(400), 0).figure for one in noisy]
    assert evidence[0] > evidence[1] > evidence[2]
    assert accuracy[0] > 0.9 > accuracy[1] > accuracy[2]


def test_the_standard_error_is_that_of_a_share() -> None:
    accuracy, error = judged(DIGITS[:, 20:28], CLASSES, np.arange(400), 0)
    assert error == pytest.approx(np.sqrt(accuracy * (1 - accuracy) / 400), rel=1e-6)
    assert cross_validated(DIGITS[:, 20:28], CLASSES, np.arange(400), 0).figure == accuracy


def test_a_copy_is_no_further_evidence() -> None:
    once = DIGITS[:, 20:28], CLASSES, np.arange(400)
    twice = [np.concatenate([one, one]) for one in once]
    accuracy, error = judged(*once, 0)
    again, other = judged(*twice, 0)
    assert again == pytest.approx(accuracy, abs=0.05)
    assert other == pytest.approx(error, rel=0.1)


def test_all_right_is_not_quite_certain() -> None:
    targets = np.arange(40) % 2
    features = np.eye(2, dtype=np.float32)[targets] + np.linspace(0, 0.1, 40)[:, None]
    features = features.astype(np.float32)
    accuracy, error = judged(features, targets, np.arange(40), 0)
    assert accuracy == 1 and 0.01 < error < 0.1


def test_what_cannot_be_ranked_is_refused() -> None:
    with pytest.raises(ValueError, match="400 rows of features for 3 targets"):
        logme(DIGITS, CLASSES[:3], 10)
    with pytest.raises(ValueError, match="1 classes"):
        judged(DIGITS, np.zeros(400, np.int64), np.arange(400), 0)


# Three labels of the digits, each of several classes: even, round and large.
SETS = np.stack([np.isin(CLASSES, some) for some in ([0, 2, 4, 6, 8], [0, 6, 8, 9], [7, 8, 9])], 1)
SETS = SETS.astype(np.uint8)


def test_sets_of_labels_prefer_features_that_tell_more_too() -> None:
    rng = np.random.default_rng(0)
    noisy = [
        (DIGITS + rng.normal(0, spread, DIGITS.shape)).astype(np.float32)
        for spread in (0.0, 0.5, 1.5)
    ]
    evidence = [logme(one, SETS, 3) for one in noisy]
    found = [cross_validated(one, SETS, np.arange(400), 0).figure for one in noisy]
    assert evidence[0] > evidence[1] > evidence[2]
    assert found[0] > 0.9 > found[1] > found[2] > SETS.mean(), "better than by chance"


def test_the_evidence_of_sets_is_the_mean_of_that_of_each_label() -> None:
    each = []
    for column in SETS.T:
        both = logme(DIGITS, np.stack([column, 1 - column], 1), 2)
        alone = logme(DIGITS, column[:, None], 1)
        assert alone != pytest.approx(both, rel=1e-3)
        each.append(alone)
    assert logme(DIGITS, SETS, 3) == pytest.approx(np.mean(each))
    # One label of each picture is a set as well.
    assert logme(DIGITS, np.eye(10)[CLASSES], 10) == pytest.approx(logme(DIGITS, CLASSES, 10))


def test_the_error_of_sets_is_that_of_other_pictures_and_copies_are_no_evidence() -> None:
    rng = np.random.default_rng(1)
    noisy = (DIGITS + rng.normal(0, 1.0, DIGITS.shape)).astype(np.float32)
    found, error = judged(noisy, SETS, np.arange(400), 0)
    # Halves that share no picture differ by some sqrt(2) times the error of 200 pictures.
    halves = [
        judged(noisy[rows], SETS[rows], np.arange(200), 0)
        for rows in np.split(rng.permutation(400), 2)
    ]
    assert abs(halves[0][0] - halves[1][0]) < 3 * np.hypot(halves[0][1], halves[1][1])
    assert halves[0][1] == pytest.approx(np.sqrt(2) * error, rel=0.3)
    twice = [np.concatenate([one, one]) for one in (noisy, SETS, np.arange(400))]
    again, other = judged(*twice, 0)
    assert again == pytest.approx(found, abs=0.05)
    assert other == pytest.approx(error, rel=0.15)


def test_labels_that_all_or_no_pictures_have_change_no_order() -> None:
    wide = np.column_stack([SETS, np.ones(400), np.zeros(400)]).astype(np.uint8)
    found, _ = judged(DIGITS, SETS, np.arange(400), 0)
    # Of a label that all have the precision is 1; one that none has counts for nothing.
    assert cross_validated(DIGITS, wide, np.arange(400), 0).figure == pytest.approx(
        (3 * found + 1) / 4, abs=0.02
    )
    with pytest.raises(ValueError, match="at least 2"):
        judged(DIGITS, SETS, np.zeros(400), 0)


def test_a_sample_without_any_label_tells_nothing_in_numbers_that_a_record_can_hold() -> None:
    none = np.zeros_like(SETS)
    assert logme(DIGITS, none, 3) == 0
    found, error = judged(DIGITS, none, np.arange(400), 0)
    assert found == 0 and 0 < error < 0.1


@pytest.mark.parametrize("targets", [CLASSES, SETS], ids=["classes", "sets"])
def test_a_gain_is_the_difference_of_two_figures_with_a_paired_error(targets: np.ndarray) -> None:
    rng, ids = np.random.default_rng(0), np.arange(400)
    noisy = (DIGITS + rng.normal(0, 0.6, DIGITS.shape)).astype(np.float32)
    one, other = (cross_validated(each, targets, ids, 0) for each in (noisy, DIGITS))
    more, error = gain(one, other)
    assert more == pytest.approx(other.figure - one.figure) and more > 2 * error
    assert error < np.hypot(one.error, other.error), "what is hard for both says nothing"
    assert gain(other, one) == (-more, error)
    assert gain(one, one)[0] == 0


def test_the_error_of_a_gain_is_that_of_discordant_pairs() -> None:
    """Of b pictures that only the one is right about, and c that only the other is."""
    ids = np.arange(400)
    one, other = (
        cross_validated(DIGITS[:, some], CLASSES, ids, 0) for some in (slice(16, 32), slice(32, 48))
    )
    right, wrong = (each.moves + each.figure > 0.5 for each in (one, other))
    b, c = (right & ~wrong).sum(), (~right & wrong).sum()
    more, error = gain(one, other)
    assert more == pytest.approx((c - b) / 400)
    assert error == pytest.approx(np.sqrt(b + c - (b - c) ** 2 / 400) / 400)
