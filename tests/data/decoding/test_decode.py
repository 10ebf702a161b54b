from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from PIL.JpegImagePlugin import JpegImageFile

from src.data.decoding import decode
from src.data.decoding.decode import decode_picture, thumbnail
from src.data.decoding.picture_files import PictureError, read_header
from src.data.decoding.picture_format import PictureFormat
from src.data.decoding.picture_store import pixels_identity
from tests.data.pictures import decoded, encoded, pixels, png

# As the module itself asks for, which pytest undoes.
pytestmark = pytest.mark.filterwarnings(r"ignore::Warning:PIL\.")

HEIGHT, WIDTH = 12, 16
SIZE = (HEIGHT, WIDTH)


def test_pixels_of_the_right_size_are_kept(tmp_path: Path) -> None:
    colour, grey = pixels(0), pixels(1, channels=1)
    for format in ("PNG", "BMP", "TIFF", "PPM"):
        data = encoded(Image.fromarray(colour), format)
        np.testing.assert_array_equal(decoded(data), colour.transpose(2, 0, 1))
        data = encoded(Image.fromarray(grey), format)
        np.testing.assert_array_equal(decoded(data, channels=1), grey[None])
        np.testing.assert_array_equal(decoded(data, channels=3), np.stack([grey] * 3))
    path = tmp_path / "picture"
    path.write_bytes(data)
    np.testing.assert_array_equal(decoded(path, channels=1), grey[None])
    np.testing.assert_array_equal(decoded(Image.fromarray(grey), channels=1), grey[None])
    luminance = pixels(2) @ np.array([0.299, 0.587, 0.114])  # of ITU-R 601
    assert np.abs(decoded(png(2), channels=1)[0] - luminance).max() <= 1


TURNS = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.swapaxes(0, 1),
    6: lambda a: a.swapaxes(0, 1)[:, ::-1],
    7: lambda a: a[::-1, ::-1].swapaxes(0, 1),
    8: lambda a: a.swapaxes(0, 1)[::-1],
}


@pytest.mark.parametrize("format", ["PNG", "TIFF"])
@pytest.mark.parametrize("orientation", TURNS)
def test_exif_turns_the_picture(orientation: int, format: str) -> None:
    colour = pixels(3)
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encoded(Image.fromarray(colour), format, exif=exif)
    shown = TURNS[orientation](colour)
    header = read_header(io.BytesIO(data))
    assert (header.height, header.width) == shown.shape[:2]
    image = decoded(data, shown.shape[:2])
    np.testing.assert_array_equal(image, shown.transpose(2, 0, 1))


def test_a_damaged_exif_block_does_not_cost_the_picture() -> None:
    image = Image.fromarray(np.full((*SIZE, 3), 200, np.uint8))
    data = encoded(image, "JPEG", exif=b"Exif\0\0MM\0*\0\0\0\xffdamaged")
    assert np.abs(decoded(data).astype(int) - 200).max() <= 2
    assert read_header(io.BytesIO(data)).width == WIDTH


def test_transparency_becomes_white() -> None:
    rgba = np.concatenate([pixels(4), pixels(5, channels=1)[..., None]], axis=2)
    alpha = rgba[..., 3:] / 255
    expected = rgba[..., :3] * alpha + 255 * (1 - alpha)
    for format in ("PNG", "TIFF"):
        image = decoded(encoded(Image.fromarray(rgba), format))
        assert np.abs(image.transpose(1, 2, 0) - expected).max() <= 1
    grey = Image.merge("LA", [Image.fromarray(rgba[..., 0]), Image.fromarray(rgba[..., 3])])
    expected = rgba[..., :1] * alpha + 255 * (1 - alpha)
    image = decoded(encoded(grey, "PNG"), channels=1)
    assert np.abs(image.transpose(1, 2, 0) - expected).max() <= 1


def test_palettes_and_their_transparent_entry() -> None:
    indices = np.arange(HEIGHT * WIDTH, dtype=np.uint8).reshape(SIZE) % 4
    colours = np.array([[10, 20, 30], [200, 0, 0], [0, 200, 0], [0, 0, 200]], np.uint8)
    image = Image.fromarray(indices, "P")
    image.putpalette(colours.tobytes())
    expected = colours[indices]
    np.testing.assert_array_equal(decoded(encoded(image, "PNG")), expected.transpose(2, 0, 1))
    for format in ("PNG", "GIF"):
        data = encoded(image, format, transparency=2)
        seen = np.where((indices == 2)[..., None], 255, expected)
        np.testing.assert_array_equal(decoded(data), seen.transpose(2, 0, 1))


def test_one_bit_and_cmyk() -> None:
    bits = pixels(6, channels=1) > 127
    image = decoded(encoded(Image.fromarray(bits), "PNG"), channels=1)
    np.testing.assert_array_equal(image[0], np.where(bits, 255, 0))
    red = Image.new("RGB", (WIDTH, HEIGHT), (220, 30, 40)).convert("CMYK")
    image = decoded(encoded(red, "JPEG", quality=95))
    assert np.abs(image.astype(int) - np.array([220, 30, 40])[:, None, None]).max() <= 6


def test_grey_of_a_lab_tiff_is_that_of_its_colours() -> None:
    lab = Image.fromarray(pixels(6)).convert("LAB")
    data = encoded(lab, "TIFF")
    colours = Image.fromarray(decoded(data).transpose(1, 2, 0))
    np.testing.assert_array_equal(decoded(data, channels=1)[0], np.asarray(colours.convert("L")))


@pytest.mark.parametrize("format", ["PNG", "TIFF", "PPM"])
def test_sixteen_bits_are_scaled_not_clipped(format: str) -> None:
    values = np.linspace(0, 65535, HEIGHT * WIDTH).astype(np.uint16).reshape(SIZE)
    image = decoded(encoded(Image.fromarray(values), format), channels=1)
    np.testing.assert_array_equal(image[0], np.rint(values / 257))


def test_pixels_without_a_known_black_and_white_are_refused() -> None:
    for value in (np.float32(0.5), np.int32(70_000), np.int32(255), np.uint16(4095)):
        data = encoded(Image.fromarray(np.full(SIZE, value)), "TIFF")
        with pytest.raises(PictureError, match="black and white are unknown"):
            decode_picture(data, PictureFormat(SIZE, 1))


@pytest.mark.parametrize("format", ["GIF", "WEBP", "TIFF", "PNG"])
def test_the_first_frame_counts(format: str) -> None:
    frames = [Image.new("RGB", (WIDTH, HEIGHT), c) for c in ("red", "lime", "blue")]
    options = {"lossless": True} if format == "WEBP" else {}
    data = encoded(frames[0], format, save_all=True, append_images=frames[1:], **options)
    image = decoded(data)
    assert (image == np.array([255, 0, 0])[:, None, None]).all()


@pytest.mark.parametrize("size", [(8, 8), (20, 9), (64, 48)])
def test_resizing_is_bicubic_with_antialiasing(size: tuple[int, int]) -> None:
    # Away from black and white: Pillow cuts off what overshoots after each of its two passes.
    colour = pixels(7, 40, 30) // 2 + 64
    data = encoded(Image.fromarray(colour), "PNG")
    batch = torch.from_numpy(colour.transpose(2, 0, 1).copy())[None].float()
    reference = torch.nn.functional.interpolate(
        batch, size=size, mode="bicubic", antialias=True, align_corners=False
    )[0].clamp(0, 255)
    image = decoded(data, size)
    assert np.abs(image - reference.numpy()).max() <= 2


def test_decoding_a_large_photo_smaller_changes_little() -> None:
    y, x = np.mgrid[0:900, 0:1200]
    waves = np.stack([128 + 100 * np.sin(x / 90 + k) * np.cos(y / 70) for k in range(3)], axis=2)
    photo = Image.fromarray(waves.astype(np.uint8))
    data = encoded(photo, "JPEG", quality=95)
    image = decoded(data, (24, 32))
    # An open picture is not decoded at a smaller scale, so it is the reference.
    whole = decoded(Image.open(io.BytesIO(data)), (24, 32))
    assert image.shape == (3, 24, 32)
    assert np.abs(image.astype(int) - whole).max() <= 4


class CountedLock:
    """A lock that counts how often it was taken."""

    taken = 0

    def __enter__(self) -> None:
        self.taken += 1

    def __exit__(self, *_: object) -> None:
        pass


def test_a_photo_waits_for_its_turn_only_where_it_is_large_in_memory(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    photo = Image.fromarray(pixels(3, 600, 800))
    plain, progressive = (encoded(photo, "JPEG", progressive=one) for one in (False, True))
    small = decoded(plain, (24, 32))
    lock = CountedLock()
    monkeypatch.setattr(decode, "_LARGE_TURN", lock)
    monkeypatch.setattr(decode, "LARGE_PIXELS", 600 * 800 // 8)
    read: list[tuple[int, int]] = []
    load = JpegImageFile.load_prepare
    noted = lambda image: (read.append(image.size), load(image))  # noqa: E731
    monkeypatch.setattr(JpegImageFile, "load_prepare", noted)
    np.testing.assert_array_equal(decoded(plain, (24, 32)), small)
    assert read == [(100, 75)] and lock.taken == 0, "decoded at an eighth, beside others"
    others = ((progressive, (24, 32)), (plain, (400, 500)), (encoded(photo, "PNG"), (24, 32)))
    for data, size in others:
        before = lock.taken
        decoded(data, size)
        assert lock.taken == before + 1


def test_photos_of_a_large_set_alone_have_keys_of_their_own() -> None:
    form = PictureFormat((24, 32), 3)
    ordinary, large = (
        pixels_identity(form, np.array([[6000, 4000], size]), None, files=True)
        for size in ([4000, 3000], [6000, 8000])
    )
    assert ordinary == form.identity() | {"resizing": 2} and ordinary != large


@given(
    mode=st.sampled_from(["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr", "I", "I;16"]),
    height=st.integers(1, 40),
    width=st.integers(1, 40),
    size=st.tuples(st.integers(8, 40), st.integers(8, 40)),
    channels=st.sampled_from([1, 3]),
)
def test_every_mode_and_size_becomes_an_array(
    mode: str, height: int, width: int, size: tuple[int, int], channels: int
) -> None:
    image = Image.new(mode, (width, height))
    array = decoded(image, size, channels)
    assert array.shape == (channels, *size)
    assert array.dtype == np.uint8
    assert array.flags.c_contiguous and array.flags.writeable
    assert (array == array[:, :1, :1]).all()


def striped(height: int, width: int) -> Image.Image:
    """A picture whose columns and rows are told apart by their colours."""
    rows, columns = np.mgrid[:height, :width]
    red, green = 255 * columns / (width - 1), 255 * rows / (height - 1)
    return Image.fromarray(
        np.stack([red, green, np.full_like(red, 90)], axis=2).round().astype(np.uint8)
    )


@pytest.mark.parametrize("size", [(30, 90), (90, 30), (40, 40)])
def test_a_crop_keeps_the_proportions_and_the_middle(size: tuple[int, int]) -> None:
    image = striped(*size)
    cropped = decoded(image, (24, 24), fit="crop")
    side = min(size)
    top, left = (size[0] - side) // 2, (size[1] - side) // 2
    box = (left, top, left + side, top + side)
    expected = np.asarray(image.crop(box).resize((24, 24), Image.Resampling.BICUBIC))
    difference = cropped.astype(int) - expected.transpose(2, 0, 1)
    assert np.abs(difference).max() <= 1


@pytest.mark.parametrize("size", [(30, 90), (90, 30)])
def test_a_padded_picture_is_whole_between_grey_bars(size: tuple[int, int]) -> None:
    image = striped(*size)
    padded = decoded(image, (24, 24), fit="pad")
    inner = (24, 8) if size[1] > size[0] else (8, 24)
    expected = np.asarray(image.resize(inner, Image.Resampling.BICUBIC)).transpose(2, 0, 1)
    wide = inner[0] == 24
    middle = padded[:, 8:16] if wide else padded[:, :, 8:16]
    np.testing.assert_array_equal(middle, expected)
    bars = np.delete(padded, np.s_[8:16], axis=1 if wide else 2)
    assert (bars == 128).all()


def test_a_turned_photo_is_fitted_as_it_is_seen(tmp_path: Path) -> None:
    upright = striped(60, 30)
    exif = Image.Exif()
    exif[0x0112] = 6  # stored on its side: to be turned by 90 degrees clockwise
    path = tmp_path / "turned.png"
    upright.transpose(Image.Transpose.ROTATE_90).save(path, exif=exif)
    for fit in ("squeeze", "crop", "pad"):
        turned = decoded(path, (32, 24), fit=fit)
        expected = decoded(upright, (32, 24), fit=fit)
        assert np.abs(turned.astype(int) - expected).max() <= 1


@pytest.mark.parametrize(
    ("channels", "fit", "message"),
    [(2, "crop", "channels is 2"), (3, "stretch", "squeeze, crop, pad")],
)
def test_unknown_formats_are_refused(channels: int, fit: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        PictureFormat((8, 8), channels, fit)


@pytest.mark.parametrize(
    ("size", "shape"),
    [
        ((400, 200), (100, 200)),
        ((30, 20), (20, 30)),
        ((2000, 1), (1, 200)),
        ((200,) * 2, (200,) * 2),
    ],
)
def test_proportions_stay_and_the_longer_side_is_bounded(
    tmp_path: Path, size: tuple[int, int], shape: tuple[int, int]
) -> None:
    Image.new("L", size, 7).save(tmp_path / "a.png")
    picture = thumbnail(tmp_path / "a.png", longest=200)
    assert picture.shape == (3, *shape) and picture.dtype == np.uint8
    assert (picture == 7).all()


def test_a_thumbnail_is_turned_and_of_a_picture(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (40, 20)).save(tmp_path / "a.jpg", exif=exif)
    assert thumbnail(tmp_path / "a.jpg").shape == (3, 40, 20)
    (tmp_path / "a.jpg").write_text("no picture")
    with pytest.raises(PictureError):
        thumbnail(tmp_path / "a.jpg")


@pytest.mark.parametrize("wide", [True, False])
@pytest.mark.parametrize(("side", "short"), [(32, 214), (128, 214), (224, 207), (288, 494)])
def test_pictures_are_cropped_where_rounding_cuts_less_than_nothing(
    side: int, short: int, wide: bool
) -> None:
    """As from the sides of 428x642 at 128 pixels, in double precision."""
    for long in (short, short + 1, round(1.5 * short), 2 * short):
        image = Image.new("L", (long, short) if wide else (short, long), 200)
        found = decoded(image, (side, side), fit="crop")
        assert found.shape[-2:] == (side, side) and (found == 200).all()
