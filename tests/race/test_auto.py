"""Families that suit the pictures, by their size and number."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from src.config.checks import ConfigError
from src.config.sweep import SweepSettings, read_sweep_settings
from src.race.auto import choose_families


def settings(tmp_path: Path, *words: str) -> SweepSettings:
    given = [f"data.cache_dir={tmp_path / 'cache'}", f"output_dir={tmp_path / 'out'}", *words]
    return read_sweep_settings(given, "default")


def folder(tmp_path: Path, sizes: list[tuple[int, int]]) -> Path:
    generator = np.random.default_rng(0)
    for number, (height, width) in enumerate(sizes):
        path = tmp_path / "pictures" / "ab"[number % 2] / f"{number}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = generator.integers(0, 256, (height, width, 3), np.uint8)
        Image.fromarray(pixels).save(path)
    return tmp_path / "pictures"


def test_photos_race_published_networks_first(tmp_path: Path) -> None:
    root = folder(tmp_path, [(300, 400), (400, 300), (200, 350), (90, 120)])
    chosen = choose_families(settings(tmp_path, "data=folder", f"data.root={root}"))
    assert chosen.names[:2] == ("embedding", "efficientnet_lite0")
    assert {"handcrafted", "cnn", "fcn"} <= set(chosen.names)
    first, second = chosen.reason.splitlines()
    assert "4 pictures of some 250 pixels" in first and "families=[...]" in second


def test_few_small_pictures_race_a_frozen_network_beside_networks_from_scratch(
    tmp_path: Path,
) -> None:
    root = folder(tmp_path, [(32, 32)] * 4)
    chosen = choose_families(settings(tmp_path, "data=folder", f"data.root={root}"))
    assert set(chosen.names) == {"embedding", "mlp", "cnn", "fcn", "gru", "handcrafted"}


def test_the_digits_race_what_they_always_have(tmp_path: Path) -> None:
    chosen = choose_families(settings(tmp_path))
    assert chosen.names == ("mlp", "cnn", "fcn", "gru", "handcrafted")


def test_pictures_that_are_not_there_are_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="nowhere"):
        choose_families(settings(tmp_path, "data=folder", f"data.root={tmp_path / 'nowhere'}"))


def test_auto_is_a_word_of_its_own_and_a_list_overrules_it(tmp_path: Path) -> None:
    assert settings(tmp_path).families == "auto"
    assert settings(tmp_path, "families=[cnn]").families == ["cnn"]
    with pytest.raises(ConfigError, match="auto or a list"):
        settings(tmp_path, "families=cnn")
