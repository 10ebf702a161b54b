"""The share of labels that sets miss, by brute force and by simulation."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from src.statistics.missed_labels import fewest_labelled, miss_threshold

LABELS = 4


def drawn(rng: np.random.Generator, count: int) -> tuple[NDArray[np.float64], NDArray[np.uint8]]:
    """Probabilities of labels, better for some labels than for others; some pictures have none."""
    targets = (rng.random((count, LABELS)) < [0.6, 0.3, 0.2, 0.1]).astype(np.uint8)
    raised = rng.random((count, LABELS)) ** np.array([0.2, 0.5, 0.8, 1.0])
    return np.where(targets > 0, raised, 1 - raised), targets


def missed(probs: NDArray[np.float64], targets: NDArray[np.uint8], threshold: float) -> float:
    """Count picture by picture."""
    shares = []
    for row, held in zip(probs, targets):
        if held.any():
            shares.append(np.mean([p < threshold for p, there in zip(row, held) if there]))
    return float(np.mean(shares))


@pytest.mark.parametrize("coverage", [0.5, 0.8, 0.95])
def test_the_threshold_is_the_highest_one_that_the_theorem_allows(coverage: float) -> None:
    rng = np.random.default_rng(0)
    for count in (30, 61):
        probs, targets = drawn(rng, count)
        probs = probs.round(2)  # with ties
        found = miss_threshold(probs, targets, coverage)
        pictures = int(targets.any(axis=1).sum())
        allowed = [
            one
            for one in np.arange(101) / 100
            if pictures / (pictures + 1) * missed(probs, targets, one) + 1 / (pictures + 1)
            <= 1 - coverage + 1e-12
        ]
        assert found == pytest.approx(max(allowed))


@pytest.mark.parametrize("coverage", [0.7, 0.9])
def test_new_pictures_miss_as_few_labels_as_was_promised_and_hardly_fewer(coverage: float) -> None:
    """The expectation is over calibration pictures and a new one, so that both are drawn anew."""
    rng, count, shares = np.random.default_rng(1), 40, []
    for _ in range(1500):
        probs, targets = drawn(rng, count + 20)
        threshold = miss_threshold(probs[:count], targets[:count], coverage)
        assert threshold is not None
        shares.append(missed(probs[count:], targets[count:], threshold))
    error = np.std(shares) / np.sqrt(len(shares))
    # Not below the bound by more than 2 / (n + 1), as the loss of a picture is at most 1.
    assert 1 - coverage - 2 / 30 < np.mean(shares) < 1 - coverage + 2 * error


def test_the_worst_of_several_models_still_keeps_the_promise() -> None:
    """The adversary's choice: of 20 independent models the one whose sets miss most."""
    rng, count, shares = np.random.default_rng(2), 300, {1: [], 20: []}
    known, held = drawn(rng, 4000)
    for _ in range(40):
        found = [drawn(rng, count) for _ in range(20)]
        for candidates, worst in shares.items():
            least = [miss_threshold(*one, 0.8, candidates=candidates) for one in found]
            highest = max(one for one in least if one is not None)
            worst.append(missed(known, held, highest))
    assert np.mean(shares[20]) <= 0.2 < 0.21 < np.mean(shares[1])


@pytest.mark.parametrize("candidates", [1, 2, 30])
@pytest.mark.parametrize("coverage", [0.5, 0.9, 0.99])
def test_fewest_pictures_are_the_least_that_are_not_refused(
    coverage: float, candidates: int
) -> None:
    fewest = fewest_labelled(coverage, candidates)
    for count in (fewest, fewest - 1):
        probs = np.linspace(0.5, 0.9, count)[:, None]
        with_empty = np.append(probs, [[0.1]], axis=0), np.ones((count + 1, 1), int)
        with_empty[1][-1] = 0  # a picture without labels counts for nothing
        found = miss_threshold(*with_empty, coverage, candidates=candidates)
        assert found == (None if count < fewest else 0.5)
    if candidates == 1:
        assert fewest == {0.5: 1, 0.9: 9, 0.99: 99}[coverage]


def test_what_does_not_fit_is_refused() -> None:
    probs, targets = np.full((5, 2), 0.5), np.ones((5, 2), int)
    with pytest.raises(ValueError, match="for label sets"):
        miss_threshold(probs, targets[:4], 0.9)
    with pytest.raises(ValueError, match="between 0 and 1"):
        miss_threshold(probs, targets, 1.0)
    with pytest.raises(ValueError, match="candidates"):
        miss_threshold(probs, targets, 0.9, candidates=0)
