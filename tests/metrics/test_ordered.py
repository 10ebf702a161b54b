from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.metrics import cohen_kappa_score, mean_absolute_error

from src.metrics import ordered
from src.targets import kind_of

CLASSES = 5
Floats = NDArray[np.float64]


def samples(count: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    rng = np.random.default_rng(count)
    targets = rng.integers(0, CLASSES, count)
    return np.clip(targets + rng.integers(-1, 3, count), 0, CLASSES - 1), targets


def test_figures_agree_with_scikit_learn() -> None:
    preds, targets = samples(200)
    kappa = ordered.quadratic_kappa(preds, targets, CLASSES)
    assert kappa == pytest.approx(cohen_kappa_score(preds, targets, weights="quadratic"))
    assert ordered.mean_absolute_error(preds, targets) == mean_absolute_error(targets, preds)


def test_answers_and_targets_of_one_class_agree_no_better_than_chance() -> None:
    same = np.ones(4, np.int64)
    assert ordered.quadratic_kappa(same, same, CLASSES) == 0
    assert not ordered.kappa_influence(same, same, CLASSES).any()


def test_one_answer_for_everything_has_no_kappa_at_all() -> None:
    for count in range(2, 40):
        _, targets = samples(count)
        for answer in range(CLASSES):
            preds = np.full(count, answer)
            kappa = ordered.quadratic_kappa(preds, targets, CLASSES)
            assert kappa == 0 and not np.signbit(kappa), "no rounding, no minus"


def test_influences_are_those_of_the_jackknife() -> None:
    preds, targets = samples(1000)
    whole = ordered.quadratic_kappa(preds, targets, CLASSES)
    lost = np.array(
        [
            whole - ordered.quadratic_kappa(np.delete(preds, i), np.delete(targets, i), CLASSES)
            for i in range(len(preds))
        ]
    ) * (len(preds) - 1)
    found = ordered.kappa_influence(preds, targets, CLASSES)
    assert found.mean() == pytest.approx(0, abs=1e-12)
    np.testing.assert_allclose(found, lost - lost.mean(), atol=2e-3)


def graded(count: int, noise: float, classes: int = CLASSES) -> tuple[Floats, NDArray[np.int64]]:
    """Return the probabilities of grades of which a noisy look was had, and the grades.

    Low ones are the most frequent.
    """
    rng = np.random.default_rng(round(100 * noise) + count)
    grades = rng.choice(classes, count, p=np.arange(classes, 0, -1) / sum(range(classes + 1)))
    seen = grades + noise * classes * rng.normal(size=count)
    steps = np.arange(classes)
    logs = np.log(np.arange(classes, 0, -1)) - 0.5 * np.square(
        (seen[:, None] - steps) / (noise * classes)
    )
    probs = np.exp(logs - logs.max(axis=1, keepdims=True))
    return probs / probs.sum(axis=1, keepdims=True), grades


def kappa_of(preds: NDArray[np.int64], targets: NDArray[np.int64]) -> float:
    return float(cohen_kappa_score(targets, preds, weights="quadratic"))


@pytest.mark.parametrize("noise", [0.1, 0.3, 0.6])
def test_no_line_through_expected_classes_has_a_better_kappa(noise: float) -> None:
    classes = 60  # so many that rounding does not count; answers end at the first and the last
    probs, targets = graded(400, noise, classes)
    expected = ordered.expected_classes(probs)
    np.testing.assert_allclose(expected, [np.average(range(classes), weights=p) for p in probs])
    cuts = ordered.kappa_cuts(expected, targets, classes)
    best = kappa_of((expected[:, None] >= cuts).sum(axis=1), targets)
    for scale in np.linspace(0.5, 3, 21):
        for shift in np.linspace(-6, 6, 9):
            line = (expected - expected.mean()) * scale + targets.mean() + shift
            preds = np.clip(np.rint(line), 0, classes - 1).astype(np.int64)
            assert kappa_of(preds, targets) <= best + 4e-3


@pytest.mark.parametrize("noise", [0.25, 0.5])
def test_cuts_of_some_pictures_are_better_for_others_than_the_most_probable_class(
    noise: float,
) -> None:
    some, known = graded(200, noise)
    probs, targets = graded(20_000, noise)
    cuts = ordered.kappa_cuts(ordered.expected_classes(some), known, CLASSES)
    expected = ordered.expected_classes(probs)
    found = kappa_of((expected[:, None] >= cuts).sum(axis=1), targets)
    assert found > kappa_of(probs.argmax(axis=1), targets) + 0.01
    assert found > kappa_of(np.rint(expected).astype(np.int64), targets)


def test_where_nothing_says_how_far_to_stretch_the_nearest_class_is_the_answer() -> None:
    nearest = [0.5, 1.5, 2.5, 3.5]
    level, targets = np.full(4, 1.25), np.arange(4)
    assert ordered.kappa_cuts(level, targets, CLASSES).tolist() == nearest
    assert ordered.kappa_cuts(targets + 0.0, np.ones(4, np.int64), CLASSES).tolist() == nearest
    assert ordered.kappa_cuts(level[:0], targets[:0], CLASSES).tolist() == nearest


@pytest.mark.parametrize("classes", [1, 2, 3, CLASSES])
def test_no_answer_has_a_smaller_mean_distance_than_the_median(classes: int) -> None:
    probs = np.random.default_rng(classes).dirichlet(np.full(classes, 0.4), 300).astype(np.float32)
    places = np.arange(classes)
    least = kind_of("ordinal").thresholds(probs, np.zeros(300, np.int64), "mae")
    assert least is not None
    answers = kind_of("ordinal").decide(probs, least)
    distances = probs.astype(np.float64) @ np.abs(places[:, None] - places)
    np.testing.assert_array_equal(answers, distances.argmin(axis=1))
    assert classes < 3 or (answers != probs.argmax(axis=1)).any()


def test_where_probabilities_are_right_the_median_is_nearer_than_any_other_answer() -> None:
    probs, targets = graded(20_000, 0.5)
    kind = kind_of("ordinal")

    def distance(wanted: str) -> float:
        return ordered.mean_absolute_error(
            kind.decide(probs, kind.thresholds(probs, targets, wanted)), targets
        )

    assert distance("mae") < min(distance("kappa"), distance("")) - 0.01
