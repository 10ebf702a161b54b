"""Which frozen networks are taken, and a real ranking of two on photographs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from skimage import data as photos

from src.config.compose import compose_settings
from src.config.schema import RunSettings
from src.data.loading.datamodule import PictureData
from src.runs.build import build_data
from src.runs.candidates import ranking
from src.runs.candidates.ranking import NetworkChoice, RankedNetwork, choose_networks

A = RankedNetwork("a", 0.80, 0.02, 0.3, 50.0)
B = RankedNetwork("b", 0.78, 0.02, 0.2, 100.0)
C = RankedNetwork("c", 0.70, 0.02, 0.1, 100.0)


@pytest.fixture
def settings(tmp_path: Path) -> RunSettings:
    words = [f"data.cache_dir={tmp_path}", "model=embedding", "data.image_size=8"]
    return compose_settings(RunSettings, words)


@pytest.fixture
def digits(settings: RunSettings) -> PictureData:
    return build_data(settings)


def chosen(
    settings: RunSettings,
    data: PictureData,
    monkeypatch: pytest.MonkeyPatch,
    together: dict[str, float],
    seconds: float | None,
) -> NetworkChoice:
    found = ranking._Ranking((A, B, C), together)
    monkeypatch.setattr(ranking, "_ranking", lambda *_: found)
    return choose_networks(settings, data, seconds)


TOGETHER = {"a + b": 0.79, "a + b + c": 0.81}


@pytest.mark.parametrize(
    ("together", "share", "names"),
    [
        (TOGETHER, None, ("a", "b", "c")),
        ({"a + b": 0.81, "a + b + c": 0.78}, None, ("a", "b")),  # the third makes it worse
        ({"a + b": 0.70, "a + b + c": 0.70}, None, ("a",)),
        (TOGETHER, 1.6, ("a", "b")),  # the third would take half as long again
        (TOGETHER, 1.1, ("a",)),
        (TOGETHER, 0.6, ("b", "c")),  # the best one cannot be afforded, half as slow ones can
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
    if names == ("b", "c"):
        names = ("b",)  # of those two nobody has looked at the features together
    choice = chosen(settings, digits, monkeypatch, together, seconds)
    assert choice.networks == names
    assert all(one.name in choice.notes[0] for one in (A, B, C))


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


@pytest.mark.slow
def test_networks_are_ranked_once_and_the_ranking_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = photo_folder(tmp_path / "photos")
    words = ["data=folder", f"data.root={root}", f"data.cache_dir={tmp_path / 'cache'}"]
    settings = compose_settings(RunSettings, [*words, "model=embedding"])
    opened = build_data(settings)
    first = choose_networks(settings, opened, None)
    lites = [f"tf_efficientnet_lite{number}" for number in range(3)]
    assert set(first.networks) <= set(lites)
    assert all(name in first.notes[0] and "LogME" in first.notes[0] for name in lites)

    def refuse(*_: object) -> None:
        raise AssertionError("a network was asked again")

    monkeypatch.setattr(ranking, "frozen_network", refuse)
    assert choose_networks(settings, opened, None).networks == first.networks
