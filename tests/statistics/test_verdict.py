from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from src.statistics.evidence import Evidence
from src.statistics.intervals import accuracy_interval, difference_interval
from src.statistics.verdict import judge
from tests.statistics.fields import candidate, random_field


def test_joins_what_the_parts_say() -> None:
    field = random_field([0.80, 0.90, 0.60, 0.90], [2, 3, 2, 1], 800)
    verdict = judge(field)
    shares = [one.accuracy for one in verdict.standings]
    assert shares == sorted(shares, reverse=True)
    assert [one.rank for one in verdict.standings] == [1, 2, 3, 4]
    assert verdict.winner is verdict.standings[0] and verdict.winner.tied
    assert {one.name for one in verdict.tied} == {"c1", "c3"}
    assert verdict.of_configurations and verdict.borrowed == ("c3",)
    single = judge(random_field([0.80, 0.81], [1, 1]))
    assert not single.of_configurations and single.borrowed == ()
    assert verdict.winner_accuracy in verdict.winner.interval
    assert verdict.pictures == 800 and verdict.power is not None
    assert verdict.cheapest is None
    by_name = {one.name: one for one in verdict.standings}
    assert by_name["c3"].spread is None
    assert by_name["c0"].spread == pytest.approx(field[0].right.mean(axis=1).std(ddof=1))
    ranked = [field[int(one.name[1])] for one in verdict.standings]
    assert by_name["c2"].interval == accuracy_interval(Evidence.of(ranked), 3)


@given(st.permutations(range(5)))
@settings(max_examples=10, deadline=None)
def test_the_order_does_not_matter(order: list[int]) -> None:
    field = random_field([0.8, 0.8, 0.81, 0.7, 0.79], [1, 3, 2, 2, 1], 300)
    assert judge([field[i] for i in order], draws=300) == judge(field, draws=300)


def test_level_ones_rank_by_log_loss() -> None:
    right = random_field([0.8], [1])[0].right
    worse, better = np.full((2, 400), [[0.7], [0.6]], np.float32)
    field = [candidate("a", right, losses=worse), candidate("b", right, losses=better)]
    assert judge(field).winner.name == "b"


def test_the_cheapest_of_the_tied() -> None:
    right = random_field([0.8], [1])[0].right
    field = [
        candidate("good", right, losses=np.full(400, 0.1, np.float32), cost=5.0),
        candidate("same", np.roll(right, 1), cost=2.0),
        candidate("bad", np.zeros(400, bool), cost=1.0),
    ]
    verdict = judge(field)
    assert verdict.cheapest is not None and verdict.cheapest.name == "same"
    assert verdict.choice is verdict.cheapest


def test_the_choice_is_the_cheapest_within_one_standard_error() -> None:
    """Of 200 pictures the second has one fewer right and the third six: both are tied with it."""
    right = np.arange(200) < 150
    second, third = right.copy(), right.copy()
    second[[0, 1, 2, 3, 180]], third[[*range(10), *range(180, 184)]] = (
        [False, False, False, True, True],
        [False] * 10 + [True] * 4,
    )
    field = [
        candidate("first", right, cost=3.0),
        candidate("second", second, cost=2.0),
        candidate("third", third, cost=1.0),
    ]
    errors = [math.sqrt(5 + 2 - 1 / 202) / 202, math.sqrt(14 + 2 - 36 / 202) / 202]
    gaps = [1 / 200, 6 / 200]
    assert gaps[0] < errors[0] and gaps[1] > errors[1]
    verdict = judge(field)
    assert [one.name for one in verdict.tied] == ["first", "second", "third"]
    assert verdict.cheapest is not None and verdict.cheapest.name == "third"
    assert verdict.choice.name == "second"
    unknown = judge([*field[:2], candidate("third", third)])
    assert unknown.choice.name == "second" and unknown.cheapest is None
    nowhere = judge([field[0], candidate("second", second), field[2]])
    assert nowhere.choice is nowhere.winner


def test_two_have_a_difference_and_more_have_none() -> None:
    field = random_field([0.7, 0.9, 0.6], [2, 3, 1], 800)
    verdict = judge(field[:2])
    expected = difference_interval(Evidence.of(field[:2]), 1, 0)
    assert verdict.difference is not None and expected.low > 0
    assert (verdict.difference.low, verdict.difference.high) == pytest.approx(
        (expected.low, expected.high)
    )
    assert judge(field).difference is None


def test_seeds_explain_more_of_the_variance_where_they_move_accuracies() -> None:
    steady = judge(random_field([0.9, 0.8], [3, 3]))
    shaken = judge(random_field([0.9, 0.8], [3, 3], 3000, seed_effect=0.4))
    assert steady.seed_share is not None and shaken.seed_share is not None
    assert steady.seed_share < 0.5 < shaken.seed_share < 1


def test_one_candidate() -> None:
    field = random_field([0.8], [1])
    verdict = judge(field)
    assert verdict.power is None and verdict.tied == (verdict.winner,)


def test_refuses_two_of_one_name() -> None:
    field = random_field([0.8], [1])
    with pytest.raises(ValueError, match="Two candidates are called c0"):
        judge([*field, *field])
