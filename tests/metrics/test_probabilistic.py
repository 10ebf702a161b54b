from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn import metrics as sk
from torchmetrics.functional import classification as tm

from src.metrics.probabilistic import (
    SMALLEST_PROBABILITY,
    brier,
    log_loss,
    reliability_bins,
)

Samples = tuple[NDArray[np.float32], NDArray[np.int64]]


@st.composite
def samples(draw: st.DrawFn) -> Samples:
    """Predictions from vague to so sure that most probabilities are 0 or 1 in float32."""
    num_classes, count = draw(st.integers(2, 12)), draw(st.integers(1, 60))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    logits = rng.normal(size=(count, num_classes)) * draw(st.sampled_from([0.1, 1, 5, 100]))
    exp = np.exp(logits - logits.max(axis=1, keepdims=True))
    probs = (exp / exp.sum(axis=1, keepdims=True)).astype(np.float32)
    return probs, rng.integers(0, num_classes, count)


@settings(deadline=None)
@given(samples())
def test_log_loss_and_brier_agree_with_scikit_learn(drawn: Samples) -> None:
    probs, targets = drawn
    classes = np.arange(probs.shape[1])
    assert log_loss(probs, targets) == pytest.approx(
        sk.log_loss(targets, probs, labels=classes), abs=1e-5
    )
    assert brier(probs, targets) == pytest.approx(
        # Without scaling scikit-learn sums over the classes too.
        sk.brier_score_loss(targets, probs, labels=classes, scale_by_half=False),
        abs=1e-5,
    )


@settings(deadline=None)
@given(samples(), st.integers(1, 20))
def test_calibration_error_agrees_with_torchmetrics(drawn: Samples, num_bins: int) -> None:
    probs, targets = drawn
    # torchmetrics gives a confidence on an edge to the bin above, and 1 to a bin of its own.
    probs = probs * np.float32(1 - 1e-4)
    expected = tm.multiclass_calibration_error(
        torch.from_numpy(probs), torch.from_numpy(targets), probs.shape[1], n_bins=num_bins
    )
    assert reliability_bins(probs, targets, num_bins).calibration_error == pytest.approx(
        expected.item(), abs=1e-5
    )


@given(samples(), st.integers(1, 20))
def test_bins_hold_every_sample_within_their_edges(drawn: Samples, num_bins: int) -> None:
    probs, targets = drawn
    bins = reliability_bins(probs, targets, num_bins)
    filled = bins.counts > 0
    assert bins.counts.sum() == len(targets)
    assert np.isnan(bins.confidence[~filled]).all()
    assert np.isnan(bins.accuracy[~filled]).all()
    assert (bins.confidence[filled] >= bins.edges[:-1][filled] - 1e-6).all()
    assert (bins.confidence[filled] <= bins.edges[1:][filled] + 1e-6).all()
    mean_accuracy = np.average(bins.accuracy[filled], weights=bins.counts[filled])
    assert mean_accuracy == pytest.approx((probs.argmax(axis=1) == targets).mean())
    assert 0 <= bins.calibration_error <= 1


def test_a_confidence_on_an_edge_belongs_below_it() -> None:
    # Guo et al. 2017: bin m holds ((m - 1) / M, m / M].
    probs = np.array([[0.5, 0.5], [1.0, 0.0]])
    assert reliability_bins(probs, [0, 0], num_bins=2).counts.tolist() == [1, 1]


def test_perfect_and_worst_predictions_have_known_scores() -> None:
    probs = np.eye(3)
    assert log_loss(probs, [0, 1, 2]) == 0
    assert brier(probs, [0, 1, 2]) == 0
    assert reliability_bins(probs, [0, 1, 2]).calibration_error == 0
    assert log_loss(probs, [1, 2, 0]) == pytest.approx(-np.log(SMALLEST_PROBABILITY))
    assert brier(probs, [1, 2, 0]) == pytest.approx(2)
    assert reliability_bins(probs, [1, 2, 0]).calibration_error == 1
