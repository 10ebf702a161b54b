from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from src.data.decoding import jpeg
from src.data.decoding.decode import decode_picture
from src.data.decoding.jpeg import read_jpeg
from src.data.decoding.picture_files import PictureError
from src.data.decoding.picture_format import PictureFormat
from tests.data.pictures import encoded

FORM = PictureFormat((24, 32), 3)


def photo(height: int, width: int, mode: str = "RGB", seed: int = 0, **options: Any) -> bytes:
    random = np.random.default_rng(seed)
    coarse = random.integers(0, 256, (5, 6, 3)).astype(np.uint8)
    image = Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)
    return encoded(image.convert(mode), "JPEG", **options)


def read(data: bytes, **limits: int) -> jpeg.Jpeg | None:
    given = {"shortest": 1000, "most_pixels": 10**6} | limits
    return read_jpeg(io.BytesIO(data), **given)


@given(
    height=st.integers(1, 120),
    width=st.integers(1, 120),
    mode=st.sampled_from(["RGB", "L"]),
    quality=st.integers(1, 100),
    subsampling=st.sampled_from(["4:4:4", "4:2:2", "4:2:0"]),
    progressive=st.booleans(),
    restart=st.integers(0, 2),
)
def test_pixels_are_those_of_pillow(
    height: int,
    width: int,
    mode: str,
    quality: int,
    subsampling: str,
    progressive: bool,
    restart: int,
) -> None:
    options = {"quality": quality, "progressive": progressive, "restart_marker_rows": restart}
    if mode == "RGB":
        options["subsampling"] = subsampling
    data = photo(height, width, mode, **options)
    found = read(data)
    assert found is not None and found.orientation == 1
    theirs = np.asarray(Image.open(io.BytesIO(data))).reshape(found.pixels.shape)
    np.testing.assert_array_equal(found.pixels, theirs)


@pytest.mark.parametrize("fit", ["squeeze", "crop", "pad", "windows"])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
@pytest.mark.parametrize("orientation", [None, 1, 3, 6, 7, 9])
def test_pictures_are_those_that_pillow_alone_makes(
    fit: str,
    channels: int,
    mode: str,
    orientation: int | None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    exif = Image.Exif()
    if orientation is not None:
        exif[0x0112] = orientation
    form = PictureFormat((24, 32), channels, fit, scale=0.5)
    for size in ((60, 80), (24, 32), (32, 24), (127, 150), (150, 200), (400, 300)):
        data = photo(*size, mode, exif=exif)
        pictures = [decode_picture(data, form)]
        with monkeypatch.context() as patch:
            patch.setattr(jpeg, "simplejpeg", None)
            pictures.append(decode_picture(data, form))
        np.testing.assert_array_equal(*pictures)
        assert pictures[0].flags.owndata or pictures[0].base is not None
        assert pictures[0].flags.c_contiguous and pictures[0].flags.writeable


def test_the_turn_that_xmp_alone_states_is_seen() -> None:
    packet = b'<x:xmpmeta><rdf:Description tiff:Orientation="6"/></x:xmpmeta>'
    data = photo(20, 30, xmp=packet)
    found = read(data)
    assert found is not None and found.orientation == 6
    assert decode_picture(data, PictureFormat((30, 20), 3)).shape == (3, 30, 20)


def test_segments_out_of_place_are_left_to_pillow() -> None:
    data = photo(20, 30)
    filled = data[:2] + b"\xff\xff\xff" + data[2:]  # as padding between segments may be
    assert not jpeg._has_metadata(data) and not jpeg._has_metadata(filled)
    assert jpeg._has_metadata(data[:2] + b"\x00" + data[2:])
    assert jpeg._has_metadata(data[:6]) and jpeg._has_metadata(data[:2])


@pytest.mark.parametrize("at", [10, 200, 0.5, -3])
def test_a_file_that_is_cut_short_is_refused_by_pillow(
    at: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = photo(60, 80)
    data = data[: round(at * len(data))] if isinstance(at, float) else data[:at]
    reasons = []
    for module in (jpeg.simplejpeg, None):
        monkeypatch.setattr(jpeg, "simplejpeg", module)
        with pytest.raises(PictureError) as refused:
            decode_picture(data, FORM)
        reasons.append(str(refused.value))
    assert reasons[0] == reasons[1]


@given(at=st.integers(150, 2000), value=st.integers(0, 255))
def test_a_damaged_file_becomes_what_pillow_makes_of_it(at: int, value: int) -> None:
    damaged = bytearray(photo(60, 80, quality=95))
    damaged[at % len(damaged)] = value
    found = []
    module = jpeg.simplejpeg
    try:
        for one in (module, None):
            jpeg.simplejpeg = one
            try:
                found.append(decode_picture(bytes(damaged), FORM).tolist())
            except PictureError as error:
                found.append(str(error))
    finally:
        jpeg.simplejpeg = module
    assert found[0] == found[1]


def test_what_is_decoded_at_a_fraction_or_takes_its_turn_is_left_to_pillow(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    data = photo(60, 80)
    assert read(data, shortest=61) is not None and read(data, shortest=60) is None
    assert read(data, most_pixels=4800) is not None and read(data, most_pixels=4799) is None
    assert read(photo(60, 80, "CMYK")) is None
    assert read(encoded(Image.new("RGB", (8, 8)), "PNG")) is None
    monkeypatch.setattr(jpeg, "MAX_FILE_BYTES", len(data) - 1)
    assert read(data) is None


def test_bands_are_chosen_of_a_jpeg_as_well() -> None:
    data = photo(24, 32)
    whole = decode_picture(data, FORM)
    for bands in ((3, 1), (3, 2, 1)):
        form = PictureFormat((24, 32), len(bands), bands=bands, band_count=3)
        wanted = whole[[band - 1 for band in bands]]
        np.testing.assert_array_equal(decode_picture(data, form), wanted)


def test_a_jpeg_has_no_second_page() -> None:
    with pytest.raises(PictureError):
        decode_picture(photo(24, 32), FORM, page=1)


@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_a_picture_is_not_overwritten_by_the_next_one(mode: str) -> None:
    """Also of the format's own size, where nothing is resized."""
    form = PictureFormat((24, 32), 1 if mode == "L" else 3)
    files = [photo(24, 32, mode, seed) for seed in range(3)]
    files += [encoded(Image.open(io.BytesIO(file)), "PNG") for file in files]
    pictures = [decode_picture(file, form) for file in files]
    for picture, file in zip(pictures, files, strict=True):
        theirs = np.asarray(Image.open(io.BytesIO(file))).reshape(24, 32, -1)
        np.testing.assert_array_equal(picture, theirs.transpose(2, 0, 1))
