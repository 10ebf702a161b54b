"""The time of a sweep: for trials, for finalists and for measuring."""

from __future__ import annotations

import pytest

from src.sweeps.clock import Clock
from tests.sweeps.stand_in import Clock as ByHand


def test_a_share_of_the_budget_is_kept_for_the_finalists() -> None:
    time = ByHand()
    clock = Clock(100, finals=True, earlier=0, note=lambda _: None, now=time)
    time.now += 20
    assert (clock.spent, clock.left, clock.race_left) == (20, 80, 50)
    time.now += 60
    assert (clock.left, clock.race_left) == (20, 0)
    time.now += 60
    assert clock.left == 0


def test_without_finalists_trials_have_all_and_without_a_budget_there_is_no_limit() -> None:
    assert Clock(100, finals=False, earlier=30, note=lambda _: None, now=ByHand()).race_left == 70
    clock = Clock(None, finals=True, earlier=5, note=lambda _: None, now=ByHand())
    assert (clock.left, clock.race_left, clock.spent) == (None, None, 5)


def test_a_later_start_goes_on_where_the_account_ended() -> None:
    time = ByHand()
    noted: list[float] = []
    first = Clock(100, finals=True, earlier=0, note=noted.append, now=time)
    time.now += 2
    first.tick()
    assert noted == []  # not at every look
    time.now += 10
    first.tick()
    time.now += 1
    first.settle()
    assert noted == [12, 13]
    time.now += 500  # a pause costs nothing
    assert Clock(100, finals=True, earlier=noted[-1], note=noted.append, now=time).left == 87


def test_measuring_ends_while_trials_have_time() -> None:
    time = ByHand()
    clock = Clock(100, finals=True, earlier=0, note=lambda _: None, now=time)
    time.now += 41
    assert not clock.trials_wait
    time.now += 2
    assert clock.trials_wait
    assert not Clock(None, finals=True, earlier=0, note=lambda _: None, now=time).trials_wait


@pytest.mark.parametrize(
    ("budget", "earlier", "slower", "seconds"),
    [
        (120.0, 0.0, 1.0, 60.0),
        (60.0, 0.0, 1.0, 30.0),
        (60.0, 0.0, 8.0, 120.0),  # as its work takes beside others
        (60.0, 0.0, 50.0, 180.0),
        (3.0, 0.0, 50.0, 30.0),
        (60.0, 61.0, 1.0, 0.0),  # a start after one that had it
        (None, 0.0, 1.0, 0.0),
    ],
)
def test_the_minimal_trial_has_what_its_work_takes_beside_others(
    budget: float | None, earlier: float, slower: float, seconds: float
) -> None:
    clock = Clock(budget, finals=True, earlier=earlier, note=lambda _: None, now=lambda: 0.0)
    assert clock.minimal_trial_seconds(slower) == seconds


def test_a_first_answer_may_be_late_and_a_second_may_not() -> None:
    hand = ByHand()
    clock = Clock(100, finals=True, earlier=0, note=lambda _: None, now=hand)
    hand.now += 110
    assert (clock.time_to_end(answered=False), clock.time_to_end(answered=True)) == (15, 0)
    assert clock.time_left(answered=False) == 0, "nothing begins in that time"


def test_finalists_that_go_on_are_stopped_late_once_another_is_answered() -> None:
    hand = ByHand()
    clock = Clock(100, finals=True, earlier=0, note=lambda _: None, now=hand)
    hand.now += 110
    assert (clock.finals_to_end(answered=False), clock.finals_to_end(answered=True)) == (None, 15)
    hand.now += 20
    assert clock.finals_to_end(answered=True) == 0
    without = Clock(None, finals=True, earlier=0, note=lambda _: None, now=hand)
    assert without.finals_to_end(answered=True) is None
