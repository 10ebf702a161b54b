"""IoU, Dice and pixel accuracy against scikit-learn, and their errors against resampling."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.metrics import accuracy_score, confusion_matrix, f1_score, jaccard_score

from src.metrics.class_maps import (
    class_pixel_scores,
    dice_sums,
    influence_scores,
    iou_sums,
    mean_interval,
    mean_ratio,
    pixel_sums,
    ratios,
)
from src.metrics.share_intervals import wilson_interval
from src.statistics.candidates import Candidate
from src.statistics.evidence import Evidence, normal_quantile
from src.statistics.intervals import figure_interval

CLASSES, PICTURES = 4, 60


@pytest.fixture(scope="module")
def maps() -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Targets and predictions (N, H, W); the last class occurs in neither."""
    rng = np.random.default_rng(0)
    targets = rng.integers(0, CLASSES - 1, (PICTURES, 6, 7))
    targets[: PICTURES // 2] = np.minimum(targets[: PICTURES // 2], 1)  # pictures differ
    wrong = rng.random(targets.shape) < rng.random((PICTURES, 1, 1))
    return targets, np.where(wrong, rng.integers(0, CLASSES - 1, targets.shape), targets)


@pytest.fixture(scope="module")
def matrices(maps: tuple[NDArray[np.int64], NDArray[np.int64]]) -> NDArray[np.int64]:
    pairs = zip(*maps, strict=True)
    labels = range(CLASSES)
    return np.stack([confusion_matrix(t.ravel(), p.ravel(), labels=labels) for t, p in pairs])


def test_figures_are_those_of_all_pixels_together(
    maps: tuple[NDArray[np.int64], NDArray[np.int64]], matrices: NDArray[np.int64]
) -> None:
    targets, preds = (one.ravel() for one in maps)
    assert mean_ratio(iou_sums(matrices)) == pytest.approx(
        jaccard_score(targets, preds, average="macro")
    )
    assert mean_ratio(dice_sums(matrices)) == pytest.approx(
        f1_score(targets, preds, average="macro")
    )
    assert mean_ratio(pixel_sums(matrices)) == pytest.approx(accuracy_score(targets, preds))
    each = ratios(iou_sums(matrices))
    np.testing.assert_allclose(each[:-1], jaccard_score(targets, preds, average=None))
    assert np.isnan(each[-1])


def test_influences_are_those_of_the_infinitesimal_jackknife(matrices: NDArray[np.int64]) -> None:
    for sums in (iou_sums, dice_sums, pixel_sums):
        whole = mean_ratio(sums(matrices))
        scores = influence_scores(sums(matrices))
        assert scores.mean() == pytest.approx(whole)
        step = 1e-4
        for row in (0, 7, PICTURES - 1):
            weights = np.ones(PICTURES) - step
            weights[row] += step * PICTURES
            above, below = (one * weights[:, None] for one in sums(matrices))
            moved = np.nanmean(above.sum(axis=0)[:3] / below.sum(axis=0)[:3])
            assert (moved - whole) / step == pytest.approx(scores[row] - whole, abs=2e-3)


def test_the_standard_error_is_that_of_resampled_pictures(matrices: NDArray[np.int64]) -> None:
    rng = np.random.default_rng(1)
    draws = [
        mean_ratio(iou_sums(matrices[rng.integers(0, PICTURES, PICTURES)])) for _ in range(2000)
    ]
    scores = influence_scores(iou_sums(matrices))
    assert scores.std() / np.sqrt(PICTURES) == pytest.approx(np.std(draws), rel=0.1)


@pytest.mark.parametrize("grouped", [False, True])
def test_the_interval_of_the_mean_is_that_of_the_verdict(
    matrices: NDArray[np.int64], grouped: bool
) -> None:
    groups = np.arange(PICTURES) // 3 if grouped else None
    scores = influence_scores(iou_sums(matrices)).astype(np.float32)
    candidate = Candidate(
        name="one",
        run_ids=("",),
        right=np.zeros((1, PICTURES), np.bool_),
        log_losses=np.zeros(1),
        scores=scores[None],
    )
    evidence = Evidence.of([candidate], groups)
    expected = figure_interval(evidence, 0, normal_quantile(0.95))
    assert mean_interval(iou_sums(matrices), groups) == pytest.approx(
        (expected.low, expected.high), abs=1e-4
    )


def test_the_table_of_classes_has_what_each_class_has(matrices: NDArray[np.int64]) -> None:
    scores = class_pixel_scores(matrices, ["a", "b", "c", "d"])
    total = matrices.sum(axis=0)
    for k, one in enumerate(scores[:-1]):
        assert one.pictures == (matrices[:, k].sum(axis=1) > 0).sum()
        assert one.recall == pytest.approx(total[k, k] / total[k].sum())
        assert one.precision == pytest.approx(total[k, k] / total[:, k].sum())
        assert one.low < one.iou < one.high
    assert scores[-1].pictures == 0 and np.isnan(scores[-1].iou)
    assert sum(one.share for one in scores) == pytest.approx(1)


def test_a_class_that_few_pictures_hold_has_an_honest_interval_or_none() -> None:
    matrices = np.zeros((20, 3, 3), np.int64)
    matrices[:, 0, 0] = 900
    matrices[:5, 1, 1] = 100  # each of them all right
    matrices[3, 2, 2], matrices[3, 2, 0] = 60, 40
    road, car, crack = class_pixel_scores(matrices, ["road", "car", "crack"])
    assert crack.pictures == 1 and np.isnan([crack.low, crack.high]).all()
    assert (car.iou, road.low < road.iou < road.high) == (1.0, True)
    assert (car.low, car.high) == pytest.approx(wilson_interval(5, 5), abs=1e-4)
    # Pictures of two subjects are two, and of one subject none.
    two, one = np.arange(20) % 2, np.zeros(20, np.int64)
    assert class_pixel_scores(matrices, ["road", "car", "crack"], two)[1].low < 0.2
    assert np.isnan(class_pixel_scores(matrices, ["road", "car", "crack"], one)[1].low)
    perfect = iou_sums(matrices[:5, :2, :2])
    assert mean_interval(perfect) == pytest.approx(wilson_interval(5, 5), abs=1e-4)
