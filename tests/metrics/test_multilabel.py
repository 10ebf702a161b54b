from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn import metrics as sk

from src.metrics.multilabel import (
    average_precision,
    average_precisions,
    best_thresholds,
    checked_sets,
    cross_fitted_thresholds,
    f1_scores,
    label_scores,
    mean_average_precision,
    micro_f1,
    precision_influence,
    precision_recall,
    single_precisions,
)
from src.targets import kind_of

LABELS = 4
MACRO = partial(best_thresholds, metric="macro_f1")


def samples(count: int = 60, digits: int = 1) -> tuple[NDArray[np.float64], NDArray[np.uint8]]:
    """Predictions better than chance, with many equal probabilities."""
    rng = np.random.default_rng(count)
    targets = (rng.random((count, LABELS)) < 0.3).astype(np.uint8)
    return np.round(0.6 * rng.random(targets.shape) + 0.3 * targets, digits), targets


def test_averages_agree_with_scikit_learn() -> None:
    probs, targets = samples()
    preds = (probs >= 0.5).astype(np.uint8)
    assert mean_average_precision(average_precisions(probs, targets)) == pytest.approx(
        sk.average_precision_score(targets, probs, average="macro")
    )
    assert micro_f1(preds, targets) == pytest.approx(sk.f1_score(targets, preds, average="micro"))
    np.testing.assert_allclose(f1_scores(preds, targets), sk.f1_score(targets, preds, average=None))
    table = label_scores(probs, targets, preds)
    expected = sk.precision_recall_fscore_support(targets, preds)
    found = [(row.precision, row.recall, row.f1, row.pictures) for row in table]
    np.testing.assert_allclose(np.array(found).T, np.array(expected))


def test_a_curve_has_the_points_of_scikit_learn() -> None:
    probs, targets = samples()
    for k in range(LABELS):
        recall, precision = precision_recall(probs[:, k], targets[:, k])
        expected, there, _ = sk.precision_recall_curve(
            targets[:, k], probs[:, k], drop_intermediate=False
        )
        np.testing.assert_allclose(precision, expected[-2::-1])
        np.testing.assert_allclose(recall, there[-2::-1])


def test_a_label_that_no_picture_has_counts_in_no_average() -> None:
    probs, targets = samples()
    targets[:, 2] = 0
    kept = [0, 1, 3]
    assert np.isnan(average_precision(probs[:, 2], targets[:, 2]))
    assert mean_average_precision(average_precisions(probs, targets)) == pytest.approx(
        mean_average_precision(average_precisions(probs[:, kept], targets[:, kept]))
    )


@pytest.mark.parametrize("digits", [1, 6])
def test_the_influence_of_a_picture_is_what_is_lost_without_it(digits: int) -> None:
    probs, targets = samples(digits=digits)
    scores, positive = probs[:, 0], targets[:, 0]
    count, whole = len(scores), average_precision(scores, positive)
    without = [
        average_precision(np.delete(scores, i), np.delete(positive, i)) for i in range(count)
    ]
    lost = (count - 1) * (whole - np.array(without))
    np.testing.assert_allclose(precision_influence(scores, positive), lost - lost.mean())


def test_of_a_label_of_a_single_picture_no_influence_is_told() -> None:
    positive = np.eye(1, 9)[0]
    assert not precision_influence(np.linspace(0, 1, 9), positive).any()


def test_single_precisions_are_those_of_a_label_without_its_other_pictures() -> None:
    probs, targets = samples()
    scores, positive = probs[:, 0], targets[:, 0]
    expected = [
        sk.average_precision_score(
            [1, *np.zeros(60 - positive.sum())], [own, *scores[positive == 0]]
        )
        for own in scores[positive > 0]
    ]
    np.testing.assert_allclose(single_precisions(scores, positive), expected)


@pytest.mark.parametrize("metric", ["macro_f1", "micro_f1"])
def test_no_threshold_of_a_grid_is_better_than_the_chosen_ones(metric: str) -> None:
    # Labels of unlike frequency, some hard to tell: the two metrics disagree on their thresholds.
    rng = np.random.default_rng(0)
    targets = (rng.random((80, LABELS)) < np.array([0.05, 0.2, 0.5, 0.8])).astype(np.uint8)
    signal = 0.3 * targets * np.array([0.2, 0.5, 1, 0.3])
    probs = np.round(0.6 * rng.random(targets.shape) + signal, 2)

    def figure(thresholds: Any) -> float:
        preds = (probs >= thresholds).astype(np.uint8)
        return float(sk.f1_score(targets, preds, average=metric.removesuffix("_f1")))

    best = best_thresholds(probs, targets, metric)
    for k in range(LABELS):
        for other in np.linspace(0.01, 0.99, 50):
            moved = best.copy()
            moved[k] = other
            assert figure(moved) <= figure(best) + 1e-12


def unskilled(rng: np.random.Generator, count: int) -> tuple[NDArray[np.float64], NDArray[Any]]:
    targets = (rng.random((count, LABELS)) < np.array([0.05, 0.1, 0.3, 0.5])).astype(np.uint8)
    return rng.random(targets.shape), targets


@pytest.mark.parametrize("metric", ["macro_f1", "micro_f1"])
def test_thresholds_of_other_folds_are_as_good_as_on_new_pictures(metric: str) -> None:
    rng, average = np.random.default_rng(0), metric.removesuffix("_f1")
    found = []
    for _ in range(60):  # candidates without skill: their best figures are luck
        probs, targets = unskilled(rng, 80)
        new_probs, new_targets = unskilled(rng, 1000)
        chosen = best_thresholds(probs, targets, metric)
        others = cross_fitted_thresholds(
            probs, targets, np.arange(80), partial(best_thresholds, metric=metric)
        )
        figures = [(probs, targets, chosen), (probs, targets, others)]
        found.append(
            [
                sk.f1_score(known, p >= least, average=average, zero_division=0)
                for p, known, least in (*figures, (new_probs, new_targets, chosen))
            ]
        )
    same, cross_fitted, new = np.mean(found, axis=0)
    assert same > new + 0.03
    assert cross_fitted == pytest.approx(new, abs=0.015)


def test_labels_of_a_group_do_not_move_its_own_thresholds() -> None:
    probs, targets = samples(90)
    groups = np.arange(90) // 3
    before = cross_fitted_thresholds(probs, targets, groups, MACRO)
    for group in (0, 7):
        own = groups == group
        changed = np.where(own[:, None], 1 - targets, targets)
        after = cross_fitted_thresholds(probs, changed, groups, MACRO)
        np.testing.assert_array_equal(after[own], before[own])
        assert (after != before).any()
    order = np.random.default_rng(0).permutation(90)
    np.testing.assert_array_equal(
        cross_fitted_thresholds(probs[order], targets[order], groups[order], MACRO),
        before[order],
    )


def test_what_is_no_probability_or_no_label_set_is_refused() -> None:
    probs, targets = samples()
    for wrong in ((probs * 2, targets), (probs, targets * 2), (probs, targets[:, 0])):
        with pytest.raises(ValueError, match=r"probs|targets"):
            checked_sets(*wrong)
    with pytest.raises(ValueError, match="NaN"):
        checked_sets(np.full_like(probs, np.nan), targets)


def test_a_threshold_between_two_neighbouring_probabilities_tells_them_apart() -> None:
    """Single precision rounds their middle up or down, whichever number is even."""
    higher, targets = np.float32(0.04), np.array([[1], [0]], np.uint8)
    for _ in range(2):
        lower = np.nextafter(higher, np.float32(0))
        probs = np.array([[higher], [lower]], np.float32)
        thresholds = best_thresholds(probs, targets, "macro_f1")
        np.testing.assert_array_equal(kind_of("multi").decide(probs, thresholds), targets)
        higher = lower


def test_a_label_that_only_costs_the_f1_of_all_is_predicted_for_no_picture() -> None:
    probs = np.full((100, 2), 0.1)
    targets = np.zeros((100, 2), np.uint8)
    probs[:50, 0], targets[:50, 0] = 0.9, 1
    probs[:, 1], targets[3, 1] = np.linspace(0.2, 0.8, 100), 1  # one picture among the least likely
    preds = kind_of("multi").decide(probs, best_thresholds(probs, targets, "micro_f1"))
    assert not preds[:, 1].any()
    assert sk.f1_score(targets, preds, average="micro") == pytest.approx(100 / 101)
    assert kind_of("multi").decide(probs, best_thresholds(probs, targets, "macro_f1"))[3, 1] == 1
