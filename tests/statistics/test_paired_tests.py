from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest, kurtosis, ttest_1samp
from scipy.stats import t as student

from src.statistics.candidates import Candidate
from src.statistics.evidence import Evidence
from src.statistics.paired_tests import corrected_resampled_t, difference_p_value, mcnemar


def answers(both: int, ahead: int, behind: int, neither: int) -> tuple[np.ndarray, np.ndarray]:
    cells = [(1, 1)] * both + [(1, 0)] * ahead + [(0, 1)] * behind + [(0, 0)] * neither
    table = np.array(cells, bool)
    return table[:, 0], table[:, 1]


@given(st.integers(0, 60), st.integers(0, 60), st.integers(0, 20), st.integers(1, 20))
def test_is_the_binomial_test_of_the_pictures_in_dispute(
    ahead: int, behind: int, both: int, neither: int
) -> None:
    outcome = mcnemar(*answers(both, ahead, behind, neither))
    assert (outcome.first_alone, outcome.second_alone) == (ahead, behind)
    expected = binomtest(ahead, ahead + behind).pvalue if ahead + behind else 1.0
    assert outcome.p_value == pytest.approx(expected)


def test_refuses_answers_that_do_not_fit() -> None:
    with pytest.raises(ValueError, match="shapes"):
        mcnemar(np.ones(3, bool), np.ones(4, bool))


def test_a_difference_of_scores_is_students_test_on_groups() -> None:
    """Of pictures alone it is Student's law too, with the freedom that fourth moments leave."""
    rng = np.random.default_rng(0)
    scores = rng.normal(0.5, 0.1, (2, 60))
    scores[0] += 0.03
    both = [
        Candidate(
            name=str(one),
            run_ids=("",),
            right=np.zeros((1, 60), bool),
            log_losses=np.zeros(1),
            scores=row[None].astype(np.float32),
        )
        for one, row in enumerate(scores)
    ]
    apart = scores[0] - scores[1]
    error = apart.std(ddof=1) / math.sqrt(60)
    found = difference_p_value(Evidence.of(both, lowest=None), 0, 1)
    freedom = 2 * 60 / (kurtosis(apart, fisher=False) - 1)
    assert found == pytest.approx(2 * student.sf(abs(apart.mean()) / error, freedom), rel=1e-4)
    groups = np.arange(60) % 12
    of_groups = [apart[groups == group].mean() for group in range(12)]
    found = difference_p_value(Evidence.of(both, groups, lowest=None), 1, 0)
    assert found == pytest.approx(ttest_1samp(of_groups, 0.0).pvalue, rel=1e-4)


DIFFERENCES = [0.01, 0.03, 0.02, -0.01, 0.04, 0.02, 0.00, 0.03, 0.01, 0.02]


def test_is_students_test_with_a_larger_variance() -> None:
    plain = ttest_1samp(DIFFERENCES, 0.0)
    found = corrected_resampled_t(DIFFERENCES, test_share=0.1)
    statistic = plain.statistic / math.sqrt(1 + 10 / 9)
    assert found.p_value == pytest.approx(2 * student.sf(statistic, 9))
    assert found.difference == pytest.approx(np.mean(DIFFERENCES))


def test_without_overlap_it_is_students_test() -> None:
    found = corrected_resampled_t(DIFFERENCES, test_share=1e-12)
    plain = ttest_1samp(DIFFERENCES, 0.0)
    assert found.p_value == pytest.approx(plain.pvalue)
    interval = plain.confidence_interval(0.95)
    assert (found.interval.low, found.interval.high) == pytest.approx((interval.low, interval.high))


def test_the_interval_and_the_p_value_agree() -> None:
    shifted = np.array(DIFFERENCES) - corrected_resampled_t(DIFFERENCES, 0.1).interval.low
    assert corrected_resampled_t(shifted - 2 * shifted.mean(), 0.1).difference < 0
    low = corrected_resampled_t(DIFFERENCES, 0.1).interval.low
    assert corrected_resampled_t(np.array(DIFFERENCES) - low, 0.1).p_value == pytest.approx(0.05)


def test_folds_that_all_agree() -> None:
    assert corrected_resampled_t([0.0, 0.0], 0.5).p_value == 1.0
    assert corrected_resampled_t([0.25, 0.25], 0.5).p_value == 0.0


@pytest.mark.parametrize(("values", "share"), [([0.1], 0.2), ([0.1, 0.2], 0.0), ([0.1, 0.2], 1.0)])
def test_refuses(values: list[float], share: float) -> None:
    with pytest.raises(ValueError, match=r"differences has|test_share is"):
        corrected_resampled_t(values, share)
