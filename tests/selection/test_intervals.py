from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import t as student

from src.metrics.intervals import wilson_interval
from src.selection.evidence import Evidence
from src.selection.intervals import Interval, accuracy_interval, difference_interval, score
from tests.selection.fields import candidate, random_field


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
