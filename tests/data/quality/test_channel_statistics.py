from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from src.data.quality import measures as statistics
from src.data.quality.measures import channel_statistics

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


def test_of_many_pictures_the_seed_chooses_some(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(statistics, "_READ_AT_MOST", 20)
    seen: list[int] = []

    def read(index: int) -> NDArray[np.uint8]:
        seen.append(index)
        return IMAGES[index]

    chosen = np.arange(100, 200)
    first = channel_statistics(read, chosen, seed=1)
    assert len(set(seen)) == 20 and set(seen) <= set(chosen.tolist())
    assert channel_statistics(read, chosen[::-1], seed=1) == first
    assert channel_statistics(read, chosen, seed=2) != first


def test_a_channel_that_never_varies_can_be_divided_by() -> None:
    plain = np.full((4, 2, 3, 3), 51, np.uint8)
    plain[0, 1, 0, 0] = 52
    mean, std = channel_statistics(plain, np.arange(4))
    assert mean[0] == 0.2 and std[0] == 1.0
    assert 0 < std[1] < 0.01


def test_no_pictures_are_refused() -> None:
    with pytest.raises(ValueError, match="no pictures"):
        channel_statistics(IMAGES, np.zeros(0, np.int64))
