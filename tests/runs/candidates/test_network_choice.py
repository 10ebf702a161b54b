"""Which frozen networks are taken, and a real ranking of two on photographs."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image
from skimage import data as photos

from src.config.compose import compose_settings
from src.config.features import EmbeddingSettings
from src.config.schema import RunSettings
from src.data.loading.picture_data import PictureData
from src.data.splitting.splits import Split
from src.machine.parallel import TooSlow
from src.runs.build import build_data
from src.runs.candidates import affordable, classical, network_choice, ranking, sample
from src.runs.candidates.affordable import Option
from src.runs.candidates.classical import ClassicalCandidate
from src.runs.candidates.network_choice import (
    NetworkChoice,
    choose_networks,
    described_by,
    keep_described,
)
from src.runs.candidates.ranking import LoadableNetwork, Ranking
from src.runs.candidates.sample import RankedNetwork
from src.runs.candidates.settled import settled
from tests.sweeps.stand_in import Clock

A = RankedNetwork("a", 0.80, 0.02, 0.3, 50.0, 224)
B = RankedNetwork("b", 0.78, 0.02, 0.2, 100.0, 224)
C = RankedNetwork("c", 0.70, 0.02, 0.1, 100.0, 224)


@pytest.fixture
def settings(tmp_path: Path) -> RunSettings:
    overrides = [f"data.cache_dir={tmp_path}", "model=embedding", "data.image_size=8"]
    return compose_settings(RunSettings, overrides)


@pytest.fixture
def digits(settings: RunSettings) -> PictureData:
    return build_data(settings)


TOGETHER = {"a + b": 0.79, "a + b + c": 0.81}


@pytest.mark.parametrize(
    ("together", "share", "names"),
    [
        (TOGETHER, None, ("a", "b", "c")),
        ({"a + b": 0.81, "a + b + c": 0.78}, None, ("a", "b")),  # the third makes it worse
        ({"a + b": 0.70, "a + b + c": 0.70}, None, ("a",)),
        (TOGETHER, 2.6, ("a", "b")),  # the third would take half as long again
        (TOGETHER, 2.0, ("a",)),  # two may take but a part of the time that one may
        (TOGETHER, 0.7, ("b",)),  # the best one cannot be afforded, half as slow ones can
        (TOGETHER, 0.1, ("b",)),  # none can: the fastest
    ],
)
def test_as_many_as_help_and_can_be_afforded(
    settings: RunSettings,
    digits: PictureData,
    monkeypatch: pytest.MonkeyPatch,
    together: dict[str, float],
    share: float | None,
    names: tuple[str, ...],
) -> None:
    """`share` is the time there is, in units of what the best network takes for all pictures."""
    pictures = len(digits.split.train) + len(digits.split.val)
    seconds = None if share is None else share * pictures / A.images_per_second
    monkeypatch.setattr(
        network_choice, "rank_networks", lambda *_, **__: Ranking((A, B, C), together)
    )
    monkeypatch.setattr(
        ranking, "_loadable_networks", lambda *_: dict.fromkeys("abc", LoadableNetwork(1.0))
    )
    monkeypatch.setattr(
        network_choice, "Sample", _Clocked(digits, {"a": 0.02, "b": 0.01, "c": 0.01})
    )
    choice = choose_networks(settings, digits, seconds)
    assert choice.networks == names
    if share != 0.1:
        assert all(one.name in choice.notes[0] for one in (A, B, C))


@pytest.mark.parametrize("described", [["a", "ab"], ["b", "bc"], ["c"]])
def test_a_first_answer_is_of_what_the_pictures_are_described_by(
    settings: RunSettings,
    digits: PictureData,
    monkeypatch: pytest.MonkeyPatch,
    described: list[str],
) -> None:
    monkeypatch.setattr(
        network_choice, "rank_networks", lambda *_, **__: Ranking((A, B, C), TOGETHER)
    )
    monkeypatch.setattr(
        ranking, "_loadable_networks", lambda *_: dict.fromkeys("abc", LoadableNetwork(1.0))
    )

    def first(at_once: bool = True) -> NetworkChoice:
        there = described_by(settings, digits)
        return choose_networks(settings, digits, 600.0, described=there, at_once=at_once)

    assert first().networks == ("a", "b", "c"), "nothing is described yet"
    for names in described:
        keep_described(settings, digits, replace(first(), networks=tuple(names)))
        assert first().networks == tuple(names) and first().cut
        assert [one.name for one in first().considered if one.taken] == [" + ".join(names)]
        assert first(at_once=False).networks == ("a", "b", "c")
    keep_described(settings, digits, first(at_once=False))
    assert first().networks == ("a", "b", "c") and not first().cut


def test_a_first_answer_that_nothing_would_replace_is_not_taken(
    settings: RunSettings, digits: PictureData, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is published of `b`, which is described, is better than its rank on these pictures."""
    alone = Ranking((A, B), {"a + b": 0.70})
    monkeypatch.setattr(network_choice, "rank_networks", lambda *_, **__: alone)
    known = {"a": LoadableNetwork(1.0, 75.0), "b": LoadableNetwork(1.0, 76.0)}
    monkeypatch.setattr(ranking, "_loadable_networks", lambda *_: known)
    choice = choose_networks(settings, digits, 600.0)
    assert choice.networks == ("a",)
    keep_described(settings, digits, replace(choice, networks=("b",)))
    there = described_by(settings, digits)
    first = choose_networks(settings, digits, 600.0, described=there, at_once=True)
    assert first.networks == ("a",)


class _Clocked:
    """A sample whose pictures take a network's seconds for a picture of 224 pixels a side."""

    def __init__(self, pictures: PictureData, seconds: dict[str, float]) -> None:
        self._seconds = seconds
        self.targets = pictures.split.train[:1]
        self.contents = pictures.pictures.content_hashes[:1]
        self.ranked: list[str] = []
        self.measured: list[str] = []
        self.options: list[Option] = []

    def __call__(self, *_: object) -> _Clocked:
        return self

    def speed(self, name: str, size: int | None = None) -> float:
        self.measured.append(name)
        self.options.append(Option(name, size))
        return 1 / (self._seconds[name] * ((size or 224) / 224) ** 2)

    def rank(self, name: str) -> RankedNetwork:
        self.ranked.append(name)
        return RankedNetwork(name, 0.8, 0.02, 0.3, 1 / self._seconds[name], 224)

    def accuracy(self, names: list[str]) -> float:
        return 0.8


Choose = Callable[..., tuple[NetworkChoice, _Clocked]]


@pytest.fixture
def choose(settings: RunSettings, digits: PictureData, monkeypatch: pytest.MonkeyPatch) -> Choose:
    """Choose among networks, with a budget in seconds for each picture to be described.

    All training pictures are described, unless some of them may be (`shares`).
    """
    settings = replace(settings, data=replace(settings.data, image_size=None))
    pictures = len(digits.split.train) + len(digits.split.val)

    def of(
        budget: float | None,
        seconds: dict[str, float],
        costs: dict[str, float] | None = None,
        shares: bool = False,
    ) -> tuple[NetworkChoice, _Clocked]:
        if not shares:
            monkeypatch.setattr(
                network_choice, "counts_by_share", lambda train, others, _: {1.0: train + others}
            )
        clocked = _Clocked(digits, seconds)
        known = {name: LoadableNetwork(cost) for name, cost in (costs or seconds).items()}
        monkeypatch.setattr(network_choice, "Sample", clocked)
        monkeypatch.setattr(ranking, "_loadable_networks", lambda *_: known)
        monkeypatch.setattr(network_choice, "native_side", lambda *_: 224)
        limit = None if budget is None else budget * pictures
        there = described_by(settings, digits)
        return choose_networks(settings, digits, limit, described=there), clocked

    return of


@pytest.mark.parametrize(
    ("budget", "ranked", "taken", "size"),
    [
        (None, ["a", "b"], ("b", "a"), None),
        (6.0, ["a", "b"], ("b",), None),  # both, one after another, would take too long
        (2.0, [], ("b",), None),  # the better one cannot be afforded: there is nothing to rank
        (0.8, [], ("b",), 160),  # 0.75 of it: 224 * sqrt(0.6) = 173 pixels of a side
        (0.01, [], ("b",), 64),  # nothing fits, and that is told
    ],
)
def test_what_cannot_be_afforded_is_not_ranked_and_the_fastest_gets_smaller_pictures(
    choose: Choose,
    budget: float | None,
    ranked: list[str],
    taken: tuple[str, ...],
    size: int | None,
) -> None:
    choice, clocked = choose(budget, {"a": 4.0, "b": 1.0})
    assert clocked.ranked == ranked
    assert (choice.networks, choice.input_size) == (taken, size)
    assert (choice.seconds > 0) is (budget == 0.01)
    assert choice.cut is (budget is not None)
    left_out = [note for note in choice.notes if "not ranked" in note]
    assert not any(f"{name} (" in note for note in left_out for name in taken), left_out


def test_half_of_the_training_pictures_may_be_worth_more_than_all_of_them_smaller(
    choose: Choose,
) -> None:
    choice, _ = choose(0.8, {"a": 4.0, "b": 1.0}, shares=True)
    assert (choice.networks, choice.input_size, choice.share) == (("b",), None, 0.5)
    assert choice.cut and not choice.seconds
    assert "1/2 of the training part" in choice.notes[-1]
    assert [one.name for one in choice.considered if one.taken] == ["b"]


@pytest.mark.parametrize(("seconds", "calls"), [(0.3, 6), (0.7, 3), (4.0, 1)])
def test_a_speed_takes_no_longer_to_measure_where_a_few_pictures_take_long(
    settings: RunSettings,
    digits: PictureData,
    monkeypatch: pytest.MonkeyPatch,
    seconds: float,
    calls: int,
) -> None:
    clock, called = Clock(), []

    def describe(images: np.ndarray) -> np.ndarray:
        if len(images) > 1:  # the first one is the warm-up
            called.append(len(images))
            clock.now += seconds
        return images

    monkeypatch.setattr(sample.Sample, "_extractor", lambda *_: describe)
    monkeypatch.setattr(sample, "time", SimpleNamespace(perf_counter=clock))
    speed = sample.Sample(settings, digits, digits.split.train[:20]).speed("any", 8)
    assert len(called) == calls and speed == pytest.approx(called[0] / seconds)


def test_what_was_known_of_each_network_is_handed_on(choose: Choose) -> None:
    choice, _ = choose(0.8, {"a": 4.0, "b": 1.0})
    smaller, a, b = choice.considered
    assert (smaller.name, smaller.taken, smaller.side) == ("b", True, 160)
    assert smaller.images_per_second == pytest.approx((224 / 160) ** 2)
    assert [(one.name, one.taken, one.side) for one in (a, b)] == [
        ("a", False, None),
        ("b", False, None),
    ]
    choice, _ = choose(None, {"a": 4.0, "b": 1.0})
    both, b, a = choice.considered
    assert (both.name, both.taken, both.accuracy, both.side) == ("b + a", True, 0.8, None)
    assert (b.name, b.side, b.logme, b.images_per_second, b.taken) == ("b", 224, 0.3, 1.0, False)
    assert a.name == "a" and a.images_per_second == 0.25


def test_what_takes_a_while_is_said(choose: Choose, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "src.runs.candidates"):
        choose(6.0, {"a": 4.0, "b": 1.0})  # which is kept
        choose(0.8, {"a": 4.0, "b": 1.0})
    assert caplog.messages[0].startswith(
        "timing pretrained networks on a sample of the pictures, for"
    )
    assert caplog.messages[1:] == [
        "ranking 2 pretrained networks on 1 pictures",
        "timing pretrained networks on smaller or fewer pictures, to fit the budget",
    ]


def test_a_ranking_that_time_cut_short_is_made_once_for_as_much_time(choose: Choose) -> None:
    seconds = {"a": 4.0, "b": 1.0, "c": 1.0}
    first, clocked = choose(2.0, seconds)
    assert clocked.ranked == ["b", "c"] and "a" in first.notes[1]
    again, clocked = choose(2.2, seconds)
    assert not clocked.ranked and not clocked.measured
    assert (again.networks, again.considered) == (first.networks, first.considered)
    _, clocked = choose(100.0, seconds)
    assert clocked.ranked == ["a", "b", "c"], "with more time there is more to rank"


def test_what_the_pictures_are_described_by_takes_no_time(
    choose: Choose, settings: RunSettings, digits: PictureData
) -> None:
    settings = replace(settings, data=replace(settings.data, image_size=None))
    seconds = {"a": 4.0, "b": 1.0}
    first, _ = choose(0.8, seconds)
    assert (first.networks, first.input_size) == (("b",), 160)
    keep_described(settings, digits, first)
    again, clocked = choose(0.5, seconds)
    assert (again.networks, again.input_size) == (("b",), 160), "128 pixels fit, at some expense"
    assert Option("b", 160) not in clocked.options
    more, _ = choose(1.2, seconds)
    assert (more.networks, more.input_size) == (("b",), None)


def test_what_was_measured_on_another_device_is_not_known(
    settings: RunSettings, digits: PictureData
) -> None:
    here, there = (
        ranking.ranking_identity(
            replace(settings, trainer=replace(settings.trainer, accelerator=one)), digits
        )
        for one in ("cpu", "mps")
    )
    assert here["machine"]["device"] == "cpu" and there["machine"]["device"] == "mps"


def test_networks_that_must_be_too_slow_are_not_even_measured(choose: Choose) -> None:
    choice, clocked = choose(4.5, {"a": 40.0, "b": 6.0, "c": 2.0, "d": 1.0})
    assert clocked.measured == ["d", "b", "c"]
    assert clocked.ranked == ["c", "d"]
    assert all(name in choice.notes[1] for name in ("a", "b"))


def test_a_network_that_is_faster_than_its_size_tells_is_ranked(choose: Choose) -> None:
    _, clocked = choose(4.0, {"a": 2.0, "b": 1.0}, costs={"a": 5.0, "b": 1.0})
    assert clocked.ranked == ["a", "b"]


def test_nothing_is_described_that_cannot_end(
    digits: PictureData, settings: RunSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> float:
        raise AssertionError("pictures were described")

    choice = NetworkChoice(("b",), ("too slow",), 96, share=0.5, seconds=77.0)
    monkeypatch.setattr(network_choice, "choose_networks", lambda *_, **__: choice)
    monkeypatch.setattr(ClassicalCandidate, "describe", refuse)
    settings = replace(settings, data=replace(settings.data, image_size=None))
    found = settled(settings, lambda _: digits, networks=True, seconds=10.0)
    assert isinstance(found.settings.model, EmbeddingSettings)
    assert found.epochs * found.seconds_per_epoch == 77.0 and found.notes == ("too slow",)
    # Where the sweep has so much time, it is what the trial does.
    assert found.settings.model.networks == ["b"] and found.settings.model.input_size == 96
    assert found.settings.data.train_limit == math.ceil(len(digits.split.train) / 2)
    assert not found.sized, "its pictures are those that networks were chosen by"


def test_pictures_are_opened_small_until_the_size_of_the_chosen_network_is_known(
    settings: RunSettings, digits: PictureData, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[tuple[list[str], int | None]] = []

    def open_pictures(settings: RunSettings) -> PictureData:
        assert isinstance(settings.model, EmbeddingSettings)
        opened.append((settings.model.networks, settings.model.input_size))
        return digits

    choice = NetworkChoice(("tf_efficientnet_lite0",), (), 128)
    monkeypatch.setattr(network_choice, "choose_networks", lambda *_, **__: choice)
    monkeypatch.setattr(network_choice, "keep_described", lambda *_: None)
    monkeypatch.setattr(ClassicalCandidate, "describe", lambda *_: 1.0)
    found = settled(settings, open_pictures, networks=True, seconds=20.0)
    assert found.data is digits and [size for _, size in opened] == [32, 128]
    assert opened[1][0] == ["tf_efficientnet_lite0"]
    opened.clear()
    given = replace(settings, model=replace(settings.model, input_size=96))
    settled(given, open_pictures, networks=True, seconds=20.0)
    assert opened[0][1] == 96, "a size that was asked for is that of all networks"


def test_a_choice_that_turns_out_too_slow_is_given_up_for_another(
    settings: RunSettings, digits: PictureData, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Pictures are described by a network that has become slower than it was measured to be."""
    settings = replace(settings, data=replace(settings.data, image_size=None))
    tried: list[int | None] = []
    late = [True, False, True]
    deadlines: list[float] = []

    def choose(*_: object, **__: object) -> NetworkChoice:
        tried.append(64 if tried else None)
        return NetworkChoice(("tf_efficientnet_lite0",), (f"takes {tried[-1]}",), tried[-1])

    def describe(_: object, deadline: float | None, shares: object = ()) -> float:
        deadlines.append(deadline or 0.0)
        if late[len(tried) - 1]:
            raise TooSlow("describing the pictures", 9.0)
        return 1.0

    monkeypatch.setattr(network_choice, "choose_networks", choose)
    monkeypatch.setattr(network_choice, "keep_described", lambda *_: None)
    monkeypatch.setattr(ClassicalCandidate, "describe", describe)
    found = settled(settings, lambda _: digits, networks=True, seconds=20.0)
    assert tried == [None, 64] and found.settings.model.input_size == 64
    assert found.seconds_per_epoch == 0.0 and "given up" in found.notes[1]
    assert found.settings.model.auto.seconds == 5.0  # the rest of the time has to do for a trial
    tried.clear()
    late[1] = True
    began = time.perf_counter()
    found = settled(settings, lambda _: digits, networks=True, seconds=20.0, late_by=7.0)
    assert found.seconds_per_epoch == 9.0 and len(tried) == 3
    latest = time.perf_counter() + 27.0
    assert began + 27.0 <= deadlines[-1] <= latest, "it may be late before it is lost"


class _Table:
    """Features of a split that come too late where more than so many pictures train."""

    most = 0

    def __init__(self, *given: object) -> None:
        self._split = given[-1]
        assert isinstance(self._split, Split)

    def part(self, name: str) -> None:
        if len(self._split.train) > self.most:
            raise TooSlow("extracting the features", 99.0)


@pytest.mark.parametrize(("most", "share"), [(1.0, 1.0), (0.9, 0.5), (0.3, 0.25), (0.0, None)])
@pytest.mark.parametrize("chosen", [True, False])
def test_what_is_described_in_time_is_taken_where_the_machine_became_slower(
    settings: RunSettings,
    digits: PictureData,
    monkeypatch: pytest.MonkeyPatch,
    most: float,
    share: float | None,
    chosen: bool,
) -> None:
    network, count = "tf_efficientnet_lite0", len(digits.split.train)
    choice = NetworkChoice((network,), ("takes it",), 64, promise=70.0)
    kept: list[NetworkChoice] = []
    monkeypatch.setattr(network_choice, "choose_networks", lambda *_, **__: choice)
    monkeypatch.setattr(network_choice, "keep_described", lambda *given: kept.append(given[-1]))
    monkeypatch.setattr(classical, "feature_table", _Table)
    monkeypatch.setattr(_Table, "most", most * count)
    settings = replace(settings, data=replace(settings.data, image_size=None))
    opened: list[int | None] = []

    def open_pictures(settings: RunSettings) -> PictureData:
        opened.append(settings.data.train_limit)
        return digits

    found = settled(settings, open_pictures, networks=chosen, seconds=20.0)
    limit = found.settings.data.train_limit
    if share is None:  # not even the fewest
        assert found.seconds_per_epoch == 99.0 and not kept and limit is None
    elif share == 1:
        assert found.seconds_per_epoch == 0.0 and not found.cut and limit is None
        assert kept == [choice] * chosen
    else:
        assert found.seconds_per_epoch == 0.0 and limit == opened[-1] == math.ceil(share * count)
        assert found.cut and f"{limit} of {count:,} training pictures" in found.notes[-1]
        lost = affordable.lost_with_pictures(share)
        assert found.promise == (70.0 - lost if chosen else None)
        assert [one.options for one in kept] == [{Option(network, 64, share)}] * chosen


def test_folds_hold_out_every_picture_so_that_all_are_described(
    choose: Choose, settings: RunSettings, digits: PictureData, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = replace(settings, cv=replace(settings.cv, folds=5))
    choice, _ = choose(0.8, {"a": 1.0}, shares=True)
    assert choice.share == 0.5 and choice.input_size is None
    pictures = len(digits.split.train) + len(digits.split.val)
    choice = choose_networks(settings, digits, 0.8 * pictures)
    assert choice.share == 1.0
    monkeypatch.setattr(classical, "feature_table", _Table)
    monkeypatch.setattr(_Table, "most", len(digits.split.train) / 2)
    found = settled(settings, lambda _: digits, networks=False, seconds=20.0)
    assert found.seconds_per_epoch == 99.0 and found.settings.data.train_limit is None


def test_nothing_is_timed_again_once_it_is_late(
    settings: RunSettings, digits: PictureData, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = replace(settings, data=replace(settings.data, image_size=None))
    chosen: list[object] = []

    def choose(*given: object, **_: object) -> NetworkChoice:
        chosen.append(given)
        return NetworkChoice(("tf_efficientnet_lite0",), ("takes it",), 64)

    def describe(_: object, deadline: float | None, shares: object = ()) -> float:
        time.sleep(0.3)
        raise TooSlow("describing the pictures", 9.0)

    monkeypatch.setattr(network_choice, "choose_networks", choose)
    monkeypatch.setattr(ClassicalCandidate, "describe", describe)
    found = settled(settings, lambda _: digits, networks=True, seconds=0.1, late_by=0.1)
    assert len(chosen) == 1 and found.seconds_per_epoch == 9.0


def test_what_the_pictures_are_described_by_stays_where_the_machine_became_slower(
    choose: Choose, settings: RunSettings, digits: PictureData
) -> None:
    """All is timed anew then, and smaller pictures would be worth less than what is there."""
    first, _ = choose(2.0, {"a": 9.0, "b": 1.0})
    assert (first.networks, first.input_size) == (("b",), None)
    settings = replace(settings, data=replace(settings.data, image_size=None))
    network_choice.keep_described(settings, digits, first)
    pictures = len(digits.split.train) + len(digits.split.val)
    choose(2.0, {"a": 99.0, "b": 99.0})  # such a machine from now on
    there = described_by(settings, digits)
    again = choose_networks(settings, digits, 2.0 * pictures, anew=True, described=there)
    assert again.options == first.options and again.promise == first.promise
    # What is not there any more is not taken once more, and less is promised.
    other = choose_networks(
        settings, digits, 2.0 * pictures, anew=True, described=there - first.options
    )
    assert other.options != first.options and other.promise < first.promise


@pytest.mark.parametrize(("late_by", "described"), [(0.0, False), (30.0, True)])
def test_the_least_that_can_be_described_may_be_late(
    settings: RunSettings,
    digits: PictureData,
    monkeypatch: pytest.MonkeyPatch,
    late_by: float,
    described: bool,
) -> None:
    choice = NetworkChoice(("tf_efficientnet_lite0",), ("takes it",), 64, seconds=40.0)
    monkeypatch.setattr(network_choice, "choose_networks", lambda *_, **__: choice)
    monkeypatch.setattr(network_choice, "keep_described", lambda *_: None)
    monkeypatch.setattr(ClassicalCandidate, "describe", lambda *_: 1.0)
    found = settled(settings, lambda _: digits, networks=True, seconds=20.0, late_by=late_by)
    assert found.seconds_per_epoch == (0.0 if described else 40.0)
    assert found.sized is described


def photo_folder(root: Path) -> Path:
    """Crops of three photographs, a class each."""
    generator = np.random.default_rng(0)
    for name in ("cat", "coffee", "rocket"):
        image = getattr(photos, name)()
        (root / name).mkdir(parents=True)
        for number in range(24):
            top, left = (generator.integers(0, side - 200) for side in image.shape[:2])
            crop = image[top : top + 200, left : left + 200]
            Image.fromarray(crop).save(root / name / f"{number}.png")
    return root


def test_networks_for_label_sets_are_ranked_by_their_mean_average_precision(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Networks whose features are the colours of a picture, with more and with less noise."""
    rng = np.random.default_rng(0)
    sets = rng.integers(0, 2, (90, 3))
    for number, labels in enumerate(sets):
        # A channel that is bright is a label; the rest is noise, so that no two are equal.
        image = rng.integers(0, 60, (8, 8, 3)) + 150 * labels
        Image.fromarray(image.astype(np.uint8)).save(tmp_path / f"{number}.png")
    lines = [
        f"{i}.png,{';'.join(c for c, there in zip('rgb', one) if there)}\n"
        for i, one in enumerate(sets)
    ]
    (tmp_path / "sets.csv").write_text("path,labels\n" + "".join(lines))
    noise = {"clear": 0.0, "hazy": 90.0, "blind": 1e5}

    def network(settings: RunSettings, name: str, *_: object) -> Callable[..., np.ndarray]:
        def colours(images: np.ndarray) -> np.ndarray:
            found = images.mean((2, 3))
            return (found + rng.normal(0, noise[name], found.shape)).astype(np.float32)

        return colours

    monkeypatch.setattr(sample, "frozen_network", network)
    monkeypatch.setattr(sample, "beside_others", lambda describe: describe)
    monkeypatch.setattr(sample, "native_side", lambda _: 8)
    monkeypatch.setattr(sample, "_ROUND_SECONDS", 0.01)
    monkeypatch.setattr(
        ranking, "_loadable_networks", lambda *_: dict.fromkeys(noise, LoadableNetwork(1.0))
    )
    overrides = [
        *("data=folder", f"data.root={tmp_path / 'sets.csv'}", f"data.cache_dir={tmp_path / 'c'}"),
        *("data.target=multi", "model=embedding", "data.image_size=8"),
    ]
    settings = compose_settings(RunSettings, overrides)
    choice = choose_networks(settings, build_data(settings), None)
    alone = [one for one in choice.considered if one.name in noise]
    assert [one.name for one in alone] == ["clear", "hazy", "blind"]
    figures = [one.accuracy for one in alone]
    assert figures[0] == 1.0 and 0.95 > figures[1] > 0.65 > figures[2] > 0.35, "half have a label"
    assert {one.measure for one in choice.considered} == {"map"}
    assert "clear mAP 100.0 %" in choice.notes[0] and "clear" in choice.networks


@pytest.mark.slow
@pytest.mark.parametrize("target", ["single", "multi"])
def test_networks_are_ranked_once_and_the_ranking_is_kept(
    target: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = photo_folder(tmp_path / "photos")
    overrides = ["data=folder", f"data.root={root}", f"data.cache_dir={tmp_path / 'cache'}"]
    settings = compose_settings(
        RunSettings, [*overrides, f"data.target={target}", "model=embedding"]
    )
    opened = build_data(settings)
    first = choose_networks(settings, opened, None)
    lites = [f"tf_efficientnet_lite{number}" for number in range(3)]
    assert set(first.networks) <= set(lites)
    assert all(name in first.notes[0] and "LogME" in first.notes[0] for name in lites)

    def refuse(*_: object) -> None:
        raise AssertionError("a network was asked again")

    monkeypatch.setattr(sample, "frozen_network", refuse)
    assert choose_networks(settings, opened, None).networks == first.networks


def test_a_gpu_with_small_networks_alone_is_told_how_to_fetch_larger_ones() -> None:
    few = ["tf_efficientnet_lite0", "tf_efficientnet_lite2"]
    (note,) = network_choice._fetching_note("cuda", few)
    assert "python -m src.weights fetch=suggested" in note
    assert network_choice._fetching_note("cpu", few) == ()
    assert network_choice._fetching_note("cuda", [*few, "convnext_tiny.fb_in22k_ft_in1k"]) == ()
