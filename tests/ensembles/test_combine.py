from __future__ import annotations

import numpy as np
import pytest

from src.ensembles.combine import combine, dealt
from src.ensembles.mixing import Way, combined_probabilities
from src.statistics.paired_tests import mcnemar
from tests.ensembles.test_weights import library

WAYS: list[Way] = ["greedy", "stacking"]


@pytest.mark.parametrize("way", WAYS)
def test_members_that_err_apart_are_better_together(way: Way) -> None:
    probs, targets = library(0, 8, 1500)
    found = combine([f"m{i}" for i in range(8)], probs, targets, ways=[way])
    assert found.accuracy > found.best_accuracy
    assert found.test.p_value < 0.01 and found.test.first_alone > found.test.second_alone
    assert found.accuracy in found.interval


@pytest.mark.parametrize("way", WAYS)
def test_guesses_look_no_better_than_guesses(way: Way) -> None:
    """Many members that guess: the best of them, and any mixture, look good where chosen."""
    generator = np.random.default_rng(0)
    probs = generator.dirichlet(np.ones(2), (40, 300)).astype(np.float32)
    targets = generator.integers(2, size=300)
    found = combine([f"m{i}" for i in range(40)], probs, targets, ways=[way], at_most=40)
    chosen = combined_probabilities(way, probs, found.weights)
    assert (chosen.argmax(axis=1) == targets).mean() > 0.56
    assert found.accuracy == pytest.approx(0.5, abs=0.075)
    assert found.best_accuracy == pytest.approx(0.5, abs=0.075)


@pytest.mark.parametrize("way", WAYS)
def test_a_picture_has_no_say_in_its_own_answer(way: Way) -> None:
    """Turning one label changes nothing about what that picture is answered."""
    probs, targets = library(1, 5, 90)
    turned = targets.copy()
    turned[17] = (turned[17] + 1) % 3
    names = [f"m{i}" for i in range(5)]
    one = combine(names, probs, targets, ways=[way])
    other = combine(names, probs, turned, ways=[way])
    np.testing.assert_array_equal(one.probs[17], other.probs[17])
    assert not np.array_equal(one.probs, other.probs)


def test_of_two_ways_the_better_one_is_taken() -> None:
    probs, targets = library(4, 4, 600)
    # Far too sure of themselves: powers below one repair that, and no mean can.
    probs = probs**4 / (probs**4).sum(axis=2, keepdims=True)
    names = [f"m{i}" for i in range(4)]
    both = combine(names, probs, targets)
    greedy, stacking = (combine(names, probs, targets, ways=[way]) for way in WAYS)
    assert stacking.log_loss < greedy.log_loss - 0.01
    assert both.way == "stacking"
    np.testing.assert_array_equal(both.weights, stacking.weights)
    np.testing.assert_array_equal(both.probs, stacking.probs)


def test_the_test_is_mcnemars_and_copies_are_level() -> None:
    probs, targets = library(2, 1, 200)
    probs = np.repeat(probs, 3, axis=0)
    found = combine(["a", "b", "c"], probs, targets)
    assert found.test == mcnemar(np.ones(3, bool), np.ones(3, bool))
    assert found.accuracy == found.best_accuracy and found.best == "a"


def test_the_worst_members_are_let_go() -> None:
    probs, targets = library(3, 10, 200)
    found = combine([f"m{i}" for i in range(10)], probs, targets, ways=["greedy"], at_most=4)
    assert np.count_nonzero(found.weights) <= 4
    assert found.weights.sum() == pytest.approx(1)


def test_refuses() -> None:
    probs, targets = library(0, 2)
    with pytest.raises(ValueError, match="for 1 members"):
        combine(["a"], probs, targets)
    with pytest.raises(ValueError, match="at_most is 0"):
        combine(["a", "b"], probs, targets, at_most=0)
    with pytest.raises(ValueError, match="folds is 1"):
        combine(["a", "b"], probs, targets, folds=1)


def test_groups_are_dealt_whole_and_their_answers_count_as_one() -> None:
    """Ten times the same picture is one picture: folds, interval and test are those of one."""
    folds = dealt(40, 4, 3, np.repeat(np.arange(4), 10))
    assert [int(one.sum()) for one in folds] == [10] * 4
    assert all(one.reshape(4, 10).sum(axis=1).max() == 10 for one in folds)
    generator = np.random.default_rng(0)
    targets = generator.integers(0, 2, 60)
    probs = generator.random((3, 60, 2)).astype(np.float32)
    probs[:, np.arange(60), targets] += 0.4
    probs /= probs.sum(axis=2, keepdims=True)
    once = combine(["a", "b", "c"], probs, targets, ways=["greedy"], groups=np.arange(60))
    tenfold = combine(
        ["a", "b", "c"],
        np.repeat(probs, 10, axis=1),
        np.repeat(targets, 10),
        ways=["greedy"],
        groups=np.repeat(np.arange(60), 10),
    )
    assert tenfold.weights == pytest.approx(once.weights)
    assert tenfold.probs[::10] == pytest.approx(once.probs, abs=1e-5)
    assert tenfold.test == once.test
    # Of groups the variance divides by one of them less, and the quantile is Student's.
    width = tenfold.interval.high - tenfold.interval.low
    assert width == pytest.approx(once.interval.high - once.interval.low, rel=0.05)


def test_more_folds_than_groups_are_refused() -> None:
    with pytest.raises(ValueError, match="within 2 and the 3 groups"):
        dealt(30, 4, 0, np.repeat(np.arange(3), 10))
