from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import norm

from src.statistics.chances import chances_of
from src.statistics.evidence import Evidence
from src.statistics.resampling import resample
from tests.statistics.fields import random_field


def test_of_two_they_are_those_of_the_normal_law_of_their_difference() -> None:
    """In closed form: P(D < 0), P(D < band), and the mean of D where it is above 0."""
    field = random_field([0.9, 0.87], [3, 3], 400, seed=2, seed_effect=0.1)
    evidence = Evidence.of(field)
    found = chances_of(evidence, resample(evidence, 40_000), band=0.01)
    ahead = evidence.figure[0] - evidence.figure[1]
    shared, seeds = evidence.shared, evidence.seed_variance.sum()
    error = np.sqrt(shared[0, 0] + shared[1, 1] - 2 * shared[0, 1] + seeds)
    assert 0.3 < abs(ahead) / error < 3
    for index, behind in enumerate([-ahead, ahead]):
        law = norm(behind, error)
        assert found.best[index] == pytest.approx(law.cdf(0), abs=0.01)
        assert found.equal[index] == pytest.approx(law.cdf(0.01), abs=0.01)
        lost = error * norm.pdf(behind / error) + behind * law.sf(0)
        assert found.loss[index] == pytest.approx(lost, abs=0.01 * error)
