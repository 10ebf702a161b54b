"""The search for a head: its shared work against the estimators it stands for, and its choices."""

from __future__ import annotations

import json
import time
from itertools import chain, pairwise, repeat

import numpy as np
import pytest
from scipy.special import log_softmax
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.linear_model import LogisticRegression, RidgeClassifier
from sklearn.neighbors import KNeighborsClassifier, NearestCentroid
from sklearn.svm import LinearSVC

from src.features.calibration import scores_of
from src.features.grid import HeadGroup, Normalisation, head_groups
from src.features.heads import ChosenHead, Examples, choose_head, fit_chosen
from src.features.means import NearestMean
from src.features.paths import (
    LinearPath,
    View,
    mean_scores,
    neighbour_scores,
    principal_axes,
    ridge_scores,
)
from src.features.pipeline import make_pipeline
from tests.features.classifiers import CLASSES, DIGITS, fitted, settings

TRAIN, HELD = slice(0, 500), slice(500, 900)
TRAINING = Examples(DIGITS[TRAIN], CLASSES[TRAIN], np.arange(500), [64])
BLOCKS = Normalisation("blocks", False)
ROWS = Normalisation("features", True)
# Of counted work: too few for all heads on these digits.
_SHORT = 0.6


def view(classes: int = 10, dims: int = 64) -> tuple[View, np.ndarray, np.ndarray, np.ndarray]:
    """A view of digits, with the training pictures, the labels and the held-out pictures."""
    some = CLASSES[TRAIN] < classes
    train, labels, held = DIGITS[TRAIN][some], CLASSES[TRAIN][some], DIGITS[HELD]
    train, held = train[:, :dims].copy(), held[:, :dims].copy()
    return View.of(train, held, labels, classes), train, labels, held


def two_sided(scores: np.ndarray) -> np.ndarray:
    return np.stack([-scores, scores], axis=1) / 2 if scores.ndim == 1 else scores


@pytest.mark.parametrize("classes", [2, 10])
def test_the_ridge_path_is_ridge_classifiers(classes: int) -> None:
    found, train, labels, held = view(classes)
    strengths = [0.01, 1.0, 100.0]
    for strength, scores in zip(strengths, ridge_scores(found, strengths)):
        expected = RidgeClassifier(alpha=1 / strength).fit(train, labels)
        np.testing.assert_allclose(
            scores, two_sided(expected.decision_function(held)), rtol=1e-3, atol=1e-3
        )


@pytest.mark.parametrize("classes", [2, 10])
def test_the_logistic_path_reaches_scikit_learns_minimum(classes: int) -> None:
    found, train, labels, held = view(classes)
    strengths = [0.1, 3.0, 30.0]
    path = LinearPath(found, tolerance=1e-9)
    solutions = zip(strengths, path.solutions(strengths), path.scores(strengths))
    for strength, (weights, intercepts), scores in solutions:
        expected = LogisticRegression(C=strength, max_iter=5000, tol=1e-6).fit(
            train.astype(np.float64), labels
        )
        logits = two_sided(expected.decision_function(train))
        own = found.train @ weights + intercepts
        penalty = np.square(weights).sum() * (2 if classes == 2 else 1)
        ours = _loss(own, labels) + penalty / 2 / strength / len(labels)
        theirs = _loss(logits, labels)
        theirs += np.square(expected.coef_).sum() / 2 / strength / len(labels)
        assert ours == pytest.approx(theirs, rel=1e-3)
        held_out = two_sided(expected.decision_function(held))
        agree = (scores.argmax(axis=1) == held_out.argmax(axis=1)).mean()
        assert agree > 0.99
        np.testing.assert_allclose(_centred(scores), _centred(held_out), atol=0.15)


def _loss(logits: np.ndarray, labels: np.ndarray) -> float:
    return float(-log_softmax(logits, axis=1)[np.arange(len(labels)), labels].mean())


def _centred(scores: np.ndarray) -> np.ndarray:
    return scores - scores.mean(axis=1, keepdims=True)


@pytest.mark.parametrize("classes", [2, 10])
def test_the_squared_hinge_path_is_linear_svcs(classes: int) -> None:
    found, train, labels, held = view(classes)
    strengths = [0.03, 1.0]
    path = LinearPath(found, "squared_hinge", tolerance=1e-9)
    for strength, scores in zip(strengths, path.scores(strengths)):
        # With so large a scale the intercept is hardly penalised.
        expected = LinearSVC(C=strength, intercept_scaling=100, dual=False, tol=1e-6)
        wanted = two_sided(expected.fit(train, labels).decision_function(held))
        np.testing.assert_allclose(scores, wanted, atol=0.02)


def test_a_looser_tolerance_costs_little() -> None:
    found, _, labels, _ = view()
    exact = LinearPath(found, tolerance=1e-9).solutions([1.0, 10.0])
    for (weights, offsets), (finer, fine) in zip(LinearPath(found).solutions([1.0, 10.0]), exact):
        logits, wanted = found.train @ weights + offsets, found.train @ finer + fine
        assert _loss(logits, labels) < _loss(wanted, labels) + 0.01


def test_the_nearest_mean_is_scikit_learns_at_both_ends() -> None:
    # Of 64 features some never vary, which makes LinearDiscriminantAnalysis uneasy.
    varied = DIGITS[:, DIGITS[TRAIN].var(axis=0) > 0.01]
    euclid = NearestCentroid().fit(varied[TRAIN], CLASSES[TRAIN])
    found = NearestMean(1.0).fit(varied[TRAIN], CLASSES[TRAIN])
    np.testing.assert_array_equal(found.predict(varied[HELD]), euclid.predict(varied[HELD]))
    for shrinkage in (0.01, 0.3):
        lda = LinearDiscriminantAnalysis(solver="lsqr", shrinkage=shrinkage, priors=[0.1] * 10)
        # Its covariance weighs classes by their priors, not by their sizes: equal sizes here.
        even = np.concatenate([np.flatnonzero(CLASSES[TRAIN] == k)[:40] for k in range(10)])
        lda.fit(varied[even].astype(np.float64), CLASSES[even])
        found = NearestMean(shrinkage).fit(varied[even], CLASSES[even])
        wanted = _centred(lda.decision_function(varied[HELD]))
        np.testing.assert_allclose(
            _centred(found.decision_function(varied[HELD])), wanted, atol=0.05
        )


@pytest.mark.parametrize("shrinkage", [0.01, 0.3])
def test_a_nearest_mean_of_fewer_pictures_than_features_is_the_same(shrinkage: float) -> None:
    features = np.random.default_rng(0).standard_normal((40, 300)).astype(np.float32)
    labels = np.arange(40) % 4
    means = np.stack([features[labels == k].mean(axis=0) for k in range(4)])
    within = (features - means[labels]).astype(np.float64)
    covariance = (1 - shrinkage) / 40 * within.T @ within
    covariance += shrinkage * np.eye(300) * np.square(within).sum() / (300 * 40)
    wanted = np.linalg.solve(covariance, (means - means.mean(axis=0)).T).T
    found = NearestMean(shrinkage).fit(features, labels)
    np.testing.assert_allclose(found.coef_, wanted, rtol=1e-3, atol=1e-3 * np.abs(wanted).max())


@pytest.mark.parametrize("classes", [2, 10])
def test_the_path_of_nearest_means_is_the_estimators(classes: int) -> None:
    found, train, labels, held = view(classes)
    shrinkages = [0.01, 0.3, 1.0]
    for shrinkage, scores in zip(shrinkages, mean_scores(found, shrinkages)):
        expected = NearestMean(shrinkage).fit(train, labels).decision_function(held)
        np.testing.assert_allclose(
            _centred(scores), _centred(two_sided(expected)), rtol=2e-3, atol=2e-3
        )


def test_the_votes_of_neighbours_are_scikit_learns() -> None:
    found, train, labels, held = view()
    held[:20] = train[:20]  # equal pictures vote alone
    found = View.of(train, held, labels, 10)
    for count, scores in zip([1, 5, 20], neighbour_scores(found, [1, 5, 20])):
        machine = KNeighborsClassifier(count, weights="distance", algorithm="brute")
        machine.fit(train.astype(np.float64), labels)
        expected = scores_of(machine, held.astype(np.float64), 10)
        close = np.isclose(np.exp(scores), np.exp(expected), atol=5e-3).all(axis=1)
        assert close.mean() > 0.98, "but for ties"


@pytest.mark.parametrize("shape", [(40, 100), (100, 40)])
def test_principal_axes_rebuild_the_features(shape: tuple[int, int]) -> None:
    features = np.random.default_rng(0).standard_normal(shape, np.float32)
    features -= features.mean(axis=0)
    axes, variances = principal_axes(features)
    rotated = features @ axes
    np.testing.assert_allclose(rotated @ axes.T, features, atol=1e-4)
    np.testing.assert_allclose(np.cov(rotated.T, bias=True), np.diag(variances), atol=1e-4)
    assert all(a >= b for a, b in pairwise(variances)) and len(variances) == min(shape) - (
        shape[0] < shape[1]
    )


def _sparse(group: HeadGroup) -> HeadGroup:
    return HeadGroup(group.kind, group.normalisation, group.heads[2:5])


# Few pictures of many features too: more axes than pictures there are not.
@pytest.mark.parametrize(("count", "classes"), [(500, 10), (45, 3), (90, 2)])
def test_every_head_of_the_search_is_what_its_settings_fit(count: int, classes: int) -> None:
    from src.features.heads import _Fold, _group_scores

    kept = np.flatnonzero(np.less(CLASSES, classes))[: count + 60]
    features, labels = DIGITS[kept], CLASSES[kept]
    train, held = np.arange(count), np.arange(count, len(kept))
    fold = _Fold(Examples(features, labels, labels, [40, 24]), labels, train, held, 0)
    groups = [_sparse(group) for group in head_groups(max(count, 200), 64)]
    assert {group.kind for group in groups} >= {"ridge", "logistic", "knn", "rbf_svm"}
    for group in groups:
        for head, scores in zip(group.heads, _group_scores(group, fold)):
            chosen = head.settings(settings())
            pipeline = make_pipeline(chosen, [40, 24], pictures=count, seed=0, threads=1)
            expected = scores_of(
                pipeline.fit(features[train], labels[train]), features[held], classes
            )
            ours, theirs = _centred(scores), _centred(expected)
            error = np.sqrt(np.square(ours - theirs).mean() / np.square(theirs).mean())
            assert error < 0.1, head


@pytest.mark.slow
def test_the_choice_is_as_good_on_unseen_pictures_as_any_one_kind() -> None:
    choice, digits = _choice(), (DIGITS[TRAIN], CLASSES[TRAIN])
    auto = settings("model.classifier=auto")
    model = fit_chosen(choice, auto, TRAINING, num_classes=12, seed=0, threads=1)
    probs = model.probabilities(DIGITS[HELD])
    assert probs.shape == (400, 12) and (probs[:, 10:] == 0).all()
    right = probs.argmax(axis=1) == CLASSES[HELD]
    assert abs(probs.max(axis=1).mean() - right.mean()) < 0.04, "as sure as it is right"
    for kind in ("rbf_svm", "logistic", "nearest_mean"):
        other = fitted(settings(f"model.classifier={kind}"), *digits, num_classes=12, folds=5)
        theirs = other.probabilities(DIGITS[HELD]).argmax(axis=1) == CLASSES[HELD]
        assert right.mean() > theirs.mean() - 0.01, kind
    assert choice.tried > 100 and choice.folds == 5
    assert choice.record()["settings"]["classifier"] == choice.head.kind


def _few() -> list[HeadGroup]:
    return [
        HeadGroup.of("ridge", BLOCKS, [{"strength": s} for s in (1e-6, 1.0)]),
        HeadGroup.of("nearest_mean", ROWS, [{"shrinkage": s} for s in (0.1, 1.0)]),
    ]


def _choice(seconds: float = 100.0, groups: list[HeadGroup] | None = None):
    groups = groups or head_groups(500, 64)
    options = {"folds": 5, "seed": 0, "seconds": seconds, "groups": groups}
    return choose_head(TRAINING, **options)


def test_the_same_search_finds_the_same() -> None:
    first, second = _choice(groups=_few()), _choice(groups=_few())
    assert first.head == second.head and first.log_loss == second.log_loss
    np.testing.assert_array_equal(first.calibration.shift, second.calibration.shift)
    assert first.tried == 4


def test_a_choice_outlives_its_plain_values() -> None:
    choice = _choice(groups=_few())
    again = ChosenHead.from_plain(json.loads(json.dumps(choice.plain())))
    assert again.head == choice.head and again.record() == choice.record()
    assert again.calibration.slope == choice.calibration.slope
    np.testing.assert_array_equal(again.calibration.shift, choice.calibration.shift)


def test_a_head_that_is_clearly_worse_is_not_chosen() -> None:
    # So weak a ridge guesses by the sizes of the classes.
    assert dict(_choice(groups=_few()[:1]).head.values)["strength"] == 1.0


def test_the_search_ends_with_its_time() -> None:
    started = time.perf_counter()
    choice = _choice(seconds=1e-9)
    assert time.perf_counter() - started < 30
    first = head_groups(500, 64)[0]
    assert choice.head in first.heads and choice.tried == len(first.heads) and choice.folds == 1
    assert not choice.complete and _choice(groups=_few()).complete


class _Clock:
    """One that begins at 0 and stands at a later second from then on."""

    def __init__(self, later: float) -> None:
        self._seconds = chain([0.0], repeat(later))

    def perf_counter(self) -> float:
        return next(self._seconds)


def test_a_busy_machine_finds_the_same_head(monkeypatch: pytest.MonkeyPatch) -> None:
    found = []
    for later in (0.001, 0.98, 1.02):
        monkeypatch.setattr("src.features.heads.time", _Clock(later * _SHORT))
        found.append(_choice(_SHORT))
    idle, busy, late = found
    assert busy.head == idle.head and busy.log_loss == idle.log_loss
    np.testing.assert_array_equal(busy.calibration.shift, idle.calibration.shift)
    assert (busy.tried, busy.folds) == (idle.tried, idle.folds)
    first = len(head_groups(500, 64)[0].heads)
    assert first < idle.tried < sum(len(group.heads) for group in head_groups(500, 64))
    assert not idle.complete and not idle.late and not busy.late
    assert late.late and late.tried == first and str(late).endswith("with no time for more")


def test_copies_share_a_fold() -> None:
    rng = np.random.default_rng(0)
    features = rng.standard_normal((60, 8)).astype(np.float32)
    labels = np.arange(60) % 3  # says nothing of the features: only a torn pair could be known
    twice = [np.concatenate([one, one]) for one in (features, labels)]
    knn = [HeadGroup.of("knn", BLOCKS, [{"neighbours": 1}])]
    choose = {"folds": 5, "seed": 0, "seconds": 100.0, "groups": knn}
    apart = choose_head(Examples(*twice, np.tile(np.arange(60), 2), [8]), **choose)
    torn = choose_head(Examples(*twice, np.arange(120), [8]), **choose)
    assert apart.accuracy < 0.6 and torn.accuracy > 0.8


def test_many_pictures_have_no_kernel_of_all_pairs() -> None:
    heads = [head for group in head_groups(50_000, 1280) for head in group.heads]
    kernels = [dict(head.values) for head in heads if head.kind == "rbf_svm"]
    assert kernels and all(values["exact_up_to"] == 0 for values in kernels)
    assert not any(head.kind == "knn" for head in heads)
    kinds = [{group.kind for group in head_groups(count, 64)} for count in (199, 200)]
    assert kinds[1] - kinds[0] == {"knn"}, "few held-out pictures flatter votes"
    wide = [head.normalisation for group in head_groups(9000, 9000) for head in group.heads]
    assert all(one.keep is not None for one in wide), (
        "what is too large to be decomposed is reduced"
    )


def test_more_pictures_than_a_kernel_takes_are_searched_through_too(monkeypatch) -> None:
    monkeypatch.setattr("src.features.grid._MOST_EXACT", 100)
    monkeypatch.setattr("src.features.grid._COMPONENTS", 200)
    monkeypatch.setattr("src.features.heads._MOST_ROTATED", 20)
    monkeypatch.setattr(Normalisation, "MOST_KEPT", 30)
    choice = _choice(groups=[g for g in head_groups(2500, 2500) if g.kind in ("rbf_svm", "ridge")])
    assert choice.accuracy > 0.9


def test_features_that_never_vary_are_searched_through_and_answer_by_the_classes_alone() -> None:
    labels = np.arange(40) % 4 // 3  # three times as many of the first
    for outlier in (1.0, 0.0):  # one that only the fold it is in varies by
        features = np.ones((40, 6), np.float32)
        features[0] = outlier
        groups = head_groups(*features.shape)
        examples = Examples(features, labels, np.arange(40), [6])
        choice = choose_head(examples, folds=2, seed=0, seconds=60.0, groups=groups)
        assert choice.tried == sum(len(group.heads) for group in groups)
        model = fit_chosen(
            *(choice, settings("model.classifier=auto"), examples),
            num_classes=2,
            seed=0,
            threads=1,
        )
        np.testing.assert_allclose(model.probabilities(features[1:]), [[0.75, 0.25]] * 39, atol=0.1)
