from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import ndtr, ndtri
from scipy.stats import truncnorm

from src.statistics.seed_effects import Belief, pair_effects, seed_effects
from src.statistics.seeds import SeedSpread

BELIEF = Belief(median=0.1, unlike=1.5)


def spread(ratios: list[float], repeated: list[float], luck: float = 1.0) -> SeedSpread:
    """Of candidates whose mean squares stand in these ratios; luck 1 makes variances effects."""
    ones = np.ones(len(ratios))
    return SeedSpread(luck * ones, ones, ones, np.array(ratios), np.array(repeated))


def mean_log(field: SeedSpread, candidate: int) -> float:
    variances, probabilities = seed_effects(field, candidate, BELIEF)
    return float(np.log(variances) @ probabilities)


def test_is_the_posterior_of_the_model() -> None:
    """Fields drawn from what is believed, weighted by how well they explain what was seen."""
    ratios, repeated = np.array([9.0, 1.5, 0.4, 3.0]), np.array([1.0, 2.0, 1.0, 0.0])
    generator, draws = np.random.default_rng(0), 300_000
    median = (0.1 * np.abs(generator.standard_cauchy(draws))) ** 2
    median = median[(median > 1e-3) & (median < 1e4)]
    unlike = 1.5 * truncnorm.rvs(0.125 / 1.5, 4.125 / 1.5, size=len(median), random_state=1)
    low, high = (np.log(limit / median) / unlike for limit in (1e-3, 1e4))
    shares = generator.uniform(ndtr(low), ndtr(high), (4, len(median)))
    effects = median * np.exp(unlike * ndtri(shares))
    scale = (1 + effects) / ratios[:, None]
    weights = np.exp(-(repeated[:, None] / 2 * (np.log(scale) + 1 / scale)).sum(axis=0))
    field = spread([*ratios], [*repeated])
    for candidate in range(4):
        variances, probabilities = seed_effects(field, candidate, BELIEF)
        assert probabilities.sum() == pytest.approx(1)
        for limit in (0.1, 1.0, 10.0):
            expected = weights[effects[candidate] < limit].sum() / weights.sum()
            # A grid point at the limit belongs to both sides.
            below = probabilities[variances < limit * 0.99].sum()
            below += probabilities[np.isclose(variances, limit, rtol=0.01)].sum() / 2
            assert below == pytest.approx(expected, abs=0.02)
    for first, second in ((0, 3), (2, 1)):
        ours, theirs, together = pair_effects(field, first, second, BELIEF)
        for limit in (0.5, 4.0):
            both = (effects[first] < limit) & (effects[second] < limit)
            below = together[ours < limit][:, theirs < limit].sum()
            assert below == pytest.approx(weights[both].sum() / weights.sum(), abs=0.02)


def test_of_two_together_each_is_as_it_is_alone() -> None:
    field = spread([9.0, 1.5, 0.4], [1.0, 2.0, 0.0])
    ours, theirs, together = pair_effects(field, 0, 2, BELIEF)
    for candidate, variances, sums in ((0, ours, together.sum(1)), (2, theirs, together.sum(0))):
        alone, probabilities = seed_effects(field, candidate, BELIEF)
        assert variances == pytest.approx(alone) and sums == pytest.approx(probabilities)


def test_many_repeats_show_it() -> None:
    variances, probabilities = seed_effects(spread([5.0], [2000.0], luck=0.01), 0, BELIEF)
    assert variances @ probabilities == pytest.approx(0.04, rel=0.05)


def test_few_repeats_hardly_do() -> None:
    variances, probabilities = seed_effects(spread([5.0], [1.0]), 0, BELIEF)
    assert probabilities[variances < 1].sum() > 0.2
    assert probabilities[variances > 6].sum() > 0.05


def test_a_method_without_a_seed_stays_without_effect() -> None:
    field = spread([1.0, 5.0], [0.0, 4.0])
    field.luck[0] = 0.0
    variances, probabilities = seed_effects(field, 0, BELIEF)
    assert not variances.any() and probabilities.sum() == pytest.approx(1)


def test_the_others_teach_what_one_repeat_cannot() -> None:
    steady, wild = ([ratio] * 8 + [1.0] for ratio in (0.9, 30.0))
    repeated = [4.0] * 8 + [0.0]
    assert mean_log(spread(steady, repeated), 8) < np.log(0.3)
    assert abs(mean_log(spread(wild, repeated), 8) - np.log(29)) < 0.3


def test_the_more_unlike_the_others_the_less_they_teach() -> None:
    alike, unlike = [10.0] * 8, [1.0, 100.0] * 4
    widths = []
    for others in (alike, unlike):
        variances, probabilities = seed_effects(
            spread([*others, 1.0], [4.0] * 8 + [0.0]), 8, BELIEF
        )
        logs = np.log(variances)
        widths.append(float(probabilities @ (logs - logs @ probabilities) ** 2))
    assert widths[1] > 5 * widths[0]


@settings(max_examples=50, deadline=None)
@given(
    st.lists(
        st.tuples(st.floats(1e-4, 1e5), st.integers(0, 50).map(float)), min_size=1, max_size=40
    )
)
def test_whatever_is_seen_there_is_an_answer(seen: list[tuple[float, float]]) -> None:
    ratios, repeated = map(list, zip(*seen))
    for candidate in (0, len(seen) - 1):
        variances, probabilities = seed_effects(spread(ratios, repeated), candidate, BELIEF)
        assert (probabilities >= 0).all() and probabilities.sum() == pytest.approx(1)
        assert (np.diff(variances) > 0).all()
    if repeated[0] > 0:
        more = spread([2 * ratios[0], *ratios[1:]], repeated)
        assert mean_log(more, 0) >= mean_log(spread(ratios, repeated), 0) - 1e-9
