"""How pictures that are no squares are fitted into one, on photographs and a real network."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pytest
from PIL import Image
from skimage import data as photos

from src.config.compose import compose_settings
from src.config.schema import RunSettings
from src.data.loading.picture_data import PictureData
from src.machine.parallel import TooSlow
from src.runs.build import build_data
from src.runs.candidates import picture_fit, ranking
from src.runs.candidates.picture_fit import FitChoice, choose_fit, kept_fit
from src.runs.candidates.settled import Settled, settled
from src.search.jobs import Job
from src.sweeps.prepared import Prepared
from src.sweeps.run_job import TrialRunner
from src.sweeps.tasks import Prepare, plain_task
from tests.sweeps.test_run_job import places

NETWORK = "tf_efficientnet_lite0"
OVERRIDES = ["data=folder", "model=embedding", f"model.networks=[{NETWORK}]", "model.input_size=64"]
SPEEDS = {NETWORK: 100.0}
_SIDE, _OF_A_CLASS = 96, 24


def tall_photos(root: Path, subject: int) -> Path:
    """Pictures of three squares one below another; that in the place `subject` tells the class.

    The other two are crops of photographs that are drawn anew for each picture.
    """
    generator = np.random.default_rng(0)
    names = ("cat", "coffee", "rocket")

    def square(name: str) -> np.ndarray:
        image = getattr(photos, name)()
        top, left = (generator.integers(0, side - 200) for side in image.shape[:2])
        return image[top : top + 200, left : left + 200][::2, ::2][:_SIDE, :_SIDE]

    for name in names:
        (root / name).mkdir(parents=True)
        for number in range(_OF_A_CLASS):
            shown = [str(generator.choice(names)) for _ in range(3)]
            shown[subject] = name
            Image.fromarray(np.concatenate([*map(square, shown)])).save(
                root / name / f"{number}.png"
            )
    return root


def made(folder: Path, subject: int) -> RunSettings:
    root = tall_photos(folder / "pictures", subject)
    return compose_settings(
        RunSettings, [*OVERRIDES, f"data.root={root}", f"data.cache_dir={folder}"]
    )


@pytest.fixture(scope="module")
def in_the_middle(tmp_path_factory: pytest.TempPathFactory) -> RunSettings:
    return made(tmp_path_factory.mktemp("middle"), subject=1)


@pytest.fixture(scope="module")
def pictures(in_the_middle: RunSettings) -> PictureData:
    return build_data(in_the_middle)


@pytest.fixture
def settings(in_the_middle: RunSettings, tmp_path: Path) -> RunSettings:
    """With records of its own."""
    return replace(in_the_middle, data=replace(in_the_middle.data, cache_dir=str(tmp_path)))


def test_what_lies_in_the_middle_is_cropped(settings: RunSettings, pictures: PictureData) -> None:
    found = choose_fit(settings, pictures, SPEEDS, seconds=None, open_pictures=build_data)
    assert found.fit == "crop" and found.points > 10 and not found.cut
    assert "takes data.fit=crop" in found.notes[0] and "pad" in found.notes[0]
    # It is known from then on, without any time.
    assert kept_fit(settings, pictures) == found
    assert choose_fit(settings, pictures, SPEEDS, seconds=0.0, open_pictures=build_data) == found
    # But not where another way is the usual one.
    other = FitChoice("pad").apply(settings)
    assert kept_fit(other, pictures) is None


@pytest.mark.slow
def test_what_lies_at_the_edge_is_not(tmp_path: Path) -> None:
    settings = made(tmp_path, subject=0)
    found = choose_fit(
        settings, build_data(settings), SPEEDS, seconds=None, open_pictures=build_data
    )
    assert found.fit != "crop"


def test_a_difference_that_may_be_chance_changes_nothing(
    settings: RunSettings, pictures: PictureData, monkeypatch: pytest.MonkeyPatch
) -> None:
    def gains(*gains: tuple[float, float]) -> FitChoice:
        each = iter(gains)
        monkeypatch.setattr(picture_fit, "gain", lambda *_: next(each))
        monkeypatch.setattr(picture_fit, "load_measurement", lambda *_: None)
        return choose_fit(settings, pictures, SPEEDS, seconds=None, open_pictures=build_data)

    monkeypatch.setattr(picture_fit, "_features", lambda *_: np.eye(len(pictures.split.train)))
    monkeypatch.setattr(picture_fit, "cross_validated", Mock())
    assert gains((0.019, 0.01), (-0.1, 0.01)).fit == "squeeze"
    assert gains((0.021, 0.01), (-0.1, 0.01)).fit == "crop"
    # The largest gain of those that are clear.
    assert gains((0.021, 0.01), (0.05, 0.03)).fit == "crop"
    assert gains((0.021, 0.01), (0.05, 0.02)).fit == "pad"


@pytest.mark.parametrize(
    ("budgets", "described", "ways"),  # in units of what one network takes for all pictures
    [
        (3.8, False, 0),
        (4.2, False, 1),
        (8.4, False, 2),
        (math.inf, False, 2),
        (1.9, True, 0),
        (2.2, True, 1),
    ],
)
def test_no_more_is_compared_than_there_is_time_for(
    settings: RunSettings,
    pictures: PictureData,
    monkeypatch: pytest.MonkeyPatch,
    budgets: float,
    described: bool,
    ways: int,
) -> None:
    compared: list[str] = []

    def features(settings: RunSettings, way: str, *_: object) -> np.ndarray:
        compared.append(way)
        return np.random.default_rng(0).normal(size=(len(pictures.split.train), 4))

    monkeypatch.setattr(picture_fit, "_features", features)
    count = len(pictures.split.train) + len(pictures.split.val)
    seconds = budgets * count / SPEEDS[NETWORK] if budgets < math.inf else None
    found = choose_fit(
        settings, pictures, SPEEDS, seconds=seconds, open_pictures=build_data, described=described
    )
    assert compared == (["squeeze", "crop", "pad"][: 1 + ways] if ways else [])
    assert found.fit == "squeeze" and found.cut is (ways < 2)
    # With more time the others are compared as well, and with less nothing is.
    choose_fit(settings, pictures, SPEEDS, seconds=1e-3, open_pictures=build_data)
    assert len(compared) == (1 + ways if ways else 0)
    assert not choose_fit(settings, pictures, SPEEDS, seconds=None, open_pictures=build_data).cut
    assert compared[-1] == "pad"


def test_time_is_left_for_all_networks_to_describe_the_pictures_by_another_way(
    settings: RunSettings, pictures: PictureData, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(picture_fit, "_features", Mock(side_effect=AssertionError))
    count = len(pictures.split.train) + len(pictures.split.val)
    speeds = {**SPEEDS, "slow": SPEEDS[NETWORK] / 10}
    found = choose_fit(
        settings, pictures, speeds, seconds=10.0 * count / SPEEDS[NETWORK], open_pictures=build_data
    )
    assert found == FitChoice("squeeze", cut=True)


def test_where_time_ends_the_usual_way_remains(
    settings: RunSettings, pictures: PictureData, monkeypatch: pytest.MonkeyPatch
) -> None:
    def late(*_: object) -> np.ndarray:
        raise TooSlow("describing the pictures", 9.0)

    monkeypatch.setattr(picture_fit, "_features", late)
    assert choose_fit(
        settings, pictures, SPEEDS, seconds=None, open_pictures=build_data
    ) == FitChoice("squeeze", cut=True)


def test_squares_are_not_compared(tmp_path: Path) -> None:
    settings = compose_settings(RunSettings, [f"data.cache_dir={tmp_path}", "model=embedding"])
    assert choose_fit(
        settings, build_data(settings), {}, seconds=None, open_pictures=build_data
    ) == FitChoice("squeeze")


@pytest.fixture
def one_network(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        ranking, "_loadable_networks", lambda *_: {NETWORK: ranking.LoadableNetwork(1.0)}
    )


@pytest.mark.usefixtures("one_network")
def test_what_was_chosen_is_a_setting_of_all_trials(
    tmp_path: Path, settings: RunSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BAKEOFF_CACHE", str(tmp_path / "cache"))
    root = settings.data.root

    def chosen(*stated: str) -> list[str]:
        job = plain_task(Prepare(places(tmp_path)))
        overrides = [*OVERRIDES, f"data.root={root}", *stated]
        overrides.remove(f"model.networks=[{NETWORK}]")
        ending = TrialRunner()(Job(job, overrides=overrides), Mock())
        assert ending.state == "complete", ending.reason
        return list(Prepared(**ending.result).overrides)

    assert "data.fit=crop" in chosen()
    assert not any(override.startswith("data.fit=") for override in chosen("data.fit=squeeze"))


@pytest.mark.usefixtures("one_network")
@pytest.mark.slow
def test_a_first_answer_does_not_wait_for_it(settings: RunSettings) -> None:
    def ready(at_once: bool) -> Settled:
        how = {"networks": True, "seconds": 600.0, "at_once": at_once}
        return settled(settings, build_data, fits=True, **how)  # type: ignore[arg-type]

    settled(settings, build_data, networks=True, seconds=600.0)
    first = ready(at_once=True)
    assert first.settings.data.fit == "squeeze" and first.cut
    better = ready(at_once=False)
    assert better.settings.data.fit == "crop" and not better.cut
    assert (better.promise or 0.0) > (first.promise or 0.0) + 10
    # Which the next first answer knows.
    assert ready(at_once=True).settings.data.fit == "crop"
