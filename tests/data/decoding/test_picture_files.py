from __future__ import annotations

import io
import struct
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from src.data.decoding.decode import decode_picture
from src.data.decoding.picture_files import NotReadHere, PictureError, read_header
from src.data.decoding.picture_format import PictureFormat
from tests.data.pictures import decoded, encoded, pixels, png, png_file

# As the module itself asks for, which pytest undoes.
pytestmark = pytest.mark.filterwarnings(r"ignore::Warning:PIL\.")

JPEG = encoded(Image.fromarray(pixels(8, 64, 64)), "JPEG")


def webp_header(width: int, height: int) -> bytes:
    sides = (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    return b"RIFF\x30\0\0\0WEBPVP8X\x0a\0\0\0\0\0\0\0" + sides + bytes(20)


def jpeg2000_header(width: int, height: int) -> bytes:
    """A codestream that begins, of another size than it was written with."""
    data = bytearray(encoded(Image.new("RGB", (16, 16)), "JPEG2000", no_jp2=True))
    at = data.index(b"\xff\x51") + 6  # after marker, length and capabilities
    data[at : at + 8] = struct.pack(">II", width, height)
    return bytes(data)


def png_chunk(kind: bytes) -> bytes:
    return struct.pack(">I", 0) + kind + struct.pack(">I", zlib.crc32(kind))


GIF = encoded(Image.new("L", (8, 8)), "GIF")
GIF_PIXELS = 13 + 3 * (2 << (GIF[10] & 7))  # where they begin, after the table of colours
PNG_PIXELS = 33
MANY = 60_000
# Valid files with more before their pixels than anybody's: each byte or piece is read by itself.
LONG_HEADERS = {
    "comment of a PPM": b"P6\n#" + b"x" * MANY + b"\n8 8\n255\n" + bytes(192),
    "white space of a PPM": b"P6" + b" " * MANY + b"8 8\n255\n" + bytes(192),
    "fill bytes of a JPEG": JPEG[:2] + b"\xff" * MANY + JPEG[2:],
    "segments of a JPEG": JPEG[:2] + b"\xff\xe1\0\2" * MANY + JPEG[2:],
    "comments of a GIF": GIF[:GIF_PIXELS] + b"\x21\xfe\1x\0" * MANY + GIF[GIF_PIXELS:],
    "chunks of a PNG": png(9, 8, 8)[:PNG_PIXELS]
    + png_chunk(b"abCd") * MANY
    + png(9, 8, 8)[PNG_PIXELS:],
}


@pytest.mark.parametrize("kind", LONG_HEADERS)
def test_a_header_is_read_within_limits(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "picture"
    path.write_bytes(LONG_HEADERS[kind])
    for given_as in (LONG_HEADERS[kind], path):
        with pytest.raises(PictureError, match="too much before its pixels"):
            decoded(given_as)
    with path.open("rb") as stream, pytest.raises(PictureError, match="too much before"):
        read_header(stream)


def test_the_limit_of_headers_is_none_of_further_pictures() -> None:
    frames = [Image.fromarray(pixels(seed, 4, 4, 1)) for seed in (1, 2)]
    data = encoded(frames[0], "GIF", save_all=True, append_images=frames[1:])
    at = data.rindex(b"\x21\xf9\4")  # of the second
    long = data[:at] + b"\x21\xfe\1x\0" * MANY + data[at:]
    form = PictureFormat((4, 4), 1)
    read, expected = (decode_picture(each, form, page=1) for each in (long, data))
    assert read.tolist() == expected.tolist()


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "empty"),
        (b"This is a shopping list.\n" * 20, "no picture"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n", "git lfs pull"),
        (JPEG[: len(JPEG) // 2], "cut short"),
        (JPEG[:100], "cut short|damaged|no picture"),
        (png(9, 64, 64)[:3000], "cut short"),
        (png_file(10_001, 10_000, 8, 0, bytes(99)), "100 megapixels; the limit is 100"),
        (png_file(40_000, 40_000, 8, 0, bytes(99)), "larger than 100 megapixels"),
        (png_file(65_536, 1, 8, 0, bytes(99)), "1x65,536 pixels .* a side is 65,535"),
        (png_file(1, 39_000_000, 8, 0, bytes(99)), "39,000,000x1 pixels"),
        (webp_header(10_000, 9_000), "90 megapixels; the limit of WEBP is 64"),
        (jpeg2000_header(10_000, 9_000), "90 megapixels; the limit of JPEG2000 is 40"),
        (b"%PDF-1.4\n%%EOF", "no picture"),
        (encoded(Image.new("RGB", (16, 12)), "EPS"), "no picture"),  # not given to Ghostscript
    ],
)
def test_what_cannot_be_decoded_says_why(data: bytes, reason: str, tmp_path: Path) -> None:
    path = tmp_path / "picture.jpg"
    path.write_bytes(data)
    for given_as in (data, path):
        with pytest.raises(PictureError, match=reason):
            decoded(given_as)
    with pytest.raises(PictureError, match="cannot be opened: No such file"):
        decoded(tmp_path / "nothing.jpg")


def test_a_header_says_whether_there_is_colour() -> None:
    assert read_header(io.BytesIO(png(0, channels=1))).bands == 1
    assert read_header(io.BytesIO(png(0))).bands == 3


@pytest.mark.parametrize("form", ["AVIF", "JPEG2000", "MPO", "WEBP"])
def test_formats_of_phones_and_of_the_web_have_the_pixels_that_were_saved(form: str) -> None:
    image = Image.radial_gradient("L").resize((16, 12)).convert("RGB")
    found = decoded(encoded(image, form, quality=100))
    expected = np.asarray(image).transpose(2, 0, 1)
    np.testing.assert_allclose(found.astype(float), expected, atol=8)


def test_heic_without_its_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    heic = b"\0\0\0\x18ftypheic" + bytes(99)
    with pytest.raises(NotReadHere, match="needs the package pillow-heif"):
        decoded(heic)


def test_heic_has_the_pixels_that_were_saved() -> None:
    heif = pytest.importorskip("pillow_heif")
    image = Image.radial_gradient("L").resize((16, 12)).convert("RGB")
    heif.register_heif_opener()
    found = decoded(encoded(image, "HEIF", quality=100))
    expected = np.asarray(image).transpose(2, 0, 1)
    np.testing.assert_allclose(found.astype(float), expected, atol=8)


@pytest.mark.parametrize("kind", ["profile", "compressed text", "long texts"])
def test_a_png_may_have_texts_and_profiles_of_any_size(kind: str) -> None:
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (12, 16, 3), np.uint8))
    info = PngInfo()
    if kind == "compressed text":
        info.add_text("XML", "x" * 80_000_000, zip=True)
    elif kind == "long texts":
        for number in range(70):
            info.add_itxt(f"n{number}", "x" * 1_000_000, zip=True)
    profile = bytes(20_000_000) if kind == "profile" else None
    data = encoded(image, "PNG", pnginfo=info, icc_profile=profile)
    assert len(data) < 1_000_000
    with pytest.raises(ValueError, match=r"too large|[Tt]oo much"):
        Image.open(io.BytesIO(data))
    np.testing.assert_array_equal(decoded(data), np.asarray(image).transpose(2, 0, 1))
    assert read_header(io.BytesIO(data))[:2] == (12, 16)
