from __future__ import annotations

from src.sweeps.clock import Clock
from tests.sweeps.stand_in import Clock as Hand


def test_a_sweep_that_took_more_than_its_budget_says_what_took_it() -> None:
    now = Hand()
    clock = Clock(240, finals=True, earlier=0, note=lambda _: None, now=now)
    for what, seconds in (("trials", 230), ("the test part", 50), ("MLflow", 26)):
        now.now += seconds
        clock.ended(what)
    assert clock.overrun() == (
        "the sweep took 5 min 6 s instead of 4 min 0 s: beyond its budget, 40 s for the test "
        "part, 26 s for MLflow"
    )


def test_within_a_twentieth_of_its_budget_or_without_one_nothing_is_said() -> None:
    now = Hand()
    clocks = [
        Clock(budget, finals=True, earlier=0, note=lambda _: None, now=now)
        for budget in (240, None)
    ]
    now.now += 251
    for clock in clocks:
        clock.ended("trials")
    assert [clock.overrun() for clock in clocks] == ["", ""]
