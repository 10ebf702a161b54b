"""Scaling, selection, classifiers and calibration, against scikit-learn's own ways to the same."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import softmax
from sklearn.decomposition import PCA
from sklearn.feature_selection import SelectKBest, f_classif
from sklearn.kernel_approximation import Nystroem
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.metrics import log_loss
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

from src.config.features import CLASSIFIERS
from src.features.calibration import CalibratedModel, Calibration, folds_of, held_together
from src.features.pipeline import make_pipeline
from src.features.rbf import RbfMachine
from src.features.scaling import BlockScaler, PartWhitening
from src.features.selection import KeepBest
from tests.features.classifiers import CLASSES, DIGITS, SELECTIONS, fitted, settings

TRAIN, HELD = slice(0, 1000), slice(1000, None)


@pytest.mark.parametrize("classifier", CLASSIFIERS)
def test_every_classifier_learns_the_digits_and_means_its_probabilities(classifier: str) -> None:
    small = ["model.random_forest.trees=50", "model.gradient_boosting.rounds=15"]
    wanted = settings(f"model.classifier={classifier}", *small)
    model = fitted(wanted, DIGITS[TRAIN], CLASSES[TRAIN])
    probs = model.probabilities(DIGITS[HELD])
    assert probs.dtype == np.float32 and probs.shape == (797, 10)
    np.testing.assert_allclose(probs.sum(axis=1), 1, atol=1e-5)
    right = probs.argmax(axis=1) == CLASSES[HELD]
    assert right.mean() > 0.86
    assert abs(probs.max(axis=1).mean() - right.mean()) < 0.05, "as sure as it is right"


@pytest.mark.parametrize("selection", SELECTIONS)
def test_every_selection_keeps_what_tells_digits_apart(selection: str) -> None:
    overrides = [f"model.selection={selection}", "model.keep=30", "model.classifier=rbf_svm"]
    model = fitted(settings(*overrides), DIGITS[TRAIN], CLASSES[TRAIN])
    probs = model.probabilities(DIGITS[HELD])
    assert (probs.argmax(axis=1) == CLASSES[HELD]).mean() > 0.9
    seen = model.pipeline.named_steps["classify"].exact_.n_features_in_
    assert seen == (64 if selection == "none" else 30)


def test_anova_keeps_what_scikit_learn_keeps() -> None:
    varied = DIGITS[:, DIGITS.var(axis=0) > 0]
    expected = SelectKBest(f_classif, k=12).fit(varied, CLASSES).get_support(indices=True)
    np.testing.assert_array_equal(KeepBest("anova", 12).fit(varied, CLASSES).kept_, expected)


def test_noise_is_not_kept() -> None:
    rng = np.random.default_rng(0)
    telling = np.eye(10)[CLASSES] + rng.normal(0, 0.3, (len(CLASSES), 10))
    features = np.concatenate([rng.normal(0, 0.1, (len(CLASSES), 40)), telling], axis=1)
    for criterion in ("variance", "anova", "mutual_information", "l1"):
        kept = KeepBest(criterion, 10).fit(features.astype(np.float32), CLASSES).kept_
        assert (kept >= 40).all(), criterion


def test_scaling_makes_blocks_alike() -> None:
    features = np.random.default_rng(0).normal(3, [1, 2, 3, 100, 200], (500, 5)).astype(np.float32)
    features[:, 2] = 7
    blocks = BlockScaler([3, 2]).fit(features).transform(features)
    variances = blocks.var(axis=0)
    np.testing.assert_allclose([variances[:3].sum(), variances[3:].sum()], 1, rtol=1e-4)
    np.testing.assert_allclose(variances[1] / variances[0], 4, rtol=0.3)
    assert (blocks[:, 2] == 0).all()
    each = BlockScaler([5], each=True).fit(features).transform(features)
    np.testing.assert_allclose(each, StandardScaler().fit_transform(features) / 2, atol=1e-4)
    with pytest.raises(ValueError, match="no blocks"):
        BlockScaler([4]).fit(features)


@pytest.mark.parametrize("each", [False, True])
def test_scaling_does_not_depend_on_the_unit_of_a_block(each: bool) -> None:
    random = np.random.default_rng(0)
    features = random.normal(3, [1, 2, 3], (500, 3)).astype(np.float32)
    tiny = BlockScaler([3], each=each).fit_transform(features * np.float32(1e-9))
    np.testing.assert_allclose(tiny, BlockScaler([3], each=each).fit_transform(features), atol=1e-5)
    rounded = np.full((500, 1), 1e6, np.float32) + random.choice([0, 0.0625], (500, 1))
    beside = np.concatenate([features, rounded.astype(np.float32)], axis=1)
    assert (BlockScaler([4], each=each).fit_transform(beside)[:, 3] == 0).all()


def test_the_exact_machine_is_scikit_learns() -> None:
    machine = RbfMachine(5.0, 0.7).fit(DIGITS[TRAIN], CLASSES[TRAIN])
    gamma = 0.7 / DIGITS[TRAIN].var(axis=0).sum()
    expected = SVC(C=5.0, gamma=gamma).fit(DIGITS[TRAIN], CLASSES[TRAIN])
    scores = machine.decision_function(DIGITS[HELD])
    assert (scores.argmax(axis=1) == expected.predict(DIGITS[HELD])).mean() > 0.98
    # Between two classes alone, in the words of scikit-learn: positive where the first one wins.
    expected.set_params(decision_function_shape="ovo")
    pairs = iter(expected.decision_function(DIGITS[HELD]).T)
    of_pairs = np.zeros((10, 10, len(scores)))
    for first in range(10):
        for second in range(first + 1, 10):
            of_pairs[first, second] = np.tanh(2 * next(pairs))
    np.testing.assert_allclose(scores, (of_pairs.sum(axis=1) - of_pairs.sum(axis=0)).T, atol=1e-3)


def test_sums_over_opponents_say_more_of_doubt_than_votes_do() -> None:
    noisy = DIGITS + np.random.default_rng(0).normal(0, 0.8, DIGITS.shape).astype(np.float32)
    machine = RbfMachine(10.0).fit(noisy[TRAIN], CLASSES[TRAIN])
    known, unknown = slice(1000, 1400), slice(1400, None)
    sums = machine.decision_function(noisy)
    votes = machine.exact_.set_params(decision_function_shape="ovr").decision_function(noisy)
    losses = []
    for scores in (sums, votes):
        calibration = Calibration.fit(scores[known], CLASSES[known])
        losses.append(log_loss(CLASSES[unknown], calibration(scores[unknown])))
    assert losses[0] < losses[1]


def test_the_sampled_machine_is_a_ridge_on_nystroems_features() -> None:
    machine = RbfMachine(2.0, 1.0, exact_up_to=0, components=1000).fit(
        DIGITS[TRAIN], CLASSES[TRAIN]
    )
    train = DIGITS[TRAIN].astype(np.float64)
    gamma = 1 / train.var(axis=0).sum()
    basis = Nystroem(gamma=gamma, n_components=1000).fit(train)
    wanted = np.where(CLASSES[TRAIN, None] == np.arange(10), 1.0, -1.0)
    offset = wanted.mean(axis=0)
    ridge = Ridge(alpha=0.5, fit_intercept=False).fit(basis.transform(train), wanted - offset)
    expected = ridge.predict(basis.transform(DIGITS[HELD].astype(np.float64))) + offset
    found = machine.decision_function(DIGITS[HELD])
    np.testing.assert_allclose(found, expected, atol=0.02)
    assert (machine.predict(DIGITS[HELD]) == CLASSES[HELD]).mean() > 0.93


@pytest.mark.parametrize("exact_up_to", [0, 10_000])
def test_two_classes_have_one_score(exact_up_to: int) -> None:
    two = CLASSES < 2
    machine = RbfMachine(exact_up_to=exact_up_to, components=50).fit(DIGITS[two], CLASSES[two])
    scores = machine.decision_function(DIGITS[two])
    assert scores.ndim == 1
    np.testing.assert_array_equal(machine.predict(DIGITS[two]), (scores > 0).astype(int))
    assert (machine.predict(DIGITS[two]) == CLASSES[two]).mean() > 0.98


@given(st.floats(0.2, 5.0), st.integers(0, 100))
def test_calibration_finds_the_slope_and_the_shifts(slope: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    shift = np.array([0.5, 0.0, -0.5])
    scores = rng.normal(0, 2 / slope, (6000, 3))
    probs = softmax(slope * scores + shift, axis=1)
    targets = (rng.random((6000, 1)) > probs.cumsum(axis=1)).sum(axis=1).clip(max=2)
    found = Calibration.fit(scores, targets)
    assert found.slope == pytest.approx(slope, rel=0.12)
    np.testing.assert_allclose(found.shift, shift, atol=0.15)


def test_calibration_of_two_classes_is_a_logistic_regression() -> None:
    rng = np.random.default_rng(0)
    score = rng.normal(0, 3, 4000)
    targets = (rng.random(4000) < 1 / (1 + np.exp(-0.5 * score - 0.3))).astype(np.int64)
    found = Calibration.fit(np.stack([-score, score], axis=1) / 2, targets)
    expected = LogisticRegression(C=1e6).fit(score[:, None], targets)
    assert found.slope == pytest.approx(expected.coef_[0, 0], rel=0.01)
    assert found.shift[1] - found.shift[0] == pytest.approx(expected.intercept_[0], abs=0.01)


def test_calibration_helps_and_stays_finite_where_all_is_right() -> None:
    rng = np.random.default_rng(0)
    targets = rng.integers(0, 4, 2000)
    scores = 20 * (np.eye(4)[targets] + rng.normal(0, 0.5, (2000, 4)))
    found = Calibration.fit(scores[:1000], targets[:1000])
    uncalibrated = softmax(scores[1000:], axis=1)
    assert log_loss(targets[1000:], found(scores[1000:])) < log_loss(targets[1000:], uncalibrated)
    perfect = Calibration.fit(np.eye(4)[targets], targets)
    assert np.isfinite(perfect.slope) and np.isfinite(perfect.shift).all()


@pytest.mark.parametrize("seed", range(4))
def test_calibration_goes_on_until_every_class_was_held_out(seed: int) -> None:
    # Eight videos, each held out as a whole, and a single one is enough by its pictures alone.
    videos = np.repeat(np.arange(8), 6000)
    targets = np.where(videos < 2, np.arange(len(videos)) % 2, 0)
    features = np.random.default_rng(0).normal(0, 1, (len(videos), 2)).astype(np.float32)
    features[:, 0] += 4 * targets
    model = CalibratedModel.fit(
        lambda count: LogisticRegression(),
        *(features, targets, videos),
        num_classes=2,
        folds=5,
        seed=seed,
    )
    found = model.probabilities(features).argmax(axis=1)
    assert (found[targets == 1] == 1).mean() > 0.8


@given(st.integers(2, 40), st.integers(2, 6), st.integers(0, 9))
def test_folds_hold_every_picture_out_once_and_never_its_copy(
    count: int, folds: int, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 3, count)
    contents = rng.integers(0, count, count)
    if len(np.unique(contents)) < 2:
        return
    held_out = []
    for train, held in folds_of(labels, contents, folds, seed):
        assert sorted([*train, *held]) == list(range(count))
        assert not set(contents[train]) & set(contents[held])
        held_out += held.tolist()
    assert sorted(held_out) == list(range(count))


@given(st.integers(2, 40), st.integers(1, 12), st.integers(0, 9))
def test_what_is_held_together_is_a_group_where_each_of_its_classes_has_another(
    count: int, groups: int, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    labels, group = rng.integers(0, 3, count), 7 * rng.integers(0, groups, count)
    contents = rng.integers(0, count, count)
    found = held_together(labels, group, contents)
    for one in np.unique(group):
        own = group == one
        shared = all(set(group[labels == k]) > {one} for k in set(labels[own]))
        codes = np.zeros(int(own.sum()), int) if shared else contents[own]
        np.testing.assert_array_equal(found[own][:, None] == found[own], codes[:, None] == codes)
        assert not set(found[own]) & set(found[~own]) or not shared
    alone = held_together(labels, None, contents)
    np.testing.assert_array_equal(alone[:, None] == alone, contents[:, None] == contents)


def test_groups_of_label_sets_stay_whole_unless_they_alone_have_a_label() -> None:
    group = np.repeat([5, 6, 7], 4)
    sets = np.zeros((12, 2), np.uint8)
    sets[[0, 4, 8], 0] = sets[[4, 9], 1] = 1  # no other picture has both, as the fifth has
    contents = np.arange(12)
    together = held_together(sets, group, contents)
    np.testing.assert_array_equal(together[:, None] == together, group[:, None] == group)
    sets[4, 1] = 0
    divided = held_together(sets, group, contents)
    assert len(set(divided[:4])) == len(set(divided[4:8])) == 1 and len(set(divided[8:])) == 4


def test_a_class_that_was_not_there_to_learn_has_no_probability() -> None:
    some = CLASSES[TRAIN] != 3
    learnt = DIGITS[TRAIN][some], CLASSES[TRAIN][some]
    model = fitted(settings(), *learnt, num_classes=12, folds=2)
    probs = model.probabilities(DIGITS[HELD])
    assert probs.shape == (797, 12) and (probs[:, [3, 10, 11]] == 0).all()
    np.testing.assert_allclose(probs.sum(axis=1), 1, atol=1e-5)
    assert model.probabilities(DIGITS[:0]).shape == (0, 12)


def test_a_class_of_one_picture_is_learnt_too() -> None:
    kept = np.concatenate([np.flatnonzero(CLASSES < 2)[:60], np.flatnonzero(CLASSES == 2)[:1]])
    model = fitted(settings(), DIGITS[kept], CLASSES[kept], num_classes=3, folds=5)
    assert (model.probabilities(DIGITS[kept]) > 0).all()


def test_the_seed_decides() -> None:
    model = settings("model.classifier=random_forest", "model.random_forest.trees=10")
    first, again = (fitted(one, DIGITS[TRAIN], CLASSES[TRAIN]) for one in (model, replace(model)))
    np.testing.assert_array_equal(first.probabilities(DIGITS), again.probabilities(DIGITS))


@pytest.mark.parametrize("power", [0.0, 0.5, 1.0])
def test_whitening_in_part_leaves_that_power_of_the_spreads(power: float) -> None:
    spreads = np.array([100.0, 5.0, 0.1, 0.0], np.float32)
    features = np.random.default_rng(0).standard_normal((2000, 4), np.float32) * spreads
    found = PartWhitening(power).fit(features).transform(features).std(axis=0)
    expected = np.where(spreads > 0, features.std(axis=0), 0)[:3] ** (1 - power)
    np.testing.assert_allclose(found[:3], expected, rtol=1e-4)
    assert found[3] == 0


def test_a_whole_whitening_is_scikit_learns() -> None:
    features = np.random.default_rng(0).standard_normal((300, 6), np.float32) @ np.diag(range(1, 7))
    parts = PCA(4, random_state=0).fit_transform(features)
    expected = PCA(4, random_state=0, whiten=True).fit_transform(features)
    found = PartWhitening(1.0).fit(parts).transform(parts)
    np.testing.assert_allclose(found, expected * np.sqrt(300 / 299), rtol=1e-4)


@pytest.mark.parametrize("classifier", CLASSIFIERS)
@pytest.mark.parametrize("counts", [(40, 1), (1, 1), (2, 1)])
def test_a_fold_that_leaves_one_class_does_not_end_the_fit(
    classifier: str, counts: tuple[int, int]
) -> None:
    small = ["model.random_forest.trees=5", "model.gradient_boosting.rounds=2"]
    kept = np.concatenate([np.flatnonzero(k == CLASSES)[:n] for k, n in enumerate(counts)])
    wanted = settings(f"model.classifier={classifier}", *small)
    model = fitted(wanted, DIGITS[kept], CLASSES[kept], num_classes=2, folds=5)
    probs = model.probabilities(DIGITS[CLASSES == 0])
    np.testing.assert_allclose(probs.sum(axis=1), 1, atol=1e-5)
    assert (probs > 0).all()
    if counts == (40, 1):
        assert probs[:, 0].mean() > 0.8, "one picture in 41 has the other class"


@pytest.mark.parametrize("selection", SELECTIONS)
def test_every_selection_takes_one_picture_a_class(selection: str) -> None:
    kept = [int(np.flatnonzero(k == CLASSES)[0]) for k in range(3)]
    wanted = settings(f"model.selection={selection}", "model.keep=2", "model.classifier=ridge")
    model = fitted(wanted, DIGITS[kept], CLASSES[kept], num_classes=3)
    assert np.isfinite(model.probabilities(DIGITS)).all()


def test_copies_of_one_picture_are_divided() -> None:
    labels, contents = np.array([0, 1, 1, 1]), np.zeros(4)
    held_out = [held for _, held in folds_of(labels, contents, 5, 0)]
    assert sorted(np.concatenate(held_out)) == [0, 1, 2, 3]
    model = CalibratedModel.fit(
        lambda n: make_pipeline(settings(), [64], pictures=n, seed=0, threads=1),
        np.repeat(DIGITS[:1], 4, axis=0),
        labels,
        contents,
        num_classes=2,
        folds=5,
        seed=0,
    )
    assert model.probabilities(DIGITS[:1])[0, 1] > 0.5
