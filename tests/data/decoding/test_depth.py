from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from src.config.checks import ConfigError
from src.data.decoding.decode import decode_picture
from src.data.decoding.depth import ScaleBy, chosen_range
from src.data.decoding.picture_files import PictureError
from src.data.decoding.picture_format import PictureFormat
from src.serving.inputs import as_picture
from src.serving.predictor import Predictor
from tests.data.pictures import data_of, encoded, opened, png_file, write

SIDE = 16


def eight(values: NDArray[Any], scale: ScaleBy = "own") -> NDArray[np.uint8]:
    """Pixels (H, W), saved in a TIFF file and decoded at their own size."""
    data = encoded(Image.fromarray(values), "TIFF")
    form = PictureFormat(values.shape, 1, value_range=None if scale == "own" else scale)
    pixels = decode_picture(data, form, display=scale == "own")[0]
    assert pixels.dtype == np.uint8
    return pixels.astype(np.uint8)


def noise(seed: int, low: float, high: float, kind: type = np.uint16) -> NDArray[Any]:
    return np.random.default_rng(seed).uniform(low, high, (SIDE, SIDE)).astype(kind)


def save(path: Path, values: NDArray[Any]) -> None:
    write(path, encoded(Image.fromarray(values), "TIFF"))


def deep_set(root: Path, low: float, high: float, kind: type = np.uint16, count: int = 12) -> Path:
    for number in range(2 * count):
        save(root / "ab"[number % 2] / f"{number:02}.tif", noise(number, low, high, kind))
    return root


@pytest.mark.parametrize(
    ("bounds", "expected"),
    [
        ([(0, 65535)], (0, 65535)),
        ([(1000, 40000)], (0, 65535)),
        ([(12, 4000)], (0, 4095)),
        ([(0, 1023)], (0, 1023)),
        ([(0, 200)], (0, 255)),
        ([(0, 10000), (50, 12000)], (0, 16383)),
        ([(0.0, 0.9)], (0, 1)),
        # Less than half of it is used, it is below 0, or beyond: from the least to the largest.
        ([(940, 1120)], (940, 1120)),
        ([(0, 20_000)], (0, 20_000)),
        ([(-1000, 3000)], (-1000, 3000)),
        ([(0, 100_000)], (0, 100_000)),
        ([(7, 7)], (7, 8)),
        ([(np.nan, np.nan)], None),
        ([(np.nan, np.nan), (3, 4090)], (0, 4095)),
    ],
)
def test_black_and_white_are_those_of_the_bits_that_are_used(
    bounds: Sequence[tuple[float, float]], expected: tuple[float, float] | None
) -> None:
    assert chosen_range(np.array(bounds, np.float64)) == expected


def test_a_whole_range_of_16_bits_is_scaled_as_whole_numbers_are() -> None:
    values = np.arange(65536, dtype=np.uint16).reshape(256, 256)
    expected = (values.astype(np.uint32) + 128) // 257
    for scale in ("own", None, (0.0, 65535.0)):
        np.testing.assert_array_equal(eight(values, scale), expected)


def test_fewer_bits_are_scaled_by_their_own_number() -> None:
    values = np.arange(4096, dtype=np.uint16).reshape(64, 64)
    for kind in (np.uint16, np.int32, np.float32):
        np.testing.assert_array_equal(eight(values.astype(kind)), np.rint(values / 4095 * 255))
    grey = np.arange(256, dtype=np.int32).reshape(16, 16)
    np.testing.assert_array_equal(eight(grey), grey)
    unit = np.linspace(0, 1, 256, dtype=np.float32).reshape(16, 16)
    np.testing.assert_array_equal(eight(unit), np.floor(unit.astype(float) * 255 + 0.5))
    signed = np.arange(-1000, 1001, 8, dtype=np.int16)[:250].reshape(10, 25)
    found = eight(signed.astype(np.int32))
    assert found.min() == 0 and found.max() == 255 and (np.diff(found.ravel()) >= 0).all()
    # What lies outside of a range is cut off.
    values = np.array([[0, 100, 150, 200, 5000]] * 8, np.uint16)
    assert eight(values, (100.0, 200.0))[0].tolist() == [0, 0, 128, 255, 255]


def test_numbers_that_are_none_are_refused() -> None:
    for value in (np.nan, np.inf):
        values = np.ones((8, 8), np.float32)
        values[0, 0] = value
        with pytest.raises(PictureError, match="no finite numbers"):
            eight(values)


@pytest.mark.parametrize("kind", [np.uint16, np.int32, np.float32])
def test_a_set_of_12_bits_looks_like_its_copy_of_8(kind: type, tmp_path: Path) -> None:
    deep = deep_set(tmp_path / "deep", 0, 4095, kind)
    for path in sorted(deep.rglob("*.tif")):
        values = np.asarray(Image.open(path)).astype(np.float64)
        save(tmp_path / "flat" / path.relative_to(deep), np.rint(values / 4095 * 255).astype("u1"))
    one, other = data_of(deep), data_of(tmp_path / "flat")
    assert one.pictures.format.value_range == (0, 4095)
    assert other.pictures.format.value_range is None
    assert one.pictures.images is not None and other.pictures.images is not None
    assert one.pictures.images.dtype == np.float32 and other.pictures.images.dtype == np.uint8
    np.testing.assert_array_equal(np.floor(one.pictures.images + 0.5), other.pictures.images)


def test_only_the_training_part_says_what_black_and_white_are(tmp_path: Path) -> None:
    root = deep_set(tmp_path / "deep", 1000, 1100)
    first = data_of(root)
    names, split = first.pictures.sample_paths, first.split
    assert names is not None and first.pictures.pixel_bounds is not None
    training = first.pictures.pixel_bounds[split.train]
    low, high = first.pictures.format.value_range or (0, 0)
    assert (low, high) == (training[:, 0].min(), training[:, 1].max())
    # A brighter picture in the test part changes neither the scale nor a picture that trains.
    for part in (split.test, split.val):
        brighter = noise(99 + int(part[0]), 0, 60_000)
        save(root / names[part[0]], brighter)
    parted = tmp_path / "parted"
    for part in ("train", "val", "test"):
        for index in getattr(split, part):
            source = root / names[index]
            write(parted / part / names[index], source.read_bytes())
    second = data_of(parted)
    assert second.pictures.format.value_range == (low, high)
    assert second.pictures.images is not None and first.pictures.images is not None
    np.testing.assert_array_equal(
        second.pictures.images[second.split.train], first.pictures.images[split.train]
    )


def test_the_scale_is_part_of_the_metadata_and_of_the_settings(tmp_path: Path) -> None:
    data = data_of(deep_set(tmp_path / "deep", 1000, 1100))
    form = data.pictures.format
    assert form.value_range is not None
    assert PictureFormat.of(form.plain()) == form
    assert PictureFormat.of({"image_size": [8, 8], "channels": 1}).value_range == (0, 65535)
    # What is stated counts, so that folds, refits and repeats have the scale of the first run.
    stated = data_of(tmp_path / "deep", "data.value_range=[500,2000]")
    assert stated.pictures.format.value_range == (500, 2000)
    assert stated.formatted(form).pictures.images is not None
    np.testing.assert_array_equal(
        stated.formatted(form).pictures.images,  # type: ignore[arg-type]
        data.pictures.images,  # type: ignore[arg-type]
    )
    with pytest.raises(ConfigError, match=r"value_range is .*black below white"):
        data_of(tmp_path / "deep", "data.value_range=[5,5]")


@pytest.mark.parametrize(("most", "white"), [(65536, 65535), (4096, 4095)])
def test_colours_of_16_bits_keep_all_of_them(most: int, white: int, tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    for number in range(6):
        values = generator.integers(0, most, (SIDE, SIDE, 3)).astype(">u2")
        rows = b"".join(b"\0" + row.tobytes() for row in values)
        write(
            tmp_path / "set" / "ab"[number % 2] / f"{number}.png",
            png_file(SIDE, SIDE, 16, 2, rows),
        )
    store = opened(tmp_path / "set", tmp_path / "cache")
    assert store.channels == 3 and store.format.value_range == (0, white)
    place = (store.sample_paths or ()).index("b/5.png")
    expected = values.astype(np.float64).transpose(2, 0, 1) * (255 / white)
    np.testing.assert_allclose(store.read(place), expected, rtol=1e-6)


def test_a_single_bright_pixel_is_mentioned(tmp_path: Path) -> None:
    root = deep_set(tmp_path / "deep", 0, 4095)
    assert not [remark for remark in data_of(root).remarks if "nearly black" in remark]
    for path in sorted(root.rglob("*.tif"))[::2]:
        values = np.array(Image.open(path))
        values[0, 0] = 65535
        save(path, values)
    data = data_of(root)
    assert data.pictures.format.value_range == (0, 65535)
    fixed = data_of(root, "data.value_range=[0,4095]")
    assert not [remark for remark in fixed.remarks if "nearly black" in remark]
    for path in sorted(root.rglob("*.tif"))[:20:2]:
        values = np.array(Image.open(path))
        values[0, 0] = 4000
        save(path, values)
    (remark,) = [remark for remark in data_of(root).remarks if "nearly black" in remark]
    assert "data.value_range" in remark


def test_a_served_model_scales_as_its_training_did(tmp_path: Path) -> None:
    root = deep_set(tmp_path / "deep", 1000, 1100)
    data = data_of(root)
    pictures = data.pictures
    assert pictures.images is not None and pictures.sample_paths is not None
    metadata = {"class_names": ["a", "b"], **pictures.format.plain()}
    predictor = Predictor(lambda images: np.zeros((len(images), 2), np.float32), metadata)
    for index in (0, 5):
        path = root / pictures.sample_paths[index]
        np.testing.assert_array_equal(predictor.pixels(path), pictures.images[index])
        values = np.asarray(Image.open(path))  # as an array comes to a server
        picture = as_picture(values, deep=True)
        np.testing.assert_array_equal(predictor.pixels(picture), pictures.images[index])
    # One that has seen 8 bits only takes no picture whose white it cannot know.
    eight_bits = {"value_range": None, "dtype": "uint8"}
    plain = Predictor(lambda images: images, metadata | eight_bits)
    with pytest.raises(PictureError, match="black and white are unknown"):
        plain.pixels(root / pictures.sample_paths[0])
