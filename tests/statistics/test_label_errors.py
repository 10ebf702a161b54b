from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from src.records.run import Predictions
from src.statistics.label_errors import doubtful_labels, label_suspects


@pytest.mark.parametrize("paths", [None, tuple(f"p{i}.png" for i in range(8))])
def test_doubtful_labels_are_named(paths: tuple[str, ...] | None) -> None:
    probs = np.tile(np.float32([[0.9, 0.1]]), (8, 1))
    probs[4:] = [0.1, 0.9]
    probs[6] = [0.97, 0.03]  # labelled 1
    targets = np.repeat([0, 1], 4)
    predictions = Predictions(np.arange(8) + 100, paths, targets, probs, ("cat", "dog"))
    (suspect,) = doubtful_labels({"val": predictions})
    assert (suspect.part, suspect.index, suspect.kind) == ("val", 106, "label")
    assert (suspect.label, suspect.suggested) == ("dog", "cat")
    assert suspect.path == (None if paths is None else "p6.png")
    assert suspect.score == pytest.approx(0.94, abs=1e-6)


def test_doubtful_labels_of_several_parts_are_ranked_together() -> None:
    probs = np.float32([[0.9, 0.1]] * 9 + [[0.1, 0.9]] * 9)
    parts = {}
    for part, sure in (("val", 0.91), ("test", 0.99)):
        own = probs.copy()
        own[17] = [sure, 1 - sure]
        parts[part] = Predictions(np.arange(18), None, np.repeat([0, 1], 9), own, ("a", "b"))
    assert [s.part for s in doubtful_labels(parts)] == ["test", "val"]


def by_the_book(probs: list[list[Fraction]], targets: list[int]) -> dict[int, tuple[int, Fraction]]:
    """Sample -> (suggestion, margin), straight from the paper, one sample at a time."""
    classes = range(len(probs[0]))
    mean = {}
    for k in classes:
        own = [row[k] for row, target in zip(probs, targets, strict=True) if target == k]
        if own:
            mean[k] = sum(own, Fraction()) / len(own)
    joint = {}
    for sample, (row, target) in enumerate(zip(probs, targets, strict=True)):
        eligible = [k for k in mean if row[k] >= mean[k]]
        if not eligible:
            continue
        winner = max(eligible, key=lambda k: (row[k], -k))
        if winner != target and row[winner] > row[target]:
            joint[sample] = (winner, row[winner] - row[target])
    return joint


@settings(max_examples=200, deadline=None)
@given(
    st.integers(2, 5).flatmap(
        lambda k: st.lists(
            st.tuples(st.lists(st.integers(0, 7), min_size=k, max_size=k), st.integers(0, k - 1)),
            min_size=1,
            max_size=25,
        )
    )
)
def test_suspects_are_those_of_the_paper(samples: list[tuple[list[int], int]]) -> None:
    # Sixteenths are exact in binary; the rest of each row's sum goes to its first class.
    rows = [[Fraction(v, 64) for v in values] for values, _ in samples]
    rows = [[1 - sum(row[1:], Fraction()), *row[1:]] for row in rows]
    targets = [target for _, target in samples]
    expected = by_the_book(rows, targets)
    # Means of floats may miss a tie with the threshold that fractions see.
    mean = {k: [r[k] for r, t in zip(rows, targets, strict=True) if t == k] for k in set(targets)}
    means = {k: sum(v, Fraction()) / len(v) for k, v in mean.items()}
    ties = {i for i, r in enumerate(rows) if any(r[k] == m for k, m in means.items())}
    found = label_suspects(np.array([[float(v) for v in r] for r in rows]), np.array(targets))
    assert (np.diff(found.scores) <= 0).all()
    seen = {
        int(i): (int(k), Fraction(float(s)))
        for i, k, s in zip(found.indices, found.suggested, found.scores, strict=True)
    }
    assert {i: v for i, v in seen.items() if i not in ties} == {
        i: v for i, v in expected.items() if i not in ties
    }


def test_flipped_labels_are_found_exactly_where_the_model_is_right() -> None:
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 4, 2000)
    probs = np.full((2000, 4), 0.02)
    probs[np.arange(2000), truth] = 0.94
    given_labels = truth.copy()
    flipped = np.sort(rng.permutation(2000)[:150])
    given_labels[flipped] = (truth[flipped] + rng.integers(1, 4, 150)) % 4
    found = label_suspects(probs, given_labels)
    assert np.sort(found.indices).tolist() == flipped.tolist()
    assert np.array_equal(found.suggested, truth[found.indices])


def test_an_underestimated_class_is_suggested_and_an_absent_one_is_not() -> None:
    # The model is shy of class 1: 0.55 is sure for it, and 0.55 is unsure for class 0.
    probs = np.array([[0.95, 0.05]] * 6 + [[0.48, 0.52]] * 6 + [[0.45, 0.55]])
    targets = np.array([0] * 6 + [1] * 6 + [0])
    assert label_suspects(probs, targets).indices.tolist() == [12]
    assert label_suspects(probs, np.zeros(13, np.int64)).indices.tolist() == []
