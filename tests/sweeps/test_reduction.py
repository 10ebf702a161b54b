"""How a family is made to fit into the time of a sweep, by a pool that answers at once."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any, ClassVar

import pytest

from src.config.checks import ConfigError
from src.config.sweep import read_sweep_settings
from src.machine.failures import RunFailed
from src.search.jobs import Ending
from src.search.pool import Event
from src.search.space import Family, parse_space
from src.sweeps.clock import Clock
from src.sweeps.families import load_families, name_of_kind
from src.sweeps.prepared import NOT_OPENED, Prepared
from tests.sweeps.reductions import Answers, Study, family, of_size, reduction
from tests.sweeps.stand_in import Clock as ByHand


def test_what_fits_stays_as_it_is_and_the_pool_is_told_how_long_it_may_measure() -> None:
    pool = Answers(of_size(1.0, 0.2))
    said: list[str] = []
    found = replace(reduction(pool, 100), doing=said.append).measure(family("cnn"))
    assert (found.epochs, found.seconds, found.affordable) == (12, 12.0, True)
    assert found.overrides == ["data.batch_size=64"] and not found.notes
    assert len(pool.jobs) == 1 and pool.jobs[0].task["seconds"] == pytest.approx(35)
    assert said == ["cnn: measuring its speed on this machine, for up to 35 s"]
    made = replace(reduction(Answers(of_size(1.0, 0.2)), 100), doing=said.append)
    made.measure(family("embedding"))
    assert said[1].startswith("embedding: choosing networks and extracting their features, for ")
    pool = Answers(of_size(1e6, 1e6))
    assert reduction(pool, None).measure(family("cnn")).affordable, "there is no limit"
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
    found = reduction(pool, 100, *base).measure(family("cnn"))
    assert (found.epochs, found.overrides, found.affordable) == (epochs, overrides, True)
    assert len(pool.jobs) == 2 - len(base)


@pytest.mark.parametrize(("side", "small", "measured"), [(28, 1, 1), (64, 1, 1), (224, 10, 2)])
def test_pictures_that_are_small_or_no_cheaper_when_small_keep_their_size(
    side: int, small: float, measured: int
) -> None:
    pool = Answers(lambda overrides: of_size(10, small)(overrides) | {"side": side})
    found = reduction(pool, 100).measure(family("cnn"))
    assert found.overrides == ["data.batch_size=64", "trainer.max_epochs=5"]
    assert len(pool.jobs) == measured and not any("image_size" in note for note in found.notes)


@pytest.mark.parametrize("override", ["model=fcn", "model=unet"])
def test_pictures_with_masks_keep_their_size_for_others_are_measured_in_it(override: str) -> None:
    def cost(overrides: list[str]) -> dict[str, Any]:
        return of_size(10, 4)(overrides) | {"published": override == "model=unet"}

    made = reduction(Answers(cost), 100, "data.target=dense")
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
    alone = reduction(Answers(of_size(seconds, seconds)), 100, base, cnn=family("cnn"))
    assert alone.measure(family("cnn")).epochs == epochs
    both = {"cnn": family("cnn"), "mlp": family("mlp")}
    beside = reduction(Answers(of_size(seconds, seconds)), 100, base, **both)
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
    monkeypatch.setattr("src.sweeps.reduction.available_cores", lambda: 2)
    monkeypatch.setattr("src.machine.cpu_load.available_cores", lambda: 2)
    monkeypatch.setattr("src.sweeps.reduction.others_load", lambda: others)

    def cost(overrides: list[str]) -> dict[str, Any]:
        several = "runtime.threads=2" in overrides
        notes = ["of the pictures"] if several else ["of the batch", NOT_OPENED]
        return {"seconds_per_epoch": shared if several else large, "notes": notes}

    pool, overrides = Answers(cost), ["study=s", "output_dir=out", *given]
    monkeypatch.setattr(pool, "size", slots)
    base = ("data.image_size=96", "runtime.threads=1")
    made = reduction(pool, 100, *base, cnn=family("cnn"))
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
    found = reduction(Answers(cost), 100, *base, net=only).measure(only)
    assert found.affordable is (epochs is not None)
    if epochs is not None:
        assert found.epochs == epochs and found.seconds == pytest.approx(70)
    beside = reduction(Answers(cost), 100, *base, net=only, mlp=family("mlp"))
    assert not beside.measure(only).affordable


def test_time_that_measuring_used_up_is_no_limit_of_nought_seconds() -> None:
    time = ByHand()

    def cost(_: list[str]) -> dict[str, Any]:
        time.now += 200
        return {"seconds_per_epoch": 60.0}

    made = reduction(Answers(cost), 100, "data.image_size=96", net=family("net", "model=cnn"))
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
    found = reduction(pool, 100, handcrafted=crafted).measure(crafted)
    assert found.overrides[0] == "data.train_limit=500" and found.affordable
    assert found.parts == {"train": 500, "val": 100, "dropped": 500}
    # A quarter of describing is for all pictures, whichever train.
    assert found.seconds == pytest.approx(30 * 0.625)
    assert found.fit_seconds == {name_of_kind(own): 20.0, "model.classifier=auto": 20.0}
    assert "data.train_limit=500 of 1,000 training pictures" in found.notes[-1]
    assert len(pool.jobs) == 1, "nothing is measured twice where time is short"
    both = {"handcrafted": crafted, "cnn": family("cnn")}
    assert reduction(Answers(cost), 100, **both).measure(crafted).seconds == 30


@pytest.mark.parametrize(("override", "late"), [("model=cnn", 65), ("model=embedding", 85)])
def test_an_only_family_may_be_measured_longer_before_it_is_given_up(
    override: str, late: int
) -> None:
    pool, only = Answers(of_size(0.1, 0.1)), family("own", override)
    reduction(pool, 100, own=only).measure(only)
    assert pool.jobs[0].task["seconds"] + pool.jobs[0].task["late_by"] == pytest.approx(late)


def test_a_network_whose_sizes_are_searched_keeps_its_own() -> None:
    sizes = parse_space({"data.image_size": {"choices": [32, 224]}})
    searched = Family("cnn", ("model=cnn",), tuple(sizes), {})
    found = reduction(Answers(of_size(10, 1)), 100).measure(searched)
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
    found = reduction(Answers(cost), 100, *base, **both).measure(crafted)
    limit = [override for override in found.overrides if override.startswith("data.train_limit=")]
    assert limit == ([] if taken is None else [f"data.train_limit={taken}"])
    assert found.affordable is (taken is not None)
    assert (found.limit is not None) and (taken is None or found.seconds <= 50)


@pytest.mark.parametrize(
    ("seconds", "ready", "affordable"),
    [(30, True, True), (45, False, True), (45, True, False), (55, False, False)],
)
def test_what_cannot_be_cut_may_be_a_first_trial_of_half_of_all_time(
    seconds: float, ready: bool, affordable: bool
) -> None:
    """Of 100 s, 70 are without the finals, and half of that is for another family's trial."""
    pixels, others = family("pixels", "model=pixels", "data.target=dense"), family("unet")
    cost = {"epochs": 1, "seconds_per_epoch": seconds}
    made = reduction(Answers(lambda _: dict(cost)), 100, pixels=pixels, unet=others)
    clock = Clock(100, finals=True, earlier=0, note=lambda _: None, now=lambda: 0.0)
    if ready:
        made.jobs.prepared["unet"] = Prepared([], 1, 1.0)
    found = replace(made, clock=clock).measure(pixels)
    assert found.affordable is affordable
    assert not any("max_epochs" in override for override in found.overrides)
    if not affordable:
        assert f"a trial would take {seconds} s, and the limit of a trial is 35 s" in (
            found.why_left_out
        )


def test_a_network_from_scratch_is_left_out_before_it_learns_nothing() -> None:
    found = reduction(Answers(of_size(90, 30)), 100).measure(family("cnn"))
    assert not found.affordable and "left out" in found.notes[-1]


def test_a_tuned_network_is_worth_a_single_epoch_of_smaller_pictures() -> None:
    def cost(overrides: list[str]) -> dict[str, Any]:
        return of_size(90, 45)(overrides) | {"published": True}

    tuned = family("efficientnet_lite0", "model=efficientnet_lite0", "recipe=finetune")
    found = reduction(Answers(cost), 100).measure(tuned)
    assert found.affordable and found.epochs == 1
    assert "model.input_size=160" in found.overrides
    stated = reduction(Answers(cost), 100, "model.input_size=224").measure(tuned)
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
    made = reduction(pool, 100)
    networks = [{"name": "n", "images_per_second": speed, "side": 224}]
    made.jobs.prepared["frozen"] = Prepared(
        ["data.train_limit=1000"], 1, 0.0, networks=networks, parts={"train": 1000}
    )
    found = made.measure(tuned)
    assert ["model.input_size=160" in job.overrides for job in pool.jobs] == sizes
    assert ("model.input_size=160" in found.overrides) == sizes[-1]
    assert found.notes.count("model.input_size=160, for lack of time") == sizes[-1]
    assert (found.limit is not None) == sizes[-1], "more time may measure them again"
    endless = reduction(pool, None)
    endless.jobs.prepared.update(made.jobs.prepared)
    assert "model.input_size=160" not in endless.measure(tuned).overrides
    stated = reduction(pool, 100, "model.input_size=224")
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
        made = reduction(pool, seconds, *base, folds=folds)
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
    made = reduction(pool, 300, study=study)
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
    made = reduction(pool, 300)
    made.jobs.prepared["frozen"] = Prepared([], 1, 0.0, networks=networks, parts={"train": 1000})
    found = made.measure(family("finetuned", "recipe=finetune"))
    assert found.why_left_out == "there is not enough memory" and not found.is_late
    assert len(pool.jobs) == 1


def test_a_chosen_network_of_large_pictures_is_not_measured_at_its_own_size() -> None:
    """Of 1,000 pictures, an epoch takes 30 s at 160 pixels, and 314 at 518: twelve take an hour."""
    record = {"name": "fine", "side": 518, "accuracy": 0.9, "error": 0.01}
    record["images_per_second"] = 100 * (160 / 518) ** 2
    pool = Answers(lambda ws: of_size(1, 1)(ws) | {"published": True})
    made = reduction(pool, 1000)
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
    made = reduction(pool, 100, *base, frozen=frozen, net=net)
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
    found = reduction(pool, 100).measure(family("embedding"))
    assert pool.jobs[0].task["seconds"] == pytest.approx(65)
    assert len(pool.jobs) == 1 and not found.affordable and "left out" in found.notes[-1]


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
    found = reduction(pool, 100).measure(tuned)
    # Its share, the time by which it may be late, and a little for what ends by itself.
    assert pool.stopped == pytest.approx(began + 1.1 * (35 + 20) + 1, abs=0.5)
    assert not found.affordable and found.limit == 100, "with more time it is tried again"
    assert "left out: measuring its speed took more than 1 min" in found.notes[-1]
    assert len(pool.jobs) == 1


@pytest.mark.parametrize(
    ("result", "kind", "message"),
    [
        ({"wrong_input": "settings"}, ConfigError, "^cnn: no such thing"),
        ({"wrong_input": "pictures"}, ConfigError, "^no such thing"),
        ({}, RunFailed, "cnn cannot be trained: no such thing"),
    ],
)
def test_what_cannot_be_trained_ends_the_sweep_with_its_reason(
    result: dict[str, Any], kind: type[Exception], message: str
) -> None:
    with pytest.raises(kind, match=message):
        reduction(Answers(lambda _: {"failed": result}), 100).measure(family("cnn"))


def test_what_fails_of_one_family_leaves_it_out_and_the_others_race() -> None:
    own, other = family("mlp"), family("cnn")
    made = reduction(Answers(lambda _: {"failed": {}}), 100, mlp=own, cnn=other)
    found = made.measure(own)
    assert not found.affordable and found.why_left_out == "no such thing"
    assert not found.is_late, "more time changes nothing"


class TwoSlots(Answers):
    """A pool of two workers."""

    size = 2


def test_a_frozen_network_on_a_gpu_shares_it_with_what_the_cores_do_not_count_for() -> None:
    """Two slots halve the cores, and two GPUs, each with a training, are no slower than one."""
    made = reduction(TwoSlots(of_size(1, 1)), 100)
    frozen = Prepared([], 1, 0.0, networks=[{"name": "n"}])
    made.jobs.prepared["cnn"] = Prepared([], 1, 0.0, device="cuda")
    made.jobs.prepared["frozen"] = frozen
    assert made.sharing == 2
    made.jobs.prepared["frozen"] = replace(frozen, device="cuda")
    assert made.sharing == 1


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
    made = reduction(Answers(of_size(each, each)), None, study=study, net=tuned, cnn=family("cnn"))
    if frozen:
        made.jobs.prepared["frozen"] = Prepared([], 1, 0.0, networks=[{"name": "n"}])
    clock = Clock(100, finals=False, earlier=30, note=lambda _: None, now=time)
    made = replace(made, clock=clock, further=lambda seconds, family: 8.0)
    made = replace(made, pool=Answers(lambda _: {"seconds_per_epoch": each, "published": True}))
    found = made.measure(tuned)
    assert found.affordable is bool(epochs)
    assert found.epochs == (epochs or 12)
