from __future__ import annotations

import io
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray
from PIL import Image

from src.config.checks import ConfigError
from src.data.decoding.decode import decode_picture, thumbnail
from src.data.decoding.picture_files import PictureError, read_bounds, read_header
from src.data.decoding.picture_format import PictureFormat
from src.data.decoding.rasters import open_raster
from src.serving.inputs import as_picture
from src.serving.predictor import Predictor
from tests.data.pictures import data_of, encoded, opened, png, png_chunk, png_file, write

HEIGHT, WIDTH, BANDS = 12, 16, 7
NAMES = ("coastal", "blue", "green", "red", "nir", "swir", "cirrus")


def values(seed: int, kind: Any = np.uint8, most: int = 256, bands: int = BANDS) -> NDArray[Any]:
    noise = np.random.default_rng(seed).integers(0, most, (HEIGHT, WIDTH, bands))
    found: NDArray[Any] = noise.astype(kind)
    return found


def tiff(array: NDArray[Any], planar: str = "contig", **options: Any) -> bytes:
    stream = io.BytesIO()
    if planar == "separate":
        array = array.transpose(2, 0, 1)
    layout = {"photometric": "minisblack", "planarconfig": planar, "metadata": None}
    tifffile.imwrite(stream, array, **layout | options)
    return stream.getvalue()


def npy(array: NDArray[Any]) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array, allow_pickle=True)
    return stream.getvalue()


def read(data: bytes) -> NDArray[Any]:
    raster = open_raster(io.BytesIO(data))
    assert raster is not None
    found = raster.read()
    assert found.shape == (raster.height, raster.width, raster.bands)
    return found


def of_bands(*bands: int, **options: Any) -> PictureFormat:
    return PictureFormat((HEIGHT, WIDTH), len(bands), bands=bands, band_count=BANDS, **options)


@pytest.mark.parametrize("kind", [np.uint8, np.int16, np.uint16, np.float32, np.float64])
@pytest.mark.parametrize("planar", ["contig", "separate"])
def test_bands_of_a_tiff_are_those_that_were_written(kind: type, planar: str) -> None:
    array = values(0, kind)
    np.testing.assert_array_equal(read(tiff(array, planar, compression="zlib")), array)
    header = read_header(io.BytesIO(tiff(array, planar)))
    assert (header.height, header.width, header.bands) == array.shape
    assert header.deep == (kind is not np.uint8)


def test_a_turned_tiff_is_turned_back() -> None:
    array = values(1)
    turned = tiff(array, extratags=[(274, "H", 1, 6, True)])
    np.testing.assert_array_equal(read(turned), np.rot90(array, -1))


def test_colours_of_16_bits_are_read_whole() -> None:
    array = values(2, ">u2", 65536, 3)
    rows = b"".join(b"\0" + row.tobytes() for row in array)
    np.testing.assert_array_equal(read(png_file(WIDTH, HEIGHT, 16, 2, rows)), array)
    np.testing.assert_array_equal(read(tiff(array, photometric="rgb")), array)
    # Half transparent over white.
    mixed = np.concatenate([array, np.full((HEIGHT, WIDTH, 1), 32768)], axis=2).astype(">u2")
    rows = b"".join(b"\0" + row.tobytes() for row in mixed)
    expected = array * (32768 / 65535) + 65535 - 32768
    assert np.abs(read(png_file(WIDTH, HEIGHT, 16, 6, rows)) - expected).max() <= 1


def test_a_fourth_band_is_a_band_unless_it_is_transparency() -> None:
    array = values(3, bands=4)
    assert open_raster(io.BytesIO(tiff(array, photometric="rgb", extrasamples=[2]))) is None
    near_infrared = tiff(array, photometric="rgb", extrasamples=[0])
    np.testing.assert_array_equal(read(near_infrared), array)


@pytest.mark.parametrize(
    "options",
    [
        {"description": ",".join(NAMES)},
        {"description": '{"bands": ["' + '", "'.join(NAMES) + '"]}'},
        {
            "extratags": [
                (
                    *(42112, "s", 0),
                    "<GDALMetadata>"
                    + "".join(
                        f'<Item name="DESCRIPTION" sample="{n}" role="description">{name}</Item>'
                        for n, name in enumerate(NAMES)
                    )
                    + "</GDALMetadata>",
                    True,
                )
            ]
        },
    ],
)
def test_names_of_bands_come_from_the_description(options: dict[str, Any]) -> None:
    assert read_header(io.BytesIO(tiff(values(4), **options))).names == NAMES


def test_arrays_have_their_bands_first_or_last() -> None:
    array = values(5, np.float64)
    for given in (array, array.transpose(2, 0, 1)):
        np.testing.assert_array_equal(read(npy(given)), array)
    plane = array[:, :, 0]
    np.testing.assert_array_equal(read(npy(plane))[:, :, 0], plane)
    np.testing.assert_array_equal(read(npy(plane > 9))[:, :, 0], np.where(plane > 9, 255, 0))


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (npy(np.array([[{}] * 9] * 9, object)), "Python objects"),
        (npy(np.zeros((9, 9), complex)), "complex128"),
        (npy(np.zeros((2, 9, 9, 3))), "HxWxC is needed"),
        (npy(np.zeros((0, 9))), "empty array"),
        (npy(np.full((9, 9), np.nan)), "no finite numbers"),
        (npy(np.zeros((900, 900)))[:4000], "damaged|cut short"),
    ],
)
def test_arrays_that_are_no_pictures_say_why(data: bytes, reason: str) -> None:
    with pytest.raises(PictureError, match=reason):
        decode_picture(data, PictureFormat((8, 8), 1, dtype="float32", value_range=(0, 1)))


def test_what_an_array_would_take_is_known_from_its_header() -> None:
    for shape, kind, reason in (
        ((20_000, 10_000), "<u1", "200 megapixels; the limit is 100"),
        ((9_000, 9_000, 30), "<f8", "MB in memory .30 bands.; the limit is 800"),
    ):
        stream = io.BytesIO()
        header = {"descr": kind, "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(stream, header)  # type: ignore[arg-type]
        with pytest.raises(PictureError, match=reason):
            read_header(io.BytesIO(stream.getvalue()))


def test_a_tiff_of_two_widths_is_damaged_and_takes_no_memory() -> None:
    """A pair, multiplied by the height, would be as many numbers."""
    data = bytearray(tiff(values(0)))
    (start,) = struct.unpack_from("<I", data, 4)
    for entry in range(start + 2, start + 2 + 12 * data[start], 12):
        (tag,) = struct.unpack_from("<H", data, entry)
        if tag == 256:  # two numbers of 16 bits
            struct.pack_into("<HI", data, entry + 2, 3, 2)
        elif tag == 257:
            struct.pack_into("<HII", data, entry + 2, 4, 1, 1 << 31)
    with pytest.raises(PictureError, match="is damaged"):
        read_header(io.BytesIO(data))


def test_bands_are_chosen_and_scaled() -> None:
    array = values(6, np.uint16, 4096)
    data = tiff(array)
    form = of_bands(4, 3, 7, dtype="float32", value_range=(0.0, 4095.0))
    expected = array[:, :, [3, 2, 6]].transpose(2, 0, 1) * (255 / 4095)
    np.testing.assert_allclose(decode_picture(data, form), expected, rtol=1e-6)
    # Each band is resized as a picture of its own.
    small = PictureFormat((5, 6), 3, "crop", (0, 4095), "float32", (4, 3, 7), BANDS)
    whole = decode_picture(data, small)
    for channel, band in enumerate((3, 2, 6)):
        alone = PictureFormat((5, 6), 1, "crop", (0, 4095), "float32")
        np.testing.assert_allclose(decode_picture(npy(array[:, :, band]), alone)[0], whole[channel])


@pytest.mark.parametrize("data", [png(0), tiff(values(0, bands=6)), npy(values(0)[:, :, 0])])
def test_another_number_of_bands_is_refused_with_both(data: bytes) -> None:
    with pytest.raises(PictureError, match=r"has (1 band|[36] bands), where pictures of 7"):
        decode_picture(data, of_bands(1, 2))
    with pytest.raises(PictureError, match="has 7 bands, where pictures of 1 or 3"):
        decode_picture(tiff(values(0)), PictureFormat((8, 8), 3))


def test_a_thumbnail_shows_three_bands(tmp_path: Path) -> None:
    array = values(7)
    path = write(tmp_path / "a.tif", tiff(array))
    np.testing.assert_array_equal(thumbnail(path), array[:, :, :3].transpose(2, 0, 1))


def band_set(root: Path, count: int = 12, **options: Any) -> Path:
    for number in range(2 * count):
        write(root / "ab"[number % 2] / f"{number:02}.tif", tiff(values(number), **options))
    return root


def test_a_set_has_all_its_bands_or_those_that_are_named(tmp_path: Path) -> None:
    root, cache = band_set(tmp_path / "set", description=",".join(NAMES)), tmp_path / "cache"
    store = opened(root, cache)
    assert store.format.bands == tuple(range(1, 8)) and store.format.dtype == "uint8"
    index = (store.sample_paths or ()).index("b/03.tif")
    np.testing.assert_array_equal(store.read(index), values(3).transpose(2, 0, 1))
    for bands in ([4, 3], ["red", "Green"]):
        store = opened(root, cache, bands=bands)
        assert store.format.bands == (4, 3) and store.format.band_count == 7
        np.testing.assert_array_equal(store.read(index), values(3)[:, :, [3, 2]].transpose(2, 0, 1))
    letters = opened(root, cache, bands=["g", "a"], band_names=list("abcdefg"))
    assert letters.format.bands == (7, 1)
    with pytest.raises(ConfigError, match=r"a/00.tif has 7 bands, and no band 9"):
        opened(root, cache, bands=[9])
    with pytest.raises(ConfigError, match=r"no band 'thermal' in a/00.tif: .*coastal, blue"):
        opened(root, cache, bands=["thermal"])
    with pytest.raises(ConfigError, match=r"2 names, and a/00.tif has 7 bands"):
        opened(root, cache, bands=["x"], band_names=["x", "y"])
    write(root / "a" / "odd.tif", tiff(values(0, bands=5)))
    with pytest.raises(ConfigError, match=r"a/00.tif has 7 bands and a/odd.tif has 5"):
        opened(root, cache)


def test_parts_of_colours_can_be_chosen(tmp_path: Path) -> None:
    for number in range(4):
        write(tmp_path / "set" / "ab"[number % 2] / f"{number}.png", png(number))
    store = opened(tmp_path / "set", tmp_path / "cache", bands=[3, 1])
    whole = opened(tmp_path / "set", tmp_path / "cache", channels=3)
    np.testing.assert_array_equal(store.read(1), whole.read(1)[[2, 0]])


def test_bands_keep_what_8_bits_would_lose(tmp_path: Path) -> None:
    for number in range(24):
        array = values(number, np.float32, 4096)
        write(tmp_path / "set" / "ab"[number % 2] / f"{number:02}.tif", tiff(array))
    data = data_of(tmp_path / "set")
    form, images = data.pictures.format, data.pictures.images
    assert form.dtype == "float32" and images is not None and images.dtype == np.float32
    assert form.value_range == (0, 4095)
    place = (data.pictures.sample_paths or ()).index("b/05.tif")
    expected = values(5, np.float32, 4096).transpose(2, 0, 1) * (255 / 4095)
    np.testing.assert_allclose(images[place], expected, rtol=1e-6)
    train = images[data.split.train].astype(np.float64) / 255
    mean, std = data.channel_statistics
    np.testing.assert_allclose(mean, train.mean(axis=(0, 2, 3)), rtol=1e-9)
    np.testing.assert_allclose(std, train.std(axis=(0, 2, 3)), rtol=1e-9)


def test_a_served_model_takes_arrays_of_its_bands(tmp_path: Path) -> None:
    form = of_bands(6, 1, dtype="float32", value_range=(0.0, 4095.0))
    seen: list[NDArray[Any]] = []

    def classify(images: NDArray[Any]) -> NDArray[np.float32]:
        seen.append(images)
        return np.full((len(images), 2), 0.5, np.float32)

    predictor = Predictor(classify, {"class_names": ["a", "b"], **form.plain()})
    array = values(8, np.uint16, 4096)
    path = write(tmp_path / "a.npy", npy(array))
    rows = [tiff(array), npy(array), array, array.tolist(), array.astype(float)]
    predictor.answer(rows)
    for image in seen[0]:
        np.testing.assert_array_equal(image, predictor.pixels(path))
    with pytest.raises(ValueError, match="row 1 has 3 bands, where pictures of 7 are taken"):
        predictor.answer([array, array[:, :, :3]])
    # Numbers of an 8-bit model have to be such.
    with pytest.raises(PictureError, match="whole numbers from 0 to 255"):
        as_picture(array)


def test_8_bits_of_a_set_stay_8_bits(tmp_path: Path) -> None:
    image = values(10, bands=3)
    for label in "ab":
        for number in range(3):
            picture = Image.fromarray(np.roll(image, number + 9 * (label == "b"), axis=0))
            write(tmp_path / "set" / label / f"{number}.png", encoded(picture, "PNG"))
    store = opened(tmp_path / "set", tmp_path / "cache")
    assert store.images is not None and store.images.dtype == np.uint8
    assert set(store.identity()) == {"image_size", "channels", "fit", "resizing"}


@pytest.mark.parametrize("bands", [1, 2])
@pytest.mark.parametrize("kind", [np.uint16, np.float32])
def test_white_may_be_zero(kind: type, bands: int) -> None:
    array = values(5, kind, 4096, bands)
    array[..., 1:] = 65535
    options: dict[str, Any] = {"extrasamples": [2]} if bands == 2 else {}
    black, white = (
        tiff(array if bands == 2 else array[..., 0], photometric=one, **options)
        for one in ("minisblack", "miniswhite")
    )
    form = PictureFormat((HEIGHT, WIDTH), 1, dtype="float32", value_range=(0.0, 4095.0))
    expected = array[..., 0] / 4095.0 * 255
    np.testing.assert_allclose(decode_picture(black, form)[0], expected, atol=1e-3)
    np.testing.assert_allclose(decode_picture(white, form)[0], 255 - expected, atol=1e-3)


def test_what_is_transparent_is_white_where_zero_is() -> None:
    array = np.full((HEIGHT, WIDTH, 2), 65535, np.uint16)
    array[:, 8:, 1] = 0
    data = tiff(array, photometric="miniswhite", extrasamples=[2])
    form = PictureFormat((HEIGHT, WIDTH), 1, value_range=(0.0, 65535.0))
    assert np.unique(decode_picture(data, form)[..., :8]).tolist() == [0]
    assert np.unique(decode_picture(data, form)[..., 8:]).tolist() == [255]


def grey_png(grey: NDArray[np.uint16], opacity: NDArray[np.uint16] | None = None) -> bytes:
    samples = [grey] if opacity is None else [grey, opacity]
    lines = np.stack(samples, axis=-1).astype(">u2")
    rows = b"".join(bytes(1) + line.tobytes() for line in lines)
    return png_file(*grey.shape[::-1], 16, 0 if opacity is None else 4, rows)


def test_grey_of_16_bits_with_opacity_keeps_all_of_them(tmp_path: Path) -> None:
    grey = np.random.default_rng(8).integers(0, 4096, (HEIGHT, WIDTH)).astype(np.uint16)
    opaque = np.full_like(grey, 65535)
    header = read_header(io.BytesIO(grey_png(grey, opaque)))
    assert header.deep and header.bands == 1
    form = PictureFormat((HEIGHT, WIDTH), 1, dtype="float32", value_range=(0.0, 4095.0))
    for data in (grey_png(grey), grey_png(grey, opaque)):
        np.testing.assert_allclose(decode_picture(data, form)[0], grey / 4095 * 255, atol=1e-3)
    np.testing.assert_array_equal(decode_picture(grey_png(grey, opaque * 0), form), 255)
    for label in "ab":
        write(tmp_path / "set" / label / "0.png", grey_png(grey + (label == "b"), opaque))
    store = opened(tmp_path / "set", tmp_path / "cache")
    assert store.format.dtype == "float32" and store.format.value_range == (0, 4095)


@pytest.mark.parametrize("colour", [2, 4, 6])
def test_16_bits_of_png_are_turned_as_8_are(colour: int) -> None:
    samples = {2: 3, 4: 2, 6: 4}[colour]
    array = values(6, np.uint16, 65536, samples)
    array[..., -1:] |= np.uint16(0 if colour == 2 else 65535)
    rows = b"".join(bytes(1) + line.astype(">u2").tobytes() for line in array)
    data = png_file(WIDTH, HEIGHT, 16, colour, rows)
    exif = Image.Exif()
    exif[0x0112] = 6
    chunk = png_chunk(b"eXIf", exif.tobytes()[6:])
    turned = data[:33] + chunk + data[33:]
    header = read_header(io.BytesIO(turned))
    assert (header.height, header.width) == (WIDTH, HEIGHT)
    np.testing.assert_array_equal(read(turned), np.rot90(read(data), -1))


@pytest.mark.parametrize("dtype", ["int8", "int64", "uint64", "float16", "float64"])
def test_grey_of_any_width_and_sign_has_its_own_values(dtype: str, tmp_path: Path) -> None:
    values = np.arange(-60 if dtype != "uint64" else 0, 196 - 136)[:60].reshape(6, 10)
    path = tmp_path / "grey.tif"
    tifffile.imwrite(path, values.astype(dtype), photometric="minisblack")
    low, high = float(values.min()), float(values.max())
    with path.open("rb") as stream:
        assert read_bounds(stream) == (low, high)
    found = decode_picture(path, PictureFormat((6, 10), 1, value_range=(low, high)))
    expected = (values - low) * 255 / (high - low)
    assert np.abs(found[0] - expected).max() <= 1
