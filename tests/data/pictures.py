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

from src.data.decoding.picture_store import PictureOptions, PictureStore, open_pictures
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


def opened(root: Path, cache: Path, **options: Any) -> PictureStore:
    settings: dict[str, Any] = {
        "image_size": None,
        "channels": None,
        "cache_limit_bytes": 10**9,
        "on_bad_image": "error",
        "workers": 2,
    }
    source = load(root, cache, False)
    check = options.pop("check_content", False)
    wanted = PictureOptions(cache_dir=cache, **(settings | options))
    return open_pictures(source, wanted, check_content=check)
