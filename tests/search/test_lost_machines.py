"""Races whose machines go, as those of a cloud do."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from src.records.trials import COMPLETE, FAILED
from src.search.driver import Driver
from src.search.jobs import Death, Ending, Job, Message, Ready
from src.search.pool import Pool
from src.search.study import SweepStudy
from tests.search.studies import NUMBERS, family, plan, rules


class Leaving:
    """An engine of one slot, whose machine goes under so many of the first jobs."""

    size = 1

    def __init__(self, times: int) -> None:
        self.times = times
        self.due: list[Message | Death] = []

    def start(self, slot: int) -> None:
        self.due.append(Ready())

    def send(self, slot: int, message: Message) -> None:
        self.times -= 1
        goes = self.times >= 0
        self.due.append(Death("went", outside=True) if goes else Ending("complete", {"m": 1.0}))

    def messages(self, seconds: float) -> Iterator[tuple[int, Message | Death]]:
        due, self.due = self.due, []
        yield from ((0, one) for one in due)

    def stop(self, slot: int) -> Death:
        return Death("ended")

    def close(self) -> None: ...


@pytest.mark.parametrize(("times", "state"), [(9, COMPLETE), (10, FAILED)])
def test_a_machine_that_goes_is_no_fault_of_its_trial(
    tmp_path: Path, times: int, state: str
) -> None:
    """Unlike a worker that dies; until it looks as if the trial brings them down."""
    leaving = Pool(Leaving(times))
    leaving.start()
    with SweepStudy(tmp_path, plan(family(NUMBERS), metrics={"m": "m"})) as study:
        Driver(study, leaving, rules(job=lambda trial: Job({})), trials=2).race()
        assert [trial.state for trial in study.trials()] == [state, COMPLETE]
