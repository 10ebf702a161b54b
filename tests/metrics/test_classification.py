from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn import metrics as sk
from torchmetrics.functional import classification as tm

from src.metrics.classification import (
    accuracy,
    balanced_accuracy,
    confusion_matrix,
    macro_f1,
    per_class_f1,
    per_class_precision,
    per_class_recall,
    top_k_accuracy,
)

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
    assert accuracy(probs, targets) == pytest.approx(sk.accuracy_score(targets, preds))
    assert macro_f1(matrix) == pytest.approx(sk.f1_score(targets, preds, average="macro"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # scikit-learn's, about classes without targets
        assert balanced_accuracy(matrix) == pytest.approx(
            sk.balanced_accuracy_score(targets, preds)
        )
    for ours, theirs in (
        (per_class_recall, sk.recall_score),
        (per_class_precision, sk.precision_score),
        (per_class_f1, sk.f1_score),
    ):
        expected = theirs(targets, preds, labels=classes, average=None, zero_division=np.nan)
        np.testing.assert_allclose(ours(matrix), expected)


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


@given(samples())
def test_top_k_grows_from_accuracy_to_one(drawn: Samples) -> None:
    probs, targets = drawn
    by_k = [top_k_accuracy(probs, targets, k) for k in range(1, probs.shape[1] + 1)]
    assert by_k[0] == accuracy(probs, targets)
    assert by_k == sorted(by_k)
    assert by_k[-1] == 1.0


def test_ties_go_to_the_first_class_in_every_metric() -> None:
    probs, targets = np.full((4, 4), 0.25), np.arange(4)
    assert accuracy(probs, targets) == 0.25
    assert [top_k_accuracy(probs, targets, k) for k in (1, 2, 3, 4)] == [0.25, 0.5, 0.75, 1.0]
    assert confusion_matrix(probs, targets)[:, 0].tolist() == [1, 1, 1, 1]


def test_absent_classes_are_undefined_and_left_out_of_means() -> None:
    # Class 0 twice right; class 1 predicted but never a target; class 2 neither.
    matrix = np.array([[2, 1, 0], [0, 0, 0], [0, 0, 0]])
    np.testing.assert_allclose(per_class_recall(matrix), [2 / 3, np.nan, np.nan])
    np.testing.assert_allclose(per_class_precision(matrix), [1, 0, np.nan])
    np.testing.assert_allclose(per_class_f1(matrix), [0.8, 0, np.nan])
    assert macro_f1(matrix) == pytest.approx(0.4)
    assert balanced_accuracy(matrix) == pytest.approx(2 / 3)


@pytest.mark.parametrize("k", [0, 4, -1])
def test_top_k_refuses_a_k_that_is_no_number_of_classes(k: int) -> None:
    with pytest.raises(ValueError, match=f"k is {k}: it must be within 1 and 3"):
        top_k_accuracy(np.full((1, 3), 1 / 3), [0], k)
