from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from src.statistics.evidence import Evidence
from src.statistics.mcb import BestComparison, compare_with_best
from src.statistics.resampling import resample
from tests.statistics.fields import candidate, random_field


def compared(evidence: Evidence, draws: int = 1000) -> BestComparison:
    return compare_with_best(evidence, resample(evidence, draws))


@pytest.mark.parametrize(("rivals", "critical"), [(1, 1.960), (2, 2.212), (4, 2.442), (8, 2.668)])
def test_critical_values_are_dunnetts(rivals: int, critical: float) -> None:
    """Answers that are exactly uncorrelated: Dunnett's one-sided table of 1955, 2.5 %, infinite.

    Equally good ones may be better than the best of the others by the critical value times the
    standard error of a difference.
    """
    patterns = np.array(list(itertools.product([False, True], repeat=rivals + 1)))
    right = np.tile(patterns, (-(-3000 // len(patterns)), 1)).T
    evidence = Evidence.of([candidate(f"c{i}", row) for i, row in enumerate(right)])
    outcome = compared(evidence, 20_000)
    error = np.sqrt(evidence.difference_variance[0, 1])
    assert outcome.highest / error == pytest.approx(np.full(rivals + 1, critical), rel=0.03)
    assert outcome.tied.all()


def test_the_first_is_tied_and_the_hopeless_are_not() -> None:
    evidence = Evidence.of(random_field([0.9, 0.9, 0.5, 0.89], [1] * 4, 1000))
    outcome = compared(evidence)
    assert outcome.tied[np.argmax(evidence.accuracy)]
    assert list(outcome.tied) == [True, True, False, True]
    assert outcome.highest[2] == 0 and outcome.lowest[2] < -0.3
    # It is behind by what it is behind by, give or take.
    assert outcome.lowest[2] < evidence.accuracy[2] - evidence.accuracy.max()


def test_a_sure_winner_stands_alone() -> None:
    outcome = compared(Evidence.of(random_field([0.95, 0.8, 0.7], [1] * 3, 1000)))
    assert list(outcome.tied) == [True, False, False]
    assert outcome.lowest[0] == 0 and outcome.highest[0] > 0
    assert (outcome.highest[1:] == 0).all()


def test_the_last_that_an_earlier_look_left_is_held_against_those_that_it_left_out() -> None:
    evidence = Evidence.of(random_field([0.9, 0.8, 0.5], [1] * 3, 1000))
    errors = resample(evidence, 1000)
    whole, alone = (
        compare_with_best(evidence, errors, 0.95, np.array(out))
        for out in ([False, False, False], [False, True, True])
    )
    assert list(alone.tied) == [True, False, False]
    np.testing.assert_allclose(alone.lowest, whole.lowest)
    assert alone.highest[0] == pytest.approx(whole.highest[0])
    # Even where it is behind one that was left out, it is all that is left.
    behind = compare_with_best(evidence, errors, 0.95, np.array([True, True, False]))
    assert list(behind.tied) == [False, False, True] and np.isfinite(behind.lowest).all()


def test_one_candidate_is_the_best() -> None:
    outcome = compared(Evidence.of(random_field([0.8], [1])))
    assert list(outcome.tied) == [True]
    assert outcome.lowest[0] == outcome.highest[0] == 0


def test_two_candidates_are_the_paired_test_with_two_sides() -> None:
    """Left out exactly where the paired z statistic passes 1.96."""
    for seed in range(40):
        field = random_field([0.86, 0.82], [1, 1], 500, seed=seed)
        evidence = Evidence.of(field)
        statistic = evidence.difference[1, 0] / np.sqrt(evidence.difference_variance[1, 0])
        assert compared(evidence).tied[1] == (statistic <= 1.959964)


@given(st.permutations(range(5)))
@settings(max_examples=20, deadline=None)
def test_the_order_does_not_matter(order: list[int]) -> None:
    field = random_field([0.8, 0.81, 0.82, 0.78, 0.75], [1] * 5)
    straight = compared(Evidence.of(field), 20_000)
    turned = compared(Evidence.of([field[i] for i in order]), 20_000)
    assert turned.tied == pytest.approx(straight.tied[order])
    # The draws are others.
    assert turned.highest == pytest.approx(straight.highest[order], abs=2e-3)
    assert turned.lowest == pytest.approx(straight.lowest[order], abs=2e-3)


@given(st.integers(0, 4))
@settings(max_examples=5, deadline=None)
def test_a_copy_shares_the_fate_of_its_original(original: int) -> None:
    field = random_field([0.8, 0.81, 0.82, 0.78, 0.7], [1] * 5)
    alone = compared(Evidence.of(field))
    copied = compared(Evidence.of([*field, candidate("copy", field[original].right)]))
    assert list(copied.tied[:5]) == list(alone.tied)
    assert copied.tied[5] == copied.tied[original]


def test_more_confidence_keeps_more() -> None:
    evidence = Evidence.of(random_field(list(np.linspace(0.8, 0.86, 12)), [1] * 12, 500))
    errors = resample(evidence)
    kept = [compare_with_best(evidence, errors, level).tied for level in (0.5, 0.9, 0.999)]
    assert (kept[0] <= kept[1]).all() and (kept[1] <= kept[2]).all()
    assert kept[0].sum() < kept[2].sum()


def test_refuses_a_confidence_that_is_none() -> None:
    evidence = Evidence.of(random_field([0.8], [1]))
    with pytest.raises(ValueError, match="confidence is 0"):
        compare_with_best(evidence, resample(evidence, 10), 0.0)
