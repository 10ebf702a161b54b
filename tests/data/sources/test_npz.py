from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from src.config.checks import ConfigError
from src.data.decoding.decode import decode_picture
from src.data.decoding.opening import open_pictures
from src.data.sources.folder import load
from src.data.sources.listing import list_pictures
from tests.data.pictures import data_of, settings_of


def saved(file: Path, **arrays: Any) -> Path:
    np.savez_compressed(file, **arrays)
    return file


def noise(count: int, *shape: int, kind: Any = np.uint8, most: int = 256) -> NDArray[Any]:
    found: NDArray[Any] = np.random.default_rng(count).integers(0, most, (count, *shape))
    return found.astype(kind)


def test_images_and_labels_become_a_set(tmp_path: Path) -> None:
    images = noise(40, 9, 12, 7)
    labels = np.array(["wolf", "cat"])[np.arange(40) % 2]
    file = saved(tmp_path / "a.npz", images=images, labels=labels, more=np.zeros(3))
    data = data_of(file)
    pictures = data.pictures
    assert pictures.class_names == ("cat", "wolf") and pictures.channels == 7
    assert pictures.images is not None and pictures.images.dtype == np.uint8
    np.testing.assert_array_equal(pictures.images, images.transpose(0, 3, 1, 2))
    assert [pictures.class_names[t] for t in pictures.targets] == labels.tolist()
    two = data_of(file, "data.bands=[7,2]").pictures
    np.testing.assert_array_equal(two.read(5), images[5][:, :, [6, 1]].transpose(2, 0, 1))


def test_parts_are_those_of_the_file(tmp_path: Path) -> None:
    arrays: dict[str, Any] = {}
    for part, count in (("train", 30), ("val", 11), ("test", 12)):
        arrays[f"{part}_images"] = noise(count, 9, 9, kind=np.uint16, most=4096)
        arrays[f"{part}_labels"] = np.arange(count)[:, None] % 3
    data = data_of(saved(tmp_path / "medical.npz", **arrays))
    assert [len(getattr(data.split, part)) for part in ("train", "val", "test")] == [30, 11, 12]
    pictures = data.pictures
    assert pictures.class_names == ("0", "1", "2") and pictures.format.value_range == (0, 4095)
    expected = arrays["val_images"].astype(np.float64) * (255 / 4095)
    found = np.stack([pictures.read(int(i))[0] for i in data.split.val])
    np.testing.assert_allclose(found, expected, rtol=1e-6)


@pytest.mark.parametrize(
    ("arrays", "reason"),
    [
        ({"x": np.zeros(3)}, "has the arrays x: it must have images and labels"),
        ({"images": noise(4, 9, 9)}, "no array labels"),
        ({"images": noise(4, 9, 9), "labels": np.arange(3)}, "4 images and 3 labels"),
        ({"images": noise(4, 9, 9), "labels": np.zeros(4, int)}, "at least 2 labels"),
        (
            {"images": noise(3, 9, 9), "labels": np.array(["a", "\u200b", "b"])},
            "1 is empty",
        ),
        ({"images": noise(4, 9), "labels": np.arange(4)}, "numbers .N, H, W. or"),
        ({"images": noise(4, 9, 9), "labels": np.ones((4, 3), int)}, "one whole number or text"),
        ({"images": noise(2, 9, 9), "labels": np.array(["a", "\ud800"])}, "half a character"),
        ({"images": np.array([{}] * 4, object), "labels": np.arange(4)}, "cannot be read"),
    ],
)
def test_arrays_that_make_no_set_are_refused(
    arrays: dict[str, Any], reason: str, tmp_path: Path
) -> None:
    file = saved(tmp_path / "a.npz", **arrays)
    with pytest.raises(ConfigError, match=rf"a\.npz.*{reason}"):
        list_pictures(settings_of(tmp_path, root=str(file)))


def test_a_damaged_file_and_one_that_does_not_fit_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = saved(tmp_path / "a.npz", images=noise(4, 9, 9), labels=np.arange(4))
    monkeypatch.setattr("psutil.virtual_memory", lambda: type("Memory", (), {"available": 400}))
    with pytest.raises(ConfigError, match="unpacks to"):
        list_pictures(settings_of(tmp_path, root=str(file)))
    monkeypatch.undo()
    whole = bytearray(file.read_bytes())
    whole[whole.rindex(b"PK\1\2") + 6] = 255  # the version of zip that is needed
    for content in (whole, whole[:300]):
        file.write_bytes(content)
        with pytest.raises(ConfigError, match="cannot be read as arrays"):
            list_pictures(settings_of(tmp_path, root=str(file)))


def test_pictures_without_numbers_are_named(tmp_path: Path) -> None:
    images = noise(20, 9, 9, kind=np.float32)
    images[7, 2, 3] = np.nan
    file = saved(tmp_path / "a.npz", images=images, labels=np.arange(20) % 2)
    with pytest.raises(ConfigError, match="picture 7 has pixels that are no finite numbers"):
        data_of(file)
    data = data_of(file, "data.on_bad_image=skip")
    assert len(data.pictures) == 19


def test_label_sets_are_columns_of_0_and_1(tmp_path: Path) -> None:
    sets = np.random.default_rng(0).integers(0, 2, (30, 4))
    file = saved(tmp_path / "a.npz", images=noise(30, 9, 9), labels=sets)
    source = load(file, tmp_path, False, target="multi")
    assert source.kind == "multi" and source.class_names == ("0", "1", "2", "3")
    np.testing.assert_array_equal(source.targets, sets)
    saved(file, images=noise(30, 9, 9), labels=sets + 1)
    with pytest.raises(ConfigError, match="of 0 and 1 are needed"):
        load(file, tmp_path, False, target="multi")


@pytest.mark.parametrize("kind", [np.uint8, np.uint16, np.float32])
def test_small_pictures_may_have_more_bands_than_lines(kind: type, tmp_path: Path) -> None:
    images = np.random.default_rng(1).integers(0, 256, (12, 9, 9, 103)).astype(kind)
    images[0, 0, 0, :2] = 0, 255
    file = saved(tmp_path / "a.npz", images=images, labels=np.arange(12) % 2)
    own = open_pictures(
        list_pictures(settings_of(tmp_path, root=str(file))), settings_of(tmp_path, image_size=9)
    )
    for index in range(12):
        np.testing.assert_allclose(own.read(index), images[index].transpose(2, 0, 1), atol=1e-3)
    # A model of so many bands knows which side they are.
    one = decode_picture(images[0], own.format)
    np.testing.assert_array_equal(one, own.read(0))
    larger = open_pictures(
        list_pictures(settings_of(tmp_path, root=str(file))), settings_of(tmp_path, image_size=18)
    )
    assert larger.read(0).shape == (103, 18, 18)


def test_the_same_bytes_in_another_shape_are_other_pictures(tmp_path: Path) -> None:
    """As where the sides were taken for each other when the file was written first."""
    images = noise(6, 12, 20)
    stores = []
    for name, shape in (("a", (6, 12, 20)), ("b", (6, 20, 12))):
        file = saved(
            tmp_path / f"{name}.npz", images=images.reshape(shape), labels=np.arange(6) % 2
        )
        settings = settings_of(tmp_path, root=str(file), image_size=16)
        stores.append(open_pictures(list_pictures(settings), settings))
    assert not stores[1].from_cache and stores[0].identity() != stores[1].identity()


@pytest.mark.parametrize("bands", [1, 3])
def test_bands_before_lines_are_named(bands: int, tmp_path: Path) -> None:
    file = saved(tmp_path / "a.npz", images=noise(6, bands, 8, 9), labels=np.arange(6) % 2)
    with pytest.raises(ConfigError, match=r"looks like \(N, C, H, W\).*transpose\(0, 2, 3, 1\)"):
        list_pictures(settings_of(tmp_path, root=str(file)))
    patches = saved(tmp_path / "b.npz", images=noise(6, 3, 3, 9), labels=np.arange(6) % 2)
    source = list_pictures(settings_of(tmp_path, root=str(patches)))
    assert source.arrays is not None and source.arrays.shape == (6, 9, 3, 3)
