from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from src.data.decoding.decode import PictureError, thumbnail


@pytest.mark.parametrize(
    ("size", "shape"),
    [
        ((400, 200), (100, 200)),
        ((30, 20), (20, 30)),
        ((2000, 1), (1, 200)),
        ((200, 200), (200, 200)),
    ],
)
def test_proportions_stay_and_the_longer_side_is_bounded(
    tmp_path: Path, size: tuple[int, int], shape: tuple[int, int]
) -> None:
    Image.new("L", size, 7).save(tmp_path / "a.png")
    picture = thumbnail(tmp_path / "a.png", longest=200)
    assert picture.shape == (3, *shape) and picture.dtype == np.uint8
    assert (picture == 7).all()


def test_a_picture_on_its_side_is_turned(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (40, 20)).save(tmp_path / "a.jpg", exif=exif)
    assert thumbnail(tmp_path / "a.jpg").shape == (3, 40, 20)


def test_what_is_no_picture_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_text("no picture")
    with pytest.raises(PictureError):
        thumbnail(tmp_path / "a.jpg")
