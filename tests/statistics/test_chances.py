from __future__ import annotations

import numpy as np
import pytest
from scipy.integrate import quad
from scipy.stats import norm, t

from src.statistics.chances import chances_of
from src.statistics.evidence import Evidence
from src.statistics.resampling import resample
from src.statistics.verdict import judge
from tests.statistics.fields import random_field


@pytest.mark.parametrize("repeats", [1, 3])
def test_of_two_they_are_those_of_the_law_of_their_difference(repeats: int) -> None:
    """P(D < 0), P(D < band), and the mean of D where it is above 0, by that law's own functions.

    It is normal of single trainings, and Student's of few repeats.
    """
    field = random_field([0.9, 0.86], [repeats] * 2, 400, seed=2, seed_effect=0.1)
    evidence = Evidence.of(field)
    found = chances_of(evidence, resample(evidence, 40_000), band=0.01)
    ahead = evidence.figure[0] - evidence.figure[1]
    shared, seeds = evidence.shared, evidence.seed_variance.sum()
    error = np.sqrt(shared[0, 0] + shared[1, 1] - 2 * shared[0, 1] + seeds)
    freedom = evidence.difference_freedom(0, 1)
    assert (freedom < 20) == (repeats > 1)
    assert 0.3 < abs(ahead) / error < 3
    for index, behind in enumerate([-ahead, ahead]):
        law = norm(behind, error) if np.isinf(freedom) else t(freedom, behind, error)
        assert found.best[index] == pytest.approx(law.cdf(0), abs=0.01)
        assert found.equal[index] == pytest.approx(law.cdf(0.01), abs=0.01)
        lost = quad(law.sf, 0, 1)[0]
        assert found.loss[index] == pytest.approx(lost, abs=0.01 * error)


def test_two_groups_give_no_more_certainty_than_the_test_of_their_difference() -> None:
    field = random_field([0.9, 0.75], [1, 1], 60, seed=0)
    evidence = Evidence.of(field, np.arange(60) // 30)
    freedom = evidence.difference_freedom(0, 1)
    distance = evidence.difference[1, 0] / np.sqrt(evidence.difference_variance[0, 1])
    assert freedom == 1 and distance > 4
    found = chances_of(evidence, resample(evidence, 40_000), band=0.01)
    assert found.best[0] == pytest.approx(t(freedom).cdf(distance), abs=0.01)


def test_two_that_few_repeats_cannot_tell_apart_are_not_told_apart_by_a_probability() -> None:
    """A normal law makes it up to 100 % in a sixth of these fields: seeds are known by two only."""
    best = []
    for seed in range(40):
        field = random_field([0.9, 0.88], [2, 2], 400, seed=seed, seed_effect=0.1)
        verdict = judge(field, draws=4000)
        if len(verdict.tied) == 2:
            best.append(verdict.winner.best)
    assert len(best) > 30
    assert max(best) < 0.98
