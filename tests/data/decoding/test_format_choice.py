from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from src.data.decoding.format_choice import chosen_size
from tests.data.pictures import encoded, opened, pixels, png, tree, write


@pytest.mark.parametrize(
    ("sizes", "side", "chosen"),
    [
        ([(20, 30)] * 4, None, (20, 30)),
        ([(96, 8)] * 4, None, (96, 8)),
        ([(97, 97)] * 4, None, (97, 97)),
        ([(10, 1000)] * 4, None, (10, 1000)),
        ([(224, 224)] * 4, None, (128, 128)),
        ([(150, 600)] * 4, None, (64, 256)),
        ([(4, 9)] * 4, None, (8, 8)),
        ([(20, 30), (20, 30), (20, 30), (30, 20)], None, (20, 20)),
        ([(30, 50), (40, 60), (50, 70), (60, 80)], None, (45, 45)),
        ([(300, 400), (400, 300), (200, 250), (500, 500)], None, (128, 128)),
        # A model of one size gets pictures at it, or smaller ones, which it magnifies.
        ([(300, 400), (400, 300), (200, 250), (500, 500)], 224, (224, 224)),
        ([(300, 300)] * 4, 224, (224, 224)),
        ([(32, 32)] * 4, 224, (32, 32)),
        ([(200, 100)] * 4, 224, (200, 100)),
        ([(30, 50), (40, 60), (50, 70), (60, 80)], 224, (45, 45)),
    ],
)
def test_the_size_suits_the_pictures_and_the_model(
    sizes: list[tuple[int, int]], side: int | None, chosen: tuple[int, int]
) -> None:
    assert chosen_size(np.array(sizes), None, side) == chosen


def test_a_store_has_the_size_of_its_model(tmp_path: Path) -> None:
    root = tree(tmp_path / "root", {"a": 2, "b": 2}, height=40, width=30)
    for side, size in ((None, (40, 30)), (20, (20, 20)), (50, (40, 30))):
        assert opened(root, tmp_path / "cache", native_side=side).image_size == size


def test_channels_follow_what_is_seen(tmp_path: Path) -> None:
    grey = tree(tmp_path / "grey", {"a": 2, "b": 2}, channels=1)
    assert opened(grey, tmp_path / "cache").channels == 1
    assert opened(grey, tmp_path / "cache", channels=3).channels == 3
    # Grey photos are often saved with three channels; a little compression noise is no colour.
    for number in range(4):
        photo = Image.fromarray(pixels(number, 40, 40, 1)).convert("RGB")
        data = encoded(photo, "JPEG", quality=80)
        write(tmp_path / "photos" / "ab"[number % 2] / f"{number}.jpg", data)
    assert opened(tmp_path / "photos", tmp_path / "cache").channels == 1
    write(tmp_path / "photos" / "b" / "last.png", png(9))
    assert opened(tmp_path / "photos", tmp_path / "cache").channels == 3
