from __future__ import annotations

import io
import struct
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray
from PIL import Image

from src.config.checks import ConfigError
from src.data.decoding.decode import decode_picture, thumbnail
from src.data.decoding.picture_files import NotReadHere, PictureError, PictureFile, read_header
from src.data.decoding.picture_format import PictureFormat
from src.data.decoding.rasters import open_raster
from src.data.sources.source import Source
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


def dicom(pixels: NDArray[np.int16], **attributes: Any) -> bytes:
    pydicom = pytest.importorskip("pydicom")
    header = pydicom.dataset.FileMetaDataset()
    header.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
    header.MediaStorageSOPClassUID = pydicom.uid.CTImageStorage
    header.MediaStorageSOPInstanceUID = "1.2.3"
    made = pydicom.dataset.FileDataset(io.BytesIO(), {}, file_meta=header, preamble=bytes(128))
    made.SOPClassUID, made.SOPInstanceUID = header.MediaStorageSOPClassUID, "1.2.3"
    made.Rows, made.Columns = pixels.shape
    made.SamplesPerPixel, made.BitsAllocated, made.BitsStored, made.HighBit = 1, 16, 16, 15
    made.PixelRepresentation, made.PhotometricInterpretation = 1, "MONOCHROME2"
    made.PixelData = pixels.astype("<i2").tobytes()
    for name, value in attributes.items():
        setattr(made, name, value)
    stream = io.BytesIO()
    pydicom.dcmwrite(stream, made, enforce_file_format=True)
    return stream.getvalue()


def test_dicom_is_rescaled_windowed_and_inverted() -> None:
    pydicom = pytest.importorskip("pydicom")
    stored = np.random.default_rng(0).integers(0, 3000, (HEIGHT, WIDTH)).astype(np.int16)
    attributes = {"RescaleSlope": 2, "RescaleIntercept": -1000}
    attributes |= {"WindowCenter": 40, "WindowWidth": 400}
    data = dicom(stored, **attributes)
    form = PictureFormat((HEIGHT, WIDTH), 1, dtype="float32")
    found = decode_picture(data, form)[0]
    made = pydicom.dcmread(io.BytesIO(data))
    windowed = pydicom.pixels.apply_windowing(stored * 2.0 - 1000, made)
    low, high = windowed.min(), windowed.max()
    np.testing.assert_allclose(found, (windowed - low) / (high - low) * 255, atol=1e-3)
    inverted = dicom(stored, **attributes, PhotometricInterpretation="MONOCHROME1")
    np.testing.assert_allclose(decode_picture(inverted, form)[0], 255 - found, atol=1e-4)
    # A range that is set counts before the file's own window.
    stated = PictureFormat((HEIGHT, WIDTH), 1, dtype="float32", value_range=(-1000.0, 5000.0))
    expected = stored.clip(0, 3000) * 2.0 / 6000 * 255
    np.testing.assert_allclose(decode_picture(data, stated)[0], expected, atol=1e-3)


def test_windows_of_files_and_the_range_of_16_bits_share_nothing_that_is_kept(
    tmp_path: Path,
) -> None:
    for number in range(8):
        pixels = np.random.default_rng(number).integers(400, 1700, (HEIGHT, WIDTH)).astype(np.int16)
        data = dicom(pixels, WindowCenter=1000, WindowWidth=1000)
        write(tmp_path / "set" / "ab"[number % 2] / f"{number}.dcm", data)
    whole: Any = {"value_range": [0.0, 65535.0]}
    own, scaled, again = (
        opened(tmp_path / "set", tmp_path / "cache", **options) for options in ({}, whole, {})
    )
    alone = opened(tmp_path / "set", tmp_path / "other", **whole)
    assert own.images is not None and scaled.images is not None and alone.images is not None
    assert not scaled.from_cache and again.from_cache
    np.testing.assert_array_equal(scaled.images, alone.images)
    assert own.images.mean() > 100 and scaled.images.mean() < 10
    # Of what other caches go by as well, and where the pictures become 8 bits.
    assert own.identity() != scaled.identity()
    forms = [replace(one.format, dtype="uint8") for one in (own, scaled)]
    assert own.identity(forms[0]) != own.identity(forms[1])


def test_pictures_of_one_patient_stay_together(tmp_path: Path) -> None:
    for number in range(24):
        pixels = np.random.default_rng(number).integers(0, 900, (HEIGHT, WIDTH)).astype(np.int16)
        window = {"WindowCenter": 450, "WindowWidth": 901}
        data = dicom(pixels, **window, PatientID=f"patient {number // 4}")
        write(tmp_path / "set" / "ab"[number // 2 % 2] / f"{number:02}.dcm", data)
    data = data_of(tmp_path / "set")
    form, groups = data.pictures.format, data.pictures.groups
    assert form.dtype == "float32" and form.value_range is None  # the files have windows
    assert groups is not None and len(set(groups)) == 6
    assert not any("patient" in group for group in groups)
    for group in set(groups):
        mine = [i for i, one in enumerate(groups) if one == group]
        assert len(mine) == 4 and len(set(data.split.parts[mine])) == 1


def test_dicom_without_its_package_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setitem(sys.modules, "pydicom", None)
    data = bytes(128) + b"DICM" + bytes(99)
    with pytest.raises(NotReadHere, match=r"needs the package pydicom .make install EXTRAS=dicom"):
        read_header(io.BytesIO(data))
    for label in "ab":
        write(tmp_path / "set" / label / "0.dcm", data)
    with pytest.raises(ConfigError, match="EXTRAS=dicom"):
        opened(tmp_path / "set", tmp_path / "cache")


def test_compression_without_its_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(page: tifffile.TiffPage) -> None:
        raise ValueError("<COMPRESSION.LZW: 5> requires the 'imagecodecs' package")

    monkeypatch.setattr(tifffile.TiffPage, "asarray", missing)
    with pytest.raises(NotReadHere, match=r"package imagecodecs .make install EXTRAS=tiff"):
        decode_picture(tiff(values(9)), of_bands(1))


def test_what_a_package_reads_is_taken_when_it_comes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(6):
        write(tmp_path / "set" / "ab"[number % 2] / f"{number}.tif", tiff(values(number)))
    squeezed = tiff(values(6), compression="zlib")
    write(tmp_path / "set" / "a" / "6.tif", squeezed)
    decompress = tifffile.TiffPage.asarray

    def missing(page: tifffile.TiffPage) -> Any:
        if page.compression != 1:
            raise ValueError("<COMPRESSION.LZW: 5> requires the 'imagecodecs' package")
        return decompress(page)

    def store(on_bad_image: str = "skip") -> Any:
        return opened(tmp_path / "set", tmp_path / "cache", on_bad_image=on_bad_image)

    with monkeypatch.context() as patch:
        patch.setattr(tifffile.TiffPage, "asarray", missing)
        assert len(store()) == 6
        again = store()
        assert len(again) == 6 and again.from_cache, "nothing has changed"
        with pytest.raises(ConfigError, match="imagecodecs"):
            store("error")
    assert len(store("error")) == 7


def test_compressed_dicom_without_its_package_is_named() -> None:
    pydicom = pytest.importorskip("pydicom")
    syntax = pydicom.uid.JPEGLSLossless
    if pydicom.pixels.get_decoder(syntax).is_available:
        pytest.skip("packages for JPEG-LS are installed")
    made = pydicom.dcmread(io.BytesIO(dicom(np.zeros((HEIGHT, WIDTH), np.int16))))
    made.file_meta.TransferSyntaxUID = syntax
    made.PixelData = pydicom.encaps.encapsulate([bytes(64)])
    stream = io.BytesIO()
    pydicom.dcmwrite(stream, made, enforce_file_format=True)
    with pytest.raises(NotReadHere, match=r"JPEG-LS Lossless.* needs .*pyjpegls"):
        read_header(io.BytesIO(stream.getvalue()))


def test_8_bits_of_a_set_stay_8_bits(tmp_path: Path) -> None:
    image = values(10, bands=3)
    for label in "ab":
        for number in range(3):
            picture = Image.fromarray(np.roll(image, number + 9 * (label == "b"), axis=0))
            write(tmp_path / "set" / label / f"{number}.png", encoded(picture, "PNG"))
    store = opened(tmp_path / "set", tmp_path / "cache")
    assert store.images is not None and store.images.dtype == np.uint8
    assert set(store.identity()) == {"image_size", "channels", "fit"}


def test_pages_become_pictures_of_one_group(tmp_path: Path) -> None:
    stacks = {}
    for number in range(12):
        pages = np.stack([values(100 * number + page, np.uint16) for page in range(3)])
        stream = io.BytesIO()
        with tifffile.TiffWriter(stream) as writer:
            for page in pages:
                writer.write(page, photometric="minisblack", planarconfig="contig", metadata=None)
        path = f"{'ab'[number % 2]}/{number:02}.tif"
        write(tmp_path / "set" / path, stream.getvalue())
        stacks[path] = pages
    first = data_of(tmp_path / "set")
    assert len(first.pictures) == 12
    data = data_of(tmp_path / "set", "data.pages=all")
    pictures, names = data.pictures, data.pictures.sample_paths
    assert len(pictures) == 36 and names is not None and pictures.groups is not None
    assert len(np.unique(pictures.content_hashes)) == 36
    assert pictures.format.value_range == (0, 255)
    for index, name in enumerate(names):
        path, _, number = name.partition("#")
        expected = stacks[path][int(number) - 1].transpose(2, 0, 1)
        np.testing.assert_allclose(pictures.read(index), expected, rtol=1e-6)
        assert pictures.groups[index] == path
    parts = {
        path: {data.split.parts[names.index(f"{path}#{n}")] for n in (1, 2, 3)} for path in stacks
    }
    assert all(len(one) == 1 for one in parts.values())


def test_frames_of_an_animation_are_pages(tmp_path: Path) -> None:
    for number, kind in enumerate(("GIF", "WEBP", "PNG", "GIF")):
        frames = [Image.new("RGB", (16, 12), (60 * page, 9 * number, 7)) for page in range(4)]
        options = {"lossless": True} if kind == "WEBP" else {}
        data = encoded(frames[0], kind, save_all=True, append_images=frames[1:], **options)
        write(tmp_path / "set" / "ab"[number % 2] / f"{number}.{kind.lower()}", data)
    write(tmp_path / "set" / "a" / "alone.png", png(0))
    store = opened(tmp_path / "set", tmp_path / "cache", pages="all")
    assert store.sample_paths is not None and len(store) == 17
    for index, name in enumerate(store.sample_paths):
        if name != "a/alone.png":
            red = store.read(index)[0]
            assert np.abs(red - 60.0 * (int(name[-1]) - 1)).max() <= 4


def test_files_of_many_pages_are_read_and_opened_once_for_all_of_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    counts = dict.fromkeys(("files", "Pillow", "TIFF"), 0)

    def counted(name: str, function: Any) -> Any:
        def call(*given: Any, **named: Any) -> Any:
            counts[name] += 1
            return function(*given, **named)

        return call

    monkeypatch.setattr(Source, "open", counted("files", Source.open))
    monkeypatch.setattr(Image, "open", counted("Pillow", Image.open))
    monkeypatch.setattr(tifffile, "TiffFile", counted("TIFF", tifffile.TiffFile))
    found = {}
    for pages in (3, 40):
        for label in "ab":
            for kind, bands in ((np.uint16, 1), (np.uint8, 1), (np.uint8, BANDS)):
                folder = tmp_path / f"{pages}" / f"{kind.__name__} {bands}" / label
                stack = np.stack(
                    [values(ord(label) * 99 + n, kind, 200, bands) for n in range(pages)]
                )
                options = {"photometric": "minisblack", "planarconfig": "contig"}
                stream = io.BytesIO()
                with tifffile.TiffWriter(stream) as writer:
                    for page in stack if bands > 1 else stack[..., 0]:
                        writer.write(page, metadata=None, compression="zlib", **options)
                write(folder / "0.tif", stream.getvalue())
        for folder in sorted((tmp_path / f"{pages}").iterdir()):
            counts.update(dict.fromkeys(counts, 0))
            cache = tmp_path / "cache" / f"{pages} {folder.name}"
            store = opened(folder, cache, pages="all", num_workers=1)
            assert len(store) == 2 * pages and store.images is not None
            found[pages, folder.name] = dict(counts)
            assert store.sample_paths is not None
            for index in range(0, len(store), 7):
                path, _, number = store.sample_paths[index].partition("#")
                alone = decode_picture(folder / path, store.format, page=int(number) - 1)
                np.testing.assert_array_equal(store.images[index], alone)
    for (pages, name), one in found.items():
        assert one == found[3, name], (pages, name)


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG"])
def test_frames_are_the_same_after_others_and_alone(kind: str) -> None:
    rng = np.random.default_rng(3)
    frames = []
    for number in range(12):
        frame = Image.fromarray(values(2, bands=3)).convert("RGBA")
        spot = Image.fromarray(rng.integers(0, 256, (4, 5, 4), np.uint8), "RGBA")
        frame.paste(spot, (number % 9, number % 7))
        frames.append(frame)
    options: dict[str, Any] = {"WEBP": {"lossless": True}, "GIF": {"disposal": 2}}.get(kind, {})
    data = encoded(frames[0], kind, save_all=True, append_images=frames[1:], **options)
    file = PictureFile(io.BytesIO(data))
    form = PictureFormat((HEIGHT, WIDTH), 3)
    for page in (0, 1, 2, 4, 5, 5, 11, 3, 4):
        read_header(file, page)
        kept, alone = (decode_picture(one, form, page=page) for one in (file, data))
        np.testing.assert_array_equal(kept, alone)


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
