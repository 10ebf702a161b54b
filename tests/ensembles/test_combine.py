from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import (
    average_precision_score,
    balanced_accuracy_score,
    cohen_kappa_score,
    log_loss,
)

from src.ensembles.combine import Judge, WeightFit, combine, dealt, greedy_soup
from src.ensembles.mixing import Method, combined_probabilities
from src.statistics.candidates import Measure
from src.statistics.paired_tests import mcnemar
from src.targets import kind_of
from tests.ensembles.test_member_weights import library

METHODS: list[Method] = ["greedy", "stacking"]


@pytest.mark.parametrize("method", METHODS)
def test_members_that_err_apart_are_better_together(method: Method) -> None:
    probs, targets = library(0, 8, 1500)
    found = combine([f"m{i}" for i in range(8)], probs, targets, fit=WeightFit(8, [method]))
    assert found.figure > found.best_figure
    assert found.p_value < 0.01


@pytest.mark.parametrize("method", METHODS)
def test_guesses_look_no_better_than_guesses(method: Method) -> None:
    """Many members that guess: the best of them, and any mixture, look good where chosen."""
    generator = np.random.default_rng(0)
    probs = generator.dirichlet(np.ones(2), (40, 300)).astype(np.float32)
    targets = generator.integers(2, size=300)
    found = combine([f"m{i}" for i in range(40)], probs, targets, fit=WeightFit(40, [method]))
    chosen = combined_probabilities(method, probs, found.weights)
    assert (chosen.argmax(axis=1) == targets).mean() > 0.56
    assert found.figure == pytest.approx(0.5, abs=0.075)
    assert found.best_figure == pytest.approx(0.5, abs=0.075)


@pytest.mark.parametrize("method", METHODS)
def test_a_picture_has_no_say_in_its_own_answer(method: Method) -> None:
    """Turning one label changes nothing about what that picture is answered."""
    probs, targets = library(1, 5, 90)
    turned = targets.copy()
    turned[17] = (turned[17] + 1) % 3
    names = [f"m{i}" for i in range(5)]
    one = combine(names, probs, targets, fit=WeightFit(8, [method]))
    other = combine(names, probs, turned, fit=WeightFit(8, [method]))
    np.testing.assert_array_equal(one.probs[17], other.probs[17])
    assert not np.array_equal(one.probs, other.probs)


def test_of_two_ways_the_better_one_is_taken() -> None:
    probs, targets = library(4, 4, 600)
    # Far too sure of themselves: powers below one repair that, and no mean can.
    probs = probs**4 / (probs**4).sum(axis=2, keepdims=True)
    names = [f"m{i}" for i in range(4)]
    both = combine(names, probs, targets, fit=WeightFit(8))
    greedy, stacking = (
        combine(names, probs, targets, fit=WeightFit(8, [method])) for method in METHODS
    )
    assert stacking.log_loss < greedy.log_loss - 0.01
    assert both.way == "stacking"
    np.testing.assert_array_equal(both.weights, stacking.weights)
    np.testing.assert_array_equal(both.probs, stacking.probs)


def test_the_test_is_mcnemars_and_copies_are_level() -> None:
    probs, targets = library(2, 1, 200)
    probs = np.repeat(probs, 3, axis=0)
    found = combine(["a", "b", "c"], probs, targets, fit=WeightFit(8))
    assert found.p_value == mcnemar(np.ones(3, bool), np.ones(3, bool)).p_value
    assert found.figure == found.best_figure and found.best == "a"


def test_of_members_that_are_right_as_often_the_one_with_the_lower_log_loss_is_best() -> None:
    targets = np.arange(200) % 2
    said = np.where(np.arange(200) % 5 > 0, targets, 1 - targets)
    sure = [np.where(np.eye(2)[said] > 0, one, 1 - one) for one in (0.95, 0.75, 0.6)]
    members = np.stack(sure).astype(np.float32)
    assert combine(["a", "b", "c"], members, targets, fit=WeightFit(3)).best == "b"

    def predict(soup: tuple[int, ...]) -> np.ndarray:
        return members[soup[0]] if len(soup) == 1 else 1 - members[0]

    found = greedy_soup(["a", "b", "c"], predict, targets)
    assert found.best == "b" and found.weights.tolist() == [0, 1, 0]


def test_the_worst_members_are_let_go() -> None:
    probs, targets = library(3, 10, 200)
    found = combine([f"m{i}" for i in range(10)], probs, targets, fit=WeightFit(4, ["greedy"]))
    assert np.count_nonzero(found.weights) <= 4
    assert found.weights.sum() == pytest.approx(1)


def test_refuses() -> None:
    probs, targets = library(0, 2)
    with pytest.raises(ValueError, match="for 1 members"):
        combine(["a"], probs, targets, fit=WeightFit(8))
    with pytest.raises(ValueError, match="folds is 5: it must be within 2 and the 4 pictures"):
        combine(["a", "b"], probs[:, :4], targets[:4], fit=WeightFit(8))
    with pytest.raises(ValueError, match="folds is 1"):
        dealt(len(targets), 1, 0)


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
    assert found.figure > found.best_figure and found.p_value < 0.01


def test_weights_that_do_not_average_leave_the_best_alone() -> None:
    found = greedy_soup(["a", "b"], Kitchen({(0,): 0.7, (1,): 0.8}), TARGETS)
    assert found.weights.tolist() == [0, 1] and found.figure == found.best_figure


def test_a_picture_has_no_say_in_whether_a_soup_answers_it() -> None:
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


def test_groups_are_dealt_whole_and_their_answers_count_as_one() -> None:
    """Ten times the same picture is one picture: folds and test are those of one."""
    folds = dealt(40, 4, 3, np.repeat(np.arange(4), 10))
    assert [int(one.sum()) for one in folds] == [10] * 4
    assert all(one.reshape(4, 10).sum(axis=1).max() == 10 for one in folds)
    generator = np.random.default_rng(0)
    targets = generator.integers(0, 2, 60)
    probs = generator.random((3, 60, 2)).astype(np.float32)
    probs[:, np.arange(60), targets] += 0.4
    probs /= probs.sum(axis=2, keepdims=True)
    once = combine(
        ["a", "b", "c"], probs, targets, fit=WeightFit(8, ["greedy"]), groups=np.arange(60)
    )
    tenfold = combine(
        ["a", "b", "c"],
        np.repeat(probs, 10, axis=1),
        np.repeat(targets, 10),
        fit=WeightFit(8, ["greedy"]),
        groups=np.repeat(np.arange(60), 10),
    )
    assert tenfold.weights == pytest.approx(once.weights)
    assert tenfold.probs[::10] == pytest.approx(once.probs, abs=1e-5)
    assert tenfold.p_value == once.p_value


def test_more_folds_than_groups_are_refused() -> None:
    with pytest.raises(ValueError, match="within 2 and the 3 groups"):
        dealt(30, 4, 0, np.repeat(np.arange(3), 10))


def test_label_sets_are_mixed_label_by_label_and_judged_by_their_own_measure() -> None:
    rng = np.random.default_rng(0)
    sets = (rng.random((120, 3)) < 0.4).astype(np.uint8)
    logits = rng.normal(0, 1.5, (4, 120, 3)) + 2 * sets - 1
    probs = (1 / (1 + np.exp(-logits))).astype(np.float32)
    names = [f"m{i}" for i in range(4)]
    found = combine(names, probs, sets, judge=Judge.usual("multi"), fit=WeightFit(8, ["greedy"]))
    assert found.measure == "map" and found.figure > found.best_figure + 0.05
    assert found.figure == pytest.approx(
        np.mean([average_precision_score(sets[:, k], found.probs[:, k]) for k in range(3)]),
        abs=1e-5,
    )
    expected = log_loss(sets.ravel(), found.probs.ravel(), labels=[0, 1])
    assert found.log_loss == pytest.approx(expected, rel=1e-5)
    turned = sets.copy()
    turned[17] = 1 - turned[17]
    other = combine(names, probs, turned, judge=Judge.usual("multi"), fit=WeightFit(8, ["greedy"]))
    np.testing.assert_array_equal(other.probs[17], found.probs[17])


def test_ordered_classes_are_judged_by_their_kappa() -> None:
    probs, targets = library(3, 4, 300)
    found = combine(
        ["a", "b", "c", "d"], probs, targets, judge=Judge.usual("ordinal"), fit=WeightFit(8)
    )
    expected = cohen_kappa_score(targets, found.probs.argmax(axis=1), weights="quadratic")
    assert found.measure == "kappa" and found.figure == pytest.approx(expected, abs=1e-6)


def judge_by_costs(costs: np.ndarray) -> Judge:
    return Judge(kind_of("single"), Measure("cost", costs), "cost", costs)


def test_answers_of_the_least_cost_are_judged_by_their_cost() -> None:
    """The surest by its most probable class is dear: it never answers with the dear class."""
    probs, targets = library(3, 4, 600)
    classes = probs.shape[2]
    costs = 1 - np.eye(classes)
    costs[0] *= 20
    found = combine(list("abcd"), probs, targets, fit=WeightFit(4), judge=judge_by_costs(costs))
    preds = (found.probs @ costs).argmin(axis=1)
    assert found.measure == "cost"
    assert found.figure == pytest.approx(costs[targets, preds].mean(), rel=1e-5)
    alone = [costs[targets, (one @ costs).argmin(axis=1)].mean() for one in probs]
    assert found.best == "abcd"[int(np.argmin(alone))]
    assert 0 < found.figure < found.best_figure and found.p_value < 1


def test_a_soup_is_chosen_by_what_its_answers_cost() -> None:
    """The mean is right less often than either network, and makes no dear mistake."""
    targets = np.arange(100) % 2
    costs = np.array([[0.0, 1.0], [50.0, 0.0]])
    alone = np.where(targets == 1, 0.6, 0.001)
    alone[1] = 0.001
    mean = np.where((targets == 1) | (np.arange(100) < 40), 0.6, 0.001)
    alone, mean = (np.stack([1 - one, one], axis=1).astype(np.float32) for one in (alone, mean))
    said = {(0,): alone, (1,): alone, (0, 1): mean}
    found = greedy_soup(["a", "b"], said.__getitem__, targets, judge=judge_by_costs(costs))
    assert found.weights.tolist() == [0.5, 0.5]
    assert (found.measure, found.best_figure) == ("cost", pytest.approx(0.5))
    by_accuracy = greedy_soup(["a", "b"], said.__getitem__, targets)
    assert by_accuracy.weights.tolist() == [1, 0]


@pytest.mark.parametrize("wanted", ["balanced_accuracy", "kappa", "mae"])
def test_answers_by_thresholds_are_judged_by_those_of_other_pictures(wanted: str) -> None:
    probs, targets = library(4, 3, 300)
    kind = kind_of("ordinal")
    judge = Judge(kind, Measure(wanted), wanted)
    figure = judge.figure(probs[0], targets)
    least = np.array([0.5])
    if wanted != "mae":
        least = kind.cross_fitted_thresholds(probs[0], targets, np.arange(300), wanted)
    preds = kind.decide(probs[0], least)
    assert figure == pytest.approx(
        {
            "balanced_accuracy": balanced_accuracy_score(targets, preds),
            "kappa": cohen_kappa_score(targets, preds, weights="quadratic"),
            "mae": np.abs(preds - targets).mean(),
        }[wanted],
        abs=1e-6,
    )


def test_a_soup_of_label_sets_is_chosen_by_mean_average_precision() -> None:
    """The mean ranks all labels rightly, and names none at one half; its members name some."""
    rng = np.random.default_rng(0)
    sets = (rng.random((100, 3)) < 0.5).astype(np.uint8)
    right = rng.random((2, 100, 3)) < 0.8
    alone = np.where(right, sets, 1 - sets) * 0.8 + 0.1
    mean = sets * 0.2 + 0.1
    said = {(0,): alone[0], (1,): alone[1], (0, 1): mean}
    found = greedy_soup(
        ["a", "b"], lambda soup: said[soup].astype(np.float32), sets, judge=Judge.usual("multi")
    )
    assert found.weights.tolist() == [0.5, 0.5] and found.figure == pytest.approx(1)
    assert (found.probs >= 0.5).sum() == 0
