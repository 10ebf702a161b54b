"""Which families of a sweep are measured when, by a pool that answers at once."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from types import SimpleNamespace
from typing import Any

import pytest

from src.config.sweep import read_sweep_settings
from src.search.jobs import Job
from src.search.space import Family
from src.sweeps.clock import Clock
from src.sweeps.prepare import Preparation
from src.sweeps.prepared import LEFT_OUT, Prepared, kept_reasons
from tests.sweeps.reductions import Answers, Study, family, of_size, reduction
from tests.sweeps.stand_in import Clock as ByHand


def test_once_time_is_up_nothing_more_is_measured() -> None:
    time, kept, shown = ByHand(), dict[str, Any](), list[str]()

    class Late(Answers):
        def gather(self, *_: object) -> None: ...

        def give(self, slot: int, job: Job) -> None:
            super().give(slot, job)
            time.now += 60

    pool = Late(of_size(90, 90))
    study = SimpleNamespace(recall=kept.get, remember=kept.__setitem__, trials=list)
    families = {name: family(name) for name in ("cnn", "fcn", "gru")}
    clock = Clock(100, finals=False, earlier=0, note=lambda _: None, now=time)
    made = reduction(pool, None, study=study, **families)
    assert list(Preparation(replace(made, clock=clock), shown.append).run()) == []
    assert len(pool.jobs) == 2  # cnn as it is, and smaller
    assert list(made.jobs.prepared) == ["cnn"] and not made.jobs.prepared["cnn"].affordable
    assert [line.partition(":")[0] for line in shown if "no time is left" in line] == ["fcn", "gru"]
    slow = "12 epochs would take 18 min 0 s, and the limit of a trial is 50 s"
    assert kept_reasons(study) == {"cnn": slow, "fcn": "no time is left", "gru": "no time is left"}
    kept[LEFT_OUT] = ["cnn", "fcn"]  # of an earlier version
    assert kept_reasons(study) == {"cnn": "", "fcn": ""}


def test_what_was_shown_of_a_family_is_not_repeated(capsys: pytest.CaptureFixture[str]) -> None:
    made = Preparation(reduction(Answers(of_size(1, 1)), 100), print)
    made._keep("frozen", Prepared([], 1, 1.0, notes=["ranked: a, b", "chosen: a"]))
    made._keep("frozen", Prepared(["model.networks=[a,b]"], 1, 1.0, notes=["ranked: a, b", "both"]))
    assert capsys.readouterr().out.splitlines() == [
        "frozen: ranked: a, b",
        "frozen: chosen: a",
        "frozen: both",
    ]


class Gathered(Answers):
    """A pool whose two workers are ready."""

    size = 2

    def gather(self, *_: object) -> None: ...


def measured(spent: float, family: Family, budget: float = 200.0, **given: Any) -> list[float]:
    """Return the seconds that a family may be measured, once a frozen network is ready."""
    return [job.task["seconds"] for job in jobs_of(spent, family, budget, speed=200.0, **given)]


def jobs_of(
    spent: float,
    family: Family,
    budget: float,
    *,
    speed: float,
    trials: int = 1,
    kept: float | None = None,
    folds: int | None = None,
) -> list[Job]:
    """Return what is measured of a family after so many trials, with this time for the finals."""
    time, study, pool = ByHand(), Study(), Gathered(of_size(1.0, 1.0))
    clock = Clock(budget, finals=kept is not None, earlier=0, note=lambda _: None, now=time)
    clock.kept = kept or 0.0
    study.count = trials
    made = reduction(pool, None, study=study, folds=folds, **{family.name: family})
    network = {"name": "n", "taken": True, "side": 224, "images_per_second": speed}
    ready = Prepared([], 1, 0.0, published=True, networks=[network], parts={"train": 1_000})
    made.jobs.prepared["embedding"] = ready
    time.now += spent
    list(Preparation(replace(made, clock=clock), print).run())
    return pool.jobs


def test_hand_crafted_features_have_a_cheap_try_where_the_others_time_allows_it(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A quarter of the 70 s that trials have left is 17.5 s; 1,000 pictures take 270 s / speed."""
    crafted = family("handcrafted", "model=handcrafted")
    (whole,) = jobs_of(130, crafted, 200, speed=100)
    assert not any("train_limit" in override for override in whole.overrides)
    # A quarter of 39 s for opening all pictures, and a quarter of the rest.
    (part,) = jobs_of(130, crafted, 200, speed=7)
    assert "data.train_limit=250" in part.overrides
    assert part.task["seconds"] == pytest.approx(17.5)
    assert "data.train_limit=250 of 1,000 training pictures" in capsys.readouterr().out
    assert jobs_of(130, crafted, 200, speed=5) == []
    said = (
        "left out: the 1 min 10 s left for trials are those of embedding, and one of its own would"
    )
    assert said in capsys.readouterr().out
    assert jobs_of(200, crafted, 200, speed=100) == []
    assert "handcrafted: left out: no time is left for trials" in capsys.readouterr().out
    # Others need too many epochs for a cheap try; and where no trial waits, all have their turn.
    assert jobs_of(130, family("cnn"), 200, speed=100) == []
    assert "data.train_limit=250" not in jobs_of(100, crafted, 200, speed=7)[0].overrides


def test_a_network_is_not_measured_whose_frozen_relatives_are_too_slow(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A thousand pictures, forward and back, at 392 a second for two workers: 15.3 s an epoch."""
    tuned = family("net", "model=efficientnet_lite0", "recipe=finetune")
    assert measured(60, tuned, 140), "half of 80 s is left for a trial"
    assert measured(60, tuned, 120) == [] and measured(60, family("net", "model=cnn"), 120)
    assert "2 epochs would take about 31 s" in capsys.readouterr().out


def test_a_tuned_network_is_measured_late_as_well_once_the_others_had_a_trial(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Of 200 s, 70 are left, which trials of the others would have; two epochs take 31."""
    tuned = family("net", "model=efficientnet_lite0", "recipe=finetune")
    assert measured(130, tuned)
    assert measured(130, tuned, trials=0) == [], "no family has an answer yet"
    assert "left for trials are those of embedding\n" in capsys.readouterr().out
    assert measured(145, tuned) == [], "it would hardly be tried"
    # 40 s are left if finals take all that they may; of 80 s, 28 are for measuring.
    assert measured(100, tuned, kept=60) == [] and measured(100, tuned, kept=20) == [28]
    assert measured(100, tuned, kept=32) == [], "it may take half as long again"
    assert measured(130, family("net", "model=cnn")) == [], "of others nothing is known"
    capsys.readouterr()
    assert measured(130, tuned, folds=5) == [], "each fold is a training"
    assert "5 times 2 epochs would take about 2 min 33 s" in capsys.readouterr().out


class NotInTime(Answers):
    """A worker that measures for all the time it is given; describing pictures does not end."""

    def __init__(self, time: ByHand) -> None:
        super().__init__(of_size(0.01, 0.01))
        self.time = time

    def gather(self, *_: object) -> None: ...

    def give(self, slot: int, job: Job) -> None:
        super().give(slot, job)
        self.time.now += job.task["seconds"] + job.task["late_by"]
        self.cost = of_size(1e6, 1e6) if "model=embedding" in job.overrides else of_size(0.01, 0.01)


def test_as_long_as_nothing_can_be_trained_the_time_for_finalists_counts() -> None:
    time, study = ByHand(), Study()
    clock = Clock(100, finals=True, earlier=0, note=lambda _: None, now=time)
    names = ("embedding", "cnn", "fcn")
    made = reduction(NotInTime(time), None, study=study, **{one: family(one) for one in names})
    pool = made.pool
    list(Preparation(replace(made, clock=clock), print).run())
    tasks = [job.task for job in pool.jobs]
    # What is chosen should be described in the trials' time (70 s); until 85 of 100 s it may end.
    assert (tasks[0]["seconds"], tasks[0]["late_by"]) == pytest.approx((0.65 * 70, 85 - 0.65 * 70))
    # The trials' time is over by then, and yet another family is tried in what is left.
    assert tasks[1]["seconds"] == pytest.approx(0.35 * 15)
    assert len(tasks) == 2 and made.jobs.prepared["cnn"].affordable, "fcn would take its time"


class Described(Answers):
    """A worker that describes pictures at the size that its time buys, and takes half of it."""

    def __init__(self, time: ByHand) -> None:
        super().__init__(self.describe)
        self.time = time
        self.size = 0

    def gather(self, *_: object) -> None: ...

    def describe(self, overrides: list[str]) -> dict[str, Any]:
        seconds = self.jobs[-1].task["seconds"]
        self.size = size = max(self.size, min(224, int(2 * seconds) // 32 * 32))
        self.time.now += seconds / 2
        return {
            "overrides": [f"model.input_size={size}", f"model.auto.seconds={seconds}"],
            "epochs": 1,
            "seconds_per_epoch": 0.0,
            "published": True,
            "limit": seconds if size < 224 else None,
        }


def sizes(
    time: ByHand,
    study: Study,
    budget: float,
    *overrides: str,
    earlier: float = 0.0,
    worker: type[Described] = Described,
    trials: int | None = None,
) -> list[str]:
    """Return the size of the pictures of each trial that is begun early; `trials` end it."""
    clock = Clock(budget, finals=False, earlier=earlier, note=lambda _: None, now=time)
    made = reduction(worker(time), None, study=study, embedding=family("embedding"))
    settings = read_sweep_settings(["study=s", "output_dir=out", *overrides], "default")
    made = replace(made, jobs=replace(made.jobs, settings=settings))
    found = []
    for name in Preparation(replace(made, clock=clock), print).run():
        found.append(made.jobs.prepared[name].overrides[0])
        study.count += 1
        time.now += 10
        if len(found) == trials:
            break
    return found


def test_what_time_is_left_describes_the_pictures_better() -> None:
    time, study = ByHand(), Study()
    # 65 of 100 s buy 128 pixels; of the 57 s that are left after 33 and a trial, 38 buy no more.
    assert sizes(time, study, 100) == ["model.input_size=128"]
    time, study = ByHand(), Study()
    # 104 s of 160 buy 192 pixels, and those that are left not more.
    assert sizes(time, study, 160) == ["model.input_size=192"]
    study = Study()
    study.kept["prepared"] = {
        "embedding": {
            "overrides": ["model.input_size=96"],
            "epochs": 1,
            "seconds_per_epoch": 0.0,
            "published": True,
            "limit": 80.0,
        }
    }
    study.count = 1
    # With more minutes a study has pictures described anew, and once more in what is left then.
    assert sizes(ByHand(), study, 260, earlier=100) == ["model.input_size=192"]
    assert sizes(ByHand(), study, 260, earlier=240) == [], "no second time"
    assert sizes(ByHand(), study, 900, earlier=240) == ["model.input_size=224"]
    assert sizes(ByHand(), study, 9000, earlier=900) == [], "there is nothing better"


class DescribedBefore(Described):
    """A worker to which an earlier study has left pictures described at 64 pixels."""

    def describe(self, overrides: list[str]) -> dict[str, Any]:
        if not self.jobs[-1].task["at_once"]:
            return super().describe(overrides)
        described = {"overrides": ["model.input_size=64"], "seconds_per_epoch": 0.0, "limit": 1.0}
        return described | {"epochs": 1, "published": True}


@pytest.mark.parametrize(
    ("overrides", "begun"),
    [
        ([], ["model.input_size=64", "model.input_size=128"]),
        (["budget.trials=5"], ["model.input_size=64", "model.input_size=128"]),
        (["budget.trials=1"], ["model.input_size=128"]),  # there is none to better it by
    ],
)
def test_what_is_described_already_answers_before_anything_better(
    overrides: list[str], begun: list[str]
) -> None:
    time, study = ByHand(), Study()
    assert sizes(time, study, 100, *overrides, worker=DescribedBefore) == begun


def test_a_start_after_a_kill_betters_what_was_described_already() -> None:
    study = Study()
    first = sizes(ByHand(), study, 100, worker=DescribedBefore, trials=1)
    assert first == ["model.input_size=64"]
    again = partial(sizes, study=study, worker=DescribedBefore)
    assert again(ByHand(), budget=100, earlier=10) == ["model.input_size=96"]
    assert again(ByHand(), budget=100, earlier=10) == [], "no second time"
    study.count = 0  # killed before its first trial, which is as soon to answer in the next start
    study.kept.clear()
    assert sizes(ByHand(), study, 100, worker=DescribedBefore, trials=1) == first
    study.count = 0
    assert again(ByHand(), budget=100, earlier=10)[0] == first[0]


class Busier(Described):
    """The worker of a machine on which the same time buys ever less."""

    def describe(self, overrides: list[str]) -> dict[str, Any]:
        found = super().describe(overrides)
        size = 224 - 32 * len(self.jobs)
        cut = {"overrides": [f"model.input_size={size}"], "promise": size / 4, "limit": 1.0}
        return found | cut


def test_a_renewed_study_keeps_the_better_reduction() -> None:
    study = Study()
    for budget, earlier in ((100.0, 0.0), (900.0, 200.0)):
        time = ByHand()
        clock = Clock(budget, finals=False, earlier=earlier, note=lambda _: None, now=time)
        made = reduction(Busier(time), None, study=study, embedding=family("embedding"))
        pool = Busier(time)
        pool.jobs = [Job({}, overrides=[])] * (earlier > 0)
        for _ in Preparation(replace(made, pool=pool, clock=clock), print).run():
            study.count += 1
        kept = study.kept["prepared"]["embedding"]
        assert kept["overrides"] == ["model.input_size=192"]
    assert kept["limit"] > 600, "it is not tried again in as much time"


def test_what_was_chosen_for_lack_of_time_is_told_from_what_was_chosen_anyway() -> None:
    chosen = ["model.networks=[a]", "data.fit=crop", "model.input_size=96", "data.train_limit=9"]
    limited = Prepared([*chosen, "data.train_limit=9"], 1, 0.0, limit=40.0)
    assert limited.reduction == "model.input_size=96 data.train_limit=9"
    assert replace(limited, limit=0.0).reduction == limited.reduction, "of a study's first trial"
    assert replace(limited, limit=None).reduction == "", "more time would have changed nothing"


@pytest.mark.parametrize(
    ("new", "taken"),
    [
        ({"overrides": ["model.input_size=224"], "promise": 75.0}, True),
        ({"overrides": ["model.input_size=64"], "promise": 65.0}, False),
        # Nothing that more time could buy promises more on these pictures.
        ({"overrides": ["model.networks=[other]"], "promise": 65.0, "limit": None}, True),
        ({"overrides": [], "promise": 75.0}, True),
        ({"overrides": ["model.input_size=128"], "promise": 75.0}, False),
    ],
)
def test_frozen_networks_go_by_what_they_promise(new: dict[str, Any], taken: bool) -> None:
    old = Prepared(["model.input_size=128"], 1, 0.0, limit=60.0, promise=70.0)
    assert replace(old, **({"limit": 90.0} | new)).betters(old) is taken


@pytest.mark.parametrize(
    ("train", "side", "epochs", "taken"),
    [
        (1_000, 64, 5, True),
        (500, 64, 5, True),
        (250, 224, 12, False),
        (500, 64, 2, False),
        (500, 160, 2, True),
        (500, 64, 3, False),
    ],
)
def test_others_go_by_pictures_then_their_size_then_epochs(
    train: int, side: int, epochs: int, taken: bool
) -> None:
    def found(train: int, side: int, epochs: int) -> Prepared:
        overrides = [f"data.train_limit={train}", f"data.image_size={side}"]
        return Prepared(overrides, epochs, 1.0, parts={"train": train}, side=side)

    assert found(train, side, epochs).betters(found(500, 64, 3)) is taken
