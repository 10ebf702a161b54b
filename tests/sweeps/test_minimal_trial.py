"""A race in a short time ends with an answer, by a clock and a machine that are simulated."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from src.config.compose import read_run_settings
from src.config.features import ClassicalSettings
from src.records.trials import COMPLETE, PRUNED
from src.search import driver, loop
from src.search.driver import Driver
from src.search.jobs import Ending, Job, Report
from src.search.pool import Event
from src.search.study import SweepStudy
from src.sweeps.clock import Clock
from src.sweeps.families import default_values, load_families, trial_overrides
from src.sweeps.forecast import TimeForecast
from src.sweeps.minimal_trial import minimal_trial
from src.sweeps.prepared import Prepared
from tests.search.studies import plan, rules
from tests.sweeps.stand_in import Clock as ByHand

BUDGET = 140.0


class SharedCores:
    """Two slots whose jobs have the same cores: of two that run each is half as fast."""

    def __init__(self, time: ByHand, work: float, later: float) -> None:
        self.time, self.work, self.later = time, work, later
        self.left: dict[int, float] = {}  # seconds of all cores, by slot
        self.jobs: dict[int, tuple[Job, float]] = {}
        self.most = 0  # at once
        self.asked: list[int] = []

    @property
    def busy(self) -> list[int]:
        return [*self.jobs]

    def free(self) -> list[int]:
        return [slot for slot in (0, 1) if slot not in self.jobs]

    def give(self, slot: int, job: Job) -> None:
        self.jobs[slot], self.left[slot] = (job, self.time.now), self.work
        self.work = self.later
        self.most = max(self.most, len(self.jobs))

    def answer(self, slot: int, stop: str | None) -> None:
        self.asked.append(slot)

    def interrupt(self, slots: Iterable[int], reason: str | None = None) -> None:
        for slot in slots:
            self.left[slot] = -1.0

    def abandon(self, slot: int) -> Iterator[Event]:
        yield self._over(slot, Ending("lost"))

    def events(self, seconds: float) -> Iterator[Event]:
        self.time.now += seconds
        for slot in self.busy:
            stopped = self.left[slot] < 0
            self.left[slot] -= seconds / len(self.jobs)
            if stopped:
                yield self._over(slot, Ending("interrupted"))
            elif self.left[slot] <= 0:
                job, since = self.jobs[slot]
                yield Event(slot, job, Report(1, {"val/accuracy": 0.8}), self.time.now - since)
                yield self._over(slot, Ending("complete", {"val/accuracy": 0.8}))

    def _over(self, slot: int, ending: Ending) -> Event:
        job, since = self.jobs.pop(slot)
        return Event(slot, job, ending, self.time.now - since)


@pytest.fixture
def time(monkeypatch: pytest.MonkeyPatch) -> ByHand:
    clock = ByHand()
    for module in (loop, driver):
        monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=clock))
    return clock


def race(
    folder: Path, time: ByHand, *, measured: float, takes: float, later: float | None = None
) -> tuple[list[str], int]:
    """Return the states of the trials, and how many ran at once at most.

    The first one takes so many seconds alone, and each later one as well or `later`.
    """
    (family,) = load_families(["handcrafted"], [])
    clock = Clock(BUDGET, finals=True, earlier=0, note=lambda _: None, now=time)
    prepared = {"handcrafted": Prepared([], 1, measured, all_cores=True)}
    pool: Any = SharedCores(time, takes, takes if later is None else later)
    with SweepStudy(folder, plan(family)) as study:
        study.enqueue("handcrafted", default_values(family, []))
        racing = Driver(
            *(study, pool),
            rules(
                job=lambda _: Job({}, epochs=1),
                affordable=TimeForecast({family.name: family}, prepared).affordable,
                time_left=clock.time_left,
                time_to_end=clock.time_to_end,
            ),
            trials=20,
        )
        assert racing.race()
        return [trial.state for trial in study.trials()], pool.most


@pytest.mark.parametrize("takes", [60.0, 90.0, 138.0])
def test_where_two_trials_cannot_end_in_time_one_does(
    tmp_path: Path, time: ByHand, takes: float
) -> None:
    """Trials were measured to take 60 s, and take longer when other work has come: 90 s, 138 s."""
    states, most = race(tmp_path, time, measured=60.0, takes=takes)
    assert states == [COMPLETE] and most == 1


@pytest.mark.parametrize(("takes", "state"), [(170.0, COMPLETE), (200.0, PRUNED)])
def test_a_first_answer_may_be_late_by_a_quarter_of_the_budget(
    tmp_path: Path, time: ByHand, takes: float, state: str
) -> None:
    """That is 35 s: better than none. A second one is not waited for."""
    states, most = race(tmp_path, time, measured=60.0, takes=takes)
    assert states == [state] and most == 1


def test_what_runs_after_an_answer_ends_with_the_race(tmp_path: Path, time: ByHand) -> None:
    began = time.now
    states, _ = race(tmp_path, time, measured=48.0, takes=47.0, later=60.0)
    assert states == [COMPLETE, PRUNED]
    assert time.now - began <= BUDGET + 8


def test_no_two_begin_of_which_only_one_would_end_in_time(tmp_path: Path, time: ByHand) -> None:
    """After the first one 51 s are left: two at once would take 94 s, and give nothing."""
    states, most = race(tmp_path, time, measured=48.0, takes=47.0)
    assert states == [COMPLETE, COMPLETE] and most == 1


@pytest.mark.parametrize(
    ("names", "base", "taken", "added"),
    [
        (
            ["embedding", "efficientnet_lite0", "handcrafted", "cnn"],
            [],
            "handcrafted",
            ["data.train_limit=500", "data.image_size=32"],
        ),
        (["embedding"], [], "embedding", ["data.train_limit=500", "model.input_size=64"]),
        (
            ["efficientnet_lite0", "cnn"],
            ["trainer.max_epochs=12"],
            "cnn",
            ["data.train_limit=500", "data.image_size=32", "trainer.max_epochs=1"],
        ),
        (["handcrafted"], ["data.image_size=96", "data.train_limit=50"], "handcrafted", []),
        (
            ["pixels", "unet"],
            ["data.target=dense"],
            "pixels",
            ["data.train_limit=100", "model.pixels=5000"],
        ),
        (
            ["fcn"],
            ["data.target=dense"],
            "fcn",
            ["data.train_limit=100", "trainer.max_epochs=1"],
        ),
    ],
)
def test_the_minimal_trial_is_the_cheapest_that_the_families_allow(
    names: list[str], base: list[str], taken: str, added: list[str]
) -> None:
    families = {one.name: one for one in load_families(names, base)}
    pixels = "data.target=dense" in base
    name, values, prepared = minimal_trial(families.values(), base, 400, {}, pixels=pixels)
    assert (name, list(prepared.overrides)) == (taken, added)
    assert families[taken].stored_values(values), "the study may have it"
    overrides = trial_overrides(families[taken], [*base, *added], values)
    settings = read_run_settings(overrides)
    if taken != "pixels" and isinstance(settings.model, ClassicalSettings):
        assert settings.model.classifier == "nearest_mean"


@pytest.mark.parametrize(
    ("changes", "taken"),
    [
        ({}, "embedding"),
        ({"affordable": False}, "handcrafted"),
        ({"seconds_per_epoch": 9.0}, "handcrafted"),
    ],
    ids=["described", "left out", "not yet"],
)
def test_pictures_that_frozen_networks_have_described_are_not_described_again(
    changes: dict[str, Any], taken: str
) -> None:
    families = load_families(["handcrafted", "embedding"], [])
    frozen = replace(Prepared(["model.input_size=96"], 1, 0.0, published=True), **changes)
    known = {"embedding": frozen, "handcrafted": Prepared([], 1, 0.0)}
    name, values, prepared = minimal_trial(families, [], 400, known)
    assert name == taken and values["model.classifier"] == "nearest_mean"
    assert (prepared is frozen) == (taken == "embedding")


@pytest.mark.parametrize("classifier", ["random_forest", "gradient_boosting"])
def test_later_trials_of_pixels_may_have_what_was_chosen_for_it(classifier: str) -> None:
    base = ["data.target=dense"]
    [family] = load_families(["pixels"], base)
    added = minimal_trial([family], base, 400, {}, pixels=True)[2].overrides
    settings = {"model.classifier": classifier}
    read_run_settings(trial_overrides(family, [*base, *added], settings))


def test_small_pictures_are_not_magnified_for_it() -> None:
    families = load_families(["handcrafted"], [])
    assert minimal_trial(families, [], 8, {})[2].overrides == ["data.train_limit=500"]
    assert "data.image_size=32" in minimal_trial(families, [], None, {})[2].overrides


def test_what_fixes_its_features_keeps_them() -> None:
    base = ["model.features=[scattering]", "model.classifier=rbf_svm"]
    _, values, _ = minimal_trial(load_families(["handcrafted"], base), base, 400, {})
    assert not {"model.features", "model.classifier"} & values.keys()


def test_what_waited_for_the_first_answer_begins_after_it(tmp_path: Path, time: ByHand) -> None:
    """Two of 48 s, half as long again, would take 144 of 140 s; the first one takes 30 of them."""
    states, _ = race(tmp_path, time, measured=48.0, takes=30.0)
    assert states[:2] == [COMPLETE, COMPLETE] and PRUNED not in states


def test_where_there_is_time_for_both_two_trials_begin_at_once(
    tmp_path: Path, time: ByHand
) -> None:
    states, most = race(tmp_path, time, measured=10.0, takes=10.0)
    assert most == 2 and states.count(COMPLETE) >= 6 and set(states) <= {COMPLETE, PRUNED}
