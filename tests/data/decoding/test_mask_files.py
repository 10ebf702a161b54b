"""The values of a mask, as they were saved, out of files of every kind."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray
from PIL import Image

from src.data.decoding.decode import decode_picture
from src.data.decoding.mask_files import LEFT_OUT, decode_mask, mask_values
from src.data.decoding.picture_files import PictureError
from src.data.decoding.picture_format import PictureFormat
from tests.data.pictures import encoded, png_file

CLASSES = np.arange(16, dtype=np.uint8).reshape(4, 4)


def test_a_mask_that_says_how_it_is_turned_is_turned_once(tmp_path: Path) -> None:
    pixels = np.arange(8, dtype=np.uint8).reshape(2, 4)
    exif = Image.Exif()
    exif[0x0112] = 6
    for ending in ("png", "tif"):
        Image.fromarray(pixels).save(tmp_path / f"one.{ending}", exif=exif)
        np.testing.assert_array_equal(mask_values(tmp_path / f"one.{ending}"), np.rot90(pixels, -1))


def tiff(values: NDArray[Any], **options: Any) -> bytes:
    stream = io.BytesIO()
    tifffile.imwrite(stream, values, metadata=None, **options)
    return stream.getvalue()


def sixteen_bits(colour: int, samples: int) -> bytes:
    lines = np.ones((4, 4, samples), ">u2")
    rows = b"".join(bytes(1) + line.tobytes() for line in lines)
    return png_file(4, 4, 16, colour, rows)


def array(values: NDArray[Any]) -> bytes:
    stream = io.BytesIO()
    np.save(stream, values)
    return stream.getvalue()


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (sixteen_bits(2, 3), "has other pixels than grey"),
        (sixteen_bits(4, 2), "has other pixels than grey"),
        (tiff(np.ones((4, 4, 3), np.uint16), photometric="rgb"), "has other pixels than grey"),
        (encoded(Image.new("CMYK", (4, 4), (0, 0, 0, 200)), "TIFF"), "has other pixels than grey"),
        (tiff(CLASSES, photometric="miniswhite"), "in which 0 is white"),
        (tiff((CLASSES > 7) * np.uint16(65535), photometric="miniswhite"), "in which 0 is white"),
        (encoded(Image.fromarray(CLASSES), "TIFF", compression="jpeg"), "is a JPEG"),
        (encoded(Image.fromarray(CLASSES), "WEBP"), "is lossy WebP"),
        (encoded(Image.fromarray(CLASSES), "AVIF"), "is AVIF"),
        (array(np.ones((4, 4, 2), np.uint8)), "is an array of 2 bands"),
        (array(CLASSES + 0.5), "no whole numbers"),
        (array(CLASSES.astype(np.int16) - 1), "no whole numbers"),
        (array(np.where(CLASSES > 7, np.nan, 0.0)), "no whole numbers"),
        (array(np.where(CLASSES > 7, np.inf, 0.0)), "no whole numbers"),
        (array(CLASSES + 241.0), "no whole numbers"),
        (array(np.where(CLASSES > 7, np.uint16(65535), CLASSES)), "no whole numbers"),
        (encoded(Image.fromarray(CLASSES.astype(np.uint16) * 4369), "PNG"), "no whole numbers"),
    ],
)
def test_masks_whose_values_are_not_sure_are_refused(data: bytes, reason: str) -> None:
    with pytest.raises(PictureError, match=reason):
        mask_values(data)


def test_masks_are_read_as_they_were_saved() -> None:
    two = np.where(CLASSES > 7, 255, 0).astype(np.uint8)
    for data, expected in (
        (tiff(CLASSES), CLASSES),
        (array(CLASSES), CLASSES),
        (array(np.asfortranarray(CLASSES.astype(">i8"))[:, :, None]), CLASSES),
        (array(two > 0), two),
        (tiff(CLASSES.astype(np.uint16)), CLASSES),
        (tiff(np.repeat(CLASSES[:, :, None], 3, axis=2), photometric="rgb"), CLASSES),
        (encoded(Image.fromarray(CLASSES.astype(np.uint16)), "PNG"), CLASSES),
        (encoded(Image.fromarray(CLASSES), "WEBP", lossless=True), CLASSES),
        (tiff(255 - two, photometric="miniswhite"), two),  # as it is seen
        (array(CLASSES.astype(np.float32)), CLASSES),
        (tiff(CLASSES.astype(np.float32)), CLASSES),
        (encoded(Image.fromarray(two.astype(np.uint16) * 257), "PNG"), two),
        (tiff(two.astype(np.uint16) * 257), two),
        (tiff(two.astype(">u2") * 257, byteorder=">"), two),
        (array(two.astype(np.int64) * 257), two),
    ):
        np.testing.assert_array_equal(mask_values(data), expected)


@pytest.mark.parametrize("fit", ["squeeze", "crop", "pad"])
def test_a_resized_mask_has_the_nearest_classes_where_its_picture_lies(fit: str) -> None:
    """Of a picture of 40x80, whose mask is black where it is, and a third class at its middle."""
    table = np.full(256, LEFT_OUT, np.uint8)
    table[[0, 100, 255]] = 0, 1, 2
    values = np.zeros((40, 80), np.uint8)
    values[:, 38:] = 255
    values[10:30, 30:50] = 100
    classes = decode_mask(values, table, PictureFormat((20, 20), 3, fit))
    assert classes.shape == (20, 20) and classes.dtype == np.uint8
    bars = np.zeros((20, 20), np.bool_)
    if fit == "pad":
        bars[:5], bars[15:] = True, True
    np.testing.assert_array_equal(classes == LEFT_OUT, bars)
    picture = decode_picture(
        encoded(Image.fromarray(values), "PNG"), PictureFormat((20, 20), 1, fit)
    )
    for wanted, value in enumerate((0, 100, 255)):
        inside = (np.abs(picture[0].astype(int) - value) <= 2) & ~bars
        assert inside.sum() > 3 and (classes[inside] == wanted).all()
    assert set(np.unique(classes[~bars])) == {0, 1, 2}
    # Above the middle there is nothing between the first class and the last.
    assert set(np.unique(classes[5 if fit == "pad" else 0])) == {0, 2}
