"""Pictures and folders of pictures that tests make for themselves."""

from __future__ import annotations

import io
import os
import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from src.config.data import DataSettings
from src.data.decoding.decode import PictureFormat, decode_picture
from src.data.decoding.opening import open_pictures
from src.data.decoding.picture_store import PictureStore
from src.data.sources.folder import load


def pixels(seed: int, height: int = 12, width: int = 16, channels: int = 3) -> NDArray[np.uint8]:
    """Noise (height, width, channels), or (height, width) for one channel."""
    noise = np.random.default_rng(seed).integers(0, 256, (height, width, channels), np.uint8)
    return noise[..., 0] if channels == 1 else noise


def encoded(image: Image.Image, format: str, **options: Any) -> bytes:
    stream = io.BytesIO()
    image.save(stream, format, **options)
    return stream.getvalue()


def png(seed: int, height: int = 12, width: int = 16, channels: int = 3) -> bytes:
    return encoded(Image.fromarray(pixels(seed, height, width, channels)), "PNG")


def write(path: Path, data: bytes) -> Path:
    """Write a file, with its folders, that looks as if it had been there for an hour."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    age(path)
    return path


def age(path: Path, seconds: float = 3600.0) -> None:
    then = time.time() - seconds
    os.utime(path, (then, then))


def tree(root: Path, counts: dict[str, int], seed: int = 0, **size: int) -> Path:
    """root/<folder>/<number>.png, each picture another one."""
    for folder, count in counts.items():
        for _ in range(count):
            write(root / folder / f"{seed:03d}.png", png(seed, **size))
            seed += 1
    return root


def settings_of(cache: Path, **options: Any) -> DataSettings:
    given = {"_target_": "src.data.sources.folder.load", "name": "folder", "num_workers": 2}
    return DataSettings(**(given | {"cache_dir": str(cache)} | options))


def opened(
    root: Path, cache: Path, *, native_side: int | None = None, **options: Any
) -> PictureStore:
    settings = settings_of(cache, **options)
    return open_pictures(load(root, cache, False), settings, native_side=native_side)


def decoded(
    data: bytes | Path | Image.Image,
    size: tuple[int, int] = (12, 16),
    channels: int = 3,
    fit: str = "squeeze",
) -> NDArray[np.uint8]:
    return decode_picture(data, PictureFormat(size, channels, fit), own_range=True)
