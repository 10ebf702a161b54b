"""The time of a sweep, and how a family is fitted into it, by a pool that answers at once."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from src.config.checks import ConfigError
from src.config.sweep import read_sweep_settings
from src.machine.failures import RunFailed
from src.search.jobs import Ending, Job
from src.search.pool import Event
from src.search.space import Family
from src.sweeps.prepare import Clock, Preparation
from src.sweeps.tasks import Prepared, SweepJobs


class Answers:
    """A pool that answers each preparation by what `cost` makes of its overrides."""

    def __init__(self, cost: Callable[[list[str]], dict[str, Any]]) -> None:
        self.cost = cost
        self.jobs: list[Job] = []
        self.busy: list[int] = []

    def free(self) -> list[int]:
        return [0]

    def give(self, slot: int, job: Job) -> None:
        self.jobs.append(job)

    def events(self, seconds: float) -> Iterator[Event]:
        job = self.jobs[-1]
        found = self.cost(list(job.overrides))
        failed = found.pop("failed", None)
        result = {"words": ["data.batch_size=64"], "epochs": 12, "notes": []} | found
        ending = Ending("failed", result=failed, reason="no such thing")
        yield Event(0, job, Ending("complete", result=result) if failed is None else ending, 0.1)


def preparation(pool: Any, seconds: float | None, *base: str) -> Preparation:
    clock = Clock(seconds, finals=False, earlier=0, note=lambda _: None, now=lambda: 0.0)
    settings = read_sweep_settings(["study=s", "output_dir=out"], "default")
    jobs = SweepJobs(settings, {}, base, {}, "0" * 32, lambda _: ())
    study: Any = None
    return Preparation(study, pool, clock, jobs, print, lambda: None)


def family(name: str, *words: str) -> Family:
    return Family(name, words or (f"model={name}",), (), {})


def of_size(large: float, small: float) -> Callable[[list[str]], dict[str, Any]]:
    """Seconds an epoch at the usual size of pictures, and at a smaller one."""

    def cost(words: list[str]) -> dict[str, Any]:
        shrunk = any(w.startswith(("data.image_size=", "model.input_size=")) for w in words)
        return {"seconds_per_epoch": small if shrunk else large}

    return cost


def test_what_fits_stays_as_it_is_and_the_pool_is_told_how_long_it_may_measure() -> None:
    pool = Answers(of_size(1.0, 0.2))
    found = preparation(pool, 100).measure(family("cnn"))
    assert (found.epochs, found.seconds, found.affordable) == (12, 12.0, True)
    assert found.words == ["data.batch_size=64"] and not found.notes
    assert len(pool.jobs) == 1 and pool.jobs[0].task["seconds"] == pytest.approx(35)


def test_without_a_limit_everything_is_affordable() -> None:
    pool = Answers(of_size(1e6, 1e6))
    assert preparation(pool, None).measure(family("cnn")).affordable
    assert pool.jobs[0].task["seconds"] is None


def test_smaller_pictures_come_before_fewer_epochs() -> None:
    found = preparation(Answers(of_size(20, 4)), 100).measure(family("cnn"))
    assert found.words == ["data.image_size=64", "data.batch_size=64"]
    assert found.epochs == 12 and found.affordable
    assert "data.image_size=64" in found.notes[-1]


def test_then_it_gets_the_epochs_that_fit() -> None:
    found = preparation(Answers(of_size(40, 10)), 100).measure(family("fcn"))
    assert found.epochs == 5 and found.words[-1] == "trainer.max_epochs=5" and found.affordable


def test_a_size_that_somebody_gave_is_kept() -> None:
    pool = Answers(of_size(10, 10))
    found = preparation(pool, 100, "data.image_size=96").measure(family("cnn"))
    assert len(pool.jobs) == 1 and found.epochs == 5


def test_a_network_from_scratch_is_left_out_before_it_learns_nothing() -> None:
    found = preparation(Answers(of_size(90, 30)), 100).measure(family("cnn"))
    assert not found.affordable and "left out" in found.notes[-1]


def test_a_tuned_network_is_worth_a_single_epoch_of_smaller_pictures() -> None:
    def cost(words: list[str]) -> dict[str, Any]:
        return of_size(90, 45)(words) | {"published": True}

    tuned = family("efficientnet_lite0", "model=efficientnet_lite0", "recipe=finetune")
    found = preparation(Answers(cost), 100).measure(tuned)
    assert found.affordable and found.epochs == 1
    assert "model.input_size=160" in found.words


def test_pictures_that_cannot_be_described_in_time_leave_the_frozen_networks_out() -> None:
    pool = Answers(lambda _: {"epochs": 1, "seconds_per_epoch": 90.0, "published": True})
    found = preparation(pool, 100).measure(family("embedding"))
    assert pool.jobs[0].task["seconds"] == pytest.approx(60)
    assert len(pool.jobs) == 1 and not found.affordable and "left out" in found.notes[-1]


class _Memory:
    """What a study remembers."""

    def __init__(self) -> None:
        self.kept: dict[str, Any] = {}

    def recall(self, key: str) -> Any:
        return self.kept.get(key)

    def remember(self, key: str, value: Any) -> None:
        self.kept[key] = value

    def trials(self) -> list[Any]:
        return []


def test_once_time_is_up_nothing_more_is_measured() -> None:
    time = Time()

    class Late(Answers):
        def gather(self, *_: object) -> None: ...

        def give(self, slot: int, job: Job) -> None:
            super().give(slot, job)
            time.seconds += 60

    pool = Late(of_size(90, 90))
    clock = Clock(100, finals=False, earlier=0, note=lambda _: None, now=time)
    shown: list[str] = []
    settings = read_sweep_settings(["study=s", "output_dir=out"], "default")
    jobs = SweepJobs(settings, {}, (), {}, "0" * 32, lambda _: ())
    study: Any = _Memory()
    pool_: Any = pool
    whole = Preparation(study, pool_, clock, jobs, shown.append, lambda: None)
    found: dict[str, Prepared] = {}
    whole.run([family("cnn"), family("fcn"), family("gru")], found, lambda name: None)
    assert len(pool.jobs) == 2  # cnn as it is, and smaller
    assert list(found) == ["cnn"] and not found["cnn"].affordable
    assert [line.partition(":")[0] for line in shown if "time is up" in line] == ["fcn", "gru"]


def test_wrong_input_is_told_as_such() -> None:
    def cost(words: list[str]) -> dict[str, Any]:
        return {"failed": {"wrong_input": True}}

    with pytest.raises(ConfigError, match="cnn: no such thing"):
        preparation(Answers(cost), 100).measure(family("cnn"))


def test_what_cannot_be_trained_ends_the_sweep_with_its_reason() -> None:
    pool = Answers(lambda words: {"failed": {}})
    with pytest.raises(RunFailed, match="cnn cannot be trained: no such thing"):
        preparation(pool, 100).measure(family("cnn"))


class Time:
    """A clock that is moved by hand."""

    def __init__(self) -> None:
        self.seconds = 1000.0

    def __call__(self) -> float:
        return self.seconds


def test_a_share_of_the_budget_is_kept_for_the_finalists() -> None:
    time = Time()
    clock = Clock(100, finals=True, earlier=0, note=lambda _: None, now=time)
    time.seconds += 20
    assert (clock.spent, clock.left, clock.race_left) == (20, 80, 50)
    time.seconds += 60
    assert (clock.left, clock.race_left) == (20, 0)
    time.seconds += 60
    assert clock.left == 0


def test_without_finalists_trials_have_all_of_it() -> None:
    assert Clock(100, finals=False, earlier=30, note=lambda _: None, now=Time()).race_left == 70


def test_without_a_budget_there_is_no_limit() -> None:
    clock = Clock(None, finals=True, earlier=5, note=lambda _: None, now=Time())
    assert (clock.left, clock.race_left, clock.spent) == (None, None, 5)


def test_a_later_start_goes_on_where_the_account_ended() -> None:
    time = Time()
    noted: list[float] = []
    first = Clock(100, finals=True, earlier=0, note=noted.append, now=time)
    time.seconds += 2
    first.tick()
    assert noted == []  # not at every look
    time.seconds += 10
    first.tick()
    time.seconds += 1
    first.settle()
    assert noted == [12, 13]
    time.seconds += 500  # a pause costs nothing
    assert Clock(100, finals=True, earlier=noted[-1], note=noted.append, now=time).left == 87


def test_measuring_ends_while_trials_have_time() -> None:
    time = Time()
    clock = Clock(100, finals=True, earlier=0, note=lambda _: None, now=time)
    time.seconds += 41
    assert not clock.trials_wait
    time.seconds += 2
    assert clock.trials_wait
    assert not Clock(None, finals=True, earlier=0, note=lambda _: None, now=time).trials_wait
