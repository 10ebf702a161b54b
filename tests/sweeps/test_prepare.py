"""How a family is fitted into the time of a sweep, by a pool that answers at once."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from types import SimpleNamespace
from typing import Any, ClassVar

import pytest

from src.config.checks import ConfigError
from src.config.sweep import read_sweep_settings
from src.machine.failures import RunFailed
from src.records.trials import COMPLETE, TrialRecord
from src.search.jobs import Ending, Job
from src.search.pool import Event
from src.search.space import Family, parse_space
from src.sweeps.clock import Clock
from src.sweeps.families import load_families, name_of_kind
from src.sweeps.prepare import Preparation
from src.sweeps.prepared import LEFT_OUT, NOT_OPENED, Prepared, kept_reasons
from src.sweeps.tasks import SweepJobs
from tests.sweeps.stand_in import Clock as ByHand


class Answers:
    """A pool that answers each preparation by what `cost` makes of its overrides."""

    size = 1

    def __init__(self, cost: Callable[[list[str]], dict[str, Any]]) -> None:
        self.cost = cost
        self.jobs: list[Job] = []

    def free(self) -> list[int]:
        return [0]

    def give(self, slot: int, job: Job) -> None:
        self.jobs.append(job)

    def events(self, seconds: float) -> Iterator[Event]:
        job = self.jobs[-1]
        found = self.cost(list(job.overrides))
        failed = found.pop("failed", None)
        result = {"overrides": ["data.batch_size=64"], "epochs": 12, "notes": []} | found
        ending = Ending("failed", result=failed, reason="no such thing")
        yield Event(0, job, Ending("complete", result=result) if failed is None else ending, 0.1)


def preparation(
    pool: Any,
    seconds: float | None,
    *base: str,
    study: Any = None,
    folds: int | None = None,
    **families: Family,
) -> Preparation:
    clock = Clock(seconds, finals=False, earlier=0, note=lambda _: None, now=lambda: 0.0)
    overrides = [
        "study=s",
        "output_dir=out",
        *([] if folds is None else [f"cv.folds={folds}", "pruner=none"]),
    ]
    settings = read_sweep_settings(overrides, "default")
    jobs = SweepJobs(settings, study or Study(), families, base, {}, "0" * 32)
    return Preparation(pool, clock, jobs, print, lambda: None)


def family(name: str, *overrides: str) -> Family:
    return Family(name, overrides or (f"model={name}",), (), {})


def of_size(large: float, small: float) -> Callable[[list[str]], dict[str, Any]]:
    """Seconds an epoch at the usual size of pictures, and at a smaller one."""

    def cost(overrides: list[str]) -> dict[str, Any]:
        shrunk = any(w.startswith(("data.image_size=", "model.input_size=")) for w in overrides)
        return {"seconds_per_epoch": small if shrunk else large}

    return cost


def test_what_fits_stays_as_it_is_and_the_pool_is_told_how_long_it_may_measure() -> None:
    pool = Answers(of_size(1.0, 0.2))
    said: list[str] = []
    found = replace(preparation(pool, 100), doing=said.append).measure(family("cnn"))
    assert (found.epochs, found.seconds, found.affordable) == (12, 12.0, True)
    assert found.overrides == ["data.batch_size=64"] and not found.notes
    assert len(pool.jobs) == 1 and pool.jobs[0].task["seconds"] == pytest.approx(35)
    assert said == ["cnn: measuring its speed on this machine, for up to 35 s"]
    made = replace(preparation(Answers(of_size(1.0, 0.2)), 100), doing=said.append)
    made.measure(family("embedding"))
    assert said[1].startswith("embedding: choosing networks and extracting their features, for ")
    pool = Answers(of_size(1e6, 1e6))
    assert preparation(pool, None).measure(family("cnn")).affordable, "there is no limit"
    assert pool.jobs[0].task["seconds"] is None


@pytest.mark.parametrize(
    ("large", "small", "base", "epochs", "overrides"),
    [
        (20, 4, (), 12, ["data.image_size=64", "data.batch_size=64"]),
        (40, 10, (), 5, ["data.image_size=64", "data.batch_size=64", "trainer.max_epochs=5"]),
        (10, 10, ("data.image_size=96",), 5, ["data.batch_size=64", "trainer.max_epochs=5"]),
    ],
)
def test_smaller_pictures_come_before_fewer_epochs_unless_somebody_gave_a_size(
    large: float, small: float, base: tuple[str, ...], epochs: int, overrides: list[str]
) -> None:
    pool = Answers(of_size(large, small))
    found = preparation(pool, 100, *base).measure(family("cnn"))
    assert (found.epochs, found.overrides, found.affordable) == (epochs, overrides, True)
    assert len(pool.jobs) == 2 - len(base)


@pytest.mark.parametrize(("side", "small", "measured"), [(28, 1, 1), (64, 1, 1), (224, 10, 2)])
def test_pictures_that_are_small_or_no_cheaper_when_small_keep_their_size(
    side: int, small: float, measured: int
) -> None:
    pool = Answers(lambda overrides: of_size(10, small)(overrides) | {"side": side})
    found = preparation(pool, 100).measure(family("cnn"))
    assert found.overrides == ["data.batch_size=64", "trainer.max_epochs=5"]
    assert len(pool.jobs) == measured and not any("image_size" in note for note in found.notes)


@pytest.mark.parametrize("override", ["model=fcn", "model=unet"])
def test_pictures_with_masks_keep_their_size_for_others_are_measured_in_it(override: str) -> None:
    def cost(overrides: list[str]) -> dict[str, Any]:
        return of_size(10, 4)(overrides) | {"published": override == "model=unet"}

    made = preparation(Answers(cost), 100, "data.target=dense")
    data = replace(made.jobs.settings.data, target="dense")
    jobs = replace(made.jobs, settings=replace(made.jobs.settings, data=data))
    made = replace(made, jobs=jobs)
    found = made.measure(family("own", override))
    assert found.overrides == ["data.batch_size=64", "trainer.max_epochs=5"]


@pytest.mark.parametrize(
    ("seconds", "epochs"), [(4, 12), (5.8, 12), (10, 7)], ids=["fits", "whole race", "cut"]
)
def test_the_only_family_may_take_all_of_the_race(seconds: float, epochs: int) -> None:
    """Half of it where others race as well, or where it races against itself."""
    base = "data.image_size=96"
    alone = preparation(Answers(of_size(seconds, seconds)), 100, base, cnn=family("cnn"))
    assert alone.measure(family("cnn")).epochs == epochs
    both = {"cnn": family("cnn"), "mlp": family("mlp")}
    beside = preparation(Answers(of_size(seconds, seconds)), 100, base, **both)
    assert beside.measure(family("cnn")).epochs == min(12, int(50 / seconds))


@pytest.mark.parametrize(
    ("large", "shared", "others", "slots", "given", "taken"),
    [
        (10.0, 6.0, 0.0, 2, (), True),
        (5.0, 3.0, 0.0, 2, (), False),
        (10.0, 9.0, 0.0, 2, (), False),
        (10.0, 6.0, 1.5, 2, (), False),
        (10.0, 6.0, 0.0, 1, (), False),
        (10.0, 6.0, 0.0, 2, ("workers.count=2",), False),
        (10.0, 6.0, 0.0, 2, ("runtime.threads=1",), False),
    ],
    ids=["cut", "fits", "hardly faster", "busy", "one slot", "stated slots", "stated threads"],
)
def test_an_only_network_that_must_be_cut_has_the_cores_of_all_slots(
    monkeypatch: pytest.MonkeyPatch,
    large: float,
    shared: float,
    others: float,
    slots: int,
    given: tuple[str, ...],
    taken: bool,
) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr("src.sweeps.prepare.available_cores", lambda: 2)
    monkeypatch.setattr("src.machine.cpu_load.available_cores", lambda: 2)
    monkeypatch.setattr("src.sweeps.prepare.others_load", lambda: others)

    def cost(overrides: list[str]) -> dict[str, Any]:
        several = "runtime.threads=2" in overrides
        notes = ["of the pictures"] if several else ["of the batch", NOT_OPENED]
        return {"seconds_per_epoch": shared if several else large, "notes": notes}

    pool, overrides = Answers(cost), ["study=s", "output_dir=out", *given]
    monkeypatch.setattr(pool, "size", slots)
    base = ("data.image_size=96", "runtime.threads=1")
    made = preparation(pool, 100, *base, cnn=family("cnn"))
    settings = read_sweep_settings(overrides, "default")
    made = replace(made, jobs=replace(made.jobs, settings=settings))
    found = made.measure(family("cnn"))
    assert found.takes_turns is taken
    each = shared if taken else large
    assert found.epochs == min(12, int(70 / each))
    if taken:
        overrides = list(pool.jobs[-1].overrides)
        assert [override for override in overrides if "threads" in override] == [
            "runtime.threads=2"
        ]
        assert "data.batch_size=64" in overrides, "what was chosen before is not chosen again"
        assert found.notes[:2] == ["of the batch", "of the pictures"], "they were opened"
    else:
        assert NOT_OPENED in found.notes


@pytest.mark.parametrize(
    ("seconds", "overrides", "epochs"),
    [
        (400, ("model=cnn",), 1),
        (2_000, ("model=cnn",), None),
        (120, ("model=efficientnet_lite0", "recipe=finetune"), 1),
        (400, ("model=efficientnet_lite0", "recipe=finetune"), None),
    ],
)
def test_an_only_network_is_trained_for_a_part_of_an_epoch_before_there_is_no_answer(
    seconds: float, overrides: tuple[str, ...], epochs: int | None
) -> None:
    """Of 100 s, 70 are for the trial, which a clock ends; a head is to be fitted before it."""
    only = family("net", *overrides)

    def cost(overrides: list[str]) -> dict[str, Any]:
        return {"seconds_per_epoch": seconds, "published": "recipe=finetune" in overrides}

    base = ("data.image_size=96",)
    found = preparation(Answers(cost), 100, *base, net=only).measure(only)
    assert found.affordable is (epochs is not None)
    if epochs is not None:
        assert found.epochs == epochs and found.seconds == pytest.approx(70)
    beside = preparation(Answers(cost), 100, *base, net=only, mlp=family("mlp"))
    assert not beside.measure(only).affordable


def test_time_that_measuring_used_up_is_no_limit_of_nought_seconds() -> None:
    time = ByHand()

    def cost(_: list[str]) -> dict[str, Any]:
        time.now += 200
        return {"seconds_per_epoch": 60.0}

    made = preparation(Answers(cost), 100, "data.image_size=96", net=family("net", "model=cnn"))
    clock = Clock(100, finals=False, earlier=0, note=lambda _: None, now=time)
    found = replace(made, clock=clock).measure(made.jobs.families["net"])
    assert not found.affordable and found.notes[-1].endswith(
        " would take 12 min 0 s, and no time is left"
    )


def test_hand_crafted_features_alone_must_leave_time_for_their_fit_as_well() -> None:
    """Of 100 s, 70 are for a trial: 30 s of describing and one and a half times 40 of a fit.

    On a half of the pictures, or on fewer, both take less.
    """
    (crafted,) = load_families(["handcrafted"], [])
    own = {"model.classifier": "rbf_svm", "model.selection": "pca"}
    fits = {name_of_kind(own): 40.0, "model.classifier=auto": 20.0}

    def cost(_: list[str]) -> dict[str, Any]:
        parts = {"train": 1_000, "val": 100, "dropped": 100}  # copies
        return {"epochs": 1, "seconds_per_epoch": 30.0, "parts": parts, "fit_seconds": fits}

    pool = Answers(cost)
    found = preparation(pool, 100, handcrafted=crafted).measure(crafted)
    assert found.overrides[0] == "data.train_limit=500" and found.affordable
    assert found.parts == {"train": 500, "val": 100, "dropped": 500}
    # A quarter of describing is for all pictures, whichever train.
    assert found.seconds == pytest.approx(30 * 0.625)
    assert found.fit_seconds == {name_of_kind(own): 20.0, "model.classifier=auto": 20.0}
    assert "data.train_limit=500 of 1,000 training pictures" in found.notes[-1]
    assert len(pool.jobs) == 1, "nothing is measured twice where time is short"
    both = {"handcrafted": crafted, "cnn": family("cnn")}
    assert preparation(Answers(cost), 100, **both).measure(crafted).seconds == 30


@pytest.mark.parametrize(("override", "late"), [("model=cnn", 65), ("model=embedding", 85)])
def test_an_only_family_may_be_measured_longer_before_it_is_given_up(
    override: str, late: int
) -> None:
    pool, only = Answers(of_size(0.1, 0.1)), family("own", override)
    preparation(pool, 100, own=only).measure(only)
    assert pool.jobs[0].task["seconds"] + pool.jobs[0].task["late_by"] == pytest.approx(late)


def test_a_network_whose_sizes_are_searched_keeps_its_own() -> None:
    sizes = parse_space({"data.image_size": {"choices": [32, 224]}})
    searched = Family("cnn", ("model=cnn",), tuple(sizes), {})
    found = preparation(Answers(of_size(10, 1)), 100).measure(searched)
    assert found.overrides == ["data.batch_size=64", "trainer.max_epochs=5"]


@pytest.mark.parametrize(
    ("seconds", "base", "taken"),
    [(60, (), 500), (90, (), 250), (130, (), None), (60, ("data.train_limit=1000",), None)],
)
def test_hand_crafted_features_get_as_many_training_pictures_as_there_is_time_for(
    seconds: float, base: tuple[str, ...], taken: int | None
) -> None:
    """Of 100 s, 50 are for a trial; opening the pictures is a quarter of it, whatever is used.

    Of 130 s an eighth would do, and 125 pictures are too few.
    """
    crafted, pictures = family("handcrafted", "model=handcrafted"), 1_000

    def cost(overrides: list[str]) -> dict[str, Any]:
        few = [int(w.partition("=")[2]) for w in overrides if w.startswith("data.train_limit=")]
        count = min([pictures, *few])
        each = seconds * (0.25 + 0.75 * count / pictures)
        parts = {"train": count, "dropped": pictures - count}
        return {"epochs": 1, "seconds_per_epoch": each, "parts": parts}

    both = {"handcrafted": crafted, "cnn": family("cnn")}
    found = preparation(Answers(cost), 100, *base, **both).measure(crafted)
    limit = [override for override in found.overrides if override.startswith("data.train_limit=")]
    assert limit == ([] if taken is None else [f"data.train_limit={taken}"])
    assert found.affordable is (taken is not None)
    assert (found.limit is not None) and (taken is None or found.seconds <= 50)


def test_a_network_from_scratch_is_left_out_before_it_learns_nothing() -> None:
    found = preparation(Answers(of_size(90, 30)), 100).measure(family("cnn"))
    assert not found.affordable and "left out" in found.notes[-1]


def test_a_tuned_network_is_worth_a_single_epoch_of_smaller_pictures() -> None:
    def cost(overrides: list[str]) -> dict[str, Any]:
        return of_size(90, 45)(overrides) | {"published": True}

    tuned = family("efficientnet_lite0", "model=efficientnet_lite0", "recipe=finetune")
    found = preparation(Answers(cost), 100).measure(tuned)
    assert found.affordable and found.epochs == 1
    assert "model.input_size=160" in found.overrides
    stated = preparation(Answers(cost), 100, "model.input_size=224").measure(tuned)
    assert not any("input_size" in override for override in stated.overrides)


@pytest.mark.parametrize(
    ("speed", "sizes"),
    [(2000, [False]), (400, [False, True]), (200, [True])],
    ids=["fits", "tried", "far too slow"],
)
def test_full_pictures_are_not_measured_that_would_clearly_take_too_long(
    speed: int, sizes: list[bool]
) -> None:
    """A thousand pictures, forward and back, twelve times: 18, 90 and 180 s of 50."""
    tuned = family("net", "model=efficientnet_lite0", "recipe=finetune")

    def cost(overrides: list[str]) -> dict[str, Any]:
        return of_size(3000 / speed, 1000 / speed)(overrides) | {"published": True}

    pool = Answers(cost)
    made = preparation(pool, 100)
    networks = [{"name": "n", "images_per_second": speed, "side": 224}]
    made.jobs.prepared["frozen"] = Prepared(
        ["data.train_limit=1000"], 1, 0.0, networks=networks, parts={"train": 1000}
    )
    found = made.measure(tuned)
    assert ["model.input_size=160" in job.overrides for job in pool.jobs] == sizes
    assert ("model.input_size=160" in found.overrides) == sizes[-1]
    assert found.notes.count("model.input_size=160, for lack of time") == sizes[-1]
    assert (found.limit is not None) == sizes[-1], "more time may measure them again"
    endless = preparation(pool, None)
    endless.jobs.prepared.update(made.jobs.prepared)
    assert "model.input_size=160" not in endless.measure(tuned).overrides
    stated = preparation(pool, 100, "model.input_size=224")
    stated.jobs.prepared.update(made.jobs.prepared)
    stated.measure(tuned)
    assert "model.input_size=160" not in pool.jobs[-1].overrides


def test_a_family_that_states_no_network_tunes_the_best_frozen_one_it_has_time_for() -> None:
    """Of 1,000 pictures, an epoch takes 30 s with the good one, 10 with the other; half of 300."""
    names = {"good": (0.95, 100), "small": (0.85, 300)}
    networks = [
        {"name": name, "side": 160, "accuracy": good, "error": 0.01, "images_per_second": speed}
        for name, (good, speed) in names.items()
    ]
    frozen = Prepared([], 1, 0.0, networks=networks, parts={"train": 1000})

    def found(seconds: float | None, *base: str, folds: int | None = None) -> Prepared:
        pool = Answers(lambda ws: of_size(90, 30)(ws) | {"published": True})
        made = preparation(pool, seconds, *base, folds=folds)
        made.jobs.prepared["frozen"] = frozen
        return made.measure(family("finetuned", "recipe=finetune"))

    good = found(300)
    assert good.network == "good" and good.overrides.count("model.name=good") == 1
    assert "model.input_size=160" in good.overrides and good.epochs == 5
    assert good.notes[0] == "model.name=good, chosen among the frozen networks"
    small = found(200)
    assert small.network == "small" and small.limit == 200, "more time may change it"
    assert found(None).network == "good" and found(None).limit is None
    assert found(300, "model.name=mine").network is None
    assert found(300, folds=3).network == "small", "each fold is a training"
    assert good.betters(small) and not small.betters(good)
    longer = replace(small, epochs=12, side=224)
    assert good.betters(longer) and not longer.betters(good), "the time that chose it counts"


@pytest.mark.parametrize(
    ("fine", "plain", "taken", "left_out"),
    [
        (20.0, 10.0, "fine", False),
        (100.0, 40.0, "plain", False),
        (100.0, 80.0, "plain", True),  # it is not as fast as was expected
        (400.0, 40.0, "fine", True),  # of which a third does not fit either
    ],
)
def test_a_network_that_turns_out_too_slow_is_replaced_once_by_one_that_is_hardly_worse(
    fine: float, plain: float, taken: str, left_out: bool
) -> None:
    """Of 300 s a trial may take 150, and two epochs are the least.

    By the ranking an epoch takes 15 s with the good one, 5 with the one that is hardly worse. One
    is even faster, and clearly worse.
    """
    speeds = {"fine": (0.90, 200), "plain": (0.88, 600), "poor": (0.80, 6000)}
    networks = [
        {"name": name, "side": 160, "accuracy": good, "error": 0.015, "images_per_second": speed}
        for name, (good, speed) in speeds.items()
    ]

    def cost(overrides: list[str]) -> dict[str, Any]:
        each = fine if "model.name=fine" in overrides else plain
        return of_size(2 * each, each)(overrides) | {"published": True}

    pool, study = Answers(cost), Study()
    made = preparation(pool, 300, study=study)
    made.jobs.prepared["frozen"] = Prepared([], 1, 0.0, networks=networks, parts={"train": 1000})
    found = made.measure(family("finetuned", "recipe=finetune"))
    assert (found.network, found.affordable) == (taken, not left_out)
    assert sum("model.name=poor" in job.overrides for job in pool.jobs) == 0
    if taken == "plain":
        assert found.notes[0].startswith("model.name=plain, since fine is too slow: 12 epochs")
        assert found.limit == 300, "more time may change it"
    if left_out:
        assert found.why_left_out.startswith("12 epochs would take ")


def test_a_chosen_network_that_memory_is_too_small_for_has_its_reason_and_no_successor() -> None:
    networks = [
        {"name": name, "side": 160, "accuracy": 0.9, "error": 0.01, "images_per_second": speed}
        for name, speed in (("fine", 200), ("plain", 600))
    ]
    huge = {"affordable": False, "notes": ["left out: there is not enough memory"]}
    pool = Answers(lambda _: {"seconds_per_epoch": 0.0, **huge})
    made = preparation(pool, 300)
    made.jobs.prepared["frozen"] = Prepared([], 1, 0.0, networks=networks, parts={"train": 1000})
    found = made.measure(family("finetuned", "recipe=finetune"))
    assert found.why_left_out == "there is not enough memory" and not found.is_late
    assert len(pool.jobs) == 1


def test_a_chosen_network_of_large_pictures_is_not_measured_at_its_own_size() -> None:
    """Of 1,000 pictures, an epoch takes 30 s at 160 pixels, and 314 at 518: twelve take an hour."""
    record = {"name": "fine", "side": 518, "accuracy": 0.9, "error": 0.01}
    record["images_per_second"] = 100 * (160 / 518) ** 2
    pool = Answers(lambda ws: of_size(1, 1)(ws) | {"published": True})
    made = preparation(pool, 1000)
    made.jobs.prepared["frozen"] = Prepared([], 1, 0.0, networks=[record], parts={"train": 1000})
    found = made.measure(family("finetuned", "recipe=finetune"))
    assert len(pool.jobs) == 1 and "model.input_size=160" in pool.jobs[0].overrides
    assert found.network == "fine" and found.epochs == 12


@pytest.mark.parametrize(
    ("base", "own", "fit"),
    [
        ((), (), ["data.fit=crop"]),
        (("data.fit=pad",), (), []),
        ((), ("data.fit=squeeze",), []),
    ],
    ids=["open", "stated", "of the family"],
)
def test_others_fit_pictures_into_a_square_as_the_frozen_networks_do(
    base: tuple[str, ...], own: tuple[str, ...], fit: list[str]
) -> None:
    frozen, net = family("frozen", "model=embedding"), family("net", "model=cnn", *own)
    pool = Answers(of_size(20, 4))
    made = preparation(pool, 100, *base, frozen=frozen, net=net)
    made.jobs.prepared["frozen"] = Prepared(["model.networks=[a]", "data.fit=crop"], 1, 0.0)
    found = made.measure(net)
    assert found.overrides == [*fit, "data.image_size=64", "data.batch_size=64"]
    for job in pool.jobs:  # at the usual size of pictures, and at a smaller one
        wanted = fit or [*base, *own]
        assert [one for one in job.overrides if one.startswith("data.fit=")] == wanted
    assert [note for note in found.notes if "data.fit" in note] == [
        "data.fit=crop, as for the frozen networks" for _ in fit
    ]
    made.measure(frozen)
    assert "data.fit=crop" not in pool.jobs[-1].overrides, "which choose it themselves"
    searches = replace(net, parameters=tuple(parse_space({"data.fit": {"choices": ["pad"]}})))
    assert (made.measure(searches).overrides[:1] == ["data.fit=crop"]) == bool(fit)


def test_pictures_that_cannot_be_described_in_time_leave_the_frozen_networks_out() -> None:
    pool = Answers(lambda _: {"epochs": 1, "seconds_per_epoch": 90.0, "published": True})
    found = preparation(pool, 100).measure(family("embedding"))
    assert pool.jobs[0].task["seconds"] == pytest.approx(65)
    assert len(pool.jobs) == 1 and not found.affordable and "left out" in found.notes[-1]


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
    made = preparation(pool, None, study=study, **families)
    assert list(replace(made, clock=clock, show=shown.append).run()) == []
    assert len(pool.jobs) == 2  # cnn as it is, and smaller
    assert list(made.jobs.prepared) == ["cnn"] and not made.jobs.prepared["cnn"].affordable
    assert [line.partition(":")[0] for line in shown if "no time is left" in line] == ["fcn", "gru"]
    slow = "12 epochs would take 18 min 0 s, and the limit of a trial is 50 s"
    assert kept_reasons(study) == {"cnn": slow, "fcn": "no time is left", "gru": "no time is left"}
    kept[LEFT_OUT] = ["cnn", "fcn"]  # of an earlier version
    assert kept_reasons(study) == {"cnn": "", "fcn": ""}


def test_a_family_that_does_not_end_its_measurement_is_stopped_and_left_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    time = ByHand()
    monkeypatch.setattr("src.search.loop.time.monotonic", time)

    class Endless(Answers):
        busy: ClassVar = [0]
        stopped = None

        def events(self, seconds: float) -> Iterator[Event]:
            time.now += seconds
            if self.stopped is not None:
                yield Event(0, self.jobs[-1], Ending("interrupted", reason="stopped"), time.now)

        def interrupt(self, slots: set[int], reason: str | None = None) -> None:
            if slots:
                self.stopped = time.now

    began, pool = time.now, Endless(of_size(1, 1))
    tuned = family("efficientnet_lite0", "model=efficientnet_lite0", "recipe=finetune")
    found = preparation(pool, 100).measure(tuned)
    # Its share, the time by which it may be late, and a little for what ends by itself.
    assert pool.stopped == pytest.approx(began + 1.1 * (35 + 20) + 1, abs=0.5)
    assert not found.affordable and found.limit == 100, "with more time it is tried again"
    assert "left out: measuring its speed took more than 1 min" in found.notes[-1]
    assert len(pool.jobs) == 1


@pytest.mark.parametrize(
    ("result", "kind", "message"),
    [
        ({"wrong_input": True}, ConfigError, "cnn: no such thing"),
        ({}, RunFailed, "cnn cannot be trained: no such thing"),
    ],
)
def test_what_cannot_be_trained_ends_the_sweep_with_its_reason(
    result: dict[str, Any], kind: type[Exception], message: str
) -> None:
    with pytest.raises(kind, match=message):
        preparation(Answers(lambda _: {"failed": result}), 100).measure(family("cnn"))


def test_what_was_shown_of_a_family_is_not_repeated(capsys: pytest.CaptureFixture[str]) -> None:
    made = preparation(Answers(of_size(1, 1)), 100)
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
    made = preparation(pool, None, study=study, folds=folds, **{family.name: family})
    network = {"name": "n", "taken": True, "side": 224, "images_per_second": speed}
    ready = Prepared([], 1, 0.0, published=True, networks=[network], parts={"train": 1_000})
    made.jobs.prepared["embedding"] = ready
    time.now += spent
    list(replace(made, clock=clock).run())
    return pool.jobs


def test_hand_crafted_features_have_a_cheap_try_where_the_others_time_allows_it(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A quarter of the 70 s that trials have left is 17.5 s; 1,000 pictures take 400 s / speed."""
    crafted = family("handcrafted", "model=handcrafted")
    (whole,) = jobs_of(130, crafted, 200, speed=100)
    assert not any("train_limit" in override for override in whole.overrides)
    # A quarter of 40 s for opening all pictures, and a quarter of the rest.
    (part,) = jobs_of(130, crafted, 200, speed=10)
    assert "data.train_limit=250" in part.overrides
    assert part.task["seconds"] == pytest.approx(17.5)
    assert "data.train_limit=250 of 1,000 training pictures" in capsys.readouterr().out
    assert jobs_of(130, crafted, 200, speed=5) == []
    assert "is kept for trials of the others: a trial would take" in capsys.readouterr().out
    assert jobs_of(200, crafted, 200, speed=100) == []
    assert "handcrafted: left out: no time is left for trials" in capsys.readouterr().out
    # Others need too many epochs for a cheap try; and where no trial waits, all have their turn.
    assert jobs_of(130, family("cnn"), 200, speed=100) == []
    assert "data.train_limit=250" not in jobs_of(100, crafted, 200, speed=10)[0].overrides


def test_a_network_is_not_measured_whose_frozen_relatives_are_too_slow(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A thousand pictures, forward and back, at 392 a second for two workers: 15.3 s an epoch."""
    tuned = family("net", "model=efficientnet_lite0", "recipe=finetune")
    assert measured(60, tuned, 140), "half of 80 s is left for a trial"
    assert measured(60, tuned, 120) == [] and measured(60, family("net", "model=cnn"), 120)
    assert "2 epochs would take about 31 s" in capsys.readouterr().out


def test_a_frozen_network_on_a_gpu_shares_it_with_what_the_cores_do_not_count_for() -> None:
    """Two slots halve the cores, and two GPUs, each with a training, are no slower than one."""
    made = preparation(Gathered(of_size(1, 1)), 100)
    frozen = Prepared([], 1, 0.0, networks=[{"name": "n"}])
    made.jobs.prepared["cnn"] = Prepared([], 1, 0.0, device="cuda")
    made.jobs.prepared["frozen"] = frozen
    assert made.sharing == 2
    made.jobs.prepared["frozen"] = replace(frozen, device="cuda")
    assert made.sharing == 1


def test_a_tuned_network_is_measured_late_as_well_once_the_others_had_a_trial(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Of 200 s, 70 are left, which trials of the others would have; two epochs take 31."""
    tuned = family("net", "model=efficientnet_lite0", "recipe=finetune")
    assert measured(130, tuned)
    assert measured(130, tuned, trials=0) == [], "no family has an answer yet"
    assert "the time left is kept for trials of the others" in capsys.readouterr().out
    assert measured(145, tuned) == [], "it would hardly be tried"
    # 40 s are left if finals take all that they may; of 80 s, 28 are for measuring.
    assert measured(100, tuned, kept=60) == [] and measured(100, tuned, kept=20) == [28]
    assert measured(100, tuned, kept=32) == [], "it may take half as long again"
    assert measured(130, family("net", "model=cnn")) == [], "of others nothing is known"
    capsys.readouterr()
    assert measured(130, tuned, folds=5) == [], "each fold is a training"
    assert "5 times 2 epochs would take about 2 min 33 s" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("each", "frozen", "epochs"),
    [(40.0, False, 1), (50.0, False, 0), (20.0, True, 2), (21.0, True, 0)],
)
def test_a_first_trial_that_fits_beside_the_finals_is_not_left_out(
    each: float, frozen: bool, epochs: int
) -> None:
    """Half of 70 s is its share. It may take half as long again, and 8 s more are to be left.

    Beside frozen networks two epochs are the least, and otherwise one.
    """
    tuned = family("net", "model=efficientnet_lite0", "recipe=finetune")
    study, time = Study(), ByHand()
    study.count = 1
    made = preparation(
        Answers(of_size(each, each)), None, study=study, net=tuned, cnn=family("cnn")
    )
    if frozen:
        made.jobs.prepared["frozen"] = Prepared([], 1, 0.0, networks=[{"name": "n"}])
    clock = Clock(100, finals=False, earlier=30, note=lambda _: None, now=time)
    made = replace(made, clock=clock, further=lambda seconds, family: 8.0)
    made = replace(made, pool=Answers(lambda _: {"seconds_per_epoch": each, "published": True}))
    found = made.measure(tuned)
    assert found.affordable is bool(epochs)
    assert found.epochs == (epochs or 12)


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
    made = preparation(NotInTime(time), None, study=study, **{one: family(one) for one in names})
    pool = made.pool
    list(replace(made, clock=clock).run())
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


class Study:
    """What a study keeps, and trials of ten seconds each."""

    def __init__(self) -> None:
        self.kept: dict[str, Any] = {}
        self.count = 0
        self.recall, self.remember = self.kept.get, self.kept.__setitem__

    def trials(self) -> list[Any]:
        one = TrialRecord(0, "embedding", COMPLETE, {}, objectives=(0.9,), seconds=10.0)
        return [one] * self.count

    def facts(self, number: int) -> dict[str, Any]:
        return {}


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
    made = preparation(worker(time), None, study=study, embedding=family("embedding"))
    settings = read_sweep_settings(["study=s", "output_dir=out", *overrides], "default")
    made = replace(made, jobs=replace(made.jobs, settings=settings))
    found = []
    for name in replace(made, clock=clock).run():
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


def test_a_renewed_study_keeps_the_better_preparation() -> None:
    study = Study()
    for budget, earlier in ((100.0, 0.0), (900.0, 200.0)):
        time = ByHand()
        clock = Clock(budget, finals=False, earlier=earlier, note=lambda _: None, now=time)
        made = preparation(Busier(time), None, study=study, embedding=family("embedding"))
        pool = Busier(time)
        pool.jobs = [Job({}, overrides=[])] * (earlier > 0)
        for _ in replace(made, pool=pool, clock=clock).run():
            study.count += 1
        kept = study.kept["prepared"]["embedding"]
        assert kept["overrides"] == ["model.input_size=192"]
    assert kept["limit"] > 600, "it is not tried again in as much time"


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
