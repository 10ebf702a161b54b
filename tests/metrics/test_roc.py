"""AUC, its curve, and the errors of DeLong and of Obuchowski."""

from __future__ import annotations

import math
from statistics import NormalDist

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn import metrics as sk

from src.metrics.roc import (
    auc_influence,
    auc_interval,
    auc_widening,
    class_auc_intervals,
    class_aucs,
    mean_auc,
    placements,
    roc_curve,
    side,
    sides,
)

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]


def predictions(count: int = 300, classes: int = 4, digits: int = 2) -> tuple[Floats, NDArray]:
    """Rounded, so that many are equal."""
    rng = np.random.default_rng(0)
    targets = rng.integers(0, classes, count)
    odds = np.exp(rng.normal(size=(count, classes)) + np.eye(classes)[targets]).round(digits) + 0.1
    return odds / odds.sum(axis=1, keepdims=True), targets


@pytest.mark.parametrize("classes", [2, 3, 40])
def test_agrees_with_scikit_learn_with_ties(classes: int) -> None:
    probs, targets = predictions(classes=classes, digits=0)
    scores = probs[:, 1] if classes == 2 else probs
    expected = sk.roc_auc_score(targets, scores, multi_class="ovr")
    assert mean_auc(class_aucs(probs, targets)) == pytest.approx(expected, abs=1e-12)
    sets = np.eye(classes, dtype=np.uint8)[targets]
    expected = sk.roc_auc_score(sets, probs, average=None)
    np.testing.assert_allclose(class_aucs(probs, sets), expected, atol=1e-12)


def test_of_two_classes_both_have_the_auc_of_the_second() -> None:
    """In single precision 1 - p of a small p is 1, where pictures tie that p tells apart."""
    second = np.array([1e-12, 3e-12, 2e-12, 4e-12], np.float32)
    probs, targets = np.stack([1 - second, second], axis=1), np.array([0, 0, 1, 1])
    assert class_aucs(probs, targets) == pytest.approx([0.75, 0.75])


def test_a_class_that_all_pictures_have_or_none_counts_in_no_mean() -> None:
    probs, targets = predictions(classes=3)
    wider = np.pad(probs, ((0, 0), (0, 1)))
    assert np.isnan(class_aucs(wider, targets)[3])
    assert mean_auc(class_aucs(wider, targets)) == mean_auc(class_aucs(probs, targets))
    assert np.isnan(mean_auc(class_aucs(probs, np.zeros_like(targets))))
    sets = np.array([[1, 0, 1], [1, 0, 0]])
    np.testing.assert_array_equal(class_aucs(probs[:2], sets)[:2], [np.nan, np.nan])


def test_equal_scores_are_worth_a_half_and_places_are_those_of_pairs() -> None:
    scores = np.array([0.9, 0.4, 0.4, 0.7, 0.1])
    positive = np.array([True, True, False, False, False])
    # Of 0.9 all three are below, of 0.4 one, and one ties.
    np.testing.assert_allclose(placements(scores, positive), [1, 0.5, 0.75, 0.5, 1])
    assert class_aucs(np.full((5, 2), 0.5), positive.astype(int)) == pytest.approx([0.5, 0.5])


def delong(models: list[Floats], positive: Bools) -> Floats:
    """The covariances (M, M) of AUCs, written down from the paper, pair by pair."""
    parts = []
    for scores in models:
        better = np.sign(scores[positive][:, None] - scores[~positive][None, :]) / 2 + 0.5
        parts.append((better.mean(axis=1), better.mean(axis=0)))
    of_class, others = (np.cov(np.stack(side), ddof=1) for side in zip(*parts, strict=True))
    return of_class / positive.sum() + others / (~positive).sum()


def test_influences_have_the_covariances_of_delong() -> None:
    """Also of the difference of two models on the same pictures."""
    rng = np.random.default_rng(0)
    positive = rng.random(60) < 0.3
    common = rng.normal(size=60) + positive
    models = [(common + 0.7 * rng.normal(size=60)).round(1) for _ in range(3)]
    moves = [auc_influence(placements(one, positive), positive) for one in models]
    np.testing.assert_allclose(np.cov(moves, ddof=0) / 60, delong(models, positive), rtol=1e-12)
    assert np.mean(moves, axis=1) == pytest.approx(0, abs=1e-12)


def test_a_small_example_by_hand() -> None:
    """Two of a class against three: places 1 and 1/2, and 1/2, 1 and 3/4."""
    scores = np.array([0.9, 0.4, 0.7, 0.1, 0.4])
    positive = np.array([True, True, False, False, False])
    # Variances 1/8 over 2, and 1/16 over 3.
    moves = auc_influence(placements(scores, positive), positive)
    assert moves @ moves / 25 == pytest.approx(1 / 16 + 1 / 48)


def test_sums_over_groups_have_the_variance_of_obuchowski() -> None:
    rng = np.random.default_rng(1)
    groups = np.repeat(np.arange(40), rng.integers(1, 6, 40))
    positive = rng.random(len(groups)) < 0.4
    scores = rng.normal(size=len(groups)) + positive + rng.normal(size=40)[groups]
    places = placements(scores, positive)
    auc, of_class, others = places[positive].mean(), positive.sum(), (~positive).sum()
    sums = [np.bincount(groups, (places - auc) * side) for side in (positive, ~positive)]
    having = [len(np.unique(groups[side])) for side in (positive, ~positive)]
    first, second = (n / (n - 1) * one @ one for n, one in zip(having, sums, strict=True))
    expected = (
        first / of_class**2
        + second / others**2
        + 2 * (40 / 39) * (sums[0] @ sums[1]) / (of_class * others)
    )
    totals = np.bincount(groups, auc_influence(places, positive, groups)) / len(groups)
    assert totals @ totals == pytest.approx(expected, rel=0.01)


def test_a_curve_has_the_points_and_the_area_of_scikit_learn() -> None:
    probs, targets = predictions(digits=1)
    for k, scores, positive in sides(probs, targets):
        false, hits = roc_curve(scores, positive)
        expected = sk.roc_curve(positive, scores, drop_intermediate=False)
        np.testing.assert_allclose(false, expected[0])
        np.testing.assert_allclose(hits, expected[1])
        assert np.trapezoid(hits, false) == pytest.approx(class_aucs(probs, targets)[k])


@pytest.mark.parametrize("grouped", [False, True])
def test_intervals_of_classes_hold_the_true_figure(grouped: bool) -> None:
    """Normal scores a distance d apart have an AUC of Phi(d / sqrt(2)), 0.921 here."""
    rng, held = np.random.default_rng(0), []
    groups = np.repeat(np.arange(100), 3) if grouped else np.arange(300)
    for _ in range(300):
        targets = (rng.random(300) < 0.25).astype(int)
        logits = 2 * targets + np.sqrt(0.5) * rng.normal(size=300)
        logits += np.sqrt(0.5) * rng.normal(size=300)[groups]  # of a subject with three pictures
        _, low, high = auc_interval(logits, targets == 1, groups if grouped else None)
        held.append(low <= 0.92135 <= high)
    assert 0.92 <= np.mean(held) <= 0.98


@pytest.mark.parametrize(
    ("of_class", "spread", "auc"), [(12, 1.0, 0.961), (10, 1.0, 0.983), (10, 2.0, 0.983)]
)
def test_intervals_hold_though_all_of_a_dozen_are_ranked_high_by_luck(
    of_class: int, spread: float, auc: float
) -> None:
    """Of normal scores; by DeLong's variance alone 70 to 90 % held."""
    rng, positive = np.random.default_rng(0), np.arange(600) < of_class
    ahead = NormalDist().inv_cdf(auc) * math.hypot(1, spread)
    held = []
    for _ in range(400):
        scores = rng.normal(size=600)
        scores[positive] = ahead + spread * scores[positive]
        _, low, high = auc_interval(scores, positive)
        held.append(low <= auc <= high)
    assert np.mean(held) > 0.93


@pytest.mark.parametrize("kind", ["classes", "sets"])
def test_intervals_of_classes_are_delongs_of_each_against_the_rest(kind: str) -> None:
    """By DeLong's components, from the comparison of every pair, and widened as the whole AUC."""
    probs, targets = predictions(count=900, classes=3)
    given = targets if kind == "classes" else np.eye(3, dtype=np.uint8)[targets]
    found = class_auc_intervals(probs, given)
    for k, (auc, low, high) in enumerate(found):
        positive, scores = targets == k, probs[:, k]
        assert auc == pytest.approx(sk.roc_auc_score(positive, scores))
        pairs = np.sign(scores[positive][:, None] - scores[~positive]) / 2 + 0.5
        sides_of = pairs.mean(axis=1), pairs.mean(axis=0)
        error = math.sqrt(sum(one.var(ddof=1) / len(one) for one in sides_of))
        # Wilson's interval is about as wide, and lies further from 1.
        assert high - low == pytest.approx(2 * 1.96 * error, rel=0.03)
        assert auc - low > high - auc
        assert (auc, low, high) == auc_interval(scores, positive)
    absent = class_auc_intervals(probs[targets > 0], targets[targets > 0])
    assert np.isnan(absent[0]).all() and np.isfinite(absent[1:]).all()


def test_errors_are_widened_for_few_pictures_that_vary_little() -> None:
    def widening(of_class: int, spread: float, size: int = 1) -> float:
        rng, positive = np.random.default_rng(0), np.arange(1000) < of_class
        scores = rng.normal(size=1000)
        scores[positive] = 2.0 + spread * scores[positive]
        return auc_widening(placements(scores, positive), positive, np.arange(1000) // size)

    assert widening(10, 0.3) > 1.1 * widening(100, 0.3) > 1.1
    assert widening(300, 1.0) < 1.02
    assert widening(100, 0.3, size=10) > 1.1 * widening(100, 0.3)
    assert widening(10, 3.0) == 1  # they vary more than is usual
    assert widening(1, 0.3) == widening(10, 0.3, size=10) == 1


def test_of_one_picture_there_is_a_figure_and_no_interval() -> None:
    auc, *ends = auc_interval(np.array([0.1, 0.8, 0.7]), np.array([False, True, True]))
    assert auc == 1 and np.isnan(ends).all()
    scores, positive = np.array([0.1, 0.2, 0.3, 0.6, 0.8, 0.9]), np.arange(6) > 2
    auc, low, high = auc_interval(scores, positive, np.array([0, 1, 2, 2, 3, 1]))
    assert auc == high == 1 and 0 < low < 0.6  # three groups a side say little


def test_a_class_alone_is_what_it_is_among_all() -> None:
    for classes in (2, 70):  # more than are taken at a time
        probs, targets = predictions(classes=classes)
        for given in (targets, np.eye(classes, dtype=np.uint8)[targets]):
            for k, scores, positive in sides(probs, given):
                alone = side(probs, given, k)
                np.testing.assert_array_equal(scores, alone[0])
                np.testing.assert_array_equal(positive, alone[1])
