"""What a race goes by: limits of trials, kinds that end in time, and the time that is left."""

from __future__ import annotations

from typing import Any
from unittest.mock import Mock

import pytest

from src.records.trials import RUNNING, TrialRecord
from src.search.space import Kind
from src.sweeps.clock import Clock
from src.sweeps.families import load_families
from src.sweeps.prepared import Prepared
from src.sweeps.race_rules import RaceRules


@pytest.mark.parametrize(
    ("race", "takes", "best", "alone"),
    [(60, 25, None, False), (60, 31, None, True), (60, 31, 0.9, False), (None, 70, None, False)],
)
def test_an_only_family_may_have_time_for_one_training_alone(
    race: float | None, takes: float, best: float | None, alone: bool
) -> None:
    budget = None if race is None else race / 0.7
    clock = Clock(budget, finals=True, earlier=0, note=lambda _: None, now=lambda: 0.0)
    limit = clock.first_limit(takes, only=True)
    assert (best is None and limit is not None) is alone
    assert clock.first_limit(takes, only=False) is None, "others have time beside it"
    assert changes_of("cnn", Prepared([], 1, takes), clock, best) == (
        [f"trainer.max_time={round(0.85 * (budget or 0))}"] * alone
    )


def changes_of(
    family: str, prepared: Prepared, clock: Clock, best: float | None, *others: str
) -> list[str]:
    """Return what is changed of a trial for the time that is left."""
    noted: list[str] = []
    families = {one.name: one for one in load_families([family, *others], [])}
    study = Mock(
        best=lambda: best,
        facts=lambda number: {},
        note=lambda number, changes: noted.extend(changes),
    )
    jobs = Mock(base=(), families=families, study=study, prepared_of=lambda trial: prepared)
    rules = RaceRules(jobs, clock, Mock(), print, [*families])
    rules.job(TrialRecord(0, family, RUNNING, {}))
    return noted


@pytest.mark.parametrize(
    ("takes", "best", "limited"), [(40, None, False), (60, None, True), (60, 0.5, False)]
)
def test_a_network_that_may_be_the_first_answer_ends_itself_where_time_is_short(
    takes: float, best: float | None, limited: bool
) -> None:
    clock = Clock(100.0, finals=True, earlier=0, note=lambda _: None, now=lambda: 0.0)
    found = changes_of("cnn", Prepared([], 1, takes), clock, best, "mlp")
    assert found == ["trainer.max_time=85"] * limited


@pytest.mark.parametrize(
    ("family", "trainings", "changes"),
    [
        ("cnn", 1, ["trainer.max_time=85"]),
        ("cnn", 5, ["trainer.max_time=17"]),
        ("handcrafted", 1, []),
    ],
)
def test_the_clock_of_an_only_training_is_that_of_each_fold_and_of_networks_alone(
    family: str, trainings: int, changes: list[str]
) -> None:
    clock = Clock(100.0, finals=False, earlier=0, note=lambda _: None, now=lambda: 0.0)
    prepared = Prepared([], 1, 70 / trainings, trainings=trainings)
    assert changes_of(family, prepared, clock, None) == changes


def rules_of(clock: Clock, takes: float, until: float | None = None) -> RaceRules:
    """Return the rules of a race of a cnn whose trials take so many seconds."""
    families = {one.name: one for one in load_families(["cnn"], [])}
    jobs: Any = Mock(families=families, prepared={"cnn": Prepared([], 1, takes)})
    jobs.study.recall = lambda key: None
    kept: Any = Mock(further=lambda seconds, family: 0.0)
    return RaceRules(jobs, clock, kept, print, ["cnn"], until)


def test_what_is_run_for_an_answer_in_any_case_ends_at_its_own_time() -> None:
    """The budget is over, and the minimal trial has 30 s more, whatever it is expected to take."""
    clock = Clock(100.0, finals=True, earlier=120.0, note=lambda _: None, now=lambda: 0.0)
    usual, minimal = rules_of(clock, 60.0), rules_of(clock, 60.0, until=150.0)
    assert usual.time_left(False) == 0.0 and usual.time_to_end(False) == 5.0
    assert minimal.time_left(False) == minimal.time_to_end(False) == 30.0
    assert usual.affordable(30.0, [], []) == []
    assert minimal.affordable(30.0, [], []) == [Kind("cnn")]
