"""Whole races with real workers, of trials that take no time."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import psutil
import pytest

from src.records.trials import COMPLETE, FAILED, PRUNED, RUNNING, TrialRecord
from src.search import loop
from src.search.driver import Driver, TooManyFailures
from src.search.jobs import Job
from src.search.loop import Observer
from src.search.pool import Pool
from src.search.rules import Rules
from src.search.space import Kind
from src.search.study import SweepStudy
from src.search.workers.local import LocalEngine
from src.search.workers.slots import Slot
from tests.search.studies import NUMBERS, family, plan, pruner, rules

EPOCHS = 4
RULES = {name for name in vars(Rules) if not name.startswith("_")}


class Watch(Observer):
    """Remembers what happened in a race."""

    def __init__(self) -> None:
        self.ends: list[TrialRecord] = []
        self.bests: list[TrialRecord | None] = []
        self.epochs: list[tuple[int, int]] = []
        self.jobs: list[int] = []
        self.steps: list[int] = []
        self.trials: dict[int, int] = {}
        self.left = ""

    def began(self, slot: int, trial: TrialRecord, steps: int) -> None:
        assert slot in (0, 1)
        self.steps.append(steps)
        self.trials[slot] = trial.number

    def noted(self, slot: int, trial: TrialRecord, facts: Mapping[str, Any]) -> None:
        assert trial.state == RUNNING and self.trials[slot] == trial.number

    def reported(self, slot: int, step: int, metrics: Mapping[str, float]) -> None:
        self.epochs.append((self.trials[slot], step))

    def ended(self, slot: int, trial: TrialRecord, best: TrialRecord | None) -> None:
        self.ends.append(trial)
        self.bests.append(best)

    def tick(self, counts: Mapping[str, int], left: str) -> None:
        self.left = left


@pytest.fixture
def watch() -> Watch:
    return Watch()


@pytest.fixture
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """A loop that waits less long for what is late."""
    monkeypatch.setattr(loop, "_LATE_SECONDS", 0.5)
    monkeypatch.setattr(loop, "_ABANDON_SECONDS", 1.5)
    monkeypatch.setattr(loop, "_WRITING_SECONDS", 2.0)


@pytest.fixture(scope="module")
def pool(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pool]:
    logs = tmp_path_factory.mktemp("logs")
    pool = Pool(LocalEngine([Slot(None, 1)] * 2, "tests.search.runners:Tiny", logs))
    pool.start()
    yield pool
    pool.close()


@pytest.fixture
def race(tmp_path: Path, pool: Pool, watch: Watch) -> Callable[..., bool]:
    """`race(job_of, trials=8)` opens the study, races, and closes it.

    All races of a test have `seconds` from its begin on, and `reserve` more for the first answer.
    """
    began = time.monotonic()

    def run(job_of: Callable[[TrialRecord], dict[str, Any]], **given: Any) -> bool:
        metrics = given.pop("metrics", ("val/accuracy",))
        directions = ["maximize", "minimize"][: len(metrics)]
        judge = pruner(given.pop("pruner", "none"), EPOCHS, reduction_factor=2)
        seconds, reserve = given.pop("seconds", None), given.pop("reserve", 0.0)
        if seconds is not None:
            given["time_left"] = lambda answered: max(
                0.0, began + seconds + (0.0 if answered else reserve) - time.monotonic()
            )

        def job(trial: TrialRecord) -> Job:
            watch.jobs.append(trial.number)
            task = {"value": 0.5, "resume": trial.run_dir} | job_of(trial)
            usual = {"epochs": EPOCHS, "overrides": [], "folds": None}
            fields = {key: task.pop(key, default) for key, default in usual.items()}
            fields["overrides"] += study.facts(trial.number).get("changes", [])
            return Job(task, **fields)

        names = ["validation accuracy", "second"][: len(metrics)]
        one = plan(
            family(NUMBERS),
            directions=directions,
            pruner=judge,
            metrics=dict(zip(metrics, names, strict=True)),
        )
        with SweepStudy(tmp_path, one) as study:
            own = rules(job=job, **{name: given.pop(name) for name in RULES & given.keys()})
            return Driver(study, pool, own, observers=[watch], **given).race()

    return run


def records(folder: Path, directions: tuple[str, ...] = ("maximize",)) -> list[TrialRecord]:
    with SweepStudy(folder, plan(family(NUMBERS), directions=list(directions))) as study:
        return study.trials()


def test_a_race_ends_with_its_trials_and_goes_on_with_a_larger_number(
    race: Callable[..., bool], watch: Watch, tmp_path: Path
) -> None:
    assert race(lambda trial: {"overrides": [f"n={trial.number}"]}, trials=5)
    assert sorted(trial.number for trial in watch.ends) == [0, 1, 2, 3, 4]
    # All are equal but for their names.
    ended = [trial.number for trial in watch.ends]
    best = [best.number for best in watch.bests if best is not None]
    assert best == [min(ended[:count]) for count in range(1, 6)]
    assert race(lambda trial: {}, trials=5) and len(watch.ends) == 5
    assert race(lambda trial: {}, trials=7)
    found = records(tmp_path)
    assert [trial.state for trial in found] == [COMPLETE] * 7
    assert [trial.overrides for trial in found[:5]] == [(f"n={n}",) for n in range(5)]
    assert found[0].curve == ((1, 0.5), (2, 1.0), (3, 1.5), (4, 2.0))
    assert found[0].objectives == (0.5,) and found[0].figures["other"] == 1.0
    assert watch.left == "0 trials left"


def test_trials_run_one_after_another_where_one_at_once_is_asked_for(
    race: Callable[..., bool], watch: Watch, tmp_path: Path
) -> None:
    """There are two slots: the epochs of the trials would alternate."""
    assert race(lambda trial: {"seconds": 0.1}, trials=3, at_once=1)
    assert watch.epochs == [(n, step) for n in range(3) for step in range(1, EPOCHS + 1)]
    assert [trial.state for trial in records(tmp_path)] == [COMPLETE] * 3


def test_folds_are_reported_like_epochs_and_count_with_theirs(
    race: Callable[..., bool], watch: Watch, tmp_path: Path
) -> None:
    """Here each job reports `EPOCHS` times, which stand for folds of 10 epochs."""
    race(lambda trial: {"folds": EPOCHS, "epochs": 10}, trials=9, epochs=15 * EPOCHS)
    found = records(tmp_path)
    assert {trial.epochs for trial in found} == {EPOCHS} == {*watch.steps}
    # Begun before 15 * EPOCHS epochs were counted: at least two, and with one a slot at a time.
    assert 2 <= len(found) < 9


def test_folds_that_are_reported_again_count_once(
    race: Callable[..., bool], watch: Watch, tmp_path: Path
) -> None:
    """A cross-validation that goes on begins with the folds that have ended."""

    def job_of(trial: TrialRecord) -> dict[str, Any]:
        dies = {"die": EPOCHS} if len(watch.jobs) == 1 else {}
        return {"folds": EPOCHS, "epochs": 10, "resume": 0, **dies}

    race(job_of, trials=1)
    assert [step for _, step in watch.epochs] == [1, 2, 3, 1, 2, 3, 4]
    with SweepStudy(tmp_path, plan(family(NUMBERS))) as study:
        assert study.recall("epochs") == 10 * EPOCHS


@pytest.mark.parametrize("steps", ["epochs", "folds"])
def test_losers_are_stopped(race: Callable[..., bool], tmp_path: Path, steps: str) -> None:
    race(
        lambda t: {"value": 1 / (1 + t.number), steps: EPOCHS},
        trials=8,
        pruner="asha",
        metric_text=lambda value: f"of {value:.1f}",
    )
    found = records(tmp_path)
    pruned = [trial for trial in found if trial.state == PRUNED]
    assert found[0].state == COMPLETE and len(pruned) >= 3
    for trial in pruned:
        assert trial.epochs < EPOCHS and trial.last is not None
        done = steps if trial.epochs > 1 else steps.rstrip("s")
        assert trial.reason == (
            f"pruned after {trial.epochs} {done} at validation accuracy of {trial.last:.1f}"
        )


def test_a_family_is_judged_by_its_complete_and_pruned_trials_over_all_starts(
    race: Callable[..., bool], watch: Watch, tmp_path: Path
) -> None:
    """Not by those that had no time, before a report or after it."""
    seen: list[list[TrialRecord]] = []

    def closed(judged: Sequence[TrialRecord]) -> dict[str, str]:
        seen.append([*judged])
        return {"mlp": "of no use"} if len(judged) >= 6 else {}

    with SweepStudy(tmp_path, plan(family(NUMBERS))) as study:
        late = [trial.number for _ in range(2) if (trial := study.ask()) is not None]
        study.report(late[1], 1, 0.5)
        for number in late:
            study.pruned(number, "the time was over")
    race(lambda t: {"value": 1 / (1 + t.number)}, trials=4, pruner="asha", closed=closed)
    race(lambda t: {"value": 1 / (1 + t.number)}, trials=20, pruner="asha", closed=closed)
    judged = [trial for trial in records(tmp_path) if trial.number not in late]
    assert {trial.state for trial in judged} == {COMPLETE, PRUNED}
    assert 6 <= len(judged) <= 7, "two run at once"
    assert [len(one) for one in seen] == sorted(map(len, seen))
    assert {trial.number for trial in seen[-1]} == {trial.number for trial in judged}


def test_trials_of_several_metrics_have_the_curve_of_the_first(
    race: Callable[..., bool], tmp_path: Path
) -> None:
    race(lambda trial: {}, metrics=("val/accuracy", "other"), trials=2)
    for trial in records(tmp_path, ("maximize", "minimize")):
        assert trial.objectives == (0.5, 1.0)
        assert trial.curve == ((1, 0.5), (2, 1.0), (3, 1.5), (4, 2.0))


def test_a_killed_trial_goes_on_once_from_where_it_was(
    race: Callable[..., bool], watch: Watch, tmp_path: Path
) -> None:
    died: list[int] = []

    def job_of(trial: TrialRecord) -> dict[str, Any]:
        if trial.number == 1 and not died:
            died.append(trial.number)
            return {"die": 3}
        return {"die": 2} if trial.number == 2 else {}

    race(job_of, trials=5)
    found = records(tmp_path)
    assert [t.state for t in found] == [COMPLETE, COMPLETE, FAILED, COMPLETE, COMPLETE]
    assert found[2].reason == "its worker ended by signal 9 (out of memory?)"
    assert [e for n, e in watch.epochs if n == 1] == [1, 2, 3, 4], "it did not go on"
    # The first attempt begins anew, the second behind the epoch it died in.
    assert watch.jobs.count(2) == 2
    assert [e for n, e in watch.epochs if n == 2] == [1]


def test_a_stop_costs_no_attempt(race: Callable[..., bool], watch: Watch, tmp_path: Path) -> None:
    def stops_at(*epochs: tuple[int, int]) -> Callable[[], bool]:
        return lambda: any(epoch in watch.epochs for epoch in epochs)

    slow = {"seconds": 0.1, "epochs": 6}
    for epoch in (1, 2, 3):
        assert not race(lambda trial: slow, trials=1, interrupted=stops_at((0, epoch)))
        (trial,) = records(tmp_path)
        assert trial.state == RUNNING and trial.epochs >= epoch
        assert trial.seconds is not None and trial.seconds >= 0.1 * epoch, "of all its attempts"
    assert race(lambda trial: slow | {"die": 6}, trials=1)
    (trial,) = records(tmp_path)
    # It dies in both attempts that it has.
    assert trial.state == FAILED and watch.jobs == [0] * 5
    assert {epoch for _, epoch in watch.epochs} == {1, 2, 3, 4, 5}


def test_too_little_memory_is_tried_once_with_half(
    race: Callable[..., bool], watch: Watch, tmp_path: Path
) -> None:
    race(lambda trial: {"do": "smaller", "overrides": ["whole"]}, trials=1)
    (trial,) = records(tmp_path)
    assert (trial.state, trial.overrides) == (COMPLETE, ("whole", "half"))
    assert trial.run_dir == "small" and len(watch.jobs) == 2
    assert trial.curve == ((1, 0.3),), "that of the attempt that came to its end"


@pytest.mark.parametrize("dies", [0, 1])
def test_a_worker_that_died_and_too_little_memory_have_an_attempt_each(
    race: Callable[..., bool], watch: Watch, tmp_path: Path, dies: int
) -> None:
    def job_of(trial: TrialRecord) -> dict[str, Any]:
        # This attempt is noted already.
        return {"die": 1} if len(watch.jobs) == 1 + dies else {"do": "smaller"}

    race(job_of, trials=1)
    (trial,) = records(tmp_path)
    assert (trial.state, trial.overrides) == (COMPLETE, ("half",)) and len(watch.jobs) == 3


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_what_is_no_number_fails_the_trial_alone(
    race: Callable[..., bool], tmp_path: Path, value: float
) -> None:
    race(lambda trial: {"value": value if trial.number == 1 else 0.5}, trials=4)
    found = records(tmp_path)
    assert [t.state for t in found] == [COMPLETE, FAILED, COMPLETE, COMPLETE]
    assert found[1].reason == "it has no finite validation accuracy"


def test_a_missing_metric_is_named(race: Callable[..., bool], tmp_path: Path) -> None:
    with pytest.raises(TooManyFailures, match="3 of them: it has no finite second"):
        race(lambda trial: {}, trials=9, metrics=("val/accuracy", "cost"))
    assert len(records(tmp_path, ("maximize", "minimize"))) <= 4


def test_too_many_failures_stop_the_race_and_save_what_runs(
    race: Callable[..., bool], watch: Watch, tmp_path: Path
) -> None:
    slow = {"seconds": 0.2, "epochs": 99}
    said = "3 of 3 trials failed, so the sweep stops; 3 of them: RuntimeError: no such thing"
    with pytest.raises(TooManyFailures, match=said):
        race(lambda trial: {"do": "fail"} if trial.number else slow, trials=20)
    found = records(tmp_path)
    assert [t.state for t in found] == [RUNNING, FAILED, FAILED, FAILED]


def test_a_trial_that_lacks_what_all_need_stops_the_race_and_goes_on_later(
    race: Callable[..., bool], tmp_path: Path
) -> None:
    with pytest.raises(TooManyFailures, match="the disk is full"):
        race(lambda t: {"do": "starve"} if t.number == 2 else {}, trials=20)
    states = [trial.state for trial in records(tmp_path)]
    assert states[2] == RUNNING and set(states) <= {COMPLETE, RUNNING}, "others are let go on too"
    race(lambda t: {}, trials=6)
    assert [trial.state for trial in records(tmp_path)] == [COMPLETE] * 6


def test_a_share_of_failures_above_the_limit_stops_the_race(race: Callable[..., bool]) -> None:
    with pytest.raises(TooManyFailures, match=r"of 1[01] trials failed"):
        race(lambda t: {"do": "fail"} if t.number % 3 else {}, trials=30, failure_limit=0.6)


def test_one_failure_in_a_while_is_bad_luck(race: Callable[..., bool], tmp_path: Path) -> None:
    race(lambda t: {"do": "fail"} if t.number % 3 == 2 else {}, trials=12)
    states = [trial.state for trial in records(tmp_path)]
    assert states.count(FAILED) == 4 and states.count(COMPLETE) == 8


@pytest.mark.parametrize("metrics", [("val/accuracy",), ("val/accuracy", "other")], ids=len)
def test_epochs_are_counted_over_all_starts(
    race: Callable[..., bool], watch: Watch, metrics: tuple[str, ...]
) -> None:
    race(lambda trial: {}, epochs=6, metrics=metrics)
    spent = len(watch.epochs)
    assert 6 <= spent <= 6 + 2 * EPOCHS
    race(lambda trial: {}, epochs=spent, metrics=metrics)
    assert len(watch.epochs) == spent, "a new start has counted anew"
    race(lambda trial: {}, epochs=spent + 1, metrics=metrics)
    assert spent < len(watch.epochs) <= spent + 2 * EPOCHS


def test_time_that_is_over_stops_what_runs_and_nothing_begins(
    race: Callable[..., bool], watch: Watch, tmp_path: Path
) -> None:
    race(lambda trial: {"seconds": 0.3, "epochs": 1000}, seconds=1.0)
    for trial in records(tmp_path):
        assert trial.state == PRUNED
        # Its second epoch shows that the others would take longer than there is.
        late = f"the time was over after {trial.epochs} epoch{'s' * (trial.epochs > 1)}"
        slow = "stopped after 2 epochs: the other 998 would take"
        assert trial.reason == late or (trial.reason or "").startswith(slow)
    spent = len(watch.epochs)
    race(lambda trial: {}, seconds=1.0)
    assert len(watch.epochs) == spent


def test_the_first_answer_may_come_late(race: Callable[..., bool], tmp_path: Path) -> None:
    """Of two trials the longer one ends with the shorter, after the time but before the reserve."""
    began = time.monotonic()
    race(lambda t: {"seconds": (0.4, 1.0)[t.number]}, trials=2, seconds=0.1, reserve=60.0)
    assert [trial.state for trial in records(tmp_path)] == [COMPLETE, PRUNED]
    assert time.monotonic() - began < 30
    race(lambda trial: {}, trials=5, seconds=0.1, reserve=60.0)
    assert len(records(tmp_path)) == 2, "there is an answer by now"


@pytest.mark.usefixtures("hurried")
def test_what_was_trained_in_time_is_written_down_after_it(
    race: Callable[..., bool], tmp_path: Path
) -> None:
    """Two trials are late alike: one has made its last report, and the other one has not."""
    epochs = {0: {"seconds": 0.0, "write": 1.5}, 1: {"seconds": 2.0}}
    assert race(lambda t: {**epochs[t.number], "epochs": 1}, trials=2, seconds=0.5)
    found = records(tmp_path)
    assert [trial.state for trial in found] == [COMPLETE, PRUNED] and found[1].epochs == 0


@pytest.mark.usefixtures("hurried")
def test_what_writes_for_ever_is_late(race: Callable[..., bool], tmp_path: Path) -> None:
    assert race(lambda _: {"epochs": 1, "write": 300.0}, trials=1, seconds=0.5)
    assert [trial.state for trial in records(tmp_path)] == [PRUNED]


def test_the_driver_stays_flat_in_memory(race: Callable[..., bool], watch: Watch) -> None:
    process = psutil.Process()
    sizes: dict[int, int] = {}

    def job_of(trial: TrialRecord) -> dict[str, Any]:
        sizes[trial.number] = process.memory_info().rss
        return {"value": trial.number / 1000}

    race(job_of, trials=110, pruner="asha")
    assert sizes[100] < 1.05 * sizes[10], sizes


def test_nothing_begins_that_would_not_end_in_time(
    race: Callable[..., bool], watch: Watch, tmp_path: Path
) -> None:
    asked: list[float | None] = []
    ran: list[TrialRecord] = []

    def affordable(
        seconds: float | None, took: Sequence[TrialRecord], beside: Sequence[TrialRecord]
    ) -> list[Kind]:
        asked.append(seconds)
        ran.extend(beside)
        assert seconds is not None or not beside
        assert bool(took) == any(trial.state == COMPLETE for trial in watch.ends)
        return [Kind("mlp")] if len(asked) <= 3 else []

    assert race(lambda trial: {}, trials=50, seconds=60.0, affordable=affordable)
    assert len(records(tmp_path)) == 3
    assert all(seconds is not None and seconds <= 60 for seconds in asked)
    assert ran and all(one.state == RUNNING and one.seconds is not None for one in ran)
    asked.clear()
    race(lambda trial: {}, trials=5, affordable=affordable)
    assert set(asked) == {None}, "there is no limit"


def test_a_trial_that_ends_late_knows_why(race: Callable[..., bool], tmp_path: Path) -> None:
    assert race(lambda trial: {"do": "listen"}, trials=1, seconds=1.0)
    with SweepStudy(tmp_path, plan(family(NUMBERS))) as study:
        assert study.facts(0)["why"] == "the time was over"


@pytest.mark.usefixtures("hurried")
def test_what_reports_nothing_is_late(race: Callable[..., bool], tmp_path: Path) -> None:
    """One job can be interrupted, and the other is deaf to everything."""
    begun, idle = time.monotonic(), {"do": "sleep", "seconds": 300.0}
    assert race(lambda trial: {**idle, "deaf": trial.number == 0}, trials=20, seconds=0.5)
    assert time.monotonic() - begun < 60
    found = records(tmp_path)
    assert [trial.state for trial in found] == [PRUNED, PRUNED]
    assert {trial.reason for trial in found} == {"the time was over"}
    assert race(lambda trial: {}, trials=3, seconds=1000.0), "no worker is left"


def test_no_settings_are_run_twice_and_the_race_ends_where_there_are_no_others(
    pool: Pool, tmp_path: Path
) -> None:
    """Families of five and of two configurations; one of them is measured anew meanwhile."""
    spaces = family({"a": {"low": 1, "high": 5}}), family({"b": {"choices": ["x", "y"]}}, "cnn")
    for sampler in ("tpe", "random"):
        folder, chosen = tmp_path / sampler, {"mlp": ["first"], "cnn": ["first"]}
        for wanted in (4, 6, 9, 14):
            if wanted == 14:
                chosen["cnn"] = ["second"]
            with SweepStudy(folder, plan(*spaces, sampler=sampler)) as study:

                def job_of(trial: TrialRecord, chosen: Any = chosen, study: Any = study) -> Job:
                    study.note(trial.number, chosen=chosen[trial.family])
                    return Job({"value": 0.5}, overrides=[f"n={trial.number}"])

                def is_current(
                    trial: TrialRecord, chosen: Any = chosen, study: Any = study
                ) -> bool:
                    now: bool = study.facts(trial.number)["chosen"] == chosen[trial.family]
                    return now

                driver = Driver(
                    study,
                    pool,
                    rules(job=job_of, is_current=is_current),
                    trials=wanted,
                )
                assert driver.race()
                found = study.trials()
                many = [(t.family, t.values.get("a", t.values.get("b"))) for t in found]
                assert len(found) == min(wanted, 9 if wanted == 14 else 7)
                assert {trial.state for trial in found} == {COMPLETE}
                begun = (study.facts(t.number)["chosen"][0] for t in found)
                assert len({*zip(many, begun, strict=True)}) == len(found)
                assert [t.number for t in found] == [*range(len(found))]
                if wanted >= 9:
                    assert driver.why_over == "there is no further configuration"


def test_choices_of_a_single_configuration_leave_the_other_trials_to_those_of_many(
    pool: Pool, tmp_path: Path
) -> None:
    space = {
        "kind": {"choices": ["auto", "x"]},
        "strength": {"when": {"kind": "x"}, "low": 0.0, "high": 1.0},
    }
    with SweepStudy(tmp_path, plan(family(space))) as study:
        driver = Driver(study, pool, rules(job=lambda t: Job({"value": 0.5})), trials=60)
        driver.race()
        found = [trial.values["kind"] for trial in study.trials()]
        assert len(found) == 60 and found.count("auto") == 1


def test_where_some_kinds_have_no_time_the_reason_does_not_speak_of_all(
    pool: Pool, tmp_path: Path
) -> None:
    spaces = family({"a": {"low": 1, "high": 2}}), family(NUMBERS, "cnn")
    with SweepStudy(tmp_path, plan(*spaces)) as study:
        driver = Driver(
            study,
            pool,
            rules(
                job=lambda t: Job({"value": 0.5}),
                affordable=lambda left, took, beside: [Kind("mlp")],
            ),
        )
        driver.race()
        assert sorted(trial.values["a"] for trial in study.trials()) == [1, 2]
        assert driver.why_over == "there is no further configuration that would end in time"


@pytest.mark.parametrize(
    ("fitting", "why"),
    [
        (["mlp"], "no other trial would end in time"),
        (["mlp", "cnn"], "there is no further configuration"),
        (["mlp", "cnn", "fcn"], None),
    ],
)
def test_families_of_which_nothing_better_is_expected_are_named_beside_what_else_ends_a_race(
    pool: Pool, tmp_path: Path, fitting: list[str], why: str | None
) -> None:
    names = ("mlp", "cnn", "fcn") if why is None else ("mlp", "cnn")
    spaces = [family({"a": {"low": 1, "high": 2}}, name) for name in names]
    closed = {"mlp": "far behind"} | ({} if why else dict.fromkeys(["cnn", "fcn"], "worse"))
    with SweepStudy(tmp_path, plan(*spaces)) as study:
        driver = Driver(
            study,
            pool,
            rules(
                job=lambda t: Job({"value": 0.5}),
                affordable=lambda left, took, beside: [Kind(name) for name in fitting],
                closed=lambda judged: closed,
            ),
        )
        driver.race()
        assert {trial.family for trial in study.trials()} == {*fitting} - closed.keys()
        nothing = "nothing better is expected of mlp (far behind)"
        others = " and cnn (worse) and fcn (worse)"
        assert driver.why_over == (nothing + others if why is None else f"{why}, and {nothing}")


def test_a_proposal_that_a_kill_left_before_its_job_was_made_is_no_second_run(
    pool: Pool, tmp_path: Path
) -> None:
    """Of the second proposal a kill left a trial that nothing was drawn for, or all of it."""
    one = plan(family({"a": {"low": 1, "high": 3}}))
    for drawn in (True, False):
        with SweepStudy(tmp_path / str(drawn), one) as study:
            study.enqueue("mlp", {"a": 1})
            first = study.ask()
            assert first is not None
            study.note(first.number, overrides=["a=1"])
            study.complete(first.number, [0.5])
            second = study.ask(tried=[first.number]) if drawn else study._study.ask()
            assert second is not None
        with SweepStudy(tmp_path / str(drawn), one) as study:
            driver = Driver(study, pool, rules(job=lambda t: Job({"value": 0.5})))
            driver.race()
            found = study.trials()
            assert [trial.number for trial in found] == [0, 1, 2]
            assert sorted(trial.values["a"] for trial in found) == [1, 2, 3]


@pytest.mark.parametrize("enqueued", [False, True])
def test_what_failed_or_had_no_time_is_tried_again_where_it_may_end_otherwise(
    pool: Pool, tmp_path: Path, enqueued: bool
) -> None:
    """Of three configurations one was stopped before it reported, one after, and one failed."""
    with SweepStudy(tmp_path, plan(family({"a": {"low": 1, "high": 3}}))) as study:
        for value in (1, 2, 3):
            study.enqueue("mlp", {"a": value}, prepared=value)
            trial = study.ask()
            assert trial is not None
            study.note(trial.number, overrides=[f"a={value}"])
            if value == 2:
                study.report(trial.number, 1, 0.5)
            (study.failed if value == 3 else study.pruned)(trial.number, "why")
        for value in (1, 2, 3) if enqueued else ():
            study.enqueue("mlp", {"a": value}, prepared=10 * value)
        driver = Driver(study, pool, rules(job=lambda t: Job({"value": 0.5})), trials=9)
        driver.race()
        again = [trial.values["a"] for trial in study.trials()[3:]]
        assert again == ([1, 2, 3] if enqueued else [1])
