from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import gaussian_filter, laplace

from src.data.quality import picture_statistics as statistics
from src.data.quality.picture_statistics import channel_statistics, faults, grey, quality_measures
from tests.data.quality.test_near_duplicates import photos


def found(
    images: NDArray[np.uint8], sizes: NDArray[np.int64] | None = None
) -> dict[str, list[int]]:
    sizes = np.tile(np.array([[32, 32]]), (len(images), 1)) if sizes is None else sizes
    result = {}
    for kind, indices, scores in faults(quality_measures(images), sizes, (32, 32)):
        assert (np.diff(scores) <= 0).all() and (scores > 0).all() and (scores <= 1).all()
        result[kind] = indices.tolist()
    return result


def test_each_fault_is_found_and_nothing_else() -> None:
    images = photos(200)[:, None]
    images[3] = 140
    images[5] = images[5] // 6
    images[8] = 215 + images[8] // 7
    images[13] = gaussian_filter(images[13].astype(float), (0, 3, 3)).astype(np.uint8)
    images[13] = np.interp(images[13], (images[13].min(), images[13].max()), (0, 255))
    assert found(images) == {"blank": [3], "dark": [5], "bright": [8], "blurred": [13]}


def test_ordinary_pictures_are_left_in_peace() -> None:
    assert found(photos(300, 1)[:, None]) == {}
    digits = np.zeros((50, 1, 32, 32), np.uint8)
    digits[:, :, 8:24, 12:20] = 255  # on black, but not dark
    digits[:, 0] += np.random.default_rng(0).integers(0, 9, (50, 32, 32), np.uint8) * (
        digits[:, 0] == 0
    )
    assert found(digits) == {} and found(255 - digits) == {}
    images = photos(100, 2)[:, None]  # low contrast is no blur
    images[4] = 100 + images[4] // 8
    assert found(images) == {}


def test_sizes_and_shapes() -> None:
    images = photos(40, 3)[:, None]
    sizes = np.tile(np.array([[300, 400]]), (40, 1))
    sizes[1] = 12, 300
    sizes[2] = 10, 13
    sizes[3] = 3000, 4000
    sizes[4] = 100, 900
    sizes[5] = 600, 400
    assert found(images, sizes) == {"tiny": [2, 1], "odd shape": [4], "odd size": [3]}


def test_measures_are_those_of_scipy() -> None:
    images = photos(6, 4)[:, None]
    for image, row in zip(images[:, 0].astype(float), quality_measures(images), strict=True):
        inner = laplace(image)[1:-1, 1:-1]
        np.testing.assert_allclose(row["sharpness"], inner.var() / image.var(), rtol=1e-4)
        np.testing.assert_allclose(row["spread"], image.std(), rtol=1e-4)
        assert row["lit"] == np.float32((image > 50).mean())


@pytest.mark.parametrize("value", [255.0, 0.1, 1234.567])
def test_a_channel_of_floats_that_never_varies_has_the_deviation_1(value: float) -> None:
    # More than one chunk, and the last one smaller.
    images = np.full((300, 1, 256, 256), value, np.float32)
    mean, std = channel_statistics(images, np.arange(300))
    assert std == [1.0] and mean == pytest.approx([value / 255])


def test_grey_is_what_pillow_makes_of_it() -> None:
    colour = np.random.default_rng(1).integers(0, 256, (3, 3, 40, 50), np.uint8)
    expected = [
        np.asarray(Image.fromarray(c.transpose(1, 2, 0).copy()).convert("L")) for c in colour
    ]
    np.testing.assert_array_equal(grey(colour), expected)
    np.testing.assert_array_equal(grey(colour[:, :1]), colour[:, 0])


IMAGES = np.random.default_rng(0).integers(0, 256, (300, 3, 5, 4), np.uint8)
IMAGES[:, 1] //= 3


def test_equals_numpy_over_the_chosen_pictures() -> None:
    chosen = np.arange(0, 300, 3)
    mean, std = channel_statistics(IMAGES, chosen)
    scaled = IMAGES[chosen].astype(np.float64) / 255
    np.testing.assert_allclose(mean, scaled.mean(axis=(0, 2, 3)), rtol=1e-12)
    np.testing.assert_allclose(std, scaled.std(axis=(0, 2, 3)), rtol=1e-12)


def test_neither_order_nor_chunks_nor_reading_change_a_bit(monkeypatch: pytest.MonkeyPatch) -> None:
    chosen = np.arange(300)
    expected = channel_statistics(IMAGES, chosen)
    assert channel_statistics(IMAGES, chosen[::-1]) == expected
    assert channel_statistics(lambda i: IMAGES[i], chosen) == expected
    monkeypatch.setattr(statistics, "_CHUNK_BYTES", 1000)
    assert channel_statistics(IMAGES, chosen) == expected


def test_of_many_pictures_some_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(statistics, "_READ_AT_MOST", 20)
    seen: list[int] = []

    def read(index: int) -> NDArray[np.uint8]:
        seen.append(index)
        return IMAGES[index]

    chosen = np.arange(100, 200)
    first = channel_statistics(read, chosen)
    assert len(set(seen)) == 20 and set(seen) <= set(chosen.tolist())
    assert channel_statistics(read, chosen[::-1]) == first


def test_a_channel_that_never_varies_can_be_divided_by_and_nothing_is_refused() -> None:
    plain = np.full((4, 2, 3, 3), 51, np.uint8)
    plain[0, 1, 0, 0] = 52
    mean, std = channel_statistics(plain, np.arange(4))
    assert mean[0] == 0.2 and std[0] == 1.0
    assert 0 < std[1] < 0.01
    with pytest.raises(ValueError, match="no pictures"):
        channel_statistics(IMAGES, np.zeros(0, np.int64))
