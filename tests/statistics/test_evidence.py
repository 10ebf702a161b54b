from __future__ import annotations

import math

import numpy as np
import pytest

from src.statistics.evidence import Evidence
from tests.statistics.fields import candidate, random_field


def test_variances_and_covariances_are_numpys() -> None:
    field = random_field([0.7, 0.8, 0.9], [1, 1, 1])
    evidence = Evidence.of(field)
    expected = np.cov(np.stack([one.right[0] for one in field])) / 400
    assert evidence.variance == pytest.approx(np.diagonal(expected), rel=1e-5)
    for index in range(3):
        assert evidence.covariance(index) == pytest.approx(expected[index], rel=1e-4)
    assert evidence.seeds is None and np.isinf(evidence.freedom).all()


def test_variance_of_a_difference_counts_two_pictures_more() -> None:
    """Bonett & Price 2012, from the four cells of the table."""
    field = random_field([0.7, 0.8], [1, 1])
    first, second = field[0].right[0], field[1].right[0]
    ahead, behind = (first & ~second).sum(), (second & ~first).sum()
    up, down = (ahead + 1) / 402, (behind + 1) / 402
    evidence = Evidence.of(field)
    assert evidence.difference[1, 0] == pytest.approx(up - down, abs=1e-9)
    expected = (up + down - (up - down) ** 2) / 402
    assert evidence.difference_variance[1, 0] == pytest.approx(expected, rel=1e-5)


def test_the_crossed_variance_is_unbiased() -> None:
    """Over many fields the mean variance is that of the accuracies, seeds included."""
    shares, variances = [], []
    for seed in range(600):
        evidence = Evidence.of(random_field([0.8] * 4, [3] * 4, 300, seed=seed, seed_effect=0.15))
        shares.append(evidence.accuracy[0])
        variances.append(evidence.variance[0])
    # Six per cent is the standard error of a variance from 600 values.
    assert np.mean(variances) == pytest.approx(np.var(shares), rel=0.15)


def test_freedom_counts_the_seeds_only_as_far_as_they_matter() -> None:
    stable = Evidence.of(random_field([0.8, 0.8], [3, 3], 300))
    unstable = Evidence.of(random_field([0.8, 0.8], [3, 3], 30_000, seed_effect=0.3))
    assert (stable.freedom > 10).all()
    # Nearly all of the variance is that of the seeds: four degrees of freedom, two a candidate.
    assert unstable.freedom == pytest.approx(np.full(2, 4.0), rel=0.1)


def test_refuses() -> None:
    with pytest.raises(ValueError, match="no candidates"):
        Evidence.of([])
    with pytest.raises(ValueError, match="on 3, 4 pictures"):
        Evidence.of([candidate("a", np.ones(3, bool)), candidate("b", np.ones(4, bool))])
    with pytest.raises(ValueError, match="at least two"):
        Evidence.of([candidate("a", np.ones(1, bool))])


def test_everything_right_leaves_no_variance_of_its_own() -> None:
    evidence = Evidence.of([candidate("a", np.ones(9, bool)), candidate("b", np.ones(9, bool))])
    assert (evidence.variance == 0).all() and (evidence.freedom == math.inf).all()
    assert (evidence.difference_variance > 0).all()
