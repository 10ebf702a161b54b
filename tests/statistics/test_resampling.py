from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import kstest
from scipy.stats import t as student

from src.statistics.evidence import Evidence
from src.statistics.resampling import resample
from tests.statistics.fields import candidate, random_field


def test_errors_have_the_covariance_of_the_evidence() -> None:
    evidence = Evidence.of(random_field([0.7, 0.8, 0.9], [3, 2, 1], seed_effect=0.5))
    errors = resample(evidence, 20_000).drawn
    expected = np.stack([evidence.covariance(index) for index in range(3)])
    assert evidence.seed_variance.min() > 0.1 * evidence.variance.max()
    assert errors.mean(axis=1) == pytest.approx(np.zeros(3), abs=4 * 0.03 / np.sqrt(20_000))
    assert np.cov(errors) == pytest.approx(expected, rel=0.06, abs=0.03 * expected.max())


def test_agrees_with_the_pigeonhole_bootstrap_where_that_is_good() -> None:
    """Owen's own, pictures and seeds resampled: right when both are many and rarely interact."""
    generator = np.random.default_rng(0)
    skill = generator.normal(1.0, 0.4, (60, 1))
    right = skill + generator.normal(0, 1, 300) > 0
    deviations = []
    for _ in range(4000):
        seeds = generator.integers(60, size=60)
        weights = np.bincount(generator.integers(300, size=300), minlength=300)
        deviations.append(right[seeds].mean(axis=0) @ weights / 300 - right.mean())
    ours = resample(Evidence.of([candidate("a", right)]), 4000).drawn[0]
    assert ours.std() == pytest.approx(np.std(deviations), rel=0.05)


def test_all_candidates_meet_the_same_pictures() -> None:
    right = random_field([0.8], [1])[0].right
    errors = resample(Evidence.of([candidate("a", right), candidate("b", right)]), 100).drawn
    np.testing.assert_array_equal(errors[0], errors[1])


def test_many_pictures_in_parts_are_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    evidence = Evidence.of(random_field([0.8, 0.9], [1, 1]))
    whole = resample(evidence, 50).drawn
    monkeypatch.setattr("src.statistics.resampling._WEIGHTS_AT_ONCE", 7 * 400)
    np.testing.assert_allclose(resample(evidence, 50).drawn, whole, atol=1e-7)


def test_a_seed_repeats_the_draws_and_another_does_not() -> None:
    evidence = Evidence.of(random_field([0.8, 0.9], [2, 1]))
    first, again = resample(evidence, 30, 1), resample(evidence, 30, 1)
    np.testing.assert_array_equal(first.drawn, again.drawn)
    assert not np.array_equal(first.drawn, resample(evidence, 30, 2).drawn)


def test_factors_make_students_law_of_the_normal_one() -> None:
    errors = resample(Evidence.of(random_field([0.8], [1])), 20_000)
    normal = np.random.default_rng(3).standard_normal(20_000)
    assert kstest(normal * errors.student(3.0), student(3.0).cdf).pvalue > 0.01
    assert (errors.student(np.inf) == 1).all()
