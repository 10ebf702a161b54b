"""Promised errors against exact tests and simulated pictures."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from src.statistics.risk_control import answering_rule, fewest_answers, risk_coverage


def test_right_answers_alone_suffice_from_the_exact_number_on() -> None:
    fewest = fewest_answers(0.02)
    assert fewest == 149  # 0.98 ** 149 = 0.0493
    assert stats.binomtest(0, 149, 0.02, alternative="less").pvalue <= 0.05
    assert stats.binomtest(0, 148, 0.02, alternative="less").pvalue > 0.05
    surest = np.linspace(0.5, 1, fewest)
    rule = answering_rule(surest, np.ones(fewest, bool), 0.02)
    assert rule is not None and (rule.answered, rule.wrong, rule.share) == (149, 0, 1.0)
    assert rule.threshold == 0.5
    assert answering_rule(surest[1:], np.ones(fewest - 1, bool), 0.02) is None
    assert answering_rule(surest, np.ones(fewest, bool), 0.02, candidates=2) is None
    assert answering_rule([], [], 0.02) is None


def test_a_wrong_label_among_the_surest_does_not_end_it() -> None:
    correct = np.ones(1000, bool)
    correct[3] = False
    rule = answering_rule(np.linspace(1, 0, 1000), correct, 0.02)
    assert rule is not None and rule.answered == 1000 and rule.wrong == 1


def test_pictures_of_equal_confidence_are_answered_together() -> None:
    confidences = np.repeat([0.9, 0.6], 200)
    correct = np.ones(400, bool)
    correct[200:260] = False  # of the second half 30 % is wrong
    rule = answering_rule(confidences, correct, 0.05)
    assert rule is not None and (rule.threshold, rule.answered) == (0.9, 200)
    assert answering_rule(confidences[200:], correct[200:], 0.05) is None


@pytest.mark.parametrize("noise", [0.0, 0.008])
def test_the_promise_fails_for_at_most_one_calibration_in_twenty(noise: float) -> None:
    """The error at confidence c is 1 - c; `noise` is a share of wrong labels at any confidence."""
    chance = np.random.default_rng(0)
    population = np.sort(1 - 0.3 * chance.random(200_000) ** 3)[::-1]
    wrong = 1 - population * (1 - noise)
    error_from = np.cumsum(wrong) / np.arange(1, len(wrong) + 1)
    failures, shares = 0, []
    for _ in range(400):
        confidences = 1 - 0.3 * chance.random(600) ** 3
        correct = chance.random(600) < confidences * (1 - noise)
        rule = answering_rule(confidences, correct, 0.02)
        if rule is None:
            continue
        answered = np.searchsorted(-population, -rule.threshold, side="right")
        failures += error_from[answered - 1] > 0.02
        shares.append(rule.share)
    assert len(shares) > (200 if noise == 0 else 20)
    assert failures <= 30  # 20 expected at most; 30 has a probability of 1 % then
    assert noise or np.mean(shares) > 0.35  # 0.64 if the errors were known


def test_the_curve_of_risk_and_coverage() -> None:
    curve = risk_coverage([0.9, 0.8, 0.8, 0.4], [True, True, False, False])
    assert curve.thresholds.tolist() == [0.9, 0.8, 0.4]
    assert curve.shares.tolist() == [0.25, 0.75, 1.0]
    np.testing.assert_allclose(curve.errors, [0, 1 / 3, 1 / 2])
    with pytest.raises(ValueError, match="no pictures"):
        risk_coverage([], [])


def test_values_out_of_range_are_refused() -> None:
    for error in (0.0, 1.0, -0.1):
        with pytest.raises(ValueError, match="max_error is"):
            answering_rule([0.5], [True], error)
    with pytest.raises(ValueError, match="confidences"):
        answering_rule([0.5, 0.6], [True], 0.1)
