"""Pictures that few of are used: decoded when they are read, and like the others."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from src.config.compose import compose_settings
from src.config.schema import RunSettings
from src.data.loading.picture_data import PictureData
from src.runs.build import (
    COMPARED_SIDE,
    build_data,
    build_extractors,
    feature_table,
    remark_on_size,
)

SIDE, COUNT = 64, 60


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    generator = np.random.default_rng(0)
    for name in ("a", "b"):
        (tmp_path / "pictures" / name).mkdir(parents=True)
        for number in range(COUNT // 2):
            pixels = generator.integers(0, 256, (80 + number, 100, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / "pictures" / name / f"{number}.png")
    return tmp_path / "pictures"


def opened(
    folder: Path, *overrides: str, model: str = "embedding"
) -> tuple[RunSettings, PictureData]:
    cache = folder.parent / "cache"
    base = ["data=folder", f"data.root={folder}", f"data.cache_dir={cache}", f"model={model}"]
    if model == "embedding":
        base += [f"model.input_size={SIDE}", "model.networks=[tf_efficientnet_lite0]"]
    settings = compose_settings(RunSettings, [*base, *overrides])
    return settings, build_data(settings)


def decoded_bytes(folder: Path) -> int:
    files = (folder.parent / "cache" / "pictures").rglob("*")
    return sum(file.stat().st_size for file in files if file.suffix != ".json" and file.is_file())


@pytest.mark.parametrize("fit", ["squeeze", "crop", "pad"])
def test_few_pictures_are_those_that_all_would_be(folder: Path, fit: str) -> None:
    _, few = opened(folder, "data.train_limit=20", f"data.fit={fit}")
    assert few.pictures.images is None and len(few.split.train) == 20
    # No picture was decoded but to be compared with the others.
    assert decoded_bytes(folder) == COUNT * 3 * COMPARED_SIDE**2
    _, whole = opened(folder, "data.train_limit=40", f"data.fit={fit}")
    assert whole.pictures.images is not None
    assert few.pictures.format == whole.pictures.format
    assert few.pictures.identity() == whole.pictures.identity()
    assert few.pictures.fingerprint == whole.pictures.fingerprint
    for part in ("val", "test"):
        np.testing.assert_array_equal(getattr(few.split, part), getattr(whole.split, part))
    for index in few.split.train.tolist():
        np.testing.assert_array_equal(few.pictures.read(index), whole.pictures.read(index))


def test_their_features_are_found_by_those_who_decode_all(folder: Path) -> None:
    settings, few = opened(folder, "data.train_limit=20")
    described = feature_table(settings, few, build_extractors(settings, few)).part("train")
    all_of_them = build_data(compose_settings(RunSettings, [
        *("data=folder", f"data.root={folder}", "model=embedding", f"model.input_size={SIDE}"),
        *("model.networks=[tf_efficientnet_lite0]", f"data.cache_dir={folder.parent / 'other'}"),
    ]))  # fmt: skip
    again = feature_table(settings, all_of_them, build_extractors(settings, all_of_them))
    rows = np.isin(all_of_them.split.train, few.split.train)
    np.testing.assert_allclose(again.part("train")[rows], described, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("overrides", "model"),
    [
        (["data.train_limit=31"], "embedding"),
        ([], "embedding"),
        # Each trial of these reads them again.
        (["data.train_limit=20", "data.image_size=32"], "handcrafted"),
        (["data.train_limit=20", f"model.input_size={SIDE}"], "efficientnet_lite0"),
        # What is that small is decoded in any case.
        (["data.train_limit=20", f"model.input_size={COMPARED_SIDE}"], "embedding"),
    ],
)
def test_others_are_decoded_once(folder: Path, overrides: list[str], model: str) -> None:
    _, data = opened(folder, *overrides, model=model)
    assert data.pictures.images is not None


def test_few_of_each_part_are_few(folder: Path) -> None:
    _, data = opened(folder, "data.limit=20", "cv.folds=3", "cv.fold=2")
    assert data.pictures.images is None and len(data.split.val)
    assert data.pictures.read(int(data.split.val[0])).shape == (3, SIDE, SIDE)


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["data.image_size=48"], "48x48, are enlarged .* 224x224 .* model.input_size=48 "),
        (["data.image_size=[40,64]"], "40x64, are enlarged .* model.input_size=64 "),
        (["data.image_size=256"], "256x256, are reduced "),
        (["data.image_size=48", "model.input_size=96"], None),  # both were stated
        (["data.image_size=224"], None),
        (["data.image_size=100"], None),  # they are no larger by themselves
        ([], None),
    ],
)
def test_a_stated_size_that_is_not_the_networks_is_told(
    folder: Path, overrides: list[str], said: str | None
) -> None:
    remark = remark_on_size(*opened(folder, *overrides, model="efficientnet_lite0"))
    assert (remark is None) if said is None else re.search(said, remark or "")
