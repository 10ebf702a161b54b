from __future__ import annotations

import numpy as np

from src.ensembles.combine import dealt
from src.ensembles.soup import greedy_soup

TARGETS = np.arange(400) % 4


def answers(right: np.ndarray) -> np.ndarray:
    """Probabilities (N, 4) that have these pictures right, and the others one class too high."""
    said = np.where(right, TARGETS, (TARGETS + 1) % 4)
    probs = np.full((len(TARGETS), 4), 0.1, np.float32)
    probs[np.arange(len(TARGETS)), said] = 0.7
    return probs


def share(accuracy: float, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).random(len(TARGETS)) < accuracy


class Kitchen:
    """Means of weights with given accuracies; any other one knows nothing."""

    def __init__(self, known: dict[tuple[int, ...], float]) -> None:
        self.known = known
        self.asked: list[tuple[int, ...]] = []

    def __call__(self, soup: tuple[int, ...]) -> np.ndarray:
        self.asked.append(soup)
        return answers(share(self.known.get(soup, 0.1)))


def test_a_member_is_put_in_unless_it_spoils_the_soup() -> None:
    # By accuracy 2, 0, 1: 0 helps, 1 would spoil.
    kitchen = Kitchen({(0,): 0.7, (1,): 0.6, (2,): 0.8, (0, 2): 0.9, (0, 1, 2): 0.85})
    found = greedy_soup(["a", "b", "c"], kitchen, TARGETS)
    assert found.weights.tolist() == [0.5, 0, 0.5] and found.best == "c" and found.way == "soup"
    assert len(kitchen.asked) == len(set(kitchen.asked)), "a network was asked twice"
    np.testing.assert_array_equal(found.probs, answers(share(0.9)))
    assert found.accuracy > found.best_accuracy and found.test.p_value < 0.01


def test_weights_that_do_not_average_leave_the_best_alone() -> None:
    found = greedy_soup(["a", "b"], Kitchen({(0,): 0.7, (1,): 0.8}), TARGETS)
    assert found.weights.tolist() == [0, 1] and found.accuracy == found.best_accuracy


def test_a_picture_has_no_say_in_its_own_answer() -> None:
    """One label decides whether the second is put in, but not for the picture that bears it."""
    (outside,) = [fold for fold in dealt(len(TARGETS), 5, 0) if fold[17]]
    elsewhere = int(np.flatnonzero(~outside)[0])
    alone, mean = np.ones((2, len(TARGETS)), bool)
    alone[17] = mean[elsewhere] = False  # as good as the best, by the label of picture 17
    said = {(0,): alone, (1,): share(0.5), (0, 1): mean}
    turned = TARGETS.copy()
    turned[17] = answers(alone)[17].argmax()

    def ask(soup: tuple[int, ...]) -> np.ndarray:
        return answers(said[soup])

    one, other = (greedy_soup(["a", "b"], ask, targets) for targets in (TARGETS, turned))
    assert one.weights.tolist() == [0.5, 0.5] and other.weights.tolist() == [1, 0]
    np.testing.assert_array_equal(one.probs[17], answers(alone)[17])
    np.testing.assert_array_equal(other.probs[17], answers(alone)[17])
