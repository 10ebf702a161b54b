"""Pictures for the tests of features."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from src.data.decoding.opening import open_pictures
from src.data.decoding.picture_store import PictureStore
from src.data.sources.source import Source
from src.data.splitting.splits import Split, make_split
from tests.data.pictures import settings_of


def pictures(count: int = 6, channels: int = 3, size: tuple[int, int] = (20, 28)) -> NDArray:
    """(N, C, H, W) uint8: smooth noise, so that there are edges and areas."""
    rng = np.random.default_rng(0)
    noise = rng.random((count, channels, size[0] // 4, size[1] // 4))
    large = np.kron(noise, np.ones((4, 4)))
    return np.rint(255 * np.clip(large + rng.normal(0, 0.05, large.shape), 0, 1)).astype(np.uint8)


def store(images: NDArray[np.uint8], targets: NDArray[np.int64], cache: Path) -> PictureStore:
    """These pictures, as a run opens them."""
    names = tuple(str(k) for k in range(int(targets.max()) + 1))
    return open_pictures(Source("test", names, targets, arrays=images), settings_of(cache))


def split(pictures: PictureStore) -> Split:
    """A division of them into three parts."""
    fractions = {"val_fraction": 0.2, "test_fraction": 0.2}
    return make_split(pictures.targets, pictures.content_hashes, seed=0, **fractions)
