from __future__ import annotations

import math
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from src.metrics.share_intervals import wilson_interval
from src.records.comparison import FoldTest, Interval
from src.statistics.candidates import Measure, Scale
from src.statistics.evidence import Evidence
from src.statistics.intervals import difference_interval
from src.statistics.verdict import cheapest, judge
from tests.statistics.fields import candidate, field_of_costs, random_field


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
    assert verdict.corrected in verdict.winner.interval
    assert verdict.pictures == 800 and verdict.power is not None
    assert verdict.cheapest is None
    by_name = {one.name: one for one in verdict.standings}
    assert by_name["c3"].spread is None
    assert by_name["c0"].spread == pytest.approx(field[0].right.mean(axis=1).std(ddof=1))
    for one in by_name.values():
        assert one.figure == pytest.approx(one.accuracy) and one.figure in one.interval
    assert sum(one.best for one in by_name.values()) == pytest.approx(1.0)


@given(st.permutations(range(5)))
@settings(max_examples=10, deadline=None)
def test_the_order_does_not_matter(order: list[int]) -> None:
    field = random_field([0.8, 0.8, 0.81, 0.7, 0.79], [1, 3, 2, 2, 1], 300)
    shuffled, usual = judge([field[i] for i in order], draws=300), judge(field, draws=300)
    assert repr(shuffled) == repr(usual)  # a figure that is not known equals itself only so


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


@pytest.mark.parametrize(("cost", "name"), [(11.1, "good"), (10.9, "cheap")])
def test_less_than_a_third_of_cost_is_no_reason_to_take_the_second(cost: float, name: str) -> None:
    right = np.arange(400) % 4 > 0
    level = np.full(400, 0.1, np.float32)
    field = [
        candidate("good", right, losses=level, cost=16.5),
        candidate("cheap", np.roll(right, 1), losses=level + 0.1, cost=cost),
    ]
    verdict = judge(field)
    assert verdict.winner.name == "good" and verdict.choice.name == name


def test_each_step_to_a_cheaper_one_saves_a_third() -> None:
    """29 ms are for 60 what 20 are not for 29; of 31, 29 and 20 the last saves a third at once."""
    standings = judge(random_field([0.9, 0.89, 0.88], [1, 1, 1])).standings

    def chosen(*costs: float) -> int:
        found = cheapest([replace(s, cost=cost) for s, cost in zip(standings, costs, strict=True)])
        assert found is not None
        return found.rank

    assert (chosen(60, 29, 20), chosen(31, 29, 20), chosen(60, 29, 19)) == (2, 3, 3)
    assert (chosen(20, 29, 60), chosen(0, 0, 0), chosen(3, 2, 2)) == (1, 1, 2)


def test_the_choice_is_the_cheapest_within_the_band_and_one_standard_error() -> None:
    field = field_of_costs()
    errors = [math.sqrt(5 + 2 - 1 / 202) / 202, math.sqrt(14 + 2 - 36 / 202) / 202]
    gaps = [1 / 200, 6 / 200]
    assert gaps[0] < errors[0] and gaps[1] > errors[1]
    verdict = judge(field, band=gaps[0])
    assert [one.name for one in verdict.tied] == ["first", "second", "third"]
    assert verdict.cheapest is not None and verdict.cheapest.name == "third"
    assert verdict.choice.name == "second"
    assert judge(field, band=1.0).choice.name == "second"
    assert judge(field, band=gaps[0] - 1e-4).choice.name == "first"
    unknown = judge([*field[:2], replace(field[2], costs=None)], band=gaps[0])
    assert unknown.choice.name == "second" and unknown.cheapest is None
    nowhere = judge([field[0], replace(field[1], costs=None), field[2]], band=gaps[0])
    assert nowhere.choice is nowhere.winner


def test_what_was_left_out_or_collapsed_in_part_is_no_choice_though_it_is_cheap_and_near() -> None:
    first, second, third = field_of_costs()
    judged = partial(judge, band=0.005)
    assert judged([first, second, third]).choice.name == "second"
    assert judged([first, second, third], look=2, left_out=["second"]).choice.name == "first"
    collapsed = np.vstack([second.right, np.arange(200) % 10 == 0])
    shaky = candidate("second", collapsed, cost=2.0)
    verdict = judged([first, shaky, third], scale=Scale(constant=0.1))
    assert {one.name for one in verdict.tied} == {"first", "second", "third"}
    assert verdict.choice.name == "first" and verdict.standings[1].collapsed == 1


def test_the_corrected_figure_is_never_outside_of_the_interval(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    field = random_field([0.8, 0.81, 0.79], [1, 1, 1])
    for far, end in ((0.2, "low"), (0.99, "high")):
        monkeypatch.setattr("src.statistics.verdict.expected_figure", lambda *_, far=far: far)
        verdict = judge(field)
        assert verdict.corrected == getattr(verdict.winner.interval, end)


def test_two_have_a_difference_and_more_have_none() -> None:
    field = random_field([0.7, 0.9, 0.6], [2, 3, 1], 800)
    verdict = judge(field[:2])
    expected = difference_interval(Evidence.of(field[:2]), 1, 0)
    assert verdict.difference is not None and expected.low > 0
    assert (verdict.difference.low, verdict.difference.high) == pytest.approx(
        (expected.low, expected.high)
    )
    assert judge(field).difference is None


def test_two_that_are_called_different_have_a_difference_that_says_so() -> None:
    """One story: tied, the difference and what is behind the best are one statement."""
    for seed in range(60):
        verdict = judge(random_field([0.86, 0.82], [1 + seed % 3] * 2, 400, seed=seed), draws=100)
        assert verdict.difference is not None
        alone = len(verdict.tied) == 1
        assert alone == (0 not in verdict.difference) == (verdict.standings[1].behind.high == 0)


def test_folds_and_pictures_must_agree_that_two_differ() -> None:
    field = random_field([0.9, 0.8], [1, 1], 1000)
    apart = judge(field)
    assert len(apart.tied) == 1 and apart.difference is not None
    wide = FoldTest(0.1, Interval(-0.02, 0.22), 0.1)
    tied = judge(field, over_folds=("c0", wide))
    assert len(tied.tied) == 2 and tied.difference == Interval(-0.02, 0.22)
    turned = judge(field, over_folds=("c1", FoldTest(-0.1, Interval(-0.22, 0.02), 0.1)))
    assert turned.difference == tied.difference
    narrow = judge(field, over_folds=("c0", FoldTest(0.1, Interval(0.09, 0.11), 0.0)))
    assert narrow.difference == apart.difference


def test_collapsed_trainings_are_named_and_left_out() -> None:
    sound = random_field([0.88] * 3, [4, 4, 4], 600)
    right = sound[1].right.copy()
    right[2] = np.arange(600) % 10 == 0
    losses = np.array([0.3, 0.3, 2.3, 0.3])
    measured = {"calibration_errors": losses / 10, "costs": 10 * losses}
    field = [sound[0], replace(sound[1], right=right, log_losses=losses, **measured), sound[2]]
    verdict = judge(field, scale=Scale(constant=0.1))
    assert verdict.collapses is not None
    assert verdict.collapses.names == ("c1",)
    assert (verdict.collapses.trainings, verdict.collapses.among) == (1, 12)
    assert verdict.collapses.accuracy == pytest.approx(0.1)
    (found,) = (one for one in verdict.standings if one.name == "c1")
    assert found.collapsed == 1 and found.run_ids == ("c1-0", "c1-1", "c1-3")
    assert found.log_loss == pytest.approx(0.3)
    assert found.calibration_error == pytest.approx(0.03) and found.cost == pytest.approx(3)
    assert found.figure == pytest.approx(np.delete(right, 2, axis=0).mean()) and found.tied
    # Ninety times 88 % and ten times 10 % are 80 %.
    assert verdict.collapses.winner is not None
    assert verdict.collapses.winner.low < 0.80 < verdict.collapses.winner.high


def test_copies_are_tied_by_any_measure() -> None:
    """Surest answers, a few of which are wrong, and others of them in the second training."""
    field = []
    for name, wrong in (("a", 12), ("copy", 12), ("worse", 14)):
        right = np.ones((2, 400), bool)
        right[0, :wrong] = right[1, 1 : wrong + 1] = False
        scores = np.where(right, np.log(0.9), np.log(0.1)).astype(np.float32)
        field.append(candidate(name, right, scores=scores))
    verdict = judge(field, scale=Scale("log_loss"))
    assert {one.name for one in verdict.tied} >= {"a", "copy"}
    assert all(one.behind.low <= 0 <= one.behind.high for one in verdict.tied)
    assert verdict.winner.tied


def test_copies_share_the_probability_to_be_the_best() -> None:
    first, other = random_field([0.9, 0.8], [1, 1], 300)
    verdict = judge([first, candidate("copy", first.right), other])
    alone = judge([first, other])
    shares = {one.name: one.best for one in verdict.standings}
    assert shares[first.name] == pytest.approx(shares["copy"], abs=1e-9)
    together = shares[first.name] + shares["copy"]
    assert together == pytest.approx(alone.standings[0].best, abs=0.02)


def test_costs_rank_the_other_way_round() -> None:
    field = [
        candidate(one.name, one.right, scores=-np.where(one.right, 0.2, 1.5).astype(np.float32))
        for one in random_field([0.7, 0.9], [2, 2], 800)
    ]
    verdict = judge(field, scale=Scale("cost"))
    assert verdict.winner.name == "c1" and not verdict.higher_is_better
    shares = [one.accuracy for one in verdict.standings]
    assert [one.figure for one in verdict.standings] == pytest.approx(
        [1.5 - 1.3 * share for share in shares]
    )
    for one in verdict.standings:
        assert one.interval.low < one.figure < one.interval.high
    assert verdict.difference is not None and verdict.difference.low > 0


def test_intervals_end_where_costs_do() -> None:
    """One mistake of two hundred pictures costs 20; an interval of the mean reached below 0."""
    costs = np.zeros((1, 200), np.float32)
    costs[0, 0] = 20
    field = [candidate("rare", costs == 0, scores=-costs)]
    assert judge(field, scale=Scale("cost")).winner.interval.low < 0
    table = np.array([[0, 20], [1, 0]], np.float64)
    found = judge(field, scale=Scale("cost", ends=Measure("cost", table).ends)).winner
    assert found.figure == pytest.approx(0.1)
    # One of 200, and how dear mistakes come is hardly known: more than for as many that are alike.
    low, high = wilson_interval(1, 200)
    assert 0 < found.interval.low < 20 * low and 20 * high < found.interval.high < 20
    assert Measure("log_loss").ends == (0, np.inf) and Measure("kappa").ends == (-1, 1)


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


def test_few_trainings_that_seeds_may_move_farther_than_pictures_do_are_named() -> None:
    """Those of many trainings speak for themselves, and steady ones are none to be named."""
    shares, shaken = [0.85, 0.84, 0.83], {"seed_effect": 0.4, "seed": 1}
    few = judge(random_field(shares, [2, 1, 3], 2000, **shaken))  # type: ignore[arg-type]
    assert set(few.unsteady) == {"c0", "c1", "c2"}
    mixed = judge(random_field(shares, [2, 8, 8], 2000, **shaken))  # type: ignore[arg-type]
    assert mixed.unsteady == ("c0",)
    assert judge(random_field(shares, [4, 4, 4], 2000)).unsteady == ()
    assert judge(random_field(shares, [1, 1, 1], 2000)).unsteady == ()
