from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from src.config.checks import ConfigError
from tests.data.pictures import data_of, encoded, tree, write


def summary(root: Path, *words: str) -> tuple[str, ...]:
    return data_of(root, *words).summary


def test_three_lines_say_parts_classes_and_format(tmp_path: Path) -> None:
    counts = {f"{part}/{label}": n for part, n in (("train", 6), ("test", 2)) for label in "ab"}
    root = tree(tmp_path / "pets", counts | {"train/c": 1})
    assert summary(root, "data.val_fraction=0.25") == (
        "17 pictures: train 9, val 4, test 4 (given: train, test)",
        "3 classes: a 8, b 8, c 1",
        "all 12x16 pixels (height x width), kept so; colour, 8 bits",
    )


def test_masks_that_hold_one_class_alone_are_counted(tmp_path: Path) -> None:
    """Most of them show nothing where defects are rare; none of them lacks a class."""
    for number in range(12):
        noise = np.random.default_rng(number).integers(0, 256, (12, 16), np.uint8)
        mask = np.zeros((12, 16), np.uint8)
        mask[0, 0] = number % 3 == 0
        write(tmp_path / "root" / "images" / f"{number}.png", _png(noise))
        write(tmp_path / "root" / "masks" / f"{number}.png", _png(mask))
    classes = summary(tmp_path / "root", "data.target=dense", "model=pixels")[1]
    assert classes == "2 classes: background 12, foreground 4; 8 masks of a single class"


def test_many_classes_are_cut_to_the_largest_and_the_smallest(tmp_path: Path) -> None:
    root = tree(tmp_path / "many", {f"class{n}": n for n in range(3, 15)}, channels=1)
    parts, classes, form = summary(root)
    assert parts.startswith("102 pictures: train ") and "(made by data.split_seed)" in parts
    assert classes == (
        "12 classes: class14 14, class13 13, class12 12, class11 11, class10 10, ..., "
        "class7 7, class6 6, class5 5, class4 4, class3 3"
    )
    assert form == "all 12x16 pixels (height x width), kept so; grey, 8 bits"


@pytest.mark.parametrize(
    ("size", "words", "expected"),
    [
        ((224, 224), [], "resized to 128x128 (data.image_size sets another size)"),
        ((10, 1000), [], "kept so"),
        ((20, 2000), [], "resized to 13x1280 (data.image_size sets another size)"),
        ((224, 224), ["data.image_size=224"], "kept so"),
        ((40, 20), ["data.image_size=16"], "resized to 16x16 and squeezed (data.image_size"),
        ((40, 20), ["data.image_size=16", "data.fit=pad"], "padded to its proportions"),
    ],
)
def test_a_size_that_is_not_the_pictures_own_is_said(
    size: tuple[int, int], words: list[str], expected: str, tmp_path: Path
) -> None:
    for number in range(8):
        noise = np.random.default_rng(number).integers(0, 256, size, np.uint8)
        write(tmp_path / "root" / "ab"[number % 2] / f"{number}.png", _png(noise))
    form = summary(tmp_path / "root", *words)[2]
    assert form.startswith(f"all {size[0]}x{size[1]} pixels") and expected in form


@pytest.mark.parametrize("measured", [True, False])
def test_labels_with_hardly_a_picture_are_said_to_be_no_classes(
    measured: bool, tmp_path: Path
) -> None:
    labels = [f"{n / 8}" if measured else f"shirt {'ab'[n // 6]}{n}" for n in range(12)]
    advice = "put measurements into a few ranges" if measured else "or join labels"
    root = tree(tmp_path / "one", dict.fromkeys(labels, 1))
    with pytest.raises(ConfigError, match=f"would be empty, for 12 of 12 labels .* {advice}"):
        data_of(root)
    twice = tree(tmp_path / "some", dict.fromkeys(labels, 1) | {"1000": 9})
    (remark, *_) = data_of(twice).remarks
    assert remark.startswith("12 of 13 labels have fewer than 3 pictures.") and advice in remark
    enough = tree(tmp_path / "enough", dict.fromkeys(labels, 3))
    assert not any("fewer than 3" in one for one in data_of(enough).remarks)


def test_labels_that_are_spelt_almost_as_a_frequent_one_are_named(tmp_path: Path) -> None:
    counts = {"dress": 20, "bird 1": 20, "drezs": 1, "dresss": 2, "bird 2": 1, "hat": 1, "dres": 3}
    said = [one for one in data_of(tree(tmp_path / "root", counts)).remarks if "misspelt" in one]
    assert said == [
        "perhaps misspelt, and classes of their own: dresss for dress, drezs for dress; "
        "correct the labels"
    ]


def test_many_faults_of_a_kind_are_counted(tmp_path: Path) -> None:
    root = tree(tmp_path / "root", {"a": 9, "b": 9}, height=12, width=12)
    for number in range(9):
        write(root / "a" / f"copy {number}.png", (root / "a" / f"00{number}.png").read_bytes())
        write(root / "a" / f".hidden {number}" / "x.png", b"")
    write(root / "b" / "white.png", _png(np.full((12, 12, 3), 255, np.uint8)))
    remarks = [one for one in data_of(root).remarks if "root" not in one]
    assert [one for one in remarks if "exact copies" in one or "exact copy" in one] == [
        "9 pictures are exact copies of others; the first of them, a/copy 0.png: is an exact copy "
        "of a/000.png"
    ]
    assert any(one.startswith("9 hidden folders were left out") for one in remarks)
    assert "b/white.png: is of a single colour" in remarks


def test_black_and_white_of_more_bits_are_said(tmp_path: Path) -> None:
    for number in range(8):
        values = np.random.default_rng(number).integers(0, 4096, (12, 12)).astype(np.uint16)
        write(tmp_path / "root" / "ab"[number % 2] / f"{number}.png", _png(values))
    assert summary(tmp_path / "root")[2].endswith(
        "grey, all of more than 8 bits, 0 black and 4095 white"
    )


def _png(values: Any) -> bytes:
    return encoded(Image.fromarray(values), "PNG")
