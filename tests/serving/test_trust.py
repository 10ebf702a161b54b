"""Promises about answers, on simulated models whose errors are known."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from src.records.certainty import Certainty
from src.reporting.certainty_report import CardCertainty, Judgement, card_lines, judgement_lines
from src.serving.bundle import open_predictor
from src.serving.bundle_files import CERTAINTY
from src.serving.bundle_writing import add_certainty
from src.serving.predictor import Predictor
from src.serving.trust import NO_CALIBRATION, Promise, Trust, false_alarms, familiar
from tests.serving.bundles import CLASSES, bundle, certainty_of, feature_sample


def answers(count: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Probabilities (N, 4), true classes drawn by them, and features (N, 6)."""
    chance = np.random.default_rng(seed)
    probs = chance.dirichlet([0.15] * 4, count).astype(np.float32)
    targets = np.array([chance.choice(4, p=row / row.sum()) for row in probs.astype(float)])
    return probs, targets, chance.normal(size=(count, 6)).astype(np.float32)


def certainty(count: int = 2000, *, sample: bool = True) -> Certainty:
    probs, targets, features = answers(count, 0)
    known = np.random.default_rng(9).normal(size=(500, 6))
    return certainty_of(probs, targets, feature_sample(known, features) if sample else None)


def test_sets_hold_the_true_label_and_answers_are_as_right_as_was_promised() -> None:
    probs, targets, features = answers(20_000, 1)
    trust = Trust(certainty(), Promise(coverage=0.9, max_error=0.05))
    judged = trust.judge(probs, features)
    assert judged.sets is not None and judged.answered is not None and judged.unlike is not None
    assert judged.sets[np.arange(20_000), targets].mean() == pytest.approx(0.9, abs=0.02)
    wrong = probs.argmax(axis=1) != targets
    assert wrong.mean() > 0.15 and wrong[judged.answered].mean() <= 0.05
    assert judged.answered.mean() > 0.4
    assert not judged.answered[judged.unlike].any()
    assert judged.unlike.mean() == pytest.approx(0.01, abs=0.007)


def test_classwise_sets_cover_each_class() -> None:
    probs, targets, features = answers(20_000, 1)
    judged = Trust(certainty(), Promise(coverage=0.9, classwise=True)).judge(probs, features)
    assert judged.sets is not None and judged.answered is None
    for label in range(4):
        held = judged.sets[targets == label, label].mean()
        assert held == pytest.approx(0.9, abs=0.035)


def test_strange_pictures_are_flagged_and_like_ones_seldom() -> None:
    probs, _, _ = answers(300, 2)
    trust = Trust(certainty(), Promise())
    chance = np.random.default_rng(3)
    far = trust.judge(probs, (12 * chance.normal(size=(300, 6))).astype(np.float32))
    like = trust.judge(probs, chance.normal(size=(300, 6)).astype(np.float32))
    assert far.novelty is not None and like.novelty is not None
    assert far.unlike is not None and far.unlike.mean() > 0.9
    assert np.median(like.novelty) > 0.4
    assert far.distances is not None and like.distances is not None
    confidences = probs.max(axis=1)
    strange, usual = (trust.shift(confidences, one.distances) for one in (far, like))
    assert strange is not None and strange.p_value < 1e-6
    assert usual is not None and usual.p_value > 0.001


def test_a_model_that_was_trained_again_is_surer_and_its_pictures_are_no_others_for_that() -> None:
    known = dataclasses.replace(certainty(), refitted=True)
    probs, _, features = answers(300, 2)
    surer = np.sqrt(probs.max(axis=1))
    trust = Trust(known, Promise())
    like_distances = trust.judge(probs, features).distances
    like = trust.shift(surer, like_distances)
    assert like is not None and like.p_value > 0.01 and like.largest == "distances"
    far = trust.shift(surer, trust.judge(probs, 12 * features).distances)
    assert far is not None and far.p_value < 1e-6
    same = Trust(certainty(), Promise()).shift(surer, None)
    assert same is not None and same.p_value < 0.01, "of one model they are"
    without = Trust(dataclasses.replace(known, sample=None), Promise())
    assert without.shift(surer, None) is None
    assert known.sample is not None
    others = dataclasses.replace(known, sample=dataclasses.replace(known.sample, comparable=False))
    assert Trust(others, Promise()).shift(surer, like_distances) is None


def test_the_flagged_are_those_of_the_calibration_beyond_the_same_distance() -> None:
    known = certainty()
    assert known.sample is not None
    probs, _, _ = answers(2000, 0)
    _, _, features = answers(2000, 0)
    unlike = Trust(known, Promise()).judge(probs, features).unlike
    assert unlike is not None and unlike.any()
    np.testing.assert_array_equal(familiar(known), ~unlike)
    assert familiar(dataclasses.replace(known, sample=None)).all()


@pytest.mark.parametrize("count", [19, 36, 99, 150, 2900])
def test_as_many_of_the_like_pictures_are_flagged_as_is_said(count: int) -> None:
    chance = np.random.default_rng(count)
    said = false_alarms(certainty(count))
    assert said is not None
    # Distances, which alone count, of 4,000 calibrations and of one new picture for each.
    new, others = chance.random(4000), chance.random((4000, count), np.float32)
    flagged = (1 + (others >= new[:, None]).sum(axis=1)) / (count + 1) <= said
    error = np.sqrt(said * (1 - said) / 4000)
    assert np.mean(flagged) == pytest.approx(said, abs=4 * error)
    assert said == {19: 0.05, 36: 1 / 37, 99: 0.01, 150: 1 / 151, 2900: 29 / 2901}[count]


def test_lines_and_cards_say_which_share_of_like_pictures_is_flagged() -> None:
    judged = {"pictures": 200, "coverage": None, "classwise": False, "labels": 0, "empty": 0}
    judged |= {"max_error": None, "answered": 200, "shift_p_value": 0.5, "unlike": 7}
    card = {"answered": {}, "coverages": [], "errors": {}}
    for count, line, of_card in (
        (36, "(false-alarm rate 2.7 %)", "(false-alarm rate 2.7 %)"),
        (2000, "(false-alarm rate 1.0 %)", "(false-alarm rate 1.0 %)"),
        (18, "unlike: 18 calibration pictures are too few", "18 calibration pictures are too few"),
    ):
        known = certainty(count)
        rate = false_alarms(known)
        basis = {"certainty": known, "false_alarms": rate}
        (said, _) = judgement_lines(Judgement(**basis, **judged))
        assert line in said and ("7 of 200" in said) == (rate is not None)
        assert of_card in card_lines(CardCertainty(**basis, **card))[-1]


def test_lines_say_what_is_left_to_a_person_and_what_a_shift_does_to_the_promise() -> None:
    known = certainty()
    judged = {"pictures": 200, "coverage": 0.9, "classwise": True, "labels": 260, "empty": 3}
    judged |= {"max_error": 0.02, "answered": 150, "unlike": 7, "false_alarms": 0.01}
    for p_value, line in (
        (0.5, "shift: no distribution shift"),
        (1e-4, "(p = 0.0001), so the guarantees above do not hold"),
    ):
        found = Judgement(certainty=known, **judged, shift_p_value=p_value)  # type: ignore[arg-type]
        sets, answered, unlike, basis, shift = judgement_lines(found)
        assert "true label of 90 % of the pictures of each class; 1.30 labels on average" in sets
        assert "150 of 200 pictures, with at most 2 % of the answers wrong" in answered
        assert answered.endswith("50 (25.0 %) are left to a person") and "7 of 200" in unlike
        assert "2,000 pictures of the test part" in basis and line in shift
    untested = Judgement(certainty=known, **judged, shift_p_value=None)  # type: ignore[arg-type]
    assert judgement_lines(untested)[-1].startswith("shift: not tested")
    plain = {"coverage": None, "max_error": None, "shift_p_value": 1e-4}
    (_, shift) = judgement_lines(Judgement(certainty=known, **judged | plain))  # type: ignore[arg-type]
    assert shift.endswith("so the measured figures do not hold for them")


@pytest.mark.parametrize("p_value", [0.5, 1e-4])
def test_a_single_picture_has_no_shift_and_is_mentioned_where_it_is_unlike(p_value: float) -> None:
    known = certainty()
    judged = {"pictures": 1, "coverage": None, "classwise": False, "labels": 0, "empty": 0}
    judged |= {"max_error": None, "answered": 1, "false_alarms": 0.01, "shift_p_value": p_value}
    assert not judgement_lines(Judgement(certainty=known, **judged, unlike=0))  # type: ignore[arg-type]
    (line,) = judgement_lines(Judgement(certainty=known, **judged, unlike=1))  # type: ignore[arg-type]
    assert line == "unlike: the picture is out of distribution (false-alarm rate 1.0 %)"


def test_a_calibration_of_an_earlier_version_says_what_it_lacks() -> None:
    known = dataclasses.replace(certainty(sample=False), refitted=True, outdated=True)
    judged = {"pictures": 9, "coverage": None, "classwise": False, "labels": 0, "empty": 0}
    judged |= {"max_error": None, "answered": 9, "false_alarms": None, "shift_p_value": None}
    (line,) = judgement_lines(Judgement(certainty=known, **judged, unlike=0))  # type: ignore[arg-type]
    assert line.startswith("unlike: nothing is flagged") and "repeat the select" in line


def test_with_fewer_than_19_calibration_pictures_nothing_is_flagged_and_all_is_answered() -> None:
    probs, _, features = answers(300, 2)
    known = certainty(18)
    judged = Trust(known, Promise()).judge(probs, 100 * features)
    assert judged.unlike is None and judged.novelty is not None and familiar(known).all()
    assert judged.novelty.min() == pytest.approx(1 / 19)
    assert Trust(certainty(19), Promise()).judge(probs, 100 * features).unlike is not None


def test_without_features_nothing_is_flagged() -> None:
    probs, _, _ = answers(50, 2)
    judged = Trust(certainty(sample=False), Promise(max_error=0.1)).judge(probs, None)
    assert judged.novelty is None and judged.unlike is None and judged.answered is not None


def test_a_promise_that_cannot_be_kept_says_why() -> None:
    few = certainty(40)
    for known, promise, reason in (
        (None, Promise(), NO_CALIBRATION),
        (few, Promise(max_error=0.02), "needs at least 149 calibration pictures"),
        (
            few,
            Promise(coverage=0.99),
            "needs 99 calibration pictures, and this model has 40, one of each group",
        ),
        (
            dataclasses.replace(certainty(), correct=np.zeros(2000, bool)),
            Promise(max_error=0.02),
            "too many are wrong to be 95 % sure",
        ),
    ):
        with pytest.raises(ValueError, match=reason):
            Trust(known, promise)
    for arguments in ({"coverage": 1.0}, {"max_error": 0.0}, {"coverage": -0.5}):
        with pytest.raises(ValueError, match="must be between 0 and 1"):
            Promise(**arguments)
    with pytest.raises(ValueError, match=r"must be between 0 and 1; 90 % is 0\.9$"):
        Promise(coverage=90)
    with pytest.raises(ValueError, match="classwise"):
        Promise(classwise=True)


def test_a_bundle_carries_its_certainty(tmp_path: Path) -> None:
    before = bundle(tmp_path)
    assert open_predictor(tmp_path).certainty is None
    known = certainty(60)
    digest = add_certainty(tmp_path, known)
    assert digest != before and (tmp_path / "digest.txt").read_text().strip() == digest
    assert "scipy==" in (tmp_path / "requirements.txt").read_text()
    opened = open_predictor(tmp_path)
    assert opened.certainty is not None and opened.gives_features
    np.testing.assert_array_equal(opened.certainty.confidences, known.confidences)
    assert add_certainty(tmp_path, known) == digest
    (tmp_path / CERTAINTY).unlink()
    with pytest.raises(ValueError, match="is damaged"):
        open_predictor(tmp_path)


def test_verdicts_name_the_labels_of_a_set_most_probable_first() -> None:
    known = certainty(sample=False)
    probs = np.array([[0.45, 0.1, 0.4, 0.05], [0.99, 0.005, 0.003, 0.002]], np.float32)
    trust = Trust(known, Promise(coverage=0.9, max_error=0.05))
    unsure, sure = trust.judged_answers(probs, None, CLASSES)
    assert unsure.label_set is not None and unsure.label_set[:2] == (CLASSES[0], CLASSES[2])
    assert sure.label_set == (CLASSES[0],) and (unsure.answered, sure.answered) == (False, True)
    predictor = Predictor(lambda images: probs[: len(images)], {**PLAIN, "class_names": CLASSES})
    rows = [np.zeros((9, 9), np.uint8)] * 2
    assert predictor.judge(rows, trust)[1] == [unsure, sure]
    assert predictor.judge(rows, None)[1] == []


PLAIN = {"image_size": [4, 4], "channels": 1}


def label_sets(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities (N, 4), and labels of which each is there with its probability."""
    chance = np.random.default_rng(seed)
    probs = chance.beta([0.3, 0.4, 0.5, 0.6], 0.8, (count, 4)).astype(np.float32)
    return probs, (chance.random((count, 4)) < probs).astype(np.int64)


def test_sets_hold_the_share_of_labels_that_was_promised(tmp_path: Path) -> None:
    certainty_of(*label_sets(1500, 0)).write(tmp_path / CERTAINTY)
    known = Certainty.read(tmp_path / CERTAINTY)
    probs, targets = label_sets(20_000, 1)
    some = targets.any(axis=1)
    judged = Trust(known, Promise(coverage=0.9)).judge(probs, None)
    assert judged.sets is not None and judged.answered is None
    shares = (judged.sets & (targets > 0)).sum(axis=1)[some] / targets.sum(axis=1)[some]
    assert shares.mean() == pytest.approx(0.9, abs=0.02)
    assert judged.sets.mean() < 0.9, "it leaves labels out"
    judged = Trust(known, Promise(coverage=0.9, classwise=True)).judge(probs, None)
    assert judged.sets is not None
    for label in range(4):
        held = judged.sets[targets[:, label] > 0, label].mean()
        assert held == pytest.approx(0.9, abs=0.035)


def test_a_promise_about_sets_that_cannot_be_kept_says_why() -> None:
    few = certainty_of(*label_sets(30, 0))
    for promise, reason in (
        (Promise(coverage=0.99), "needs 99 calibration pictures with labels, and this model has"),
        (Promise(max_error=0.1), "max_error is for pictures with one label"),
    ):
        with pytest.raises(ValueError, match=reason):
            Trust(few, promise)
    with pytest.raises(ValueError, match="differ in length"):
        dataclasses.replace(few, label_probs=few.label_probs[:, :3])
