from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import (
    average_precision_score,
    balanced_accuracy_score,
    f1_score,
    log_loss,
    roc_auc_score,
)

from src.metrics.roc import (
    auc_influence,
    auc_interval,
    auc_widening,
    class_aucs,
    placements,
    sides,
)
from src.metrics.share_intervals import score_interval
from src.statistics.candidates import Candidate, Measure, Scale
from src.statistics.evidence import Evidence
from src.statistics.intervals import difference_interval, scores_interval
from src.targets import kind_of
from src.targets.kind import lone_errors


def predictions(count: int = 400, classes: int = 4, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    targets = generator.choice(classes, count, p=[0.55, 0.25, 0.15, 0.05])
    logits = 1.5 * generator.standard_normal((count, classes))
    logits[np.arange(count), targets] += 1.5
    probs = np.exp(logits)
    return (probs / probs.sum(axis=1, keepdims=True)).astype(np.float32), targets


def figure(measure: Measure, probs: np.ndarray, targets: np.ndarray) -> float:
    return float(measure.scores(probs, probs.argmax(axis=1), targets).mean(dtype=np.float64))


def test_their_means_are_the_figures_of_scikit_learn() -> None:
    probs, targets = predictions()
    preds = probs.argmax(axis=1)
    assert figure(Measure(), probs, targets) == pytest.approx((preds == targets).mean())
    expected = {
        "balanced_accuracy": balanced_accuracy_score(targets, preds),
        "macro_f1": f1_score(targets, preds, average="macro"),
        "auc": roc_auc_score(targets, probs, multi_class="ovr"),
        "log_loss": -log_loss(targets, probs.astype(np.float64)),
    }
    for name, value in expected.items():
        assert figure(Measure(name), probs, targets) == pytest.approx(value, abs=1e-5)
    costs = np.array([[0, 1, 2, 3], [5, 0, 1, 1], [1, 1, 0, 1], [9, 9, 9, 0]], float)
    mean = -np.mean([costs[t, p] for t, p in zip(targets, preds)])
    assert figure(Measure("cost", costs), probs, targets) == pytest.approx(mean, abs=1e-5)


@pytest.mark.parametrize("name", ["balanced_accuracy", "macro_f1", "auc"])
def test_the_variance_of_their_mean_is_that_of_the_bootstrap(name: str) -> None:
    probs, targets = predictions(1500)
    scores = Measure(name).scores(probs, probs.argmax(axis=1), targets)
    generator = np.random.default_rng(1)
    drawn = []
    for _ in range(600):
        chosen = generator.integers(len(targets), size=len(targets))
        drawn.append(figure(Measure(name), probs[chosen], targets[chosen]))
    assert scores.std() / np.sqrt(len(targets)) == pytest.approx(np.std(drawn), rel=0.1)


def test_a_class_that_nobody_has_or_predicts_does_not_count() -> None:
    probs = np.eye(3, dtype=np.float32)[[0, 0, 1, 1]]
    targets = np.array([0, 0, 1, 0])
    for name in ("balanced_accuracy", "macro_f1"):
        scores = Measure(name).scores(probs, probs.argmax(axis=1), targets)
        assert np.isfinite(scores).all()
        assert scores.mean() == pytest.approx(
            figure(Measure(name), probs[:, :2], targets), abs=1e-6
        )


def test_refuses() -> None:
    with pytest.raises(ValueError, match="it must be of accuracy"):
        Measure("top1")
    with pytest.raises(ValueError, match="goes with the measure cost"):
        Measure("cost")
    probs, targets = predictions()
    with pytest.raises(ValueError, match="3 x 3, and there are 4 classes"):
        Measure("cost", np.zeros((3, 3))).scores(probs, targets, targets)


RARE = {"alone": [20] * 20 + [1] * 20, "one alone": [20] * 10 + [1], "few": [30] * 10 + [2] * 10}


@pytest.mark.parametrize("rare", RARE)
def test_the_variance_of_balanced_accuracy_is_right_with_classes_of_few_pictures(rare: str) -> None:
    sizes = RARE[rare]
    targets, probs = np.repeat(np.arange(len(sizes)), sizes), np.zeros((sum(sizes), len(sizes)))
    generator, figures, variances = np.random.default_rng(0), [], []
    for _ in range(200):
        wrong = (targets + generator.integers(1, len(sizes), len(targets))) % len(sizes)
        preds = np.where(generator.random(len(targets)) < 0.7, targets, wrong)
        scores = Measure("balanced_accuracy").scores(probs, preds, targets)
        figures.append(scores.mean(dtype=np.float64))
        assert figures[-1] == pytest.approx(balanced_accuracy_score(targets, preds), abs=1e-6)
        variances.append(scores.var(dtype=np.float64) / len(scores))
    assert np.mean(variances) == pytest.approx(np.var(figures), rel=0.2)


GROUPED = {"few": [12] * 5 + [2] * 5, "one alone": [15] * 6 + [1], "alone": [15] * 6 + [1] * 6}


@pytest.mark.parametrize("rare", GROUPED)
def test_the_variance_of_balanced_accuracy_is_right_with_classes_of_few_groups(rare: str) -> None:
    """Each group has five pictures of one class, which are right or wrong together."""
    numbers = GROUPED[rare]
    of = np.repeat(np.arange(len(numbers)), numbers)
    groups = np.repeat(np.arange(len(of)), 5)
    targets, classes = of[groups], len(numbers)
    generator, variances = np.random.default_rng(0), []
    for _ in range(200):
        right = (generator.random(len(of)) < 0.7)[groups]
        preds = np.where(right, targets, (targets + 1) % classes)
        probs = np.zeros((len(targets), classes))
        scores = Measure("balanced_accuracy").scores(probs, preds, targets, groups=groups)
        mean = scores.mean(dtype=np.float64)
        assert mean == pytest.approx(balanced_accuracy_score(targets, preds), abs=1e-6)
        totals = np.bincount(groups, scores - mean)
        variances.append(float(totals @ totals) / len(scores) ** 2)
    expected = sum(0.7 * 0.3 / number for number in numbers) / classes**2
    assert np.mean(variances) == pytest.approx(expected, rel=0.2)


def test_groups_of_single_pictures_change_no_score() -> None:
    targets, probs = np.repeat(np.arange(3), (20, 2, 1)), np.zeros((23, 3))
    preds = np.where(np.arange(23) % 3 == 0, (targets + 1) % 3, targets)
    alone = Measure("balanced_accuracy").scores(probs, preds, targets)
    order = np.random.default_rng(0).permutation(23) + 7
    found = Measure("balanced_accuracy").scores(probs, preds, targets, groups=order)
    np.testing.assert_allclose(found, alone, rtol=1e-6)


def test_the_variance_of_mean_average_precision_is_right_with_labels_of_one_picture() -> None:
    kind, generator, figures, variances = kind_of("multi"), np.random.default_rng(0), [], []
    for _ in range(200):
        targets = np.zeros((200, 14), np.uint8)
        for label, size in enumerate([40] * 6 + [1] * 8):
            targets[generator.choice(200, size, replace=False), label] = 1
        probs = 1 / (1 + np.exp(1.5 - 2.2 * targets - generator.standard_normal(targets.shape)))
        scores = kind.scores("map", probs, targets, targets)
        figures.append(scores.mean(dtype=np.float64))
        expected = average_precision_score(targets, probs, average="macro")
        assert figures[-1] == pytest.approx(expected, abs=1e-6)
        variances.append(scores.var(dtype=np.float64) / len(scores))
    assert np.mean(variances) == pytest.approx(np.var(figures), rel=0.25)


def test_counts_the_classes_of_one_picture_of_a_mean_over_classes() -> None:
    sets = np.array([[1, 0, 1], [0, 1, 1], [0, 0, 1]])
    assert Measure("map").lone(np.zeros((3, 3)), sets) == 2
    assert Measure("micro_f1").lone(np.zeros((3, 3)), sets) == 0
    assert Measure("auc").lone(np.zeros((3, 3)), sets) == 2
    groups, twice = np.array([4, 4, 9]), np.array([[1, 0, 1], [1, 1, 0], [0, 1, 1]])
    assert Measure("map").lone(np.zeros((3, 3)), twice) == 0
    assert Measure("map").lone(np.zeros((3, 3)), twice, groups) == 1
    # Each label is missing on one picture, whose places are all that there are.
    assert Measure("auc").lone(np.zeros((3, 3)), twice) == 3
    assert Measure("auc").lone(np.zeros((3, 3)), twice, groups) == 3
    classes = np.array([0, 0, 1])
    assert Measure("balanced_accuracy").lone(np.zeros((3, 2)), classes, groups) == 2
    assert Measure("balanced_accuracy").lone(np.zeros((3, 2)), classes) == 1
    assert Measure("macro_f1").lone(np.zeros((3, 3)), sets) == 2
    assert Measure("miou").lone(np.zeros(3), sets) == 2
    assert Measure("balanced_accuracy").lone(np.zeros((4, 5)), np.array([0, 0, 4, 2])) == 2


@pytest.mark.parametrize(
    ("name", "sets"),
    [
        *(("balanced_accuracy", False), ("macro_f1", False), ("auc", False)),
        *(("map", True), ("macro_f1", True), ("auc", True)),
    ],
)
def test_two_classes_of_one_picture_are_known_no_better_than_single_pictures(
    name: str, sets: bool
) -> None:
    """Two recalls or precisions that are alike by luck said that nothing varies."""
    sizes, count = [30] * 10 + [1] * 2, 302
    targets = np.repeat(np.arange(12), sizes)
    kind = kind_of("multi" if sets else "single")
    generator, figures, variances = np.random.default_rng(0), [], []
    for _ in range(200):
        logits = generator.standard_normal((count, 12))
        logits[np.arange(count), targets] += 2.0
        there = np.eye(12, dtype=np.uint8)[targets] if sets else targets
        probs = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
        scores = kind.scores(name, probs, kind.decide(probs), there)
        figures.append(scores.mean(dtype=np.float64))
        variances.append(scores.var(dtype=np.float64) / count)
    held = np.abs(figures - np.mean(figures)) < 1.96 * np.sqrt(variances)
    assert held.mean() > 0.93
    assert np.mean(variances) < 1.6 * np.var(figures)


def test_errors_of_lone_classes_add_to_the_variance() -> None:
    generator = np.random.default_rng(0)
    influence, apart = generator.standard_normal((2, 50))
    influence -= influence.mean()
    apart += 0.5 * influence
    alone, sizes = np.array([0.2, 0.9, 0.4]), np.array([1, 1, 1, 20, 27])
    for squares in (0.5, 40.0):
        variance = max(squares / (19 + 26 + 2), np.var(alone, ddof=1))
        found = lone_errors(influence, apart, squares, sizes, alone)
        assert found @ found == pytest.approx(influence @ influence + 50**2 * 3 * variance)
    assert lone_errors(influence, apart, 1.0, sizes, alone[:0]) is influence
    assert lone_errors(influence, 0 * apart, 0.0, sizes, alone) is influence


def answers(
    generator: np.random.Generator, targets: np.ndarray, groups: np.ndarray, effect: float
) -> np.ndarray:
    """Probabilities that are the surer of the true class the larger the effect."""
    logits = generator.standard_normal((len(targets), int(targets.max()) + 1))
    logits += generator.standard_normal(logits.shape)[groups]
    logits[np.arange(len(targets)), targets] += effect
    return np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)


def test_two_aucs_of_the_same_pictures_have_the_covariance_of_delong() -> None:
    """Of the paper's sums over pairs, but for N / (N - 1), and widened as few pictures have it."""
    generator, count = np.random.default_rng(0), 90
    targets = (generator.random(count) < 0.3).astype(int)
    models = [answers(generator, targets, np.arange(count), effect) for effect in (1.0, 2.0)]
    models[1] = 0.5 * (models[0] + models[1])
    scores = [Measure("auc").scores(one, targets, targets) for one in models]
    positive, sides, wider = targets == 1, [], []
    for probs in models:
        wider.append(auc_widening(placements(probs[:, 1], positive), positive))
        of_class, others = probs[positive, 1][:, None], probs[~positive, 1][None, :]
        better = (of_class > others) + 0.5 * (of_class == others)
        sides.append((better.mean(axis=1), better.mean(axis=0)))
    expected = sum(np.cov(np.stack(side)) / len(side[0]) for side in zip(*sides, strict=True))
    expected *= np.outer(wider, wider)
    np.testing.assert_allclose(np.cov(scores, ddof=0) / count, expected, rtol=1e-4)


@pytest.mark.parametrize("size", [1, 3])
def test_intervals_of_differences_of_auc_hold_for_classes_against_the_rest(size: int) -> None:
    generator, count = np.random.default_rng(0), 300
    groups = np.repeat(np.arange(count // size), size)

    def drawn(count: int, groups: np.ndarray) -> tuple[np.ndarray, list[np.ndarray]]:
        targets = generator.choice(3, count, p=[0.6, 0.25, 0.15])
        return targets, [answers(generator, targets, groups, effect) for effect in (2.0, 1.5)]

    many = 60_000
    targets, models = drawn(many, np.arange(many) // size)
    better, worse = (figure(Measure("auc"), one, targets) for one in models)
    held = []
    for _ in range(200):
        targets, models = drawn(count, groups)
        candidates = [
            Candidate(
                name=str(place),
                run_ids=(str(place),),
                right=(probs.argmax(axis=1) == targets)[None],
                log_losses=np.zeros(1),
                scores=Measure("auc").scores(probs, targets, targets, groups=groups)[None],
            )
            for place, probs in enumerate(models)
        ]
        found = difference_interval(Evidence.of(candidates, groups), 0, 1)
        held.append(better - worse in found)
    assert 0.92 <= np.mean(held) <= 0.995


@pytest.mark.parametrize(
    ("sizes", "sets"),
    [([60, 1], False), ([30] * 8 + [1] * 4, False), ([30, 30, 1, 1], True)],
)
def test_the_variance_of_auc_is_enough_with_classes_of_one_picture(
    sizes: list[int], sets: bool
) -> None:
    """Against one picture places are 0 or 1, which vary more than those against many."""
    generator, figures, variances = np.random.default_rng(0), [], []
    targets = np.repeat(np.arange(len(sizes)), sizes)
    labels = np.eye(len(sizes), dtype=np.uint8)[targets] if sets else targets
    kind = kind_of("multi" if sets else "single")
    for _ in range(300):
        probs = answers(generator, targets, np.arange(len(targets)), 1.0)
        scores = kind.scores("auc", probs, labels, labels)
        figures.append(scores.mean(dtype=np.float64))
        variances.append(scores.var(dtype=np.float64) / len(scores))
    assert 0.75 <= np.mean(variances) / np.var(figures) <= 2.3


def test_groups_move_the_mean_auc_as_they_move_that_of_each_class() -> None:
    """Two or more groups of each class, of which one has pictures of two classes."""
    targets, generator = np.repeat([0, 1, 2], (13, 4, 3)), np.random.default_rng(0)
    groups = np.arange(20) // 2
    probs = answers(generator, targets, np.arange(20), 1.0)
    expected = np.zeros(10)
    for _, scores, positive in sides(probs, targets):
        moves = auc_influence(placements(scores, positive), positive, groups)
        expected += np.bincount(groups, moves) / 3
    found = Measure("auc").scores(probs, targets, targets, groups=groups).astype(np.float64)
    totals = np.bincount(groups, found - class_aucs(probs, targets).mean())
    np.testing.assert_allclose(totals, expected, atol=1e-5)


def test_not_to_have_a_label_is_as_good_a_label() -> None:
    """So that one picture without a label is as little evidence as one picture with it."""
    targets = np.repeat(np.arange(4), (30, 30, 1, 1))
    probs = answers(np.random.default_rng(0), targets, np.arange(62), 1.0)
    labels, kind = np.eye(4, dtype=np.uint8)[targets], kind_of("multi")
    scores = kind.scores("auc", probs, labels, labels)
    reversed_scores = kind.scores("auc", 1 - probs, 1 - labels, 1 - labels)
    np.testing.assert_allclose(reversed_scores, scores, rtol=1e-6)


@pytest.mark.parametrize("size", [1, 2])
def test_the_interval_of_a_class_is_that_of_the_measure_where_there_are_two(size: int) -> None:
    """With few pictures of a class, of which one is ranked low and decides the variance."""
    generator, targets = np.random.default_rng(0), np.repeat([0, 1], (200, 8))
    groups = np.arange(208) // size
    probs = answers(generator, targets, np.arange(208), 3.0)
    probs[-1] = [0.7, 0.3]
    own = None if size == 1 else groups
    scores = Measure("auc").scores(probs, targets, targets, groups=own)
    expected = scores_interval(scores, own, Scale("auc", ends=(0.0, 1.0)))
    auc, low, high = auc_interval(probs[:, 1], targets == 1, own)
    assert (low, high) == pytest.approx((expected.low, expected.high), abs=0.004)
    plain = score_interval(auc, auc * (1 - auc) / scores.var() * 208, 1.96)
    assert high - low > 1.1 * (plain[1] - plain[0])


def test_the_interval_of_a_label_is_that_of_the_measure_where_it_is_the_only_one() -> None:
    """A dozen pictures with it, which vary little."""
    rng, targets = np.random.default_rng(0), (np.arange(200) < 12).astype(np.uint8)[:, None]
    probs = 1 / (1 + np.exp(-(rng.normal(size=(200, 1)) * (1 - 0.7 * targets) + 2 * targets)))
    scores = Measure("auc").scores(probs, targets, targets, kind_of("multi"))
    expected = scores_interval(scores, None, Scale("auc", ends=(0.0, 1.0)))
    _, low, high = auc_interval(probs[:, 0], targets[:, 0] == 1)
    assert (low, high) == pytest.approx((expected.low, expected.high), abs=0.004)


def test_pictures_of_one_class_have_no_auc() -> None:
    probs, targets = predictions()
    with pytest.raises(ValueError, match="of one class, so that there is no AUC"):
        Measure("auc").scores(probs, targets, np.zeros_like(targets))
    sets = np.tile(np.array([0, 1, 1, 0], np.uint8), (len(targets), 1))
    with pytest.raises(ValueError, match="on all pictures or on none"):
        Measure("auc").scores(probs, sets, sets, kind_of("multi"))
