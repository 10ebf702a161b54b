"""The time that is kept for the finals, by a clock and a machine that are simulated."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from src.config.sweep import read_sweep_settings
from src.records.trials import COMPLETE, PRUNED, RUNNING, TrialRecord
from src.search import loop
from src.search.driver import Driver
from src.search.jobs import Ending, Job
from src.search.pool import Event
from src.search.study import SweepStudy
from src.sweeps import finalists
from src.sweeps.clock import Clock
from src.sweeps.families import default_values, load_families
from src.sweeps.finalists import kept_finalists
from src.sweeps.finals_time import FinalsTime
from src.sweeps.forecast import TimeForecast
from src.sweeps.prepared import Prepared
from src.sweeps.tasks import SweepJobs, read_task
from tests.search.studies import plan, rules
from tests.sweeps.bare_finals import bare_finals
from tests.sweeps.stand_in import Clock as ByHand

TUNED = "efficientnet_lite0"
PREPARED = {
    "embedding": Prepared(["model.networks=[a]"], 1, 0.0, True),
    TUNED: Prepared(["model.input_size=160"], 1, 75.0, True),
    "cnn": Prepared([], 12, 2.0),
}


class Kept:
    """What is kept of a budget of 600 s with 3 finalists of 3 seeds, on two slots."""

    def __init__(
        self, trials: Sequence[TrialRecord] = (), *overrides: str, budget: float | None = 600.0
    ) -> None:
        settings = read_sweep_settings(["study=s", *overrides], "default")
        study: Any = SimpleNamespace(trials=lambda: trials, facts=lambda number: {})
        families = {one.name: one for one in load_families([*PREPARED], [])}
        jobs = SweepJobs(settings, study, families, (), dict(PREPARED), "0" * 32)
        self.clock = Clock(
            budget, finals=bool(settings.finalists), earlier=0, note=print, now=ByHand()
        )
        self.time = FinalsTime(jobs, self.clock, 2)

    @property
    def seconds(self) -> float:
        return self.clock.kept

    def began(self, slot: int, family: str) -> None:
        self.time.began(slot, TrialRecord(7, family, RUNNING, {}), 1)

    def ended(self, slot: int, trial: TrialRecord) -> None:
        self.time.freed(slot)
        self.time.ended(slot, trial, None)


def ended(
    value: float, seconds: float, family: str = "embedding", state: str = COMPLETE
) -> TrialRecord:
    objectives = (value,) if state == COMPLETE else None
    own = f"n={value}"
    return TrialRecord(
        0, family, state, {"n": value}, (own,), objectives=objectives, seconds=seconds
    )


def test_the_largest_fraction_is_kept_until_a_trial_is_complete() -> None:
    kept = Kept([ended(0.9, 5.0, state=PRUNED)])
    assert kept.seconds == 180 and kept.time.further(100.0, "cnn") == 0
    kept.began(0, "embedding")
    assert kept.seconds == 180
    kept.ended(0, ended(0.9, 8.0))
    assert kept.seconds == 40 + 3 * 8
    assert Kept([], "finalists=0").seconds == Kept([], budget=None).seconds == 0


def test_the_best_trials_are_counted_with_all_seeds() -> None:
    heads = [ended(0.9, 8.0), ended(0.8, 10.0), ended(0.7, 12.0)]
    assert Kept(heads).seconds == 40 + 3 * 15
    assert Kept([*heads, ended(0.6, 99.0, "cnn")]).seconds == 40 + 3 * 15, "it is no finalist"
    assert Kept([*heads, ended(0.95, 30.0, "cnn")]).seconds == 40 + 3 * 30, "two slots, 48 s"
    assert Kept([*heads, ended(0.95, 99.0, "cnn")]).seconds == 180
    losses = [ended(0.1, 8.0), ended(0.9, 30.0)]
    assert Kept(losses, "finalists=1", "metric=loss").seconds == 40 + 3 * 8
    assert Kept(heads, "finalist_seeds=1").seconds == 40 + 15
    both = Kept([*heads])
    both.time._jobs.study.facts = lambda number: {"prepared": ["runtime.threads=2"]}  # type: ignore[method-assign]
    both.ended(0, ended(0.95, 8.0))
    assert both.seconds > 40 + 3 * 15, "a trial of all cores takes longer in a slot"


def test_a_trial_near_a_better_one_is_counted_where_it_would_be_a_finalist() -> None:
    """The best three differ by their strength alone, and the fourth is another classifier."""
    logistic = {"model.classifier": "logistic", "model.logistic.strength": 2.0}
    near = [
        replace(ended(value, 8.0), values={**logistic, "model.logistic.strength": strength})
        for value, strength in ((0.9, 2.0), (0.89, 2.1), (0.88, 1.9))
    ]
    other = replace(ended(0.8, 30.0), values={"model.classifier": "auto"})
    assert Kept(near).seconds == 40 + 3 * 12
    assert Kept([*near, other]).seconds == 40 + 3 * 30


def test_what_runs_and_what_may_begin_may_become_a_finalist() -> None:
    """A cnn was measured to take 24 s, and a trial of it took 28 s."""
    tried = [ended(0.9, 8.0), ended(0.8, 8.0), ended(0.7, 8.0), ended(0.2, 28.0, "cnn")]
    kept = Kept(tried)
    assert kept.seconds == 40 + 3 * 12
    further = kept.time.further(28.0, "cnn")
    assert further == 3 * (28 - 12)
    kept.began(0, "cnn")
    # Were it more than what let the trial begin, the trial would be stopped at once.
    assert kept.seconds == 40 + 3 * 12 + further
    assert kept.time.further(8.0, "embedding") == 0
    kept.ended(0, ended(0.3, 30.0, "cnn"))
    assert kept.seconds == 40 + 3 * 12
    kept.began(1, "mlp")
    assert kept.seconds == 180, "nothing is known of it"


def test_the_first_trial_of_a_family_leaves_time_for_one_seed_and_others_for_all() -> None:
    kept = Kept([ended(0.9, 8.0)])
    assert kept.time.further(112.5, TUNED) == 112.5 - 3 * 8
    kept.began(0, TUNED)
    assert kept.seconds == 40 + 112.5
    assert kept.time.further(112.5, TUNED) == 180 - 152.5
    kept.ended(0, ended(0.95, 116.0, TUNED))
    assert kept.seconds == 180


class Machine:
    """Two slots whose jobs take seconds by their family, whatever else runs."""

    size = 2

    def __init__(self, time: ByHand, seconds: Mapping[str, float]) -> None:
        self.time, self.seconds = time, seconds
        self.jobs: dict[int, tuple[Job, float]] = {}
        self.stopped: set[int] = set()

    @property
    def busy(self) -> list[int]:
        return [*self.jobs]

    def free(self) -> list[int]:
        return [slot for slot in (0, 1) if slot not in self.jobs]

    def give(self, slot: int, job: Job) -> None:
        self.jobs[slot] = job, self.time.now

    def answer(self, slot: int, stop: str | None) -> None: ...

    def interrupt(self, slots: Iterable[int], reason: str | None = None) -> None:
        self.stopped.update(slots)

    def events(self, seconds: float) -> Iterator[Event]:
        self.time.now += 0.5
        for slot in self.busy:
            job, since = self.jobs[slot]
            family, took = read_task(job.task).family, self.time.now - since  # type: ignore[union-attr]
            value = {"val/accuracy": 0.95 if family == TUNED else 0.9}
            ending = Ending("complete", value)
            if slot in self.stopped:
                self.stopped.remove(slot)
                ending = Ending("interrupted")
            elif took < self.seconds[family]:
                continue
            del self.jobs[slot]
            yield Event(slot, job, ending, took)


@pytest.fixture
def time(monkeypatch: pytest.MonkeyPatch) -> ByHand:
    clock = ByHand()
    monkeypatch.setattr(loop, "time", SimpleNamespace(monotonic=clock))
    verdict = SimpleNamespace(baseline=None, collapses=None, standings=())
    monkeypatch.setattr(finalists, "verdict_on", lambda *_: (verdict, {}))
    monkeypatch.setattr(finalists, "slowdown", lambda: 1.0)  # of an idle machine
    return clock


@pytest.mark.parametrize(
    ("spent", "seconds", "trials_end", "tuned", "trainings"),
    [
        # Three heads, three times each, take 27 s in two slots, and the rest 40 s.
        (400, {"embedding": 6.0}, 600 - 40 - 27, 0, 9),
        # They would take 270 s, so as much is kept as for any: two seeds take all of it.
        (200, {"embedding": 60.0}, 420, 0, 6),
        # 113 s are expected, and as much for a seed.
        (315, {"embedding": 6.0, TUNED: 116.0}, 315 + 6 + 116 + 3, 1, 3),
        (340, {"embedding": 6.0, TUNED: 116.0}, 600 - 40 - 27, 0, 9),
    ],
    ids=["heads", "slow heads", "tuned", "tuned too late"],
)
def test_trials_and_finals_fill_the_budget_and_do_not_exceed_it(
    tmp_path: Path,
    time: ByHand,
    spent: float,
    seconds: dict[str, float],
    trials_end: float,
    tuned: int,
    trainings: int,
) -> None:
    families = {one.name: one for one in load_families([*seconds], [])}
    prepared = {name: PREPARED[name] for name in families}
    settings = read_sweep_settings(
        ["study=s", "evaluate_test=false", "budget.minutes=10"], "default"
    )
    clock = Clock(600.0, finals=True, earlier=spent, note=lambda _: None, now=time)
    pool: Any = Machine(time, seconds)
    said: list[str] = []
    with SweepStudy(tmp_path, plan(*families.values())) as study:
        jobs = SweepJobs(settings, study, families, (), prepared, "0" * 32)
        kept = FinalsTime(jobs, clock, pool.size)
        race = partial(
            Driver,
            *(study, pool),
            rules(
                job=jobs.trial,
                affordable=partial(
                    TimeForecast(families, prepared).affordable, further=kept.further
                ),
                time_left=clock.time_left,
                time_to_end=clock.time_to_end,
            ),
            observers=(kept,),
        )
        for number, name in enumerate(families, 1):
            study.enqueue(name, default_values(families[name], []))
            if number == 1:  # the first answer
                race(trials=1).race()
        driver = race()
        assert driver.race()
        assert trials_end - 1.5 * seconds["embedding"] <= clock.spent <= trials_end
        trials = study.trials()
        assert [t.state for t in trials if t.family == TUNED] == [COMPLETE] * tuned
        assert tuned or {trial.state for trial in trials} == {COMPLETE}
        assert tuned or driver.why_over == "no further trial would end in time"
        bare_finals(pool, jobs, clock, said).run()
        found = kept_finalists(study, "maximize")
    assert sum(len(one.runs) for one in found) == trainings
    assert not any("left out" in line for line in said)
    assert clock.spent <= 600


def test_a_slot_whose_trial_was_stopped_for_time_is_as_good_as_others_if_there_is_more(
    tmp_path: Path, time: ByHand
) -> None:
    """The first trial keeps time for its finals; once it is stopped, the next one has that time."""
    (family,) = load_families(["embedding"], [])
    pool: Any = Machine(time, {"embedding": 1000.0})
    pool.free = lambda: [0] if not pool.jobs else []
    began = time.now
    with SweepStudy(tmp_path, plan(family)) as study:
        settings = read_sweep_settings(["study=s"], "default")
        jobs = SweepJobs(
            settings, study, {family.name: family}, (), {"embedding": PREPARED["embedding"]}, "0"
        )

        def left(answered: bool) -> float:
            ended = sum(trial.state == PRUNED for trial in study.trials())
            return max(0.0, began + (20.0 if ended == 0 else 60.0) - time.now)

        Driver(study, pool, rules(job=jobs.trial, time_left=left)).race()
        states = [(trial.state, trial.reason) for trial in study.trials()]
    assert states == [(PRUNED, "the time was over")] * 2
    assert time.now - began < 60 + 3, "it is asked to end, and not killed later"
