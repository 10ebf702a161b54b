from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from src.statistics.evidence import Evidence
from src.statistics.intervals import accuracy_interval, difference_interval
from src.statistics.sentences import sentences_of
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
    assert verdict.winner_accuracy in verdict.winner.interval
    assert verdict.pictures == 800 and verdict.enough is not None
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
    said = "The cheapest of them is same, within one standard error of it."
    assert said in sentences_of(verdict)


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
    said = sentences_of(verdict)
    expected = (
        "The cheapest of them is third, 3.0 points behind; of those within one standard error of "
        "the winner it is second."
    )
    assert expected in said
    unknown = judge([*field[:2], candidate("third", third)])
    assert unknown.choice.name == "second" and unknown.cheapest is None
    nowhere = judge([field[0], candidate("second", second), field[2]])
    assert nowhere.choice is nowhere.winner


def test_single_trainings_are_said_to_be_that() -> None:
    verdict = judge(random_field([0.80, 0.81, 0.79], [1, 1, 1]))
    assert not verdict.of_configurations and verdict.borrowed == ()
    said = " ".join(sentences_of(verdict))
    assert "about the trained networks" in said and "cannot be told from" in said
    assert "pictures are needed to find it" in said


def test_a_sure_winner_is_announced() -> None:
    verdict = judge(random_field([0.95, 0.7, 0.6], [2, 2, 2], 1000))
    said = sentences_of(verdict)
    assert said[0].startswith("c0 comes first of 3 candidates:")
    assert "mean of 2 trainings" in said[0]
    assert said[2].startswith("It is better than every other candidate")
    assert len(said) == 3


def test_two_have_a_difference_and_more_have_none() -> None:
    field = random_field([0.7, 0.9, 0.6], [2, 3, 1], 800)
    verdict = judge(field[:2])
    expected = difference_interval(Evidence.of(field[:2]), 1, 0)
    assert verdict.difference is not None and expected.low > 0
    assert (verdict.difference.low, verdict.difference.high) == pytest.approx(
        (expected.low, expected.high)
    )
    ahead = 100 * (field[1].right.mean() - field[0].right.mean())
    bounds = f"{100 * expected.low:.1f} and {100 * expected.high:.1f} points (95 % interval)."
    sentence = f"It is {ahead:.1f} points ahead; the true difference lies between {bounds}"
    assert sentence in sentences_of(verdict)
    assert sentence not in sentences_of(verdict, folds=5)
    assert judge(field).difference is None
    level = sentences_of(judge([field[0], candidate("copy", field[0].right)]))
    assert any(one.startswith("The two are level; the true difference") for one in level)


def test_luck_is_called_luck_and_long_lists_are_of_ranks() -> None:
    verdict = judge(random_field([0.8] * 12, [1] * 12, 300))
    said = " ".join(sentences_of(verdict))
    assert verdict.winner_accuracy < verdict.winner.accuracy
    assert "partly first by luck" in said
    assert "It cannot be told from those ranked 2 to 12: with 95 % confidence" in said


def test_ranks_are_joined_where_they_follow_each_other() -> None:
    field = random_field([0.9] * 9, [2, 1, 1, 1, 2, 1, 2, 1, 1], 300)
    verdict = judge(field)
    once = [one.rank for one in verdict.standings if len(one.run_ids) == 1]
    assert once == [2, 3, 5, 7, 8, 9], "drawn so that there are all kinds of gaps"
    assert sentences_of(verdict)[-1].startswith("Trained once: those ranked 2, 3, 5 and 7 to 9;")
    long = [replace(one, name=one.name * 60) for one in field[:3]]
    assert "cannot be told from those ranked 2 and 3:" in " ".join(sentences_of(judge(long)))


def test_unsteady_trainings_are_told() -> None:
    steady = judge(random_field([0.9, 0.8], [3, 3]))
    shaken = judge(random_field([0.9, 0.8], [3, 3], 3000, seed_effect=0.4))
    assert steady.seed_share is not None and shaken.seed_share is not None
    assert steady.seed_share < 0.5 < shaken.seed_share < 1
    assert not any("more repeats" in sentence for sentence in sentences_of(steady))
    assert any("more repeats" in sentence for sentence in sentences_of(shaken))


def test_borrowing_is_told() -> None:
    said = sentences_of(judge(random_field([0.9, 0.8], [3, 1])))
    assert said[-1].startswith("Trained once: c1;")


def test_one_candidate_and_level_candidates() -> None:
    field = random_field([0.8], [1])
    verdict = judge(field)
    assert verdict.enough is None and verdict.tied == (verdict.winner,)
    assert "is the only candidate" in sentences_of(verdict)[0]
    copied = judge([*field, candidate("copy", field[0].right)])
    assert any("they are level" in sentence for sentence in sentences_of(copied))


def test_refuses_two_of_one_name() -> None:
    field = random_field([0.8], [1])
    with pytest.raises(ValueError, match="Two candidates are called c0"):
        judge([*field, *field])
