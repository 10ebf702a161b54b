from __future__ import annotations

import math
import warnings
from itertools import product

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn import metrics as sk
from torchmetrics.functional import classification as tm

from src.metrics.classification import (
    balanced_accuracy,
    balanced_thresholds,
    class_scores,
    confusion_matrix,
    macro_f1,
    top_k_accuracy,
)
from src.targets import kind_of

Samples = tuple[NDArray[np.float32], NDArray[np.int64]]


@st.composite
def samples(draw: st.DrawFn) -> Samples:
    """Random predictions, better than chance; with few samples some classes are absent."""
    num_classes, count = draw(st.integers(2, 12)), draw(st.integers(1, 60))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    targets = rng.integers(0, num_classes, count)
    logits = rng.normal(size=(count, num_classes))
    logits[np.arange(count), targets] += 1
    probs = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    return probs.astype(np.float32), targets


@settings(deadline=None)
@given(samples())
def test_decisions_agree_with_scikit_learn(drawn: Samples) -> None:
    probs, targets = drawn
    preds, classes = probs.argmax(axis=1), np.arange(probs.shape[1])
    matrix = confusion_matrix(probs, targets)

    np.testing.assert_array_equal(matrix, sk.confusion_matrix(targets, preds, labels=classes))
    assert top_k_accuracy(probs, targets, 1) == pytest.approx(sk.accuracy_score(targets, preds))
    assert macro_f1(matrix) == pytest.approx(sk.f1_score(targets, preds, average="macro"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # scikit-learn's, about classes without targets
        assert balanced_accuracy(matrix) == pytest.approx(
            sk.balanced_accuracy_score(targets, preds)
        )
    rows = class_scores(matrix)
    expected = sk.precision_recall_fscore_support(
        targets, preds, labels=classes, zero_division=np.nan
    )
    found = [(row.precision, row.recall, row.f1, row.pictures) for row in rows]
    np.testing.assert_allclose(np.array(found).T, np.array(expected))
    for row in rows:
        wrong = preds[(targets == row.index) & (preds != row.index)]
        assert row.confused == max(np.bincount(wrong, minlength=1))
        if row.confused_with is not None:
            assert (wrong == row.confused_with).sum() == row.confused > 0


@settings(deadline=None)
@given(samples(), st.data())
def test_top_k_agrees_with_torchmetrics(drawn: Samples, data: st.DataObject) -> None:
    probs, targets = drawn
    num_classes = probs.shape[1]
    k = data.draw(st.integers(1, num_classes - 1))
    expected = tm.multiclass_accuracy(
        torch.from_numpy(probs), torch.from_numpy(targets), num_classes, average="micro", top_k=k
    )
    assert top_k_accuracy(probs, targets, k) == pytest.approx(expected.item())


def test_ties_go_to_the_first_class_in_every_metric() -> None:
    probs, targets = np.full((4, 4), 0.25), np.arange(4)
    assert top_k_accuracy(probs, targets, 1) == 0.25
    assert [top_k_accuracy(probs, targets, k) for k in (1, 2, 3, 4)] == [0.25, 0.5, 0.75, 1.0]
    assert confusion_matrix(probs, targets)[:, 0].tolist() == [1, 1, 1, 1]


@pytest.mark.parametrize("k", [0, 4, -1])
def test_top_k_refuses_a_k_that_is_no_number_of_classes(k: int) -> None:
    with pytest.raises(ValueError, match=f"k is {k}: it must be within 1 and 3"):
        top_k_accuracy(np.full((1, 3), 1 / 3), [0], k)


def test_a_class_without_pictures_has_no_recall_and_no_confusion() -> None:
    row = class_scores(np.array([[9, 0, 1], [4, 5, 1], [0, 0, 0]]))[2]
    assert math.isnan(row.recall) and math.isnan(row.recall_low)
    assert (row.pictures, row.precision, row.confused_with) == (0, 0.0, None)


def test_no_answer_has_a_better_balanced_accuracy_than_the_largest_multiple_of_a_share() -> None:
    """Of right probabilities: each of all answers to four kinds of pictures is compared."""
    pictures = np.array([400, 300, 200, 100])
    probs = np.array([[0.9, 0.08, 0.02], [0.7, 0.1, 0.2], [0.5, 0.45, 0.05], [0.4, 0.4, 0.2]])
    counts = pictures[:, None] * probs  # of each kind and class
    best = max(
        product(range(3), repeat=4),
        key=lambda given: np.mean(
            [counts[np.array(given) == k, k].sum() / counts[:, k].sum() for k in range(3)]
        ),
    )
    thresholds = balanced_thresholds(np.repeat(probs, pictures, axis=0))
    np.testing.assert_array_equal(kind_of("single").decide(probs, thresholds), best)
    assert tuple(probs.argmax(axis=1)) != best


def test_a_class_that_no_picture_has_is_not_found_by_a_trace_of_it() -> None:
    probs = np.tile([0.6, 0.4 - 1e-7, 1e-7], (100, 1))
    thresholds = balanced_thresholds(probs)
    assert thresholds.sum() == pytest.approx(1)
    assert kind_of("single").decide(np.array([[0.5, 0.4999, 1e-4]]), thresholds).tolist() == [1]
    none = balanced_thresholds(np.empty((0, 3)))
    np.testing.assert_allclose(none, 1 / 3)
