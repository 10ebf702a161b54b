from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from src.config.checks import ConfigError
from src.config.sweep import read_sweep_settings
from src.machine.failures import RunFailed
from src.metrics.probabilistic import log_loss
from src.records.run import Predictions
from src.records.trials import TrialRecord
from src.search.jobs import Ending, Job
from src.search.pool import Pool
from src.search.space import Family, parse_space
from src.search.workers.local import LocalEngine
from src.search.workers.slots import Slot
from src.selection.comparison import compared
from src.sweeps import finalists
from src.sweeps.finalists import Finals, _announcement, kept_finalists
from src.sweeps.further_seeds import judged, verdict_on
from src.sweeps.tasks import SweepJobs
from tests.selection.comparison.runs import TARGETS, compare_settings, finished_run, write_study
from tests.sweeps.bare_finals import bare_finals

FAMILIES = {
    name: Family(name, (), tuple(parse_space({"rate": {"low": 0.0, "high": 1.0}})), {})
    for name in ("cnn", "fcn")
}


@pytest.fixture(autouse=True)
def sure(monkeypatch: pytest.MonkeyPatch) -> None:
    """These trainings have left no predictions to judge, and their figures take no time."""
    monkeypatch.setattr(finalists, "slowdown", lambda: 0.0)
    monkeypatch.setattr(
        finalists,
        "verdict_on",
        lambda *_: (SimpleNamespace(baseline=None, collapses=None, standings=()), {}),
    )


def test_finalists_are_ranked_by_their_mean_and_those_without_one_come_last() -> None:
    study = study_of([1.0] * 5)
    study.remember(
        "refits",
        {
            "1": {"1": {"value": None}},
            "2": {"1": {"value": 0.8}, "2": {"value": 0.6}},
            "3": {"2": {"value": 0.75}, "1": {"value": None}, "4": {"run_dir": "begun"}},
            "4": {"1": {}},
        },
    )
    best, *others = kept_finalists(study, "maximize")
    assert (best.trial, best.runs, best.first_seed) == (3, {2: 0.75, 1: None}, 2)
    assert [finalist.trial for finalist in others] == [2, 1]
    assert others[0].first_seed == 1 and others[1].first_seed is None
    assert [finalist.trial for finalist in kept_finalists(study, "minimize")] == [2, 3, 1]


def study_of(seconds: list[float]) -> Any:
    """Remembers, and knows complete trials of so many seconds."""
    kept: dict[str, str] = {}
    trials = [
        TrialRecord(
            number,
            "cnn",
            "complete",
            {},
            overrides=(f"n={number}",),
            objectives=(0.9 - 0.1 * number,),
            seconds=one,
            run_dir=f"run-{number}",
        )
        for number, one in enumerate(seconds)
    ]
    return SimpleNamespace(
        recall=lambda key: json.loads(kept.get(key, "null")),
        remember=lambda key, value: kept.update({key: json.dumps(value)}),
        trials=lambda: trials,
        trial=lambda number: trials[number],
        facts=lambda number: {},
        spec=SimpleNamespace(metrics={"val/accuracy": "validation accuracy"}),
    )


def finals(
    study: Any, left: float | None, slots: int = 2, minutes: int = 20, overrides: Sequence[str] = ()
) -> tuple[Finals, list[str]]:
    given = ["evaluate_test=false", "study=s", f"budget.minutes={minutes}", *overrides]
    settings = read_sweep_settings(given, "default")
    said: list[str] = []
    pool: Any = SimpleNamespace(free=lambda: list(range(slots)))
    jobs = SweepJobs(settings, study, FAMILIES, (), {}, "0" * 32)
    clock: Any = SimpleNamespace(left=left, finals_to_end=lambda answered: None)
    return bare_finals(pool, jobs, clock, said), said


@pytest.mark.parametrize(
    ("seconds", "left", "size"),
    [
        ([10, 10, 10], None, (3, 3)),
        ([10, 10, 10], 46, (3, 3)),  # nine of 10 s in two slots
        ([10, 10, 10], 31, (2, 3)),  # six; of as many, more seeds for fewer finalists
        ([10, 10, 10], 11, (2, 1)),
        ([100, 1, 1], 150, (3, 1)),
        ([3, 116, 3], 130, (3, 1)),  # one with three seeds is compared with nothing
        ([100, 100, 100], 50, (1, 0)),
    ],
)
def test_finalists_and_seeds_fit_into_the_time_that_is_left(
    seconds: list[float], left: float | None, size: tuple[int, int]
) -> None:
    study = study_of(seconds)
    made, said = finals(study, left)
    assert tuple(made._affordable(made._chosen(study.trials()))) == size
    assert bool(said) == (size != (3, 3))


@pytest.mark.parametrize(
    ("slower", "left", "size"), [(1.0, 100, (3, 3)), (4.0, 100, (2, 3)), (4.0, 25, (1, 0))]
)
def test_the_figures_of_a_training_take_time_by_the_load(
    monkeypatch: pytest.MonkeyPatch, slower: float, left: float, size: tuple[int, int]
) -> None:
    """Nine trainings of 10 s in two slots, beside 4.5 CPU seconds of each."""
    monkeypatch.setattr(finalists, "slowdown", lambda: slower)
    study = study_of([10, 10, 10])
    made, _ = finals(study, left)
    assert tuple(made._affordable(made._chosen(study.trials()))) == size


@pytest.mark.parametrize(
    ("others", "chosen"),
    [
        ([("cnn", 0.55), ("cnn", 0.9), ("fcn", 0.5)], [0, 2, 3]),
        ([("cnn", 0.65), ("cnn", 0.9), ("fcn", 0.5)], [0, 1, 2]),
        # Of the rate in between, each is near the first.
        ([("cnn", 0.55), ("cnn", 0.45), ("fcn", 0.5)], [0, 3, 1]),
        ([("cnn", 0.55), ("cnn", 0.45), ("cnn", 0.5)], [0, 1, 2]),
    ],
    ids=["near", "far", "too few others", "no others"],
)
def test_a_trial_near_a_better_finalist_comes_behind_all_others(
    others: list[tuple[str, float]], chosen: list[int]
) -> None:
    study = study_of([10.0] * (1 + len(others)))
    values = [("cnn", 0.5), *others]
    trials = [
        replace(trial, family=family, values={"rate": rate})
        for trial, (family, rate) in zip(study.trials(), values, strict=True)
    ]
    made, _ = finals(study, None)
    assert [trial.number for trial in made._chosen(trials)] == chosen


def test_one_classifier_with_other_numbers_comes_behind_other_classifiers() -> None:
    kinds = [("logistic", 0.1), ("logistic", 0.9), ("forest", 0.5), ("forest", 0.4), ("mean", 0.5)]
    study = study_of([10.0] * len(kinds))
    trials = [
        replace(trial, values={"model.classifier": kind, "rate": rate})
        for trial, (kind, rate) in zip(study.trials(), kinds, strict=True)
    ]
    space = {
        "model.classifier": {"choices": ["logistic", "forest", "mean"]},
        "rate": {"low": 0.0, "high": 1.0},
    }
    made, _ = finals(study, None)
    family = Family("cnn", (), tuple(parse_space(space)), {})
    made._jobs = replace(made._jobs, families={**FAMILIES, "cnn": family})
    assert [trial.number for trial in made._chosen(trials)] == [0, 2, 4]
    fixed = [replace(one, values={"rate": one.values["rate"]}) for one in trials[:2]]
    rate = tuple(parse_space({"rate": space["rate"]}))
    family = Family("cnn", (), rate, {"model.classifier": "logistic"})
    made._jobs = replace(made._jobs, families={**FAMILIES, "cnn": family})
    other = replace(trials[2], family="fcn", values={"rate": 0.5})
    assert [trial.number for trial in made._chosen([*fixed, other])] == [0, 2, 1]


def test_what_is_clearly_worse_comes_behind_trials_near_the_best() -> None:
    study = study_of([10.0] * 4)
    ends = [(0.9, 0.94), (0.89, 0.93), (0.8, 0.91), (0.6, 0.7)]
    metric = "val/accuracy"
    trials = [
        replace(
            trial,
            family="cnn" if number < 2 else "fcn",
            values={"rate": 0.5 if number < 3 else 0.9},
            figures={f"{metric}_low": low, f"{metric}_high": high},
        )
        for number, (trial, (low, high)) in enumerate(zip(study.trials(), ends, strict=True))
    ]
    made, _ = finals(study, None)
    assert [trial.number for trial in made._chosen(trials)] == [0, 2, 1]
    unknown = [*trials[:3], replace(trials[3], figures={})]
    assert [trial.number for trial in made._chosen(unknown)] == [0, 2, 3]
    assert [trial.number for trial in made._chosen([trials[0], trials[3]])] == [0, 3]


def test_trials_on_other_pictures_are_no_seeds_of_one_another() -> None:
    study = study_of([10.0] * 4)
    trials = [replace(trial, values={"rate": 0.5}) for trial in study.trials()]
    study.facts = lambda number: {"prepared": [f"data.train_limit={max(2, number)}"]}
    made, _ = finals(study, None)
    assert [trial.number for trial in made._chosen(trials)] == [0, 3, 1]


def test_finalists_of_trials_with_all_cores_take_as_many_times_as_long_as_there_are_slots() -> None:
    """Nine of 20 s in two slots take 90 s; their trials had the cores of both for 10 s each."""
    study = study_of([10, 10, 10])
    study.facts = lambda number: {"prepared": ["data.batch_size=64", "runtime.threads=2"]}
    sizes = []
    for left in (91, 89):
        study.remember("finalists", None)
        made, _ = finals(study, left)
        sizes.append(made._affordable(made._chosen(study.trials())))
    assert sizes == [(3, 3), (2, 3)]


def test_finalists_are_named_with_their_seeds() -> None:
    assert _announcement(["cnn-1"], [1]) == "finalist: cnn-1, with seed 1"
    assert _announcement(["cnn-1"], [1, 2]) == "finalist: cnn-1, with seeds 1, 2"
    both = ["cnn-1", "mlp-2"]
    assert _announcement(both, [1]) == "finalists: cnn-1, mlp-2, each with seed 1"
    assert _announcement(both, [1, 2]) == "finalists: cnn-1, mlp-2, each with seeds 1, 2"


def test_what_was_chosen_once_stays(tmp_path: Path) -> None:
    study = study_of([10, 10, 10])
    first, _ = finals(study, 31)
    assert tuple(first._affordable(first._chosen(study.trials()))) == (2, 3)
    later, _ = finals(study, 5)
    assert tuple(later._affordable(later._chosen(study.trials()))) == (2, 3)


def test_more_finalists_and_seeds_than_before_are_trained_at_a_later_start() -> None:
    study = study_of([10, 10, 10])
    first, _ = finals(study, 100, overrides=["finalists=1", "finalist_seeds=1"])
    assert first._affordable(first._chosen(study.trials())) == (1, 1)
    first.keep((0, 1), {"value": 0.9})
    kept = study.recall("finalists")
    # Of four trainings one is there: 10 s for the other first seed, and 10 s for two at once.
    for left, size in ((20, (2, 2)), (19, (2, 1)), (0, (1, 1))):
        study.remember("finalists", kept)
        later, _ = finals(study, left, overrides=["finalists=2", "finalist_seeds=2"])
        assert later._affordable(later._chosen(study.trials())) == size


def test_more_minutes_train_the_finalists_that_there_was_no_time_for() -> None:
    study = study_of([10, 10, 10])
    first, _ = finals(study, 5)
    first.run()
    assert [one.runs for one in kept_finalists(study, "maximize")] == [{0: 0.9}]
    later, _ = finals(study, 100, minutes=60)
    assert later._affordable(later._chosen(study.trials())) == (3, 3)
    later.run_jobs = lambda: None  # type: ignore[method-assign, return-value]
    later.run()
    assert kept_finalists(study, "maximize") == (), "a trial stands for a finalist no more"


def test_without_time_the_best_trial_wins_as_it_stands() -> None:
    study = study_of([100, 100, 100])
    made, said = finals(study, 50)
    made.run()
    (finalist,) = kept_finalists(study, "maximize")
    assert study.recall("test")["winner"] == 0
    assert (finalist.trial, finalist.runs, finalist.run_dirs) == (0, {0: 0.9}, {0: "run-0"})
    assert said == [
        "finalists: none, and the best trial wins as it is, because 1 with 1 seed would exceed the "
        "budget"
    ]


@pytest.mark.parametrize(
    ("left", "remedy"),
    [(0.0, r"budget\.minutes=20.*with budget\.minutes=40"), (None, r"raise budget\.trials")],
)
def test_a_race_that_no_trial_ended_has_failed(left: float | None, remedy: str) -> None:
    made, _ = finals(study_of([]), left)
    with pytest.raises(RunFailed, match=f"no winner.*{remedy}|no trial.*{remedy}"):
        made.run()


class Trained(Finals):
    """Ends a training at once, with the value of its trial; `stops` after so many in all."""

    stops: int | None = None
    seconds = 0.0  # of each training
    trained: list[tuple[int, int]]

    def run_jobs(self) -> bool:
        while (key := self.next()) is not None:
            if self.stops is not None and len(self.trained) == self.stops:
                raise KeyboardInterrupt
            self.trained.append(key)
            facts = {"value": 0.9 - 0.1 * key[0], "run_dir": f"run-{key[0]}-{key[1]}"}
            self.keep(key, {**facts, "seconds": self.seconds})
        return True


def told_apart(
    study: Any, most: int, stops: int | None = None
) -> tuple[list[tuple[int, int]], list[str]]:
    made, said = finals(study, None, overrides=["finalist_seeds=2", f"extra_trainings={most}"])
    trained = bare_finals(made.pool, made._jobs, made._clock, said, Trained)
    trained.trained, trained.stops = [], stops
    if stops is None:
        trained.run()
    else:
        with pytest.raises(KeyboardInterrupt):
            trained.run()
    return trained.trained, said


@pytest.mark.parametrize(("slow", "ended"), [(1, 9), (2, 4), (3, 3), (20, 3)])
def test_trainings_that_take_longer_than_expected_are_fewer(slow: int, ended: int) -> None:
    """Nine of 10 s fit into 50 s of two slots; each finalist has its first whatever it takes.

    A further one begins only where it ends in time, if it takes as long as those before it.
    """
    study = study_of([10, 10, 10])
    made, said = finals(study, 50)

    class Passing:
        """Each training takes its time."""

        @property
        def left(self) -> float:
            return 50.0 - slow * 5 * len(trained.trained)

        def finals_to_end(self, answered: bool) -> float | None:
            return None

    clock: Any = Passing()
    trained = bare_finals(made.pool, made._jobs, clock, said, Trained)
    trained.trained, trained.seconds = [], 10.0 * slow
    trained.run()
    assert len(trained.trained) == ended
    assert sorted(trained.trained[:3]) == [(0, 1), (1, 1), (2, 1)]
    left_out = [line for line in said if "left out" in line]
    assert [str(9 - ended) in line for line in left_out] == [True] * (ended < 9)
    assert len(kept_finalists(study, "maximize")) == 3
    assert study.recall("test")["winner"] == 0


class Slow(Finals):
    """Trains in real workers: finalist 1 sleeps for minutes, the others end at once."""

    def job(self, key: tuple[int, int]) -> Job:
        slow = {"do": "sleep", "seconds": 300.0, "deaf": False}
        return Job(slow if key[0] == 1 else {"value": 0.9 - 0.1 * key[0]}, 1)


def test_a_finalist_far_beyond_the_time_is_stopped_where_others_have_answered(
    tmp_path: Path,
) -> None:
    study = study_of([10, 10, 10])
    pool = Pool(LocalEngine([Slot(None, 1)] * 2, "tests.search.runners:Tiny", tmp_path))
    pool.start()
    answers: list[bool] = []

    def to_end(answered: bool) -> float | None:
        answers.append(answered)
        return 0.0 if answered else None

    def run(seconds_left: float) -> list[str]:
        made, said = finals(study, 1000, overrides=["finalist_seeds=1"])
        clock: Any = SimpleNamespace(left=seconds_left, finals_to_end=to_end)
        bare_finals(pool, made._jobs, clock, said, Slow).run()
        return said

    began = time.monotonic()
    said = run(1000.0)
    assert time.monotonic() - began < 100 and answers[0] is False
    assert f"finalist {study.trial(1).name}, seed 1: the time was over" in said
    assert {one.trial for one in kept_finalists(study, "maximize")} == {0, 2}
    assert study.recall("test")["winner"] == 0
    # It is not begun again in the same time, and more of it would train it.
    assert f"finalist {study.trial(1).name}, seed 1: the time was over" in run(-500.0)
    assert "value" not in study.recall("refits")["1"]["1"]
    pool.close()


@pytest.fixture
def looked(monkeypatch: pytest.MonkeyPatch) -> list[dict[int, int]]:
    """Looks as they were made: the seeds of each finalist that was not left out before.

    Trial 2 is told from the best once the others have four seeds.
    """
    looks: list[dict[int, int]] = []

    def judged(
        settings: Any, found: Sequence[Any], look: int, costs: None
    ) -> tuple[tuple[int, ...], float]:
        counts = {one.trial: len(one.runs) for one in found if not one.left_out}
        looks.append(counts)
        tied = (0, 1) if counts[0] >= 4 else (0, 1, 2)
        return tied, 0.5

    monkeypatch.setattr(finalists, "judged", judged)
    return looks


def test_further_seeds_go_to_the_tied_until_trainings_are_used_up(
    looked: list[dict[int, int]],
) -> None:
    study = study_of([1, 1, 1])
    trained, said = told_apart(study, 14)
    # Six at first, two more of each, and with eight left four more of the two that are tied.
    assert [len(trained), trained[-1]] == [6 + 6 + 8, (1, 8)]
    assert looked == [{0: 2, 1: 2, 2: 2}, {0: 4, 1: 4, 2: 4}, {0: 8, 1: 8}]
    assert [(one.trial, one.left_out) for one in kept_finalists(study, "maximize")] == [
        (0, False),
        (1, False),
        (2, True),
    ]
    assert "too few" in said[-1]
    again, _ = told_apart(study, 14)
    assert again == [] and len(looked) == 3, "nothing is trained or looked at twice"
    further, _ = told_apart(study, 22)
    ended = sorted(trial for trial, _ in further)
    assert ended == [0] * 4 + [1] * 4, "of as many as they have, or half"


def test_a_round_that_was_killed_goes_on_and_counts_once_it_is_whole(
    looked: list[dict[int, int]],
) -> None:
    study = study_of([1, 1, 1])
    begun, _ = told_apart(study, 6, stops=9)
    assert len(begun) == 9 and looked == [{0: 2, 1: 2, 2: 2}]
    assert {len(one.runs) for one in kept_finalists(study, "maximize")} == {2}
    rest, _ = told_apart(study, 6)
    assert sorted(begun + rest) == [(trial, seed) for trial in range(3) for seed in range(1, 5)]
    assert looked[1:] == [{0: 4, 1: 4, 2: 4}]


@pytest.mark.parametrize(("tied", "chance"), [((1,), 0.9), ((0, 1), 0.01)])
def test_no_seeds_are_trained_where_one_is_best_or_seeds_cannot_tell(
    tied: tuple[int, ...], chance: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(finalists, "judged", lambda *_: (tied, chance))
    trained, said = told_apart(study_of([1, 1, 1]), 50)
    assert len(trained) == 6
    assert ("better than the others" if len(tied) == 1 else "more pictures") in said[-1]


@pytest.fixture
def raced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Make a study's finalists of so many wrong answers by trial and seed, as finished runs."""
    monkeypatch.setattr(finalists, "verdict_on", verdict_on)  # there are predictions to judge

    def made(wrong: list[list[int]]) -> tuple[Any, Finals, list[str]]:
        study = study_of([1.0] * len(wrong))
        found, said = finals(study, None, overrides=[f"output_dir={tmp_path}"])
        for trial, each in enumerate(wrong):
            for seed, count in enumerate(each, 1):
                run = finished_run(tmp_path, "cnn", count, seed=seed, lr=trial, trial=trial)
                facts = {"value": 1 - count / len(TARGETS), "run_dir": str(run.path)}
                found.keep((trial, seed), facts)
        return study, found, said

    return made


def test_where_a_training_collapsed_the_sweep_has_the_winner_of_the_comparison(
    raced: Any, tmp_path: Path
) -> None:
    """By the mean of all trainings the other would win, and its first seed would be tested."""
    study, made, said = raced([[200, 10, 12], [60, 61, 62]])
    assert kept_finalists(study, "maximize")[0].trial == 1
    made._measure_winner()
    best, other = kept_finalists(study, "maximize")
    known = study.recall("test")
    assert (known["winner"], known["caution"]) == (0, "") and "accuracy 50.0 %" in known["constant"]
    assert (best.trial, best.collapsed, best.first_seed, other.collapsed) == (0, (1,), 2, ())
    assert best.mean == pytest.approx(1 - 11 / len(TARGETS))
    assert said == ["finalist cnn-0, seed 1: collapsed, excluded from the mean"]

    record = {"trials": [], "metrics": ["val/accuracy"], "winner": best.trial}
    each = [{"trial": one.trial, "run_dirs": dict(one.run_dirs)} for one in (best, other)]
    write_study(tmp_path, **record, finalists=each)
    found = compared(compare_settings(tmp_path, sweep="s"))
    winner = found.verdict.winner
    assert winner.name == "cnn-0" and winner.figure == pytest.approx(best.mean)
    assert found.remarks == (), "the study has no other winner"
    ends = tuple(run_id[:6] for run_id in winner.run_ids)
    sound = [seed for seed, path in best.run_dirs.items() if path.endswith(ends)]
    assert min(sound) == best.first_seed, "what select takes of the repeats"


@pytest.mark.parametrize(
    ("sure", "latency", "winner"),
    [
        ((0.7, 0.8, 0.75), (1, 3, 2), 1),  # the log-loss
        ((0.8, 0.8, 0.7), (3, 2, 1), 1),  # the log-loss, and then the latency
        ((0.8, 0.8, 0.8), (1, 1, 1), 0),  # the name
    ],
)
def test_of_equal_means_the_sweep_and_the_comparison_take_the_same_one(
    sure: tuple[float, ...],
    latency: tuple[float, ...],
    winner: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(finalists, "verdict_on", verdict_on)
    study = study_of([1.0] * 3)
    made, said = finals(study, None, overrides=[f"output_dir={tmp_path}"])
    made._trials = dict(enumerate(study.trials()))
    # The means are equal but for their last digits, as 0.1 + 0.2 is not 0.3.
    wrong = ((40, 80), (80, 40), (60, 60))
    for trial in (2, 0, 1):
        for seed in (1, 2):
            count = wrong[trial][seed - 1]
            known = {"sure": sure[trial], "latency": latency[trial]}
            run = finished_run(tmp_path, "cnn", count, seed=seed, lr=trial, trial=trial, **known)
            made.keep((trial, seed), {"run_dir": str(run.path)})
            answers = Predictions.read(run.predictions / "val.parquet")
            metrics = {
                "val/accuracy": 1 - count / len(TARGETS),
                "val/log_loss": log_loss(answers.probs, answers.targets),
                "cost/latency_ms": float(latency[trial]),
            }
            made.ended((trial, seed), 0, Ending("complete", metrics))
    share = 100 * (1 - wrong[2][0] / len(TARGETS))
    assert said[0] == f"finalist cnn-2, seed 1: validation accuracy {share:.1f} %"
    made._measure_winner()
    found = kept_finalists(study, "maximize")
    assert study.recall("test")["winner"] == found[0].trial == winner
    each = [{"trial": one.trial, "run_dirs": dict(one.run_dirs)} for one in found]
    write_study(tmp_path, trials=[], metrics=["val/accuracy"], winner=winner, finalists=each)
    compared_with = compared(compare_settings(tmp_path, sweep="s"))
    ranked = [one.name for one in compared_with.verdict.standings]
    assert ranked == [f"cnn-{one.trial}" for one in found]
    assert not any("winner of the study" in remark for remark in compared_with.remarks)


def test_a_look_is_the_verdict_on_the_runs_that_finalists_left(raced: Any) -> None:
    study, made, _ = raced([[12, 14], [12, 13], [120, 121]])
    known = kept_finalists(study, "maximize")
    tied, chance = judged(made._settings, known, 1)
    assert set(tied) == {0, 1} and chance is not None and 0 <= chance < 1
    # Two trainings that say the same of an open question have an interval that grows by looks.
    first, second = (verdict_on(made._settings, known, look)[0] for look in (1, 2))
    assert second.look == 2
    for one, wider in zip(first.standings, second.standings, strict=True):
        assert wider.interval.low < one.interval.low and one.interval.high < wider.interval.high


def test_finalists_on_other_pictures_are_named_and_not_called_worse(
    raced: Any, tmp_path: Path
) -> None:
    study, made, _ = raced([[12, 14], [200, 210], []])
    shifted = finished_run(tmp_path, "cnn", 10, seed=1, lr=2, trial=2, shift=1)
    made.keep((2, 1), {"value": 0.9, "run_dir": str(shifted.path)})
    with pytest.raises(ConfigError, match="those of trials 2 were measured on other pictures"):
        verdict_on(made._settings, kept_finalists(study, "maximize"))
