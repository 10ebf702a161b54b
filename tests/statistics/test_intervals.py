from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import t as student
from scipy.stats import ttest_ind

from src.metrics.intervals import wilson_interval
from src.statistics.evidence import Evidence
from src.statistics.intervals import Interval, accuracy_interval, difference_interval, score
from src.statistics.seed_effects import Belief, pair_effects
from tests.statistics.fields import candidate, random_field


@given(st.integers(2, 300), st.data())
def test_a_single_training_has_wilsons_interval(pictures: int, data: st.DataObject) -> None:
    hits = data.draw(st.integers(0, pictures))
    evidence = Evidence.of([candidate("a", np.arange(pictures) < hits)])
    found = accuracy_interval(evidence, 0)
    expected = wilson_interval(hits, pictures)
    assert (found.low, found.high) == pytest.approx(expected, abs=1e-5)


def test_a_difference_of_single_trainings_is_bonett_and_prices() -> None:
    field = random_field([0.7, 0.8], [1, 1])
    first, second = field[0].right[0], field[1].right[0]
    up = ((first & ~second).sum() + 1) / 402
    down = ((second & ~first).sum() + 1) / 402
    half = 1.959964 * math.sqrt((up + down - (up - down) ** 2) / 402)
    found = difference_interval(Evidence.of(field), 0, 1)
    assert (found.low, found.high) == pytest.approx((up - down - half, up - down + half), abs=1e-6)


def test_differences_turn_with_their_pair() -> None:
    evidence = Evidence.of(random_field([0.7, 0.8], [2, 3], seed_effect=0.2))
    one, other = difference_interval(evidence, 0, 1), difference_interval(evidence, 1, 0)
    assert (one.low, one.high) == pytest.approx((-other.high, -other.low))


def test_a_difference_of_many_trainings_is_that_of_two_means() -> None:
    """The pictures are so many that seeds are all the error; Welch's interval is the reference."""
    field = random_field([0.7, 0.8], [60, 40], 20_000, seed_effect=0.2)
    one, other = (each.right.mean(axis=1) for each in field)
    expected = ttest_ind(one, other, equal_var=False).confidence_interval()
    found = difference_interval(Evidence.of(field), 0, 1)
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), abs=1.5e-3)


def test_a_difference_errs_as_all_that_seeds_might_do() -> None:
    """Drawn: a variance for each, by its probability, and an error of that variance."""
    evidence = Evidence.of(random_field([0.7, 0.8, 0.9], [2, 3, 2], seed_effect=0.2))
    assert evidence.seeds is not None
    ours, theirs, weights = pair_effects(evidence.seeds, 0, 1, Belief(0.5, 2.5))
    generator = np.random.default_rng(0)
    drawn = generator.choice(weights.size, 400_000, p=weights.ravel())
    of_seeds = ours[drawn // len(theirs)] / 2 + theirs[drawn % len(theirs)] / 3
    of_pictures = evidence.difference_variance[0, 1] - evidence.seed_variance[[0, 1]].sum()
    errors = generator.standard_normal(len(drawn)) * np.sqrt(of_pictures + of_seeds)
    found = difference_interval(evidence, 0, 1)
    share = (np.abs(errors) <= (found.high - found.low) / 2).mean()
    assert share == pytest.approx(0.95, abs=2e-3)


def test_unsure_seeds_widen_as_students_law_does() -> None:
    """Nearly all of the error is that of three seeds: the t interval of three numbers."""
    field = random_field([0.8], [3], 100_000, seed_effect=0.1)
    shares = field[0].right.mean(axis=1)
    half = student.ppf(0.975, 2) * shares.std(ddof=1) / math.sqrt(3)
    found = accuracy_interval(Evidence.of(field), 0)
    # Wilson's form bends it a little, away from the nearer end.
    assert found.high - found.low == pytest.approx(2 * half, rel=0.05)


@given(st.floats(0, 1), st.floats(1, 1e6), st.floats(0.1, 5))
def test_the_score_interval_stays_within_shares(share: float, trials: float, z: float) -> None:
    found = score(share, trials, z)
    assert 0 <= found.low <= found.high <= 1
    assert found.low <= share + 1e-9 and share - 1e-9 <= found.high


def test_an_interval_says_what_it_holds() -> None:
    assert 0.5 in Interval(0.4, 0.6) and 0.61 not in Interval(0.4, 0.6)
    assert str(Interval(0.4, 0.625)) == "40.0 to 62.5 %"


def test_refuses_a_confidence_that_is_none() -> None:
    with pytest.raises(ValueError, match="confidence is 1"):
        accuracy_interval(Evidence.of(random_field([0.8], [1])), 0, 1.0)
