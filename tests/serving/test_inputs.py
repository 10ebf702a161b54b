from __future__ import annotations

import base64
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image, ImageOps

from src.data.decoding.picture_files import PictureError
from src.serving.inputs import as_picture

SIDE = st.integers(5, 9)
SHAPES = st.one_of(
    st.tuples(SIDE, SIDE),
    st.tuples(SIDE, SIDE, st.sampled_from([1, 3, 4])),
)


def pixels_of(value: object) -> Any:
    picture = as_picture(value)
    assert isinstance(picture, Image.Image | np.ndarray)
    return np.asarray(picture)


@given(st.binary())
def test_bytes_stay_and_come_back_from_both_kinds_of_base64(data: bytes) -> None:
    assert as_picture(data) == as_picture(bytearray(data)) == data
    assert as_picture(base64.b64encode(data).decode()) == data
    assert as_picture(base64.encodebytes(data).decode()) == data  # with line ends


@given(SHAPES.flatmap(lambda shape: arrays(np.uint8, shape)))
def test_arrays_keep_every_pixel_in_whatever_form_they_come(array: Any) -> None:
    shown = array[..., 0] if array.shape[2:] == (1,) else array
    nested = np.empty(len(array), object)  # as a Parquet table gives it
    for index, row in enumerate(array):
        nested[index] = row
    for form in (array, array.tolist(), array.astype(np.int64), np.asfortranarray(array), nested):
        np.testing.assert_array_equal(pixels_of(form), shown)


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "I;16", "P", "1"])
def test_pictures_of_pillow_are_turned_as_their_exif_says(mode: str) -> None:
    drawn = Image.fromarray(np.arange(0, 252, 3, np.uint8).reshape(6, 14))
    shown = {"I;16": "I;16", "L": "L", "RGBA": "RGBA"}.get(mode, "RGB")
    for orientation in range(1, 9):
        picture = drawn.convert(mode)
        picture.getexif()[0x0112] = orientation
        expected = ImageOps.exif_transpose(picture)
        expected = expected if shown == mode else expected.convert(shown)
        np.testing.assert_array_equal(pixels_of(picture), np.asarray(expected))


def test_sixteen_bits_stay_sixteen_bits() -> None:
    array = np.arange(0, 60_000, 1000, np.uint16).reshape(6, 10)
    np.testing.assert_array_equal(pixels_of(array), array)


@pytest.mark.parametrize(
    ("value", "overrides"),
    [
        (None, "is missing"),
        (float("nan"), "is missing"),
        (3.5, "is of type float"),
        ("cat.jpg", "is text, and not the bytes"),
        ("/etc/hostname", "is text, and not the bytes"),
        (np.zeros((5, 5)), "float64 from 0.0 to 0.0: whole numbers"),
        (np.zeros((5, 5), bool), "is an array of bool"),
        ([[0, 256, 0, 0, 0]] * 5, "from 0 to 256"),
        ([[0, -1, 0, 0, 0]] * 5, "from -1 to 0"),
        (np.full((5, 5, 3), 256, np.uint16), "from 256 to 256"),
        (np.zeros((0, 5), np.uint8), "is an empty array of 0x5"),
        ([], "is an array of 0:"),
        (np.zeros((2, 5, 5, 3), np.uint8), "is an array of 2x5x5x3"),
        (np.zeros((5, 5, 2, 2), np.uint8), "is an array of 5x5x2x2"),
        (np.zeros(7, np.uint8), "is an array of 7:"),
        (np.zeros((7, 3), np.uint8), "one line of a picture"),
        ([[1, 2], [3]], "rows differ in length"),
        ([[1, None] * 3] * 2, "rows differ in length|something else"),
        ([["a", "b"]], "something else than numbers"),
    ],
)
def test_anything_else_is_refused_with_its_reason(value: object, overrides: str) -> None:
    with pytest.raises(PictureError, match=overrides):
        as_picture(value)
