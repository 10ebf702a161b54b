from __future__ import annotations

import numpy as np
import pytest

from src.statistics.evidence import Evidence
from src.statistics.resampling import joint_normal, resample
from tests.statistics.fields import candidate, random_field


def test_errors_have_the_covariance_of_the_evidence() -> None:
    evidence = Evidence.of(random_field([0.7, 0.8, 0.9], [3, 2, 1], seed_effect=0.5))
    errors = resample(evidence, 20_000).drawn
    expected = evidence.shared + np.diag(evidence.seed_variance)
    assert evidence.seed_variance.min() > 0.1 * evidence.variance.max()
    scale = np.sqrt(np.diagonal(expected).max())
    assert errors.mean(axis=1) == pytest.approx(np.zeros(3), abs=float(4 * scale / np.sqrt(20_000)))
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
    assert errors[0] == pytest.approx(errors[1], abs=float(1e-3 * errors.std()))


def test_covariances_that_rounding_makes_impossible_are_drawn_all_the_same() -> None:
    """As of many candidates in few groups, in single precision: an eigenvalue below 0."""
    covariance = np.array([[1.0, 1.0 + 1e-5, 0.5], [1.0 + 1e-5, 1.0, 0.5], [0.5, 0.5, 1.0]])
    assert np.linalg.eigvalsh(covariance)[0] < 0
    drawn = joint_normal(covariance, 50_000, np.random.default_rng(0))
    assert np.cov(drawn) == pytest.approx(covariance, abs=0.03)


def test_few_groups_and_few_candidates_give_the_same_law() -> None:
    """Below as many groups as candidates the groups are weighted, else the covariances drawn."""
    numbers = np.arange(400) // 40
    field = random_field([0.7, 0.8, 0.9] * 5, [1] * 15)
    many = resample(Evidence.of(field, numbers), 20_000).drawn[:3]
    few = resample(Evidence.of(field[:3], numbers), 20_000, 1).drawn
    assert np.cov(many) == pytest.approx(np.cov(few), rel=0.1, abs=float(0.05 * np.var(few)))


def test_a_seed_repeats_the_draws_and_another_does_not() -> None:
    evidence = Evidence.of(random_field([0.8, 0.9], [2, 1]))
    first, again = resample(evidence, 30, 1), resample(evidence, 30, 1)
    np.testing.assert_array_equal(first.drawn, again.drawn)
    assert not np.array_equal(first.drawn, resample(evidence, 30, 2).drawn)
