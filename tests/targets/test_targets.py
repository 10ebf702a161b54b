"""Every kind of targets: what its figures, scores and binary problems are."""

from __future__ import annotations

import csv
from itertools import product
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn import metrics as sk
from sklearn.dummy import DummyClassifier

from src.config.checks import ConfigError
from src.config.metrics import COST, metrics_of
from src.config.sweep import read_sweep_settings
from src.metrics.registry import RANKING
from src.records.pixel_answers import pixel_answers
from src.statistics.candidates import Candidate, Scale
from src.statistics.verdict import judge
from src.targets import KINDS, fixed_thresholds, kind_of
from src.targets.labels import (
    class_columns,
    label_codes,
    label_counts,
    label_text,
    labels_text,
    memberships,
)

CLASSES = 4
NAMES = ("a", "b", "c", "d")


def samples(name: str, count: int = 120) -> tuple[NDArray[Any], NDArray[Any]]:
    """Predictions that are better than chance."""
    rng = np.random.default_rng(0)
    if name == "multi":
        sets = (rng.random((count, CLASSES)) < 0.4).astype(np.uint8)
        return (0.7 * rng.random(sets.shape) + 0.3 * sets).astype(np.float32), sets
    if name == "dense":
        matrices = rng.integers(0, 20, (count, CLASSES, CLASSES)) + 40 * np.eye(CLASSES, dtype=int)
        matrices *= rng.random((count, CLASSES, 1)) < 0.6  # a picture lacks some of the classes
        answers = pixel_answers(matrices, rng.random(count), [None] * count)
        return answers, (matrices.sum(axis=2) > 0).astype(np.uint8)
    targets = rng.integers(0, CLASSES, count)
    logits = rng.normal(size=(count, CLASSES)) + 1.5 * np.eye(CLASSES)[targets]
    probs = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    return probs.astype(np.float32), targets


def test_the_best_constant_answer_has_the_figures_of_scikit_learns_dummy() -> None:
    kind = kind_of("single")
    probs, targets = samples("single")
    targets[:50] = 2
    preds = DummyClassifier(strategy="most_frequent").fit(probs, targets).predict(probs)
    expected = {
        "accuracy": sk.accuracy_score(targets, preds),
        "balanced_accuracy": sk.balanced_accuracy_score(targets, preds),
        "macro_f1": sk.f1_score(targets, preds, average="macro"),
    }
    for measure, figure in expected.items():
        assert kind.baseline(measure, probs, targets) == pytest.approx(figure, abs=1e-6)
    shares = DummyClassifier(strategy="prior").fit(probs, targets).predict_proba(probs)
    loss = sk.log_loss(targets, shares)
    assert kind.baseline("log_loss", probs, targets) == pytest.approx(loss)
    auc = sk.roc_auc_score(targets, shares, multi_class="ovr")
    assert kind.baseline("auc", probs, targets) == pytest.approx(auc)
    assert kind.baseline("cost", probs, targets) is None


def test_no_set_of_labels_for_all_pictures_is_better_than_the_best_constant_one() -> None:
    kind = kind_of("multi")
    probs, targets = samples("multi")
    targets[:, 0] = 0  # a label that no picture has, and one that most have
    targets[:90, 1] = 1
    for measure in set(kind.measures) - {"map", "auc", "log_loss"}:
        sign = 1 if RANKING[measure].higher_is_better else -1
        figures = [
            float(kind.scores(measure, probs, np.tile(one, (len(targets), 1)), targets).mean())
            for one in np.array(list(product((0, 1), repeat=CLASSES)), np.uint8)
        ]
        found = kind.baseline(measure, probs, targets)
        assert found == pytest.approx(sign * max(figures), abs=1e-6), measure
    level = np.full(targets.shape, 0.5)
    precision = sk.average_precision_score(targets[:, 1:], level[:, 1:])
    assert kind.baseline("map", probs, targets) == pytest.approx(precision)
    auc = sk.roc_auc_score(targets[:, 1:], level[:, 1:])
    assert kind.baseline("auc", probs, targets) == auc
    shares = np.broadcast_to(targets.mean(axis=0), targets.shape)
    losses = [sk.log_loss(targets[:, k], shares[:, k], labels=[0, 1]) for k in range(CLASSES)]
    assert kind.baseline("log_loss", probs, targets) == pytest.approx(np.mean(losses))


def test_no_class_for_all_pictures_is_nearer_than_the_median() -> None:
    kind = kind_of("ordinal")
    probs, targets = samples("ordinal")
    targets[:70] = 0
    constants = [np.full_like(targets, c) for c in range(CLASSES)]
    nearest = min(sk.mean_absolute_error(targets, one) for one in constants)
    assert kind.baseline("mae", probs, targets) == pytest.approx(nearest)
    kappas = [sk.cohen_kappa_score(targets, one, weights="quadratic") for one in constants]
    assert kind.baseline("kappa", probs, targets) == pytest.approx(max(kappas), abs=1e-9)
    assert kind.baseline("accuracy", probs, targets) == (targets == 0).mean()


def test_the_most_frequent_class_for_every_pixel_is_a_class_map_like_any_other() -> None:
    kind = kind_of("dense")
    answers, held = samples("dense")
    matrices = answers["matrix"]
    most = matrices.sum(axis=(0, 2)).argmax()
    constant = np.zeros_like(matrices)
    constant[:, :, most] = matrices.sum(axis=2)
    same = pixel_answers(constant, np.ones(len(constant)), [None] * len(constant))
    figures = kind.evaluate(same, held, NAMES)
    for measure in ("miou", "dice", "pixel_accuracy"):
        assert kind.baseline(measure, answers, held) == pytest.approx(figures[measure])
    counts = matrices.sum(axis=2)
    means = counts / counts.sum(axis=1, keepdims=True).clip(1)  # a picture may lack all classes
    best = kind.baseline("log_loss", answers, held)
    tried = np.random.default_rng(0).dirichlet(np.ones(CLASSES), 200)
    losses = [float((-means @ np.log(shares)).mean()) for shares in tried]
    shares = means.mean(axis=0) / means.mean(axis=0).sum()
    assert best == pytest.approx((-means @ np.log(shares)).mean()) and best <= min(losses)


def test_one_class_for_all_pictures_is_not_better_than_itself() -> None:
    """Its kappa is 0 in theory, and at times 1e-17 in floating point."""
    kind, rng = kind_of("ordinal"), np.random.default_rng(0)
    for _ in range(20):
        targets = np.append(np.arange(CLASSES), rng.choice(CLASSES, 100, p=[0.6, 0.2, 0.1, 0.1]))
        probs = np.tile(np.array([0.7, 0.1, 0.1, 0.1], np.float32), (len(targets), 1))
        preds = kind.decide(probs)
        one = Candidate(
            name="constant",
            run_ids=("r",),
            right=(preds == targets)[None],
            log_losses=kind.losses(probs, targets).mean(keepdims=True),
            scores=kind.scores("kappa", probs, preds, targets)[None],
        )
        baseline = kind.baseline("kappa", probs, targets)
        verdict = judge([one], scale=Scale("kappa", baseline=baseline))
        assert not verdict.beats_baseline
        assert str(verdict.winner.figure) == "0.0"  # and no 1e-17, which would be shown


@pytest.mark.parametrize("name", KINDS)
def test_scores_of_pictures_have_each_figure_as_their_mean(name: str) -> None:
    kind = kind_of(name)
    probs, targets = samples(name)
    figures = kind.evaluate(probs, targets, NAMES)
    preds = kind.decide(probs)
    assert kind.primary in kind.measures and kind.primary in figures
    for measure in set(kind.measures) - {"cost"}:
        mean = float(kind.scores(measure, probs, preds, targets).mean(dtype=np.float64))
        assert (mean if RANKING[measure].higher_is_better else -mean) == pytest.approx(
            figures[measure], abs=1e-5
        )
    assert all(np.isfinite(value) for value in figures.values())


@pytest.mark.parametrize(
    ("name", "measure"),
    [
        *(("multi", "macro_f1"), ("multi", "micro_f1"), ("multi", "map"), ("multi", "auc")),
        *(("dense", "miou"), ("dense", "dice"), ("dense", "pixel_accuracy")),
    ],
)
def test_scores_vary_as_resampled_figures_do(name: str, measure: str) -> None:
    kind, rng = kind_of(name), np.random.default_rng(1)
    probs, targets = samples(name, 300)
    preds = kind.decide(probs)
    scores = kind.scores(measure, probs, preds, targets)
    drawn = []
    for _ in range(400):
        chosen = rng.integers(0, len(targets), len(targets))
        drawn.append(kind.evaluate(probs[chosen], targets[chosen], NAMES)[measure])
    error = scores.std(ddof=1) / np.sqrt(len(scores))
    assert error == pytest.approx(np.std(drawn), rel=0.2)


def test_pictures_of_a_label_that_are_all_alike_say_nothing_of_one_that_is_alone() -> None:
    """The three have a mean of 0.1 but for rounding, which was taken for what they differ by."""
    targets = np.zeros((12, 2), np.uint8)
    targets[[0, 1, 5], 0] = targets[3, 1] = 1
    probs = (1 - targets).astype(np.float32)
    scores = kind_of("multi").scores("map", probs, probs.astype(np.uint8), targets)
    expected = sk.average_precision_score(targets, probs, average="macro")
    assert scores.mean() == pytest.approx(expected)


def test_figures_of_label_sets_agree_with_scikit_learn() -> None:
    probs, targets = samples("multi")
    thresholds = np.array([0.4, 0.5, 0.6, 0.45])
    preds = (probs >= thresholds.astype(np.float32)).astype(np.uint8)
    found = kind_of("multi").evaluate(probs, targets, NAMES, thresholds)
    assert found["accuracy"] == pytest.approx(sk.accuracy_score(targets, preds))
    assert found["hamming_loss"] == pytest.approx(sk.hamming_loss(targets, preds))
    assert found["macro_f1"] == pytest.approx(sk.f1_score(targets, preds, average="macro"))
    assert found["micro_f1"] == pytest.approx(sk.f1_score(targets, preds, average="micro"))
    assert found["auc"] == pytest.approx(sk.roc_auc_score(targets, probs))
    assert found["average_precision/b"] == pytest.approx(
        sk.average_precision_score(targets[:, 1], probs[:, 1])
    )
    losses = [sk.log_loss(targets[:, k], probs[:, k].astype(np.float64)) for k in range(CLASSES)]
    assert found["log_loss"] == pytest.approx(np.mean(losses), abs=1e-5)


def test_figures_of_ordered_classes_are_those_of_the_answers_by_thresholds() -> None:
    kind, (probs, targets) = kind_of("ordinal"), samples("ordinal")
    cuts = np.array([0.9, 1.4, 2.3])
    preds = np.array([sum(float(p @ np.arange(CLASSES)) >= c for c in cuts) for p in probs])
    assert (preds != probs.argmax(axis=1)).any()
    found = kind.evaluate(probs, targets, NAMES, cuts)
    assert found["kappa"] == pytest.approx(
        sk.cohen_kappa_score(targets, preds, weights="quadratic")
    )
    assert found["mae"] == pytest.approx(sk.mean_absolute_error(targets, preds))
    assert found["accuracy"] == pytest.approx(sk.accuracy_score(targets, preds))
    assert found["macro_f1"] == pytest.approx(sk.f1_score(targets, preds, average="macro"))
    assert found["balanced_accuracy"] == pytest.approx(sk.balanced_accuracy_score(targets, preds))
    each = np.tile(cuts, (len(probs), 1))  # of its own for each picture
    np.testing.assert_array_equal(kind.decide(probs, each), preds)


def test_ordered_classes_are_found_again_in_their_binary_problems() -> None:
    kind, targets = kind_of("ordinal"), np.arange(CLASSES)
    above = kind.binary_targets(targets, CLASSES)
    np.testing.assert_array_equal(above.sum(axis=1), targets)
    probs = kind.from_binary(above.astype(np.float32))
    np.testing.assert_array_equal(probs, np.eye(CLASSES, dtype=np.float32))


def test_probabilities_of_ordered_classes_sum_to_one_whatever_the_problems_say() -> None:
    rng = np.random.default_rng(0)
    probs = kind_of("ordinal").from_binary(rng.random((50, CLASSES - 1)).astype(np.float32))
    assert (probs >= 0).all()
    np.testing.assert_allclose(probs.sum(axis=1), 1, atol=1e-6)


def test_one_class_a_picture_is_not_made_of_binary_problems() -> None:
    with pytest.raises(ValueError, match="single"):
        kind_of("single").binary_targets(np.arange(3), 3)


@pytest.mark.parametrize("name", ["single", "ordinal", "multi"])
def test_of_answers_that_are_all_right_and_sure_a_loss_is_0_without_a_minus(name: str) -> None:
    probs = np.eye(3, dtype=np.float32)
    targets = np.eye(3, dtype=np.int64) if name == "multi" else np.arange(3)
    kind = kind_of(name)
    assert not np.signbit(kind.losses(probs, targets)).any()
    assert not np.signbit(kind.evaluate(probs, targets, "abc")["log_loss"])


def test_unknown_kinds_and_measures_are_refused() -> None:
    with pytest.raises(ValueError, match="single, multi, ordinal"):
        kind_of("several")
    for name in KINDS:
        probs, targets = samples(name)
        with pytest.raises(ValueError, match="must be of"):
            kind_of(name).scores("bleu", probs, kind_of(name).decide(probs), targets)


def test_label_arrays_of_both_shapes_say_the_same() -> None:
    classes = np.array([2, 0, 2, 1])
    sets = np.eye(3, dtype=np.uint8)[classes]
    np.testing.assert_array_equal(label_counts(sets, 3), label_counts(classes, 3))
    for one, other in zip(memberships(sets), memberships(classes), strict=True):
        np.testing.assert_array_equal(one, other)
    codes = label_codes(sets)
    assert codes[0] == codes[2] and len(set(codes.tolist())) == 3
    assert [label_text(one, NAMES) for one in sets] == [label_text(one, NAMES) for one in classes]


def test_a_picture_without_labels_has_a_class_of_its_own_and_no_name() -> None:
    sets = np.array([[0, 0], [1, 1]], np.uint8)
    pictures, classes = memberships(sets)
    assert list(zip(pictures, classes)) == [(0, 2), (1, 0), (1, 1)]
    assert label_text(sets[0], "ab") == "" and label_text(sets[1], "ab") == "a;b"


@pytest.mark.parametrize("name", list(KINDS))
def test_a_sweep_takes_the_metrics_that_the_kind_measures(name: str) -> None:
    probs, targets = samples(name)
    measured = kind_of(name).evaluate(probs, targets, NAMES)
    offered = {key.removeprefix("val/") for key in metrics_of(name) if key.startswith("val/")}
    every = {key.removeprefix("val/") for key in metrics_of() if key.startswith("val/")}
    assert offered - {"loss", "cost"} == every & measured.keys()
    for metric in metrics_of():
        overrides = [f"data.target={name}", f"metric={metric}", "pruner=none"]
        overrides += ["costs=costs.csv"] * (metric == COST)
        if metric in metrics_of(name):
            assert read_sweep_settings(overrides, "default").metrics == (metric,)
        else:
            with pytest.raises(
                ConfigError, match=rf"not measured with .*{name}: set it to one of "
            ):
                read_sweep_settings(overrides, "default")


@pytest.mark.parametrize("name", ["single", "ordinal"])
@pytest.mark.parametrize("classes", [2, 3, 7])
def test_by_costs_the_answer_has_the_least_mean_cost(name: str, classes: int) -> None:
    rng = np.random.default_rng(classes)
    probs = rng.dirichlet(np.ones(classes), 50).astype(np.float32)
    costs = rng.integers(-2, 9, (classes, classes)).astype(float)
    least = fixed_thresholds("cost", costs)
    for row, answer in zip(probs, kind_of(name).decide(probs, least), strict=True):
        means = [sum(row[j] * costs[j, k] for j in range(classes)) for k in range(classes)]
        assert means[answer] == pytest.approx(min(means), abs=1e-6)
    assert fixed_thresholds("kappa", costs) is None and fixed_thresholds(None, costs) is None


def test_names_in_one_cell_can_be_told_apart() -> None:
    names = ["cat", "black;white", 'so-called "dog"', "two, three"]
    assert labels_text(names[:1]) == "cat" and labels_text([]) == ""
    assert next(csv.reader([labels_text(names)], delimiter=";")) == names
    assert label_text(np.array([1, 1, 0, 0]), names) == 'cat;"black;white"'


def test_columns_of_classes_are_distinct_whatever_these_are_called() -> None:
    taken = ["path", "labels"]
    assert class_columns(["cat", "path", "=1"], taken) == ["cat", "class path", "=1"]
    both = class_columns(["labels", "class labels", "path"], taken)
    assert both == ["class class labels", "class labels", "class path"]


@pytest.mark.parametrize("name", ["single", "ordinal", "multi"])
def test_the_uncertainty_is_largest_where_a_label_would_decide_and_none_where_it_is_known(
    name: str,
) -> None:
    kind = kind_of(name)
    even = np.full((1, CLASSES), 0.5) if name == "multi" else np.array([[0.5, 0.5, 0, 0]])
    sure = np.array([[0.0, 1, 0, 0]])
    assert kind.uncertainties(even) == pytest.approx(1)
    assert kind.uncertainties(sure) == pytest.approx(0)
    probs = samples(name)[0]
    found = kind.uncertainties(probs)
    assert found.shape == (len(probs),) and ((found >= 0) & (found <= 1)).all()
    shuffled = probs[:, np.random.default_rng(0).permutation(CLASSES)]
    np.testing.assert_allclose(kind.uncertainties(shuffled), found, rtol=1e-5)
