"""When the driver stops a trial that would not end in time, by reports that are made by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from src.search.driver import Driver
from src.search.jobs import Ending, Job, Report
from src.search.study import SweepStudy
from tests.search.studies import NUMBERS, family, plan, rules

# What is judged here runs nowhere.
NO_POOL: Any = None


def test_folds_that_are_reported_again_take_no_time(tmp_path: Path) -> None:
    """Three of six have ended, the fourth takes 20 seconds, and there are some 30 for the rest."""
    with SweepStudy(tmp_path, plan(family(NUMBERS), metrics={"m": "m"})) as study:
        trial = study.ask()
        assert trial is not None
        whole = Job({}, epochs=10, folds=6)
        for step in (1, 2, 3):
            study.report(trial.number, step, 1.0)
        driver = Driver(study, NO_POOL, rules(job=lambda _: whole, time_left=lambda _: 30))
        driver.job(trial.number)
        for step in (1, 2, 3):
            assert driver.judge(trial.number, whole, Report(step, {"m": 1.0}), 1.0) is None
        stop = driver.judge(trial.number, whole, Report(4, {"m": 1.0}), 21.0)
        assert stop is not None and stop.startswith(
            "stopped after 4 folds: the other 2 would take 40"
        )


@pytest.mark.parametrize(("limit", "stops"), [(None, True), (400.0, True), (90.0, False)])
def test_a_trial_that_ends_itself_in_time_is_not_stopped_before(
    tmp_path: Path, limit: float | None, stops: bool
) -> None:
    """Twenty seconds an epoch, of which thirty do not fit into a hundred seconds."""
    with SweepStudy(tmp_path, plan(family(NUMBERS), metrics={"m": "m"})) as study:
        trial = study.ask()
        assert trial is not None
        whole = Job({}, epochs=30, seconds=limit)
        driver = Driver(study, NO_POOL, rules(job=lambda _: whole, time_left=lambda _: 100))
        driver.job(trial.number)
        assert driver.judge(trial.number, whole, Report(1, {"m": 1.0}), 20.0) is None or stops
        stop = driver.judge(trial.number, whole, Report(2, {"m": 1.0}), 40.0)
        assert (stop or "").startswith("stopped after") is stops


@pytest.mark.parametrize(("seconds", "stops"), [(20.0, True), (5.0, False)])
def test_a_trial_that_goes_on_is_judged_by_the_epochs_of_this_attempt(
    tmp_path: Path, seconds: float, stops: bool
) -> None:
    """It goes on behind epoch 20 of 30, and there are some 100 seconds for the rest."""
    with SweepStudy(tmp_path, plan(family(NUMBERS), metrics={"m": "m"})) as study:
        trial = study.ask()
        assert trial is not None
        whole = Job({}, epochs=30)
        driver = Driver(study, NO_POOL, rules(job=lambda _: whole, time_left=lambda _: 100))
        driver.job(trial.number)
        stop = driver.judge(trial.number, whole, Report(21, {"m": 1.0}), seconds)
        assert stop is None, "what comes before the first report is more than an epoch"
        again = driver.judge(trial.number, whole, Report(22, {"m": 1.0}), 2 * seconds)
        assert (again or "").startswith("stopped after 22 epochs") is stops


@pytest.mark.parametrize(
    ("step_seconds", "stops"), [(None, None), (2.0, None), (15.0, "would take 2 min 45 s")]
)
def test_what_comes_before_the_first_report_is_not_taken_for_an_epoch(
    tmp_path: Path, step_seconds: float | None, stops: str | None
) -> None:
    """Of twelve epochs; 20 s of decoding and compiling come first, and 100 s are left."""
    asked: list[list[tuple[str, float | None]]] = []
    with SweepStudy(tmp_path, plan(family(NUMBERS), metrics={"m": "m"})) as study:
        trial = study.ask()
        assert trial is not None
        whole = Job({}, epochs=12, step_seconds=step_seconds)
        driver = Driver(
            *(study, NO_POOL),
            rules(
                job=lambda _: whole,
                affordable=lambda _, took, beside: (
                    asked.append([(t.family, t.seconds) for t in took]) or ()
                ),
                time_left=lambda _: 100.0,
            ),
        )
        driver.job(trial.number)
        stop = driver.judge(trial.number, whole, Report(1, {"m": 1.0}), 22.0)
        assert (stop or "").rpartition(": the other 11 ")[2].startswith(stops or "")
        assert (stop is None) is (stops is None)
        # Epochs of 12 s, because other work has come: the next trial does not begin.
        slow = driver.judge(trial.number, whole, Report(2, {"m": 1.0}), 34.0)
        assert slow is not None and "the other 10 would take 2 min 0 s" in slow
        assert driver.next() is None and asked == [[(trial.family, 154.0)]]


@pytest.mark.parametrize(("answered", "stops"), [(False, False), (True, True)])
def test_the_first_answer_has_all_the_time_in_which_it_may_end(
    tmp_path: Path, answered: bool, stops: bool
) -> None:
    """The other three folds take 18 s; of the budget 5 are left, and 20 for a late answer."""
    with SweepStudy(tmp_path, plan(family(NUMBERS), metrics={"m": "m"})) as study:
        first, trial = study.ask(), study.ask()
        assert first is not None and trial is not None
        whole = Job({}, epochs=1, folds=5)
        driver = Driver(
            *(study, NO_POOL),
            rules(
                job=lambda _: whole,
                time_left=lambda _: 5.0,
                time_to_end=lambda answered: 5.0 if answered else 20.0,
            ),
        )
        if answered:
            driver.job(first.number)
            driver.ended(first.number, 0, Ending("complete", {"m": 0.5}))
        driver.job(trial.number)
        assert driver.judge(trial.number, whole, Report(1, {"m": 1.0}), 9.0) is None
        stop = driver.judge(trial.number, whole, Report(2, {"m": 1.0}), 15.0)
        assert stop == (
            "stopped after 2 folds: the other 3 would take 18 s, and 5.0 s are left"
            if stops
            else None
        )


@pytest.mark.parametrize(("job", "last"), [(Job({}, epochs=3), 3), (Job({}, epochs=9, folds=2), 2)])
def test_the_last_report_is_never_too_late(tmp_path: Path, job: Job, last: int) -> None:
    with SweepStudy(tmp_path, plan(family(NUMBERS), metrics={"m": "m"})) as study:
        trial = study.ask()
        assert trial is not None
        driver = Driver(study, NO_POOL, rules(job=lambda _: job, time_left=lambda _: 0))
        driver.job(trial.number)
        stop = driver.judge(trial.number, job, Report(last - 1, {"m": 1.0}), 1.0)
        assert stop is not None and stop.startswith(f"the time was over after {last - 1} ")
        assert driver.judge(trial.number, job, Report(last, {"m": 1.0}), 2.0) is None
