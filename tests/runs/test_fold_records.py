from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from src.records.run import Predictions
from src.runs.fold_records import fold_means, joined, mean_of


def predictions(ids: list[int], *, paths: bool = True, seed: int = 0) -> Predictions:
    rng = np.random.default_rng([seed, *ids])
    return Predictions(
        sample_ids=np.array(ids, np.int64),
        paths=tuple(f"{i}.png" for i in ids) if paths else None,
        targets=np.array([i % 3 for i in ids], np.int64),
        probs=rng.dirichlet(np.ones(3), len(ids)).astype(np.float32),
        class_names=("a", "b", "c"),
    )


@pytest.mark.parametrize("paths", [True, False])
def test_folds_are_joined_in_the_order_of_their_pictures(paths: bool) -> None:
    folds = [predictions([4, 1, 9], paths=paths), predictions([0, 7], paths=paths)]
    whole = joined(folds)
    assert whole.sample_ids.tolist() == [0, 1, 4, 7, 9]
    assert whole.targets.tolist() == [0, 1, 1, 1, 0]
    assert whole.paths == (("0.png", "1.png", "4.png", "7.png", "9.png") if paths else None)
    np.testing.assert_array_equal(whole.probs[[2, 1, 4]], folds[0].probs)
    np.testing.assert_array_equal(whole.probs[[0, 3]], folds[1].probs)


def test_groups_stay_with_their_pictures() -> None:
    folds = [
        replace(predictions([4, 1]), groups=np.array([40, 10])),
        replace(predictions([0]), groups=np.array([10])),
    ]
    groups = joined(folds).groups
    assert groups is not None and groups.tolist() == [10, 10, 40]
    assert joined([folds[0], predictions([0])]).groups is None


def test_labels_of_folds_stay_with_their_pictures() -> None:
    folds = [
        Predictions(
            sample_ids=np.array(ids),
            paths=None,
            targets=np.eye(2, dtype=np.uint8)[[0] * len(ids)],
            probs=np.full((len(ids), 2), 0.1, np.float32),
            class_names=("a", "b"),
            kind="multi",
            preds=np.array([[one % 2, one > 2] for one in ids], np.uint8),
        )
        for ids in ([4, 1], [3, 2])
    ]
    whole = joined(folds)
    np.testing.assert_array_equal(whole.decided, [[1, 0], [0, 0], [1, 1], [0, 1]])
    assert not mean_of([whole, whole]).decided.any()  # those of the mean probabilities


def test_a_picture_that_two_folds_hold_out_is_a_fault() -> None:
    with pytest.raises(ValueError, match="held out by two folds"):
        joined([predictions([1, 2]), predictions([2, 3])])
    others = replace(predictions([3]), class_names=("a", "b", "x"))
    with pytest.raises(ValueError, match="different classes"):
        joined([predictions([1, 2]), others])


def test_repeats_are_averaged_picture_by_picture() -> None:
    repeats = [predictions([1, 2, 5], seed=seed) for seed in range(3)]
    mean = mean_of(repeats)
    np.testing.assert_allclose(mean.probs, sum(one.probs for one in repeats) / 3, atol=1e-7)
    assert mean.probs.dtype == np.float32
    np.testing.assert_array_equal(mean_of(repeats[:1]).probs, repeats[0].probs)
    with pytest.raises(ValueError, match="different pictures"):
        mean_of([repeats[0], predictions([1, 2, 6])])


def test_means_spreads_and_the_interval_of_the_accuracy() -> None:
    accuracies = [0.9, 0.94, 0.92, 0.97, 0.91, 0.93]
    values = {
        "val/accuracy": accuracies,
        "val/accuracy_low": [0.8] * 6,
        "val/recall/cat": [0.5, 1.0] * 3,
        "cost/latency_ms": [1.0, 2.0] * 3,
    }
    found = fold_means(values, folds=3)
    assert found["val/accuracy"] == pytest.approx(np.mean(accuracies))
    assert found["val/accuracy_sd"] == pytest.approx(np.std(accuracies, ddof=1))
    assert found["val/recall/cat"] == 0.75 and found["cost/latency_ms"] == 1.5
    assert set(found) == {*values, "val/accuracy_sd", "val/accuracy_high"}
    # Six folds, each measured on half as many pictures as it was trained on.
    error = np.sqrt((1 / 6 + 1 / 2) * np.var(accuracies, ddof=1))
    low, high = stats.t.interval(0.95, 5, np.mean(accuracies), error)
    assert found["val/accuracy_low"] == pytest.approx(low)
    assert found["val/accuracy_high"] == pytest.approx(min(high, 1.0))
    wide = fold_means({"val/accuracy": [0.0, 1.0]}, folds=2)
    assert (wide["val/accuracy_low"], wide["val/accuracy_high"]) == (0.0, 1.0)


@pytest.mark.parametrize("unknown", [float("nan"), float("inf")])
def test_a_figure_that_a_fold_does_not_have_is_none_of_the_means(unknown: float) -> None:
    """As of a class that the fold holds no picture of, or of a loss that exploded."""
    found = fold_means({"val/accuracy": [0.5, 0.6], "val/auroc": [unknown, 0.7]}, 2)
    assert found["val/accuracy"] == pytest.approx(0.55)
    assert found["val/accuracy_sd"] == pytest.approx(0.1 / 2**0.5)
    assert not np.isfinite(found["val/auroc"]) and np.isnan(found["val/auroc_sd"])
