"""Published networks are made once in a process for the same arguments."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from src.config.checks import ConfigError
from src.config.compose import compose_settings
from src.config.schema import RunSettings
from src.data.decoding.picture_format import PictureFormat
from src.runs.build import extractors
from src.runs.build.data import build_data
from tests.data.pictures import tree

LITE = "tf_efficientnet_lite0"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory):
    """A set of ten pictures, and what gives the features of a network of some size for it."""
    folder = tmp_path_factory.mktemp("set")
    root = tree(folder / "pictures", {"a": 5, "b": 5}, height=48, width=48)
    overrides = ["model=embedding", "model.input_size=32", "data=folder", f"data.root={root}"]
    settings = compose_settings(RunSettings, [*overrides, f"data.cache_dir={folder / 'cache'}"])
    data = build_data(settings)

    def network(side: int):
        wanted = PictureFormat((side, side), 3, "squeeze")
        return extractors.frozen_network(settings, LITE, data, wanted)

    return network


@pytest.fixture(autouse=True)
def nothing_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(extractors, "_kept", type(extractors._kept)())
    # To measure how a network computes fastest takes long, and changes nothing here.
    monkeypatch.setattr(extractors, "_plan", lambda *_: {})


def test_the_same_network_is_made_once(made) -> None:
    assert made(32) is made(32)
    assert made(48) is not made(32)


def test_those_used_last_stay_as_far_as_they_have_room(made, monkeypatch) -> None:
    first = made(32)
    (_, size) = next(iter(extractors._kept.values()))
    monkeypatch.setattr(extractors, "_KEPT_BYTES", 2 * size)
    second = made(40)
    assert made(32) is first  # and is now the one that was used last
    made(48)
    assert made(32) is first
    assert made(40) is not second


def test_other_weights_make_another_network(made, monkeypatch, tmp_path: Path) -> None:
    first = made(32)
    found = extractors.find_weights("timm", LITE)
    assert found is not None
    copy = tmp_path / "weights"
    copy.write_bytes(found.file.read_bytes())
    elsewhere = type(found)(copy, found.source, found.custom)
    monkeypatch.setattr(extractors, "find_weights", lambda *_: elsewhere)
    assert made(32) is not first


def test_a_run_about_pixels_has_no_features_of_pictures(made, monkeypatch, tmp_path: Path) -> None:
    metadata = {"settings": {"data": {"target": "dense"}}}
    found = SimpleNamespace(name="unet-7"), Path("last.ckpt")
    monkeypatch.setattr(extractors, "trained_run", lambda *_: found)
    monkeypatch.setattr(extractors, "load_task", lambda _: SimpleNamespace(metadata=metadata))
    overrides = ["model=embedding", "model.run=unet-7", "data=digits", f"data.cache_dir={tmp_path}"]
    settings = compose_settings(RunSettings, overrides)
    with pytest.raises(ConfigError, match=r"model\.run: unet-7 gives every pixel a class"):
        extractors.build_extractors(settings, build_data(settings))
